"""The defect check: is a single step right where the steps before it have another length?

Over a ladder of smooth grids, the errors of a wrong step ratio cancel from one step to the next (h_i^2 - h_(i-1)^2), so
that a solver with an inverted ratio still shows its order. This check takes one step from an exact history whose steps
are each half or twice as long as the next. A method of order p leaves an error of h^(p + 1) there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.audit.finding import Measurement, NotApplicable
from bench.audit.history import EXACT, Exact, states_from_exact_history
from bench.audit.script import RADIUS, oracle, script
from bench.audit.slope import format_errors, slope
from bench.audit.subject import AFFINE_TOLERANCE, Subject, normal, six_modes, state_at
from implementations.diffusion.path import Path

RATIOS = (0.5, 2.0)  # length of a step over that of the step before
LENGTHS = (10, 20, 40, 80, 160)  # inverse lengths of the step that is measured, in log-SNR
HISTORY = 4  # steps before the one that is measured
LEAST = 1e-14  # rounding of a single step in float64


def defect(subject: Subject) -> Measurement:
    """The error of one step from exact history falls with its length to the power p + 1, at step ratios 1/2 and 2.

    This check of a sampler's audit, p its order, finds a wrong use of the step ratio, which a ladder of smooth grids
    hides. The figure is the slope of the log error over the log length.
    """
    entry = subject.entry
    if entry.adaptive:
        raise NotApplicable("it chooses its steps")
    if subject.as_shipped:
        raise NotApplicable("its grid is its own")
    if subject.draws_noise:
        raise NotApplicable("it draws noise: a step of it is right in law alone")
    if entry.maps:
        raise NotApplicable("it asks for a flow map, of which any step is exact")
    theory = entry.theory(subject.options)
    # The last step of a predictor-corrector method is not corrected, and is of the predictor's order, one less.
    need = (theory or 1) + (0 if entry.corrects or entry.lower_end else 1)
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
        return Measurement(least, limit, True, "exact but for rounding")
    holds = least >= need - tolerance
    says = "" if holds else f"at step ratio {ratio:g}, errors {format_errors(errors)} in steps of 1/10 to 1/160"
    if holds and entry.equal_steps:
        says = "on equal steps, for which its weights are made"
    if holds and theory is None:
        says = "no order is stated"
    return Measurement(least or None, limit, holds, says, _script(subject, ratio, exact_in))


def step_grid(path: Path, ratio: float, length: float, ascending: bool = False) -> Tensor:
    """The grid of the defect check: a step of this length in log-SNR from log-SNR 0, after ``HISTORY`` steps.

    Each step before it is ``1/ratio`` times as long as the next.
    """
    before = [length / ratio**k for k in range(HISTORY, 0, -1)]
    log_snr = torch.tensor([-math.fsum(before[k:]) for k in range(HISTORY)] + [0.0, length], dtype=torch.float64)
    return path.time(-log_snr if ascending else log_snr)


def _defect(subject: Subject, path: Path, ratio: float, length: float, exact_in: Exact) -> float:
    times, truth = step_grid(path, ratio, length, subject.entry.ascending), six_modes(path)
    x = state_at(path, times[0], normal(8))
    _, y = states_from_exact_history(subject, truth, x, times, HISTORY, subject.affine_tolerance, exact_in)[-1]
    return float((y - truth.flow(x, times[0], times[-1])).square().mean().sqrt())


def _script(subject: Subject, ratio: float, exact_in: Exact) -> str:
    room = ("" if subject.affine_tolerance == AFFINE_TOLERANCE else f", tolerance={subject.affine_tolerance:.3g}") + (
        "" if exact_in == "both" else f", exact_in={exact_in!r}"
    )
    body = f"""\
{oracle(8)}errors = []
for inverse in {LENGTHS}:
    times = step_grid(path, {ratio}, 1 / inverse{", ascending=True" if subject.entry.ascending else ""})
    x = z * {RADIUS.format(t="times[0]")}
    _, y = states_from_exact_history(sampler, oracle, x, times, HISTORY{room})[-1]
    errors.append(float((y - oracle.flow(x, times[0], times[-1])).square().mean().sqrt()))
print(errors)
print(slope({LENGTHS}, errors, {subject.rounding:.3g}, last=True, least={LEAST}))"""
    imports = (
        "from bench.audit.defect import HISTORY, step_grid\nfrom bench.audit.history import states_from_exact_history\n"
        "from bench.audit.slope import slope"
    )
    return script(subject, body, "", "GaussianOracle", imports)
