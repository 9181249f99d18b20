"""``fidmap audit``: samplers, by checks or held against a named one."""

from __future__ import annotations

import json
from typing import Annotated

import typer
import typer.core

from bench.cli.shared import (
    AsJson,
    check_own,
    check_scheduler,
    own_option,
    tell,
)
from bench.errors import UsageError
from bench.output import prints_aside


def audit(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Samplers; all of fidmap's own without any.")
    ] = None,
    sampler: Annotated[list[str] | None, own_option("sampler")] = None,
    scheduler: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE:NAME", help="A scheduler of yours, with set_timesteps and step as in diffusers."),
    ] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="All of diffusers or of k_diffusion, as solvers and as shipped.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In place of the checks: the first step that is not as in this sampler."),
    ] = None,
    check: Annotated[list[str] | None, typer.Option(help="Only this check; may be repeated.")] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Print failures and errors alone.")] = False,
    as_json: AsJson = False,
) -> int:
    """Certify samplers by measurement, each failure with a script that shows it; exit code 1 on failures and errors.

    With --like NAME, they are held against a named sampler step by step, at the same levels and with the same noise;
    exit code 1 where one parts from it.
    """
    from bench.audit import CHECKS, report
    from bench.audit.peers import LIBRARIES
    from bench.progress import Steps
    from implementations.catalogue import SAMPLERS

    if unknown := set(peer or ()) - set(LIBRARIES):
        raise UsageError(f"--peer {min(unknown)!r}: expected {' or '.join(LIBRARIES)}")
    if unknown := set(check or ()) - set(CHECKS):
        raise UsageError(f"--check {min(unknown)!r}: expected {', '.join(CHECKS)}")
    guests = [check_own("samplers", "--sampler", name) for name in sampler or ()]
    guests += [check_scheduler(name) for name in scheduler or ()]
    if like is not None:
        if given := [
            option for option, value in (("--peer", peer), ("--check", check), ("--failures", failures)) if value
        ]:
            raise UsageError(f"--like and {given[0]}: one of them is accepted")
        return _hold_against(like, [*(names or ()), *guests], as_json)
    try:
        with prints_aside():
            for name in names or ():
                SAMPLERS[name].resolve()
            subjects = report.choose_subjects([*(names or ()), *guests], peer or ())
    except (LookupError, ImportError) as error:
        raise UsageError(str(error)) from None
    if not subjects:
        raise UsageError(f"there are no entries of {', '.join(peer or ())} in the catalogue")
    found = []
    with Steps("audit", len(subjects)) as steps:
        for of_one in report.findings(subjects, check or CHECKS):
            found.append(of_one)
            steps.advance()
            if not as_json and (not failures or any(one.bad for one in of_one)):
                print(report.text(of_one, failures), flush=True)
    if as_json:
        print(json.dumps([one.as_dict() for of_one in found for one in of_one], indent=1))
    for line in report.summary(found, name_right=bool(peer)):
        tell(line)
    return int(any(one.bad for of_one in found for one in of_one))


def _hold_against(like: str, names: list[str], as_json: bool) -> int:
    """Hold samplers against a named one and print where they part; exit code 1 where one does."""
    from bench.audit.likeness import compare
    from bench.audit.opening import open_audit
    from bench.audit.subject import find_subject

    if not names:
        raise UsageError("--like NAME needs what is held against it: --sampler, --scheduler or a name")
    try:
        with prints_aside():
            other = find_subject(like)
            if fault := open_audit(other).fault:
                raise UsageError(f"--like {like}: it does not run: {fault}")
            found = [compare(find_subject(name), other) for name in names]
    except (LookupError, ImportError, ValueError) as error:
        raise UsageError(str(error)) from None
    if as_json:
        print(json.dumps([one.as_dict() for one in found], indent=1))
    else:
        print("\n".join(one.text() for one in found))
    return int(any(one.verdict != "same" for one in found))
