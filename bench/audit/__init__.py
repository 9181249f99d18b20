"""The certificate: what is right and what is wrong with a sampler, each by a measurement, a limit and a verdict.

``audit(subject)`` yields a Finding a check; a failure comes with a script that shows it. Nothing is believed that can
be measured: levels are read off the states, evaluations are counted, noise is what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from bench.audit.accuracy import equivariance, order
from bench.audit.conduct import batch, cost, determinism, few_steps, precision
from bench.audit.finding import Finding, Measured, NotApplicable, Verdict
from bench.audit.levels import conditioning, end, first_level, idle
from bench.audit.script import oracle, script, times
from bench.audit.subject import Subject, of_function, subjects

__all__ = ["CHECKS", "Finding", "Subject", "audit", "of_function", "subjects"]

CHECKS: dict[str, Callable[[Subject], Measured]] = {
    "determinism": determinism,
    "few_steps": few_steps,
    "order": order,
    "equivariance": equivariance,
    "start": first_level,
    "conditioning": conditioning,
    "end": end,
    "idle": idle,
    "cost": cost,
    "batch": batch,
    "precision": precision,
}
REPEATED = ("order", "equivariance", "batch", "precision", "idle")  # they compare several calls of it


def audit(subject: Subject, checks: Iterable[str] = tuple(CHECKS)) -> Iterator[Finding]:
    """Run the checks, each apart from the others; what a sampler raises is a failure of that check."""
    checks = tuple(checks)
    repeats = not set(checks) & set(REPEATED) or _repeats(subject)
    verdict: Verdict
    for name in checks:
        if name in REPEATED and not repeats:
            yield Finding(subject.name, name, "not applicable", says="two calls of it differ: see determinism")
            continue
        try:
            found = CHECKS[name](subject)
        except NotApplicable as reason:
            yield Finding(subject.name, name, "not applicable", says=str(reason))
        except ImportError:
            raise
        except Exception as error:
            says = f"{type(error).__name__}: {' '.join(str(error).split())}"
            refuses = subject.peer and isinstance(error, ValueError)  # it says what it does not take
            verdict = "not applicable" if refuses else "fail"
            yield Finding(subject.name, name, verdict, says=says, reproducer="" if refuses else _raises(subject))
        else:
            verdict = "pass" if found.holds else "fail"
            yield Finding(subject.name, name, verdict, found.figure, found.limit, found.says,
                          "" if found.holds else found.script)  # fmt: skip


def _repeats(subject: Subject) -> bool:
    """Whether two calls agree; where a call raises it is for each check to say so."""
    try:
        return determinism(subject).figure == 0
    except Exception:
        return True


def _raises(subject: Subject) -> str:
    """A script of plain calls, where a sampler breaks before anything of it is measured."""
    try:
        body = f"""\
{oracle(4)}for steps in (1, 2, 10):
    for times in ({times(subject, "steps")}, {times(subject, "steps", clean=True)}):
        print(steps, sampler(oracle, z, times)[0])"""
        return script(subject, body, names="GaussianOracle SCHEDULES")
    except Exception:  # it runs on no path: its own message says so
        return ""
