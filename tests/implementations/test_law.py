"""The law of an output: what sampling gives, and what can be worked out by hand."""

import math

import pytest
import torch

from bench.tasks.samplers.grids import make_path
from bench.tasks.samplers.problems import gaussian_law
from implementations.catalogue import PATHS, SAMPLERS, SCHEDULES
from implementations.diffusion import VP, CountingDenoiser, GaussianOracle
from implementations.diffusion import law as law_module
from implementations.diffusion.law import (
    Law,
    carry_law,
    marginal_law,
    output_law,
    prior_law,
    relative_entropy,
    squared_w2,
    variance_error,
)
from implementations.diffusion.noise import PerSampleNoise


def toy(path):
    return GaussianOracle(path, *gaussian_law(5))


def sample(law, n, seed=0):
    z = torch.randn(n, len(law.mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return law.mean + law.variance.sqrt() * z


@pytest.mark.parametrize("path", ["vp", "edm", "rectified_flow"])
@pytest.mark.parametrize(
    ("sampler", "options"), [("ddpm", {}), ("ddim", {"eta": 0.5}), ("heun", {}), ("dpmpp_2m", {}), ("ddim", {})]
)
def test_sampled_moments_are_those_of_the_law(path, sampler, options):
    """20,000 samples: five standard errors, of a mean ``s / sqrt(n)``, of a variance ``v sqrt(2 / n)``."""
    oracle, n = toy(make_path(path)), 20_000
    times = SCHEDULES["karras"](oracle.path, 6)
    law = output_law(SAMPLERS[sampler], oracle, times, options)
    x = sample(marginal_law(oracle, times[0]), n)
    found = SAMPLERS[sampler](oracle, x, times, noise=PerSampleNoise(range(n)), **options)
    assert ((found.mean(0) - law.mean).abs() < 5 * (law.variance / n).sqrt()).all()
    assert ((found.var(0) / law.variance - 1).abs() < 5 * math.sqrt(2 / n)).all()
    off_diagonal = torch.corrcoef(found.T) - torch.eye(5)
    assert float(off_diagonal.abs().max()) < 5 / math.sqrt(n)


def test_chunks_change_nothing(monkeypatch):
    oracle = toy(VP())
    times = SCHEDULES["karras"](oracle.path, 9)
    whole = output_law(SAMPLERS["ddpm"], oracle, times)
    monkeypatch.setattr(law_module, "AT_ONCE", 15)  # three rows of five modes
    counted = CountingDenoiser(oracle)
    parts = output_law(SAMPLERS["ddpm"], oracle, times, denoiser=counted)
    assert counted.calls == 9 * 5  # nothing, then rows 0 to 9 by threes
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)  # batches of another size: last bits


def test_a_sampler_that_is_not_affine_or_mixes_modes_is_refused():
    oracle = toy(VP())
    times = SCHEDULES["karras"](oracle.path, 3)

    def clipped(denoiser, x, times, noise=None):
        return x.clamp(-0.5, 0.5)

    def mixing(denoiser, x, times, noise=None):
        return x.flip(1) + x

    def lost(denoiser, x, times, noise=None):
        return x * math.nan

    for sampler in (clipped, mixing):
        with pytest.raises(ValueError, match="not affine"):
            output_law(sampler, oracle, times)
    with pytest.raises(FloatingPointError, match="not finite"):
        output_law(lost, oracle, times)


@pytest.mark.parametrize("path", list(PATHS))
def test_the_exact_flow_carries_the_marginals_into_one_another(path):
    oracle = toy(make_path(path))
    times = SCHEDULES["karras"](oracle.path, 3)
    carried = carry_law(marginal_law(oracle, times[0]), oracle, times[0], times[-1])
    for one, other in zip(carried, marginal_law(oracle, times[-1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)  # through sigma/alpha = 80 and back


@pytest.mark.parametrize("path", list(PATHS))
def test_the_prior_s_law_is_that_of_its_draws(path):
    oracle = toy(make_path(path))
    law = prior_law(oracle, oracle.path.t_max)
    z = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(oracle.path.prior(z, oracle.path.t_max), law.mean + law.variance.sqrt() * z)


def test_distances_of_laws_are_those_of_distributions():
    law, truth = Law(torch.tensor([1.0, -2.0]).double(), torch.tensor([4.0, 0.3]).double()), Law(*gaussian_law(2))
    p, q = (torch.distributions.MultivariateNormal(one.mean, torch.diag(one.variance)) for one in (law, truth))
    expected = torch.distributions.kl_divergence(p, q)
    assert float(relative_entropy(law, truth).sum()) == pytest.approx(float(expected), rel=1e-12)
    # W2 of one dimension is that of sorted samples
    x, y = (sample(one, 1_000_000).sort(0).values for one in (law, truth))
    assert squared_w2(law, truth).tolist() == pytest.approx((x - y).square().mean(0).tolist(), rel=0.01)
    assert float(relative_entropy(truth, truth).sum()) == float(squared_w2(truth, truth).sum()) == 0
    assert variance_error(truth, truth) == 0
