"""Is the sampler as accurate as it says: its order on an exact flow or law, and the same on every path."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from bench.audit.finding import Measured, NotApplicable
from bench.audit.probe import Witness
from bench.audit.script import RADIUS, oracle, script, times
from bench.audit.subject import CONTINUOUS, Subject, gaussian, normal, start
from bench.laboratory import marginal_law, output_law, variance_error
from implementations.diffusion.schedule import graded
from metrics import fit_order

ROUNDING = 1e-11  # an error below it says nothing of an order
OWN_LADDER = (30, 60, 120, 240)  # none divides 1,000, where spacings that round part
WINDOW = (0.3, 1.0)
FIT = "from metrics import fit_order"


def order(subject: Subject) -> Measured:
    """Slope of the error over steps: to the exact flow, or of the exact variance where noise is drawn."""
    if subject.entry.adaptive:
        raise NotApplicable("it chooses its steps")
    theory = subject.entry.theory(subject.options)
    stochastic = subject.draws_noise
    if stochastic and subject.own_grid:
        raise NotApplicable("on a grid of its own the law is not compared; mode=solver is")
    if stochastic and not subject.entry.affine:
        raise NotApplicable("its output is not affine in its noise, so that its law takes sampling")
    ladder: tuple[int, ...] = OWN_LADDER
    if subject.own_grid:
        theory = theory and min(theory, 2)  # more than the first, low-order steps of a grid that is not graded allow
        errors = _own_errors(subject)
    else:
        ladder = (160, 320, 640) if (theory or 0) >= 4 else (80, 160, 320)
        errors = _weak_errors(subject, ladder) if stochastic else _strong_errors(subject, ladder)
    body = _own_script(subject) if subject.own_grid else _script(subject, ladder, stochastic)
    said = "of the variance" if stochastic else ""
    if sum(error > ROUNDING for error in errors) < 2:
        return Measured(math.inf, "", True, "exact but for rounding", body)
    # a variance's by the last doubling: terms of two orders may be of opposite signs
    slope = math.log2(errors[-2] / errors[-1]) if stochastic else fit_order(ladder, errors, floor=ROUNDING).slope
    if theory is None and stochastic:
        raise NotApplicable(f"it states no order; of the variance {slope:.3g} was measured")
    if theory is None:
        return Measured(slope, "at least 0.9", slope >= 0.9, "no order is stated", body)
    tolerance = 0.2 if theory > 2 or subject.own_grid else 0.15 if stochastic else 0.1
    if slope > theory + tolerance:
        said = f"{said}; higher than stated".lstrip("; ")
    if slope < theory - tolerance:
        said = f"{said}; errors {errors[0]:.3g} to {errors[-1]:.3g} in {ladder[0]} to {ladder[-1]} steps".lstrip("; ")
    return Measured(slope, f"at least {theory - tolerance:.4g}", slope >= theory - tolerance, said, body)


def _strong_errors(subject: Subject, ladder: tuple[int, ...]) -> list[float]:
    """The largest over the path: at its end alone, errors of early and late steps may cancel."""
    path, errors = subject.path(), []
    truth = gaussian(path)
    for steps in ladder:
        grid = graded(subject.times(path, steps))  # so that the first, low-order steps of a multistep leave no trace
        x = start(path, grid[0], normal(8))
        seen: list[float] = []

        def watch(
            i: int, t: Tensor, y: Tensor, _: Any, x: Tensor = x, grid: Tensor = grid, seen: list[float] = seen
        ) -> None:
            if i % 8 == 0:
                seen.append(float((y - truth.flow(x, grid[0], t)).square().mean().sqrt()))

        watch(0, grid[-1], subject(truth, x, grid, callback=watch), None)
        errors.append(max(seen))
    return errors


def _weak_errors(subject: Subject, ladder: tuple[int, ...]) -> list[float]:
    path, errors = subject.path(), []
    truth = gaussian(path)
    for steps in ladder:
        grid = subject.times(path, steps)
        law = output_law(subject, truth, grid)
        errors.append(variance_error(law, marginal_law(truth, grid[-1])))
    return errors


def _own_errors(subject: Subject) -> list[float]:
    """Of the states on the way, at sigma/alpha of 0.3 to 1: at its ends a scheduler's steps do not shrink evenly.

    From the level that it asks for first; the least, since stages between steps have errors of their own.
    """
    path, errors = subject.path(), []
    truth = gaussian(path)
    for steps in OWN_LADDER:
        grid = subject.times(path, steps)
        first = subject.begins(path, grid)
        x, witness = start(path, first.t, normal(8)), Witness(truth)
        subject(witness, x / first.gain, grid)
        within = [one for one in witness.evaluations if WINDOW[0] <= float(path.ratio(one.t)) <= WINDOW[1]]
        if not within:
            raise NotApplicable(f"in {steps} steps no state is at sigma/alpha {WINDOW[0]} to {WINDOW[1]}")
        errors.append(min(float((one.x - truth.flow(x, first.t, one.t)).square().mean().sqrt()) for one in within))
    return errors


def equivariance(subject: Subject) -> Measured:
    """One log-SNR grid gives the same samples on every path, rescaled: the largest relative difference."""
    coordinate = subject.options.get("coordinate", subject.entry.coordinate)
    if subject.own_grid:
        raise NotApplicable("its grid is its own")
    if subject.entry.adaptive:
        raise NotApplicable("it chooses its steps")
    if coordinate == "t":
        raise NotApplicable("it integrates in t, in which paths differ")
    if coordinate is None and not subject.peer:
        raise NotApplicable("it does not state its coordinate")
    limit = 1e-5 if subject.peer else 1e-12  # peers keep their levels in float32
    if subject.refused and not subject.peer:
        refused, reason = next(iter(subject.refused.items()))
        body = f"{oracle(2)}times = {times(subject, 5)}\nsampler(oracle, z, times)"
        return Measured(math.inf, f"at most {limit:g}", False, f"on {refused}: {reason}",
                        script(subject, body, refused, "GaussianOracle SCHEDULES"))  # fmt: skip
    if len(subject.paths) < 2:
        raise NotApplicable("it takes fewer than two of the paths")
    figure = 0.0
    for clean in (False, True) if subject.ends_clean else (False,):
        found = []
        for name in subject.paths:
            path = CONTINUOUS[name]()
            if clean and float(path.sigma(path.t_min)) > 0:
                continue
            grid = subject.times(path, 12, clean=clean)
            x = start(path, grid[0], normal(4))
            found.append(subject(gaussian(path), x, grid) / float(path.alpha(grid[-1])))
        figure = max([figure, *(float((y - found[0]).abs().max() / found[0].abs().max()) for y in found[1:])])
    left = ", ".join(subject.refused)
    return Measured(figure, f"at most {limit:g}", figure <= limit, f"without {left}" if left else "",
                    _equivariance_script(subject))  # fmt: skip


def _script(subject: Subject, ladder: tuple[int, ...], stochastic: bool) -> str:
    if stochastic:
        step = f"""\
    times = {times(subject, "steps")}
    law = output_law(sampler, oracle, times)
    errors.append(variance_error(law, marginal_law(oracle, times[-1])))"""
        extra = "from bench.laboratory import marginal_law, output_law, variance_error"
    else:
        step = f"""\
    times = graded({times(subject, "steps")})
    x = z * {RADIUS.format(t="times[0]")}
    seen = []

    def watch(i, t, y, prediction):  # the largest over the path: at its end alone, errors may cancel
        if i % 8 == 0:
            seen.append(float((y - oracle.flow(x, times[0], t)).square().mean().sqrt()))

    watch(0, times[-1], sampler(oracle, x, times{", callback=watch" if subject.takes("callback") else ""}), None)
    errors.append(max(seen))"""
        extra = "from implementations.diffusion.schedule import graded"
    last, fit = (
        "torch.tensor(errors[-2] / errors[-1]).log2().item()",
        f"fit_order({ladder}, errors, floor={ROUNDING}).slope",
    )
    body = f"""\
{oracle(8)}errors = []
for steps in {ladder}:
{step}
print(errors)
print({last if stochastic else fit})"""
    return script(subject, body, "", "GaussianOracle SCHEDULES", extra if stochastic else f"{extra}\n{FIT}")


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
print(fit_order({OWN_LADDER}, errors, floor={ROUNDING}).slope)"""
    return script(subject, body, "", "GaussianOracle SCHEDULES Witness", FIT)


def _equivariance_script(subject: Subject) -> str:
    names = " ".join(name.partition("(")[0] for name in subject.paths)
    body = f"""\
largest = 0.0
for clean in {(False, True) if subject.ends_clean else (False,)}:
    found = []
    for path in ({", ".join(subject.paths)}):
        if clean and path.sigma(path.t_min) > 0:
            continue
        {oracle(4).strip().replace(chr(10), chr(10) + " " * 8)}
        times = {times(subject, 12, clean=True).replace("clean=True", "clean=clean")}
        x = z * {RADIUS.format(t="times[0]")}
        found.append(sampler(oracle, x, times) / path.alpha(times[-1]))
    largest = max([largest, *(float((y - found[0]).abs().max() / found[0].abs().max()) for y in found[1:])])
print(largest)"""
    return script(subject, body, names=f"GaussianOracle SCHEDULES {names}")
