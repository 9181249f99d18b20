"""What commands share: options, checks of what the user names, and lines for the user on stderr."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.errors import UsageError
from bench.output import prints_aside

Out = Annotated[Path | None, typer.Option("--out", help="Folder of the records  [default: the newest in runs/]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]


def own_option(what: str, metavar: str = "MODULE:FUNCTION") -> Any:
    """Make the option by which the user adds something of their own, such as a sampler."""
    return typer.Option(metavar=metavar, help=f"A {what} of yours to run too.")


def columns() -> int:
    """The width of the terminal, at most 120; 100 where there is none."""
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raise UsageError where an argument or the value of an option is an empty text, as an unset variable gives.

    As a path it would be the working folder. ``--columns`` takes one: no columns beside those of the ranking.
    """
    for before, one in itertools.pairwise(["fidmap", *arguments]):
        option = before if one == "" else one.removesuffix("=")
        if option == "--columns":
            continue
        if option.startswith("-") and (one == "" or ("=" not in option and option != one)):
            raise UsageError(f"{option} is empty; a value is accepted, or the command without this option")
        if one == "":
            raise UsageError(f"the argument after {before!r} is empty; a value is accepted")


def split_pair(option: str, text: str, form: str = "FIELD=GLOB") -> tuple[str, str]:
    """Split NAME=VALUE; raises UsageError that names the option and the ``form`` that it takes."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{option} {text!r}: expected {form}")
    return name, value


def split_names(text: str) -> tuple[str, ...]:
    """Split names with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def check_scheduler(name: str) -> str:
    """Check a scheduler of the user's, and give the name by which it is a sampler of the catalogue."""
    from implementations.catalogue.own_scheduler import OWN_SCHEDULER

    return check_own("samplers", "--scheduler", name, OWN_SCHEDULER)


def check_own(kind: str, option: str, name: str, prefix: str = "") -> str:
    """Import what an option of a ``kind`` names, and give the name by which a catalogue has it.

    Raises UsageError where it is not of the form that is accepted, cannot be imported, or is no function.
    """
    from bench.catalogue import kinds
    from bench.environment import import_from_here

    module, _, function = name.partition(":")
    if not module or not function:
        form = "MODULE:NAME" if option in ("--scheduler", "--task") else "MODULE:FUNCTION"
        raise UsageError(f"{option} {name!r}: expected {form}")
    import_from_here()
    try:
        with prints_aside():
            found: Any = kinds()[kind][prefix + name].resolve()
    except ImportError as error:
        raise UsageError(f"{option} {error}") from None
    if kind == "samplers" and hasattr(found, "set_timesteps"):
        raise UsageError(f"{option} {name!r} has set_timesteps and is no function: --scheduler takes it")
    if not callable(found) and kind != "tasks":
        raise UsageError(f"{option} {name!r} is no function")
    return prefix + name


def check_returns(guests: Mapping[str, Sequence[str]]) -> None:
    """Raise UsageError where a trial call of an entry of the user's returns what its kind may not."""
    for kind, names in guests.items():
        for name in names:
            from bench.tasks.trial import find_wrong_return  # late: it needs torch

            with prints_aside():
                wrong = find_wrong_return(kind, name)
            if wrong:
                raise UsageError(wrong)


def pick_format(name: str | None, as_json: bool, known: tuple[str, ...]) -> str:
    """The format that ``--format`` and ``--json`` ask for, the first of those ``known`` without either."""
    if as_json and name not in (None, "json"):
        raise UsageError(f"--json and --format {name}: one of them is accepted")
    name = "json" if as_json else name or known[0]
    if name not in known:
        raise UsageError(f"--format {name!r}: expected {', '.join(known)}")
    return name


def open_store(out: Path | None) -> Any:
    """Open the store in the folder ``out``, or without it the store under runs/ that was written last."""
    from bench.records.store import Store

    if out is None:
        stores = sorted(Path("runs").glob("*/records"), key=lambda folder: folder.stat().st_mtime)
        if not stores:
            raise UsageError("there are no records under runs/; make some with: fidmap run quick")
        out = stores[-1].parent
        tell(f"the records of {out}")
    store = Store(out)
    if not store.records_folder.is_dir():
        raise UsageError(f"{out} holds no records; make some with: fidmap run SUITE --out {out}")
    return store


def tell(line: str) -> None:
    """Print a line for the user on stderr, beside the output of a command."""
    print(line, file=sys.stderr, flush=True)
