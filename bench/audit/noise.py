"""The noise check: is the noise independent over samples, calls and steps, and of the start?

The data are standard normal and the start is 0, so that the output is nothing but the sampler's noise, a weighted sum
of its draws. Over thousands of modes, the correlation of independent draws is a few hundredths.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.audit.finding import Measurement, NotApplicable
from bench.audit.script import script, times
from bench.audit.subject import Subject
from implementations.diffusion.law import Law, output_law
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.oracle import GaussianOracle

SAMPLES, MODES = 4, 4096
LIMIT = 0.1  # six standard deviations of a correlation over that many modes
EXCESS = 0.15  # relative excess of the variance over that of independent draws: four standard deviations


def noise(subject: Subject) -> Measurement:
    """Samples, calls, steps and starts share no noise; the figure is the largest correlation.

    This is a check of the audit of a sampler that adds noise. A run of so few steps that noise is drawn once is
    included, since later draws could cover a fault of the first.
    """
    if not subject.draws_noise:
        raise NotApplicable("it draws no noise")
    path, worst = subject.path(), (0.0, "")
    truth = GaussianOracle(path, torch.zeros(MODES).double(), 1.0)
    ladder = _steps(subject)
    for steps in ladder:
        found = outputs(subject, truth, subject.times(path, steps, clean=False))
        worst = max(worst, *((share, f"{who}, in {steps} steps") for who, share in correlations(*found).items()))
    if subject.entry.affine and worst[0] <= LIMIT:
        grid = subject.times(path, 4)
        nothing = torch.zeros(1, dtype=torch.float64)
        one_mode = GaussianOracle(path, nothing, 1.0)
        law = output_law(subject, one_mode, grid, start=Law(nothing, nothing), tolerance=subject.affine_tolerance)
        off = abs(float(outputs(subject, truth, grid)[0].square().mean() / law.variance) - 1)
        if off > EXCESS:
            worst = (min(off, 1.0), "one step and another: the variance of their sum is not that of independent draws")
    figure, says = worst
    body = f"""\
oracle = GaussianOracle(path, torch.zeros({MODES}).double(), 1.0)
for steps in {ladder}:
    found = correlations(*outputs(sampler, oracle, {times(subject, "steps")}))
    print(steps, found)
print(max(found.values()))"""
    text = script(subject, body, "", "GaussianOracle SCHEDULES", "from bench.audit.noise import correlations, outputs")
    return Measurement(figure, f"at most {LIMIT:g}", figure <= LIMIT, says if figure > LIMIT else "", text)


def _steps(subject: Subject) -> tuple[int, int]:
    """The fewest steps that draw noise once, and a few more; a last step to sigma = 0 draws none."""
    return (2, 4) if subject.as_shipped or subject.entry.to_data == "must" else (1, 4)


def outputs(sampler: Subject, oracle: GaussianOracle, grid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs of a sampler that are nothing but its noise: of two calls in a row, and two starts to compare them with.

    The starts are one drawn from torch's seed before the calls, and one by PerSampleNoise with the seeds 0 to n - 1, as
    a user would choose them.
    """
    zero = torch.zeros(SAMPLES, MODES, dtype=torch.float64)
    entry, options = (sampler.entry, sampler.options) if isinstance(sampler, Subject) else (sampler, {})
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        torch_start = torch.randn(zero.shape, dtype=torch.float64)
        first, second = (entry(oracle, zero, grid, **options) for _ in range(2))
    return first, second, torch_start, PerSampleNoise(range(SAMPLES))(0, zero)


def correlations(first: Tensor, second: Tensor, torch_start: Tensor, seeded_start: Tensor) -> dict[str, float]:
    """The largest correlation between noises and starts that should share nothing, by what they are.

    These are two samples of a call, two calls, and a call and a start.
    """
    samples = [_correlation(one)[~torch.eye(len(one), dtype=torch.bool)] for one in (first, second)]
    return {
        "samples of one call": float(torch.cat(samples).abs().max()),
        "two calls": float(_correlation(first, second).abs().max()),
        "a start drawn by torch and the noise": float(_correlation(torch_start, first).abs().max()),
        "a start of seeds 0 to n - 1 and the noise": float(_correlation(seeded_start, first).abs().max()),
    }


def _correlation(a: Tensor, b: Tensor | None = None) -> Tensor:
    a, b = (one / one.norm(dim=1, keepdim=True).clamp(min=1e-300) for one in (a, a if b is None else b))
    return a @ b.T
