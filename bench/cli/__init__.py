"""The commands of ``fidmap``: they parse, call and print; what is slow to import is imported inside them."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli import audit, machine, names, records, run
from bench.evaluate.cli import app as evaluate

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(evaluate, name="evaluate")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"fidmap {version('fidmap')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Judge generative samplers and object detectors by numbers that can be re-derived."""


app.command()(run.run)
app.command()(audit.audit)
app.command("list")(names.list_)
app.command()(names.describe)
app.command(cls=records.RankCommand)(records.table)
app.command()(records.compare)
app.command("import")(records.import_)
app.command()(machine.doctor)
app.command()(machine.train)
