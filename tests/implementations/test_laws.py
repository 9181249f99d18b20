"""What stochastic samplers draw has the law that unit impulses predict; data at a point are met exactly."""

import pytest
import torch

from implementations.diffusion import SCHEDULES, VP, GaussianOracle
from implementations.diffusion.law import marginal_law, output_law
from implementations.samplers import SAMPLERS

N = 20_000
OWN = [(n, o) for n, e in SAMPLERS.items() if e.source == "fidmap" and e.family != "peer" for o in e.variants()]
AFFINE = [(n, o) for n, o in OWN if SAMPLERS[n].draws_noise(o) and SAMPLERS[n].affine and not SAMPLERS[n].adaptive]
AFFINE += [("ddim", {"eta": 0.5}), ("ddpm", {"variance": "large"}), ("gddim", {"eta": 0.7})]
AFFINE += [("dpmpp_sde", {"eta": 0.6, "r": 0.3}), ("seeds", {"prediction": "data", "eta": 0.5})]
AFFINE += [("sa_solver", {"interval": (0.2, 2.0), "order": 3}), ("er_sde", {"scale": "er_sde_2"})]


def label(value):
    return "-".join([value[0], *map(str, value[1].values())])


def drawn(k, like):
    """As many numbers as are wanted at once: the law of one draw a sample, in a fraction of the time."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(k), dtype=like.dtype)


@pytest.mark.parametrize("variant", AFFINE, ids=label)
def test_samples_have_the_law_predicted(variant):
    name, options = variant
    oracle = GaussianOracle(VP(), torch.tensor([-1.0, 0.5, 2.0]).double(), torch.tensor([0.05, 0.5, 2.0]).double())
    times = SCHEDULES["karras"](VP(), 5, sigma_min=0.05, sigma_max=20.0, clean=False)
    start = marginal_law(oracle, times[0])
    x = start.mean + start.variance.sqrt() * drawn(999_999, torch.empty(N, 3, dtype=torch.float64))
    found = SAMPLERS[name](oracle, x, times, noise=drawn, **options)
    law = output_law(SAMPLERS[name], oracle, times, options)
    # in units of the deviations predicted: standard errors 1/sqrt(n), sqrt(2/n) on the diagonal, 1/sqrt(n) off it
    z = (found - law.mean) / law.variance.sqrt()
    assert float(z.mean(0).abs().max()) < 5 / N**0.5
    covariance = z.T @ z / N
    assert float((covariance - torch.eye(3)).abs().max()) < 5 * (2 / N) ** 0.5


POINT = [(n, {"eta": eta}) for n in ("ddim", "euler_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m_sde",
                                     "dpmpp_3m_sde", "gddim") for eta in (0.0, 0.4, 1.0)]  # fmt: skip
POINT += [("dpmpp_2m_sde", {"eta": 3.0}), ("ddpm", {}), ("dpm_2_ancestral", {"eta": 0.0})]
POINT += [("seeds", {"order": k, "eta": eta, "prediction": "data"}) for k in (1, 2, 3) for eta in (0.0, 0.6, 2.0)]
POINT += [("sa_solver", {"order": k, "tau": tau}) for k in (1, 2, 3, 4) for tau in (0.0, 0.8)]
POINT += [("sa_solver", {"tau": lambda level: level / (1 + level)}), ("sa_solver", {"interval": (0.5, 3.0)})]
POINT += [
    ("er_sde", {"order": k, "scale": s})
    for k in (1, 2, 3)
    for s in (None, "sde", *(f"er_sde_{j}" for j in range(1, 6)))
]


@pytest.mark.parametrize("name", sorted({name for name, _ in POINT}))
def test_data_at_a_point_are_exact_in_any_steps_with_any_noise(name):
    """What is predicted is constant then, so that a step that is exact for a constant leaves the marginals alone."""
    oracle = GaussianOracle(VP(), torch.tensor([-1.0, 2.0]).double(), torch.zeros(2).double())
    times = SCHEDULES["karras"](VP(), 4, sigma_min=0.05, sigma_max=20.0, clean=False)
    truth = marginal_law(oracle, times[-1])
    for options in [options for other, options in POINT if other == name]:
        law = output_law(SAMPLERS[name], oracle, times, options)
        torch.testing.assert_close(law.mean, truth.mean, rtol=1e-12, atol=1e-12, msg=lambda m, o=options: f"{o}: {m}")
        torch.testing.assert_close(
            law.variance, truth.variance, rtol=1e-12, atol=0, msg=lambda m, o=options: f"{o}: {m}"
        )
