"""The audit as text: a line per check, a script per failure and error, and at the end which samplers are right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bench.audit import audit
from bench.audit.finding import VERDICTS, Finding
from bench.audit.peers import of_library
from bench.audit.subject import Subject, subjects
from bench.output import prints_aside
from implementations.catalogue import SAMPLERS

UNMEASURED = ("error", "fail", "not applicable")  # verdicts that a check may have without a figure


def choose_subjects(names: Iterable[str], peers: Iterable[str]) -> list[Subject]:
    """The samplers to audit: those that are named and those of the libraries ``peers``.

    Without either, all of fidmap.
    """
    names, peers = list(names), list(peers)
    if not names and not peers:
        names = [n for n, entry in SAMPLERS.items() if entry.source == "fidmap" and entry.family != "peer"]
    found = [subject for name in names for subject in subjects(name)]
    return [*found, *(subject for library in peers for subject in of_library(library))]


def findings(found: Iterable[Subject], checks: Iterable[str]) -> Iterator[list[Finding]]:
    """Audit one sampler after another by these checks; yields the list of findings of each."""
    for subject in found:
        with prints_aside():
            of_one = list(audit(subject, checks))
        yield of_one


def text(of_one: list[Finding], failures_only: bool = False) -> str:
    """Write the findings of one sampler: its name, a line per check, and the scripts of failures and errors.

    Checks that could not be measured for one reason share a line and a script. With ``failures_only`` other checks have
    no line.
    """
    shown = [one for one in of_one if one.bad or not failures_only]
    lines, scripts = [], {}
    for one in shown:
        alike = [other for other in shown if _reason(other) == _reason(one)] if _reason(one) else [one]
        if one is alike[0]:
            lines.append(one.line() if len(alike) == 1 else _line_of_several(alike, len(of_one)))
            if one.reproducer:
                scripts[", ".join(other.check for other in alike)] = one.reproducer
    written = [f"# {of_one[0].sampler}: {checks}\n{text}" for checks, text in scripts.items()]
    return "\n".join([of_one[0].sampler, *lines, *(["", *written] if written else [])])


def _reason(one: Finding) -> tuple[str, str] | None:
    """Why a check has no figure, but for the numbers in it: those that have one reason share a line."""
    return (
        (one.verdict, re.sub(r"\d+", "", one.says))
        if one.figure is None and one.says and one.verdict in UNMEASURED
        else None
    )


def _line_of_several(alike: list[Finding], checks: int) -> str:
    """One line for several checks that were not measured for one reason: their names, and the reason."""
    verdict = "n/a" if alike[0].verdict == "not applicable" else alike[0].verdict
    names = f"all {checks} checks" if len(alike) == checks else ", ".join(one.check for one in alike)
    return f"  {verdict:<5} {names}: {alike[0].says}"


def summary(found: list[list[Finding]], name_right: bool = False) -> list[str]:
    """Lines at the end of an audit: which samplers fail which checks, which pass, and how many verdicts there are.

    Those that pass are named with ``name_right``.
    """
    lines = []
    for of_one in found:
        wrong = [one.check for one in of_one if one.bad]
        if wrong:
            names = "all checks" if len(wrong) == len(of_one) > 1 else ", ".join(wrong)
            lines.append(f"wrong  {of_one[0].sampler}: {names}")
        elif name_right:
            lines.append(f"right  {of_one[0].sampler}")
    verdicts = [one.verdict for of_one in found for one in of_one]
    counts = (f"{verdicts.count(kind)} {kind}" for kind in VERDICTS)
    return [*lines, f"{len(found)} audited: {', '.join(counts)}"]
