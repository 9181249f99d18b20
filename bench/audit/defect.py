"""Is one step right by itself, between steps of another length: the defect from exact history.

Over a ladder of smooth grids the errors of a wrong step ratio cancel from step to step, h_i^2 - h_(i-1)^2, so that an
inverted ratio keeps its order. One step whose whole history is exact, each of its steps half or twice as long as the
next, shows it: a method of order p leaves h^(p + 1) there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.audit.finding import Measured, NotApplicable
from bench.audit.history import EXACT, Exact, states_from_exact_history
from bench.audit.script import RADIUS, oracle, script
from bench.audit.slope import said, slope
from bench.audit.subject import BEND, Subject, gaussian, normal, start
from implementations.diffusion.path import Path

RATIOS = (0.5, 2.0)  # of a step to the one before
LENGTHS = (10, 20, 40, 80, 160)  # inverse lengths of the step, in log-SNR
HISTORY = 4  # steps before it
LEAST = 1e-14  # a single step's rounding in float64


def defect(subject: Subject) -> Measured:
    """One step from exact history at step ratios 1/2 and 2: slope of its error over its length, p + 1 at least."""
    entry = subject.entry
    if entry.adaptive:
        raise NotApplicable("it chooses its steps")
    if subject.own_grid:
        raise NotApplicable("its grid is its own")
    if subject.draws_noise:
        raise NotApplicable("it draws noise: a step of it is right in law alone")
    if entry.maps:
        raise NotApplicable("it asks for a flow map, of which any step is exact")
    theory = entry.theory(subject.options)
    # the last step of a method that corrects is its predictor's, of one order less
    need = (theory or 1) + (0 if entry.corrects else 1)
    tolerance = 0.2 if need <= 3 else 0.3
    ratios = (1.0,) if entry.equal_steps else RATIOS
    path, found = subject.path(), []
    for ratio in ratios:
        tried = []
        for exact_in in EXACT:
            errors = [_defect(subject, path, ratio, 1 / inverse, exact_in) for inverse in LENGTHS]
            steepness = slope(LENGTHS, errors, subject.rounding, last=True, least=LEAST)
            tried.append((steepness, ratio, errors, exact_in))
            if steepness >= need - tolerance:
                break
        found.append(max(tried))
        if found[-1][0] < need - tolerance:
            break
    least, ratio, errors, exact_in = min(found)
    limit = f"at least {need - tolerance:.4g}"
    if math.isinf(least):
        return Measured(least, limit, True, "exact but for rounding")
    holds = least >= need - tolerance
    says = "" if holds else f"at step ratio {ratio:g}, errors {said(errors)} in steps of 1/10 to 1/160"
    if holds and entry.equal_steps:
        says = "on equal steps, for which its weights are made"
    if holds and theory is None:
        says = "no order is stated"
    return Measured(least or None, limit, holds, says, _script(subject, ratio, exact_in))


def grid(path: Path, ratio: float, length: float, ascending: bool = False) -> Tensor:
    """Times of a step from log-SNR 0 of this length, and of the steps before it, each by ``ratio`` another's."""
    before = [length / ratio**k for k in range(HISTORY, 0, -1)]
    log_snr = torch.tensor([-math.fsum(before[k:]) for k in range(HISTORY)] + [0.0, length], dtype=torch.float64)
    return path.time(-log_snr if ascending else log_snr)


def _defect(subject: Subject, path: Path, ratio: float, length: float, exact_in: Exact) -> float:
    times, truth = grid(path, ratio, length, subject.entry.ascending), gaussian(path)
    x = start(path, times[0], normal(8))
    _, y = states_from_exact_history(subject, truth, x, times, HISTORY, subject.bend, exact_in)[-1]
    return float((y - truth.flow(x, times[0], times[-1])).square().mean().sqrt())


def _script(subject: Subject, ratio: float, exact_in: Exact) -> str:
    room = ("" if subject.bend == BEND else f", bend={subject.bend:.3g}") + (
        "" if exact_in == "both" else f", exact_in={exact_in!r}"
    )
    body = f"""\
{oracle(8)}errors = []
for inverse in {LENGTHS}:
    times = grid(path, {ratio}, 1 / inverse{", ascending=True" if subject.entry.ascending else ""})
    x = z * {RADIUS.format(t="times[0]")}
    _, y = states_from_exact_history(sampler, oracle, x, times, HISTORY{room})[-1]
    errors.append(float((y - oracle.flow(x, times[0], times[-1])).square().mean().sqrt()))
print(errors)
print(slope({LENGTHS}, errors, {subject.rounding:.3g}, last=True, least={LEAST}))"""
    imports = (
        "from bench.audit.defect import HISTORY, grid\nfrom bench.audit.history import states_from_exact_history\n"
        "from bench.audit.slope import slope"
    )
    return script(subject, body, "", "GaussianOracle", imports)
