"""DDIM's inversion: exact once its fixed point is met, first order before, and what it costs."""

import math

import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VE,
    VP,
    Cosine,
    CountingDenoiser,
    DiscreteVP,
    MixtureOracle,
    Network,
    Prediction,
    RectifiedFlow,
    SubVP,
    TrigFlow,
)
from implementations.diffusion.denoiser import Denoiser
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

PATHS = [VP(), Cosine(), SubVP(), VE(), EDM(), RectifiedFlow(), TrigFlow()]
PATHS += [DiscreteVP(torch.linspace(1e-4, 0.02, 1000))]


def round_trip(oracle, x, times, iterations):
    noised = SAMPLERS["ddim_inversion"](oracle, x, times.flip(0), iterations=iterations)
    return float((SAMPLERS["ddim"](oracle, noised, times) - x).abs().max() / x.abs().max())


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_ddim_gives_back_what_a_converged_inversion_was_given(path):
    """From the clean end, where there is one, to the noisiest time whose alpha is not 0."""
    oracle = gaussian(path)
    times = SCHEDULES["karras"](path, 12, sigma_max=20.0)
    assert round_trip(oracle, oracle.sample(5, torch.Generator().manual_seed(0)), times, 30) < 1e-10


@pytest.mark.parametrize("path", [RectifiedFlow(), TrigFlow(), Cosine()], ids=lambda path: type(path).__name__)
def test_the_way_to_alpha_0_is_inverted_too(path):
    oracle = gaussian(path)
    times = SCHEDULES["uniform"](path, 12)
    assert float(path.alpha(times[0])) == float(path.sigma(times[-1])) == 0
    assert round_trip(oracle, oracle.sample(5, torch.Generator().manual_seed(0)), times, 30) < 1e-10


def test_a_mixture_is_inverted_as_well():
    """Where the prediction is not linear: the shorter the steps, the faster the iteration contracts."""
    oracle = MixtureOracle(VP(), normal(4, 6), torch.full((4,), 0.1).double(), [0.1, 0.2, 0.3, 0.4])
    x = oracle.sample(16, torch.Generator().manual_seed(0))
    assert round_trip(oracle, x, SCHEDULES["karras"](VP(), 80), 30) < 1e-10


def test_each_iteration_brings_the_round_trip_closer():
    oracle = gaussian(VP())
    x, times = oracle.sample(5, torch.Generator().manual_seed(0)), SCHEDULES["karras"](VP(), 20)
    errors = [round_trip(oracle, x, times, iterations) for iterations in (0, 1, 2, 4, 8)]
    assert all(b < 0.6 * a for a, b in zip(errors, errors[1:]))  # noqa: B905, RUF007


def test_without_iterations_it_is_ddim_upwards():
    for path in (VP(), RectifiedFlow()):
        oracle, times = gaussian(path), SCHEDULES["karras"](path, 12).flip(0)
        found = SAMPLERS["ddim_inversion"](oracle, normal(4, 6), times)
        reference = SAMPLERS["euler"](oracle, normal(4, 6), times, coordinate="sigma")
        torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-12)


def test_the_round_trip_of_the_naive_one_is_of_first_order():
    oracle = gaussian(VP())
    times = [SCHEDULES["karras"](VP(), steps, sigma_min=0.05, clean=False) for steps in (160, 320)]
    errors = [round_trip(oracle, normal(4, 6), t, 0) for t in times]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_it_costs_one_and_the_iterations_a_step_wherever_it_starts_and_ends(iterations):
    for path in PATHS:
        for steps, clean in ((1, False), (3, True), (3, False)):
            times = SCHEDULES["karras"](path, steps, sigma_max=20.0, clean=clean).flip(0)
            counting = CountingDenoiser(gaussian(path))
            SAMPLERS["ddim_inversion"](counting, normal(2, 6), times, iterations=iterations)
            stated = SAMPLERS["ddim_inversion"].evaluations(times, path=path, iterations=iterations)
            assert counting.calls == stated == steps * (1 + iterations)


def test_equal_on_every_path_with_iterations():
    results = []
    for path in PATHS[:-1]:
        times = SCHEDULES["karras"](path, 8, sigma_min=0.02, sigma_max=40.0, clean=False).flip(0)
        x = normal(4, 6) * math.hypot(float(path.alpha(times[0])), float(path.sigma(times[0])))
        found = SAMPLERS["ddim_inversion"](gaussian(path), x, times, iterations=2)
        results.append(found / float(path.alpha(times[-1])))
    for found in results[1:]:
        assert float((found - results[0]).abs().max() / results[0].abs().max()) < 1e-12


def test_the_condition_reaches_every_iteration():
    class Conditional(Denoiser):
        path, calls = EDM(), 0

        def __call__(self, x, t, condition=None):
            assert condition == "a cat"
            self.calls += 1
            return Prediction(self.path, x, t, eps=0.5 * x)

    denoiser, times = Conditional(), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    SAMPLERS["ddim_inversion"](denoiser, normal(2, 6), times, condition="a cat", iterations=3)
    assert denoiser.calls == 8


@pytest.mark.unchecked
def test_what_has_no_inverse_is_named():
    oracle, x = gaussian(RectifiedFlow()), normal(2, 6)
    whole = torch.tensor([0.0, 1.0], dtype=torch.float64)
    with pytest.raises(ValueError, match="iterations must be 0 for a single step"):
        SAMPLERS["ddim_inversion"](oracle, x, whole, iterations=1)
    assert SAMPLERS["ddim_inversion"](oracle, x, whole).isfinite().all()
    with pytest.raises(ValueError, match="times must ascend"):
        SAMPLERS["ddim_inversion"](oracle, x, whole.flip(0))
    for iterations in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"iterations must be an integer of at least 0, got {iterations}"):
            SAMPLERS["ddim_inversion"](oracle, x, whole, iterations=iterations)
    network = Network(RectifiedFlow(), lambda x, t: 0 * x, head="x0")
    with pytest.raises(ValueError, match="sigma = 0 there: x and x0 say nothing of eps"):
        SAMPLERS["ddim_inversion"](network, x, torch.tensor([0.0, 0.5], dtype=torch.float64))
