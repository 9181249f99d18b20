"""``fidmap list`` and ``fidmap describe``: all that has a name."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
import typer.core

from bench.cli.shared import (
    AsJson,
    columns,
    split_pair,
)
from bench.errors import UsageError


def list_(
    kind: Annotated[
        str | None, typer.Argument(help="samplers, losses, tasks, suites, ...; all of them without.")
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            help="What another program calls them: comfyui, automatic1111 (a1111, forge), diffusers or k_diffusion.",
        ),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=GLOB", help="Only those, such as family=exponential or order=2.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List samplers, losses, metrics, tasks, suites and all else that has a name, by family."""
    from dataclasses import asdict

    from bench import listing

    fields = dict(split_pair("--where", one) for one in where or ())
    if names is not None:
        if fields:
            raise UsageError("--names and --where: one of them is accepted")
        found = listing.names(kind, names)
        rows: Any = {one: [{"name": n} | asdict(m) for n, m in table.items()] for one, table in found.items()}
        lines = listing.names_text(found, names)
    else:
        chosen = listing.choose(kind, fields)
        rows = {one: [asdict(entry) for entry in entries] for one, entries in chosen.items()}
        lines = listing.text(chosen, columns())
    print(json.dumps(rows, indent=1) if as_json else "\n".join(lines))


def describe(
    name: Annotated[str, typer.Argument(help="Of a task, sampler, schedule, path, loss, NMS, metric, suite, ...")],
    as_json: AsJson = False,
) -> None:
    """Say what a name stands for, what it takes, what it measures, and how to use it."""
    from dataclasses import asdict

    from bench.describe import describe as describe_name

    found, width = describe_name(name), columns()
    print(
        json.dumps([asdict(one) for one in found], indent=1)
        if as_json
        else "\n\n".join(one.text(width) for one in found)
    )
