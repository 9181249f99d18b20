"""The order check: the slope of a sampler's error over a ladder of step counts, against an exact flow or law."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from bench.audit.finding import Measurement, NotApplicable
from bench.audit.history import EXACT, Exact, largest_error
from bench.audit.probe import RecordingDenoiser
from bench.audit.script import RADIUS, oracle, script, times
from bench.audit.slope import FLAT, format_errors, slope
from bench.audit.subject import AFFINE_TOLERANCE, Subject, normal, six_modes, state_at
from implementations.diffusion.law import marginal_law, output_law, variance_error

OWN_LADDER = (30, 60, 120, 240)  # none divides 1,000, where spacings that round and those that do not would agree
WINDOW = (0.3, 1.0)  # sigma/alpha at which a scheduler as shipped is measured
LONGEST, SETTLED = 1280, 0.1  # steps are doubled up to this number, or until two slopes differ by at most this


def order(subject: Subject) -> Measurement:
    """The error falls with the number of steps as fast as the sampler's stated order; the figure is the slope.

    This is a check of a sampler's audit. The error is that to the exact flow, or, of a sampler that draws noise, that
    of the exact variance of its output.
    """
    if subject.entry.adaptive:
        raise NotApplicable("it chooses its steps")
    theory = subject.entry.theory(subject.options)
    stochastic = subject.draws_noise
    if stochastic and subject.as_shipped:
        raise NotApplicable("it draws noise on a grid of its own; its law is compared in mode=solver")
    if stochastic and not subject.entry.affine:
        raise NotApplicable("its output is not affine in its noise, so that its law takes sampling")
    if subject.as_shipped:
        theory = theory and min(theory, 2)  # the low-order first steps of an ungraded grid limit it to 2
    tolerance = 0.1 if theory is None else 0.2 if theory > 2 or subject.as_shipped else 0.15 if stochastic else 0.1
    least = (1 if theory is None else theory) - tolerance
    if subject.as_shipped:
        found, steps, errors, _ = _climb(_own_error, subject, OWN_LADDER, least)
        body = _own_script(subject)
    else:
        ladder = (160, 320, 640) if (theory or 0) >= 4 else (80, 160, 320)
        climbed = _climb(_weak_error, subject, ladder, least) if stochastic else _strong_climb(subject, ladder, least)
        found, steps, errors, exact_in = climbed
        body = _script(subject, steps, stochastic, exact_in)
    ran = f"errors {format_errors(errors)} in {', '.join(map(str, steps))} steps, on data whose mean is not 0"
    remark = "of the variance" if stochastic else ""
    if theory is None and stochastic:
        measured = f"of the variance {found:.3g} was measured" if found else "its variance does not converge"
        raise NotApplicable(f"it states no order; {measured}")
    if found == 0:
        return Measurement(None, f"at least {least:.4g}", False, f"does not converge: {ran}", body)
    if math.isinf(found):
        return Measurement(found, "", True, "exact but for rounding", body)
    if theory is None:
        return Measurement(found, f"at least {least:.4g}", found >= least, "no order is stated", body)
    if found > theory + tolerance:
        remark = f"{remark}; higher than stated".lstrip("; ")
    if found < least:
        remark = f"{remark}; {ran}".lstrip("; ")
    return Measurement(found, f"at least {least:.4g}", found >= least, remark, body)


class Climbed(NamedTuple):
    """What a ladder of step counts shows: its slope, and the steps and errors that it is of.

    ``exact_in`` is the view in which the exact starting values were exact; None where the sampler was measured from its
    start.
    """

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
    """Double the steps until the slope is steep enough, two slopes agree, or ``LONGEST`` is reached.

    For a variance the slope is that of the last doubling, since error terms of two orders may have opposite signs.
    """
    steps, errors = list(ladder), [error(subject, n) for n in ladder]
    while True:
        found = slope(steps, errors, subject.rounding, last=error is _weak_error)
        # An error to a flow that hardly falls will not fall later; that of a variance may just have changed sign.
        hopeless = error is not _weak_error and errors[-1] > errors[-2] / 2**FLAT
        if found >= least or hopeless or _has_settled(errors) or subject.as_shipped or steps[-1] >= LONGEST:
            return Climbed(found, tuple(steps), errors, exact_in)
        steps = [*steps[1:], 2 * steps[-1]]
        errors = [*errors[1:], error(subject, steps[-1])]


def _has_settled(errors: list[float]) -> bool:
    """Whether the last two slopes differ by at most ``SETTLED``, or there is no slope."""
    before, middle, last = errors[-3:]
    return min(before, middle, last) <= 0 or abs(math.log2(before / middle) - math.log2(middle / last)) <= SETTLED


def _strong_climb(subject: Subject, ladder: tuple[int, ...], least: float) -> Climbed:
    """Climb from exact starting values, so that the low-order first steps of a multistep method do not count.

    A solver that is not affine, or that evaluates several times in one call, is measured from its start instead.
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
    grid, truth = subject.times(path, steps), six_modes(path)
    x = state_at(path, grid[0], normal(8))
    if exact_in is not None:
        return largest_error(subject, truth, x, grid, tolerance=subject.affine_tolerance, exact_in=exact_in)
    return float((subject(truth, x, grid) - truth.flow(x, grid[0], grid[-1])).square().mean().sqrt())


