"""Is the sampler as accurate as it says: the slope of its error over a ladder of steps, on an exact flow or law."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from bench.audit.finding import Measured, NotApplicable
from bench.audit.history import EXACT, Exact, largest_error
from bench.audit.probe import Witness
from bench.audit.script import RADIUS, oracle, script, times
from bench.audit.slope import FLAT, said, slope
from bench.audit.subject import BEND, Subject, gaussian, normal, start
from implementations.diffusion.law import marginal_law, output_law, variance_error

OWN_LADDER = (30, 60, 120, 240)  # none divides 1,000, where spacings that round part
WINDOW = (0.3, 1.0)
LONGEST, SETTLED = 1280, 0.1  # a ladder goes on doubling to so many steps, until two slopes agree to this


def order(subject: Subject) -> Measured:
    """Slope of the error over steps: to the exact flow, or of the exact variance where noise is drawn."""
    if subject.entry.adaptive:
        raise NotApplicable("it chooses its steps")
    theory = subject.entry.theory(subject.options)
    stochastic = subject.draws_noise
    if stochastic and subject.own_grid:
        raise NotApplicable("it draws noise on a grid of its own; its law is compared in mode=solver")
    if stochastic and not subject.entry.affine:
        raise NotApplicable("its output is not affine in its noise, so that its law takes sampling")
    if subject.own_grid:
        theory = theory and min(theory, 2)  # more than the first, low-order steps of a grid that is not graded allow
    tolerance = 0.1 if theory is None else 0.2 if theory > 2 or subject.own_grid else 0.15 if stochastic else 0.1
    least = (1 if theory is None else theory) - tolerance
    if subject.own_grid:
        found, steps, errors, _ = _climb(_own_error, subject, OWN_LADDER, least)
        body = _own_script(subject)
    else:
        ladder = (160, 320, 640) if (theory or 0) >= 4 else (80, 160, 320)
        climbed = _climb(_weak_error, subject, ladder, least) if stochastic else _strong_climb(subject, ladder, least)
        found, steps, errors, exact_in = climbed
        body = _script(subject, steps, stochastic, exact_in)
    ran = f"errors {said(errors)} in {', '.join(map(str, steps))} steps, on data whose mean is not 0"
    remark = "of the variance" if stochastic else ""
    if theory is None and stochastic:
        measured = f"of the variance {found:.3g} was measured" if found else "its variance does not converge"
        raise NotApplicable(f"it states no order; {measured}")
    if found == 0:
        return Measured(None, f"at least {least:.4g}", False, f"does not converge: {ran}", body)
    if math.isinf(found):
        return Measured(found, "", True, "exact but for rounding", body)
    if theory is None:
        return Measured(found, f"at least {least:.4g}", found >= least, "no order is stated", body)
    if found > theory + tolerance:
        remark = f"{remark}; higher than stated".lstrip("; ")
    if found < least:
        remark = f"{remark}; {ran}".lstrip("; ")
    return Measured(found, f"at least {least:.4g}", found >= least, remark, body)


class Climbed(NamedTuple):
    """A slope, the step counts and errors that it is of, and in what the history was exact; None: none was given."""

    slope: float
    steps: tuple[int, ...]
    errors: list[float]
    exact_in: Exact | None = None


def _climb(
    error: Callable[[Subject, int], float],
    subject: Subject,
    ladder: tuple[int, ...],
    least: float,
    exact_in: Exact | None = None,
) -> Climbed:
    """Double the steps until the slope is steep enough, or two slopes agree, or there are too many steps.

    A variance's slope is that of the last doubling, since terms of two orders may be of opposite signs.
    """
    steps, errors = list(ladder), [error(subject, n) for n in ladder]
    while True:
        found = slope(steps, errors, subject.rounding, last=error is _weak_error)
        # an error to a flow that hardly falls will not fall later; one of a variance may have changed its sign
        hopeless = error is not _weak_error and errors[-1] > errors[-2] / 2**FLAT
        if found >= least or hopeless or _settled(errors) or subject.own_grid or steps[-1] >= LONGEST:
            return Climbed(found, tuple(steps), errors, exact_in)
        steps = [*steps[1:], 2 * steps[-1]]
        errors = [*errors[1:], error(subject, steps[-1])]


def _settled(errors: list[float]) -> bool:
    """Whether the last two slopes agree, or there are none."""
    before, middle, last = errors[-3:]
    return min(before, middle, last) <= 0 or abs(math.log2(before / middle) - math.log2(middle / last)) <= SETTLED


def _strong_climb(subject: Subject, ladder: tuple[int, ...], least: float) -> Climbed:
    """From exact starting values: a multistep method's low-order steps leave no trace.

    Of a solver that is not affine, or that asks for several times at once, from the start alone.
    """
    tried: list[Climbed] = []
    for exact_in in () if subject.entry.maps else EXACT:
        try:
            tried.append(_climb(partial(_strong_error, exact_in=exact_in), subject, ladder, least, exact_in))
        except NotApplicable:
            break
        if tried[-1].slope >= least:
            break
    return max(tried, key=lambda one: one.slope) if tried else _climb(_strong_error, subject, ladder, least)


def _strong_error(subject: Subject, steps: int, exact_in: Exact | None = None) -> float:
    path = subject.path()
    grid, truth = subject.times(path, steps), gaussian(path)
    x = start(path, grid[0], normal(8))
    if exact_in is not None:
        return largest_error(subject, truth, x, grid, bend=subject.bend, exact_in=exact_in)
    return float((subject(truth, x, grid) - truth.flow(x, grid[0], grid[-1])).square().mean().sqrt())


def _weak_error(subject: Subject, steps: int) -> float:
    path = subject.path()
    grid, truth = subject.times(path, steps), gaussian(path)
    law = output_law(subject, truth, grid, tolerance=subject.bend)
    return variance_error(law, marginal_law(truth, grid[-1]))


def _own_error(subject: Subject, steps: int) -> float:
    """Of the states on the way, at sigma/alpha of 0.3 to 1: at its ends a scheduler's steps do not shrink evenly.

    From the level that it asks for first; the least, since stages between steps have errors of their own.
    """
    path = subject.path()
    grid, truth = subject.times(path, steps), gaussian(path)
    first = subject.begins(path, grid)
    x, witness = start(path, first.t, normal(8)), Witness(truth)
    subject(witness, x / first.gain, grid)
    within = [one for one in witness.evaluations if WINDOW[0] <= float(path.ratio(one.t)) <= WINDOW[1]]
    if not within:
        raise NotApplicable(f"its grid of {steps} steps has no level from {WINDOW[0]} to {WINDOW[1]}")
    return min(float((one.x - truth.flow(x, first.t, one.t)).square().mean().sqrt()) for one in within)


def _script(subject: Subject, ladder: tuple[int, ...], stochastic: bool, exact_in: Exact | None) -> str:
    if stochastic:
        room = "" if subject.bend == BEND else f", tolerance={subject.bend:.3g}"
        step = f"""\
    law = output_law(sampler, oracle, times{room})
    errors.append(variance_error(law, marginal_law(oracle, times[-1])))"""
        extra = "from implementations.diffusion.law import marginal_law, output_law, variance_error"
    else:
        room = "" if subject.bend == BEND else f", bend={subject.bend:.3g}"
        room += "" if exact_in == "both" else f", exact_in={exact_in!r}"
        error = f"largest_error(sampler, oracle, x, times{room})"
        extra = "from bench.audit.history import largest_error"
        if exact_in is None:
            error = "float((sampler(oracle, x, times) - oracle.flow(x, times[0], times[-1])).square().mean().sqrt())"
            extra = ""
        step = f"""\
    x = z * {RADIUS.format(t="times[0]")}
    errors.append({error})"""
    body = f"""\
{oracle(8)}errors = []
for steps in {ladder}:
    times = {times(subject, "steps")}
{step}
print(errors)
print(slope({ladder}, errors, {subject.rounding:.3g}, last={stochastic}))"""
    return script(
        subject, body, "", "GaussianOracle SCHEDULES", f"{extra}\nfrom bench.audit.slope import slope".strip()
    )


def _own_script(subject: Subject) -> str:
    body = f"""\
{oracle(8)}errors = []
for steps in {OWN_LADDER}:
    times, first, witness = {times(subject, "steps")}, Witness(oracle), Witness(oracle)
    sampler(first, torch.ones(1, 6).double(), times)
    begin, gain = first.evaluations[0].t, float(first.evaluations[0].x[0, 0])
    x = z * {RADIUS.format(t="begin")}
    sampler(witness, x / gain, times)
    on_the_way = [one for one in witness.evaluations if {WINDOW[0]} <= path.ratio(one.t) <= {WINDOW[1]}]
    errors.append(min(float((one.x - oracle.flow(x, begin, one.t)).square().mean().sqrt()) for one in on_the_way))
print(errors)
print(slope({OWN_LADDER}, errors, {subject.rounding:.3g}))"""
    return script(subject, body, "", "GaussianOracle SCHEDULES Witness", "from bench.audit.slope import slope")
