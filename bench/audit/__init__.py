"""The certificate: what is right and what is wrong with a sampler, each by a measurement, a limit and a verdict.

``audit(subject)`` yields a Finding a check; a failure comes with a script that shows it. Nothing is believed that can
be measured: levels are read off the states, evaluations are counted, noise is what is drawn, and the precision that a
sampler keeps is measured before its errors are judged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import torch

from bench.audit.conduct import batch, cost, few_steps, precision
from bench.audit.defect import defect
from bench.audit.determinism import determinism
from bench.audit.equivariance import equivariance
from bench.audit.finding import BAD, VERDICTS, Finding, Measured, NotApplicable, Undecided, Verdict
from bench.audit.levels import conditioning, end, first_level, idle
from bench.audit.noise import noise
from bench.audit.order import order
from bench.audit.script import oracle, script, times
from bench.audit.subject import Subject, of_function, subjects

__all__ = ["BAD", "CHECKS", "VERDICTS", "Finding", "Subject", "Verdict", "audit", "of_function", "subjects"]

CHECKS: dict[str, Callable[[Subject], Measured]] = {
    "determinism": determinism,
    "noise": noise,
    "few_steps": few_steps,
    "order": order,
    "defect": defect,
    "equivariance": equivariance,
    "start": first_level,
    "conditioning": conditioning,
    "end": end,
    "idle": idle,
    "cost": cost,
    "batch": batch,
    "precision": precision,
}
REPEATED = ("order", "defect", "equivariance", "batch", "precision", "idle")  # they compare several calls of it


def audit(subject: Subject, checks: Iterable[str] = tuple(CHECKS)) -> Iterator[Finding]:
    """Run the checks, each apart from the others.

    A sampler whose state ceases to be finite (it raises FloatingPointError) fails the check; whatever else it raises,
    and a check that could not measure, is an error.
    """
    checks = tuple(checks)
    repeats = not set(checks) & set(REPEATED) or _repeats(subject)
    verdict: Verdict
    for name in checks:
        if name in REPEATED and not repeats:
            says = "two calls of it differ, so that none can be compared: see determinism"
            yield Finding(subject.name, name, "not applicable", says=says)
            continue
        try:
            with _one_thread():
                found = CHECKS[name](subject)
        except NotApplicable as reason:
            yield Finding(subject.name, name, "not applicable", says=str(reason))
        except ImportError:
            raise
        except Undecided as reason:
            yield Finding(subject.name, name, "error", says=str(reason), reproducer=_raises(subject))
        except Exception as error:
            says = f"{type(error).__name__}: {' '.join(str(error).split())}"
            verdict = "fail" if isinstance(error, FloatingPointError) else "error"
            yield Finding(subject.name, name, verdict, says=says, reproducer=_raises(subject))
        else:
            verdict = "pass" if found.holds else "fail"
            yield Finding(subject.name, name, verdict, found.figure, found.limit, found.says,
                          "" if found.holds else found.script)  # fmt: skip


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """For states of a few numbers, whose threads would take eight times as long, waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _repeats(subject: Subject) -> bool:
    """Whether two calls agree; where a call raises it is for each check to say so."""
    try:
        with _one_thread():
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
