"""The audit of samplers: thirteen checks, each with a measured figure, a limit and a verdict.

``audit(subject)`` yields a Finding per check, and a failure comes with a script that reproduces it. What can be
measured is never taken from what the sampler states: noise levels are read off its states, evaluations are counted,
noise is what changes the output, and the precision that the state keeps is measured before errors are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from bench.audit.conduct import batch, cost, few_steps, precision
from bench.audit.defect import defect
from bench.audit.determinism import Repeats, determinism, repeat
from bench.audit.equivariance import equivariance
from bench.audit.finding import BAD, VERDICTS, CheckVerdict, Finding, Measurement, NotApplicable, Undecided
from bench.audit.levels import conditioning, end, first_level, idle
from bench.audit.noise import noise
from bench.audit.opening import open_audit
from bench.audit.order import order
from bench.audit.script import RADIUS, oracle, script, times
from bench.audit.subject import Subject, of_function, one_thread, subjects

__all__ = ["BAD", "CHECKS", "VERDICTS", "CheckVerdict", "Finding", "Subject", "audit", "of_function", "subjects"]

CHECKS: dict[str, Callable[[Subject], Measurement]] = {
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
REPEATED = ("order", "defect", "equivariance", "batch", "precision", "idle")  # checks that compare several calls


def audit(subject: Subject, checks: Iterable[str] = tuple(CHECKS)) -> Iterator[Finding]:
    """Audit a sampler: run the checks one after another, and yield a finding for each.

    Where the sampler cannot be run or returns no samples, that is the finding of every check; where it keeps state
    between calls, it fails determinism, and nothing else is measured. What one check raises does not stop the others. A
    sampler whose state becomes non-finite (it raises FloatingPointError) fails the check. If it raises anything else,
    or if the check could not measure what it set out to measure, the verdict is ``error``. ImportError is raised on.
    """
    checks = tuple(checks)
    with one_thread():
        opening = open_audit(subject)
        repeats = Repeats(0.0, 0.0) if opening.fault or opening.kept else _repeats(subject, checks)
    if opening.fault:
        reproducer = _raises(subject)
        for name in checks:
            yield Finding(subject.name, name, "error", says=opening.fault, reproducer=reproducer)
        return
    kept = bool(opening.kept or repeats.kept)
    verdict: CheckVerdict
    for name in checks:
        if name == "determinism" and opening.kept:
            yield Finding(subject.name, name, "fail", opening.difference, "0", opening.kept, _kept_script(subject))
            continue
        if kept and name != "determinism":
            says = "its calls differ, by what it keeps between them, so that nothing else can be measured"
            yield Finding(subject.name, name, "not applicable", says=says)
            continue
        if name in REPEATED and repeats.drawn:
            says = "two calls of it differ, so that none can be compared: see determinism"
            yield Finding(subject.name, name, "not applicable", says=says)
            continue
        try:
            with one_thread():
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


def _repeats(subject: Subject, checks: tuple[str, ...]) -> Repeats:
    """How repeated calls differ; none do where nobody asks, or where a call raises, which each check reports itself."""
    try:
        return repeat(subject) if set(checks) != {"determinism"} else Repeats(0.0, 0.0)
    except Exception:
        return Repeats(0.0, 0.0)


def _kept_script(subject: Subject) -> str:
    """A script of two equal calls, for a sampler whose second call differs from its first."""
    try:
        path = subject.candidates[0]
        body = f"""\
{oracle(2)}times = {times(subject, 5)}
x = z * {RADIUS.format(t="times[0]")}
first = sampler(oracle, x, times)
print(float((sampler(oracle, x, times) - first).abs().max()))"""
        return script(subject, body, path, "GaussianOracle SCHEDULES")
    except Exception:
        return ""


def _raises(subject: Subject) -> str:
    """A script of plain calls, for a sampler that raises before anything could be measured."""
    try:
        body = f"""\
{oracle(4)}for steps in (1, 2, 10):
    for times in ({times(subject, "steps")}, {times(subject, "steps", clean=True)}):
        print(steps, sampler(oracle, z, times)[0])"""
        return script(subject, body, names="GaussianOracle SCHEDULES")
    except Exception:  # it runs on no path, which its own message says
        return ""
