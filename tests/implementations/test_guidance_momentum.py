"""APG's momentum is a function of the noise level: what solvers of every kind make of it."""

import itertools
import math

import pytest
import torch

from implementations.catalogue import GUIDANCE
from implementations.diffusion import EDM, SCHEDULES, Denoiser, Prediction
from implementations.guidance.momentum import Momentum
from implementations.samplers import SAMPLERS
from tests.exact import draws, normal
from tests.given import classes

BETA = -0.6


def sums(*changes):
    """``d_k + beta m_(k-1)`` over the changes."""
    total = 0.0
    for change in changes:
        total = change + BETA * total
    return total


def test_a_level_counts_once_and_a_higher_one_begins_anew():
    momentum, d = Momentum(BETA), [normal(2, 3, seed=k) for k in range(6)]
    assert torch.equal(momentum(d[0], 8.0), d[0])
    assert torch.allclose(momentum(d[1], 4.0), sums(d[0], d[1]))
    assert torch.allclose(momentum(d[2], 4.0), sums(d[0], d[2]))  # the same level again takes the place of the last
    assert torch.allclose(momentum(d[3], 4.0 * (1 + 1e-12)), sums(d[0], d[3]))  # by way of its logarithm
    assert torch.allclose(momentum(d[4], 2.0), sums(d[0], d[3], d[4]))
    assert torch.equal(momentum(d[5], 3.0), d[5])  # the level rose
    momentum.forget()
    assert torch.equal(momentum(d[0], 1.0), d[0])


def test_pure_noise_and_another_batch_begin_anew():
    momentum, d = Momentum(BETA), [normal(2, 3, seed=k) for k in range(3)]
    momentum(d[0], math.inf)
    assert torch.allclose(momentum(d[1], 5.0), sums(d[0], d[1]))
    assert torch.equal(momentum(d[2], math.inf), d[2])
    assert torch.equal(momentum(normal(4, 3), 1.0), normal(4, 3))


def test_levels_of_samples_count_for_each_sample():
    momentum, d = Momentum(BETA), [normal(3, 2, seed=k) for k in range(3)]
    momentum(d[0], torch.tensor([8.0, 8.0, 8.0]).double())
    momentum(d[1], torch.tensor([4.0, 8.0, 9.0]).double())  # lower, the same, higher
    found = momentum(d[2], torch.tensor([2.0, 4.0, 9.0]).double())
    wanted = torch.stack([sums(d[0][0], d[1][0], d[2][0]), sums(d[1][1], d[2][1]), d[2][2]])
    assert torch.allclose(found, wanted)


class Recorded(Denoiser):
    """A denoiser that keeps the levels at which it is asked, and predicts the same difference at each."""

    unconditional = -1

    def __init__(self, path):
        self.path, self.levels = path, []

    def __call__(self, x, t, condition=None):
        self.levels.append(float(self.path.ratio(t)))
        given = (torch.as_tensor(condition) != -1).reshape(-1, 1).double()
        return Prediction(self.path, x, t, x0=given * torch.tensor([1.0, 0.5]).double())


@pytest.mark.parametrize(
    "sampler", ["euler", "heun", "dpm_2_ancestral", "dpmpp_2s", "rk4", "dpmpp_2m_sde", "unipc_bh2", "ddpm"]
)
def test_a_solver_s_stages_advance_it_once_per_level(sampler):
    """The prediction at the last level is that of the distinct levels in their order, whatever the stages were."""
    path = EDM()
    denoiser, seen = Recorded(path), []
    guided = GUIDANCE["apg"](denoiser, scale=2.0, momentum=BETA, eta=1.0)
    times = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])

    class Watched(Denoiser):
        def __init__(self):
            self.path = path

        def __call__(self, x, t, condition=None):
            found = guided(x, t, condition)
            seen.append(found.x0[0, 0].item())
            return found

    SAMPLERS[sampler](Watched(), 8 * normal(3, 2), times, condition=0, noise=draws)
    distinct, expected = [], []
    for level in denoiser.levels:
        if distinct and level > distinct[-1] * (1 + 1e-9):
            distinct = []
        if not distinct or level < distinct[-1] * (1 - 1e-9):
            distinct.append(level)
        expected.append(1 + sums(*[1.0] * len(distinct)))  # c + (w - 1) m, of a difference that is 1 everywhere
    assert seen == pytest.approx(expected, abs=1e-12)
    assert len(set(denoiser.levels)) >= 4


def test_momentum_of_a_one_stage_solver_is_that_of_its_steps():
    """Heun sees every level of the grid twice, Euler once: both have one more term of the sum per level."""
    path, labels = EDM(), torch.tensor([0, 1, 2])
    times, x = torch.tensor([8.0, 4.0, 2.0, 1.0]), 8 * normal(3, 2)
    oracle, guided = classes(path), GUIDANCE["apg"](classes(path), scale=3.0, momentum=BETA, eta=0.0)
    state, total = x, 0.0
    for here, there in itertools.pairwise(times):
        c, u = oracle(state, here, labels).x0, oracle(state, here, None).x0
        total = (c - u) + BETA * total
        unit = c / c.norm(dim=1, keepdim=True)
        x0 = c + 2.0 * (total - (total * unit).sum(1, keepdim=True) * unit)
        state = x0 + (there / here) * (state - x0)
    found = SAMPLERS["euler"](guided, x, times, condition=labels)
    assert (found - state).abs().max() < 1e-12


@pytest.mark.parametrize(
    "sampler", ["heun", "dopri5", "edm_heun", "restart", "dpm_adaptive", "dpmpp_sde", "predictor_corrector"]
)
def test_a_run_does_not_depend_on_the_runs_before(sampler):
    path, labels = EDM(), torch.tensor([0, 1, 2])
    times, x = SCHEDULES["karras"](path, 8, sigma_max=20.0, clean=False), 20 * normal(3, 2)
    used, fresh = (GUIDANCE["apg"](classes(path), momentum=BETA) for _ in range(2))
    SAMPLERS["heun"](used, 80 * normal(5, 2), SCHEDULES["karras"](path, 5), condition=2)
    options = {"rtol": 1e-2, "atol": 1e-2} if sampler == "dopri5" else {}
    found, wanted = (
        SAMPLERS[sampler](one, x, times, condition=labels, noise=draws, **options) for one in (used, fresh)
    )
    assert torch.equal(found, wanted)


def test_samples_of_an_adaptive_solver_do_not_depend_on_their_neighbours():
    path = EDM()
    guided, x = GUIDANCE["apg"](classes(path), momentum=BETA), 20 * normal(3, 2)
    times = torch.tensor([20.0, 0.05])

    def run(x):
        return SAMPLERS["dopri5"](guided, x, times, condition=0, rtol=1e-2, atol=1e-2)

    whole, alone = run(x), torch.cat([run(one[None]) for one in x])
    assert (whole - alone).abs().max() < 1e-9
