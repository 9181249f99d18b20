"""An error ledger: how much of a sampler's figure is due to the prior, the early stop, the solver, and finite n.

In practice a sampler starts from the path's prior instead of the marginal, stops before the clean end, takes finitely
many steps, and is judged by n samples. The figure is the squared W2 between data and output as Gaussians of independent
modes (a Fréchet distance with the modes as features), fitted to the samples. Each part is the amount by which the
figure falls when one thing alone is made exact: the marginal in place of the prior, the exact flow for the rest of the
way or in place of the steps, the exact law in place of the samples; data and noise stay the same. A part is negative
where errors cancel, and the parts need not add up to the total; the remainder is the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from bench.task import Context, Measurements, Value
from bench.tasks.samplers.grids import make_path
from bench.tasks.samplers.problems import (
    Setup,
    check_budget,
    cost_measures,
    generator,
    require_samples,
    sampler_of,
    seed_of,
    set_up,
    standard_normal,
)
from bench.tasks.samplers.spectrum import SPECTRA
from implementations.diffusion.denoiser import CountingDenoiser
from implementations.diffusion.law import Law, marginal_law, output_law, prior_law, squared_w2
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.oracle import GaussianOracle

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import LedgerParameters

PARTS = ("prior", "stop", "solver", "finite_n")


def sampler_ledger(parameters: LedgerParameters, context: Context) -> Measurements:
    """The squared W2 of a sampler as it is used, and the part that each of four errors has in it.

    The errors are those of the prior, the early stop, the solver and the finite number of samples.
    """
    oracle = SPECTRA[parameters.spectrum](make_path(parameters.path), context.device)
    pipeline = _Pipeline(parameters, oracle, set_up(parameters, oracle, context.seed), context.seed)
    total = pipeline.figure()
    parts = {part: total - pipeline.figure(part) for part in PARTS}
    measures: dict[str, float | Value] = {"total": Value(total, n=parameters.samples), **parts}
    together = sum(parts.values())
    return measures | {
        "parts": together,
        "remainder": total - together,
        **cost_measures(pipeline.evaluations, pipeline.setup.artifacts),
    }


class _Pipeline:
    """The way from the prior to the figure, with one part of it exact."""

    def __init__(self, parameters: LedgerParameters, oracle: GaussianOracle, setup: Setup, seed: int):
        self.parameters, self.oracle, self.setup, n = parameters, oracle, setup, parameters.samples
        self.clean, self.evaluations = oracle.path.t_min, 0
        stream = generator(seed, "start")
        self.data = oracle.sample(n, generator=stream)
        self.noise = standard_normal(self.data, stream)
        base = seed_of(seed, "noise") << 32
        self.draws = PerSampleNoise(range(base, base + n))

    def figure(self, exact: str = "") -> float:
        """The squared W2 with that part exact."""
        law = self._law() if exact == "finite_n" else _moments(self._samples(exact))
        return float(squared_w2(law, marginal_law(self.oracle, self.clean)).sum())

    def _samples(self, exact: str) -> Tensor:
        path, start, end = self.oracle.path, self.setup.times[0], self.setup.times[-1]
        x = path.prior(self.noise, float(start))
        if exact == "prior":
            x = path.alpha(start) * self.data + path.sigma(start) * self.noise
        if exact == "solver":
            y = self.oracle.flow(x, start, end)
        else:
            counted = CountingDenoiser(self.oracle)
            found = sampler_of(self.parameters)(counted, x, self.setup.times, noise=self.draws, **self.setup.options)
            y, self.evaluations = require_samples(found, x), check_budget(self.parameters, counted)
        return self.oracle.flow(y, end, self.clean) if exact == "stop" else y

    def _law(self) -> Law:
        start = prior_law(self.oracle, self.setup.times[0])
        return output_law(sampler_of(self.parameters), self.oracle, self.setup.times, self.setup.options, start)


def _moments(x: Tensor) -> Law:
    return Law(x.mean(0), x.var(0))