def _weak_error(subject: Subject, steps: int) -> float:
    path = subject.path()
    grid, truth = subject.times(path, steps), six_modes(path)
    law = output_law(subject, truth, grid, tolerance=subject.affine_tolerance)
    return variance_error(law, marginal_law(truth, grid[-1]))


def _own_error(subject: Subject, steps: int) -> float:
    """Error of a scheduler as shipped, at states with sigma/alpha in ``WINDOW``: at the ends its steps shrink unevenly.

    It starts at the level at which the network is first evaluated. The least error of these states is taken, since
    stages within steps have errors of their own.
    """
    path = subject.path()
    grid, truth = subject.times(path, steps), six_modes(path)
    first = subject.first_state(path, grid)
    x, recorder = state_at(path, first.t, normal(8)), RecordingDenoiser(truth)
    subject(recorder, x / first.gain, grid)
    within = [one for one in recorder.calls if WINDOW[0] <= float(path.ratio(one.t)) <= WINDOW[1]]
    if not within:
        raise NotApplicable(f"its grid of {steps} steps has no level from {WINDOW[0]} to {WINDOW[1]}")
    return min(float((one.x - truth.flow(x, first.t, one.t)).square().mean().sqrt()) for one in within)


def _script(subject: Subject, ladder: tuple[int, ...], stochastic: bool, exact_in: Exact | None) -> str:
    if stochastic:
        room = "" if subject.affine_tolerance == AFFINE_TOLERANCE else f", tolerance={subject.affine_tolerance:.3g}"
        step = f"""\
    law = output_law(sampler, oracle, times{room})
    errors.append(variance_error(law, marginal_law(oracle, times[-1])))"""
        extra = "from implementations.diffusion.law import marginal_law, output_law, variance_error"
    else:
        room = "" if subject.affine_tolerance == AFFINE_TOLERANCE else f", tolerance={subject.affine_tolerance:.3g}"
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
    times, first, recorder = {times(subject, "steps")}, RecordingDenoiser(oracle), RecordingDenoiser(oracle)
    sampler(first, torch.ones(1, 6).double(), times)
    begin, gain = first.calls[0].t, float(first.calls[0].x[0, 0])
    x = z * {RADIUS.format(t="begin")}
    sampler(recorder, x / gain, times)
    on_the_way = [one for one in recorder.calls if {WINDOW[0]} <= path.ratio(one.t) <= {WINDOW[1]}]
    errors.append(min(float((one.x - oracle.flow(x, begin, one.t)).square().mean().sqrt()) for one in on_the_way))
print(errors)
print(slope({OWN_LADDER}, errors, {subject.rounding:.3g}))"""
    return script(
        subject, body, "", "GaussianOracle SCHEDULES RecordingDenoiser", "from bench.audit.slope import slope"
    )
