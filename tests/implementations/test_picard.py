"""Picard's iteration: its fixpoint is DDIM, within the tolerance and in fewer calls; windows, sweeps, conditions."""

import math

import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VP,
    CountingDenoiser,
    MixtureOracle,
    RectifiedFlow,
    TrigFlow,
)
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

PATHS = [VP(), EDM(), RectifiedFlow(), TrigFlow()]


def run(path, times, x, **options):
    counting = CountingDenoiser(gaussian(path))
    return SAMPLERS["picard"](counting, x, times, **options), counting.calls


@pytest.mark.parametrize("window", [1, 3, 8, 50])
def test_without_tolerance_it_is_ddim_in_as_many_sweeps_as_steps_at_most(window):
    for path in PATHS:
        for times in (SCHEDULES["uniform"](path, 12), SCHEDULES["karras"](path, 12)):
            for grid in (times, times.flip(0)):
                x = path.prior(normal(4, 6), float(grid[0])) if grid is times else normal(4, 6)
                found, calls = run(path, grid, x, window=window, tolerance=0.0)
                assert calls <= 12
                torch.testing.assert_close(found, SAMPLERS["ddim"](gaussian(path), x, grid), rtol=1e-11, atol=1e-12)


@pytest.mark.unchecked
def test_the_distance_to_ddim_follows_the_tolerance_and_saves_calls():
    for path in PATHS:
        times = SCHEDULES["karras"](path, 60, sigma_min=0.02, sigma_max=40.0, clean=False)
        x = normal(8, 6) * math.hypot(float(path.alpha(times[0])), float(path.sigma(times[0])))
        exact, scale = SAMPLERS["ddim"](gaussian(path), x, times), float(path.alpha(times[-1]))
        costs = []
        for tolerance in (1e-2, 1e-4, 1e-6):
            found, calls = run(path, times, x, window=60, tolerance=tolerance)
            assert float((found - exact).abs().max()) < 10 * scale * tolerance  # residues of a few sweeps add up
            costs.append(calls)
        assert costs == sorted(costs)
        assert costs[-1] < 30


def test_a_fixed_number_of_sweeps_costs_that_and_comes_closer_with_each():
    path, errors = EDM(), []
    times = SCHEDULES["karras"](path, 30, clean=False)
    x = 80 * normal(4, 6)
    exact = SAMPLERS["ddim"](gaussian(path), x, times)
    for sweeps in (2, 5, 9, 30):
        found, calls = run(path, times, x, window=30, tolerance=0.0, sweeps=sweeps)
        assert calls <= sweeps
        errors.append(float((found - exact).abs().max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-12


def test_a_wider_window_takes_fewer_calls_and_holds_that_many_states():
    path, largest, costs = VP(), [], []

    class Sized(CountingDenoiser):
        def __call__(self, x, t, condition=None):
            largest[-1] = max(largest[-1], len(x))
            return super().__call__(x, t, condition)

    times = SCHEDULES["karras"](path, 60, clean=False)
    for window in (1, 4, 16, 60):
        largest.append(0)
        counting = Sized(gaussian(path))
        SAMPLERS["picard"](counting, normal(3, 6), times, window=window)
        costs.append(counting.calls)
    assert largest == [3, 12, 48, 180]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == 60
    assert costs[-1] < 20


@pytest.mark.unchecked
def test_each_sample_moves_its_own_window():
    """Beside neighbours that need more sweeps a sample comes out as it does alone, with a tolerance that shows."""
    oracle = MixtureOracle(VP(), 3 * normal(4, 6, seed=2), torch.full((4,), 0.01).double(), [1.0] * 4)
    x, times = torch.cat([normal(5, 6), 20 * normal(3, 6, seed=1)]), SCHEDULES["karras"](VP(), 40)
    together = SAMPLERS["picard"](oracle, x, times, window=10, tolerance=1e-2)
    for i in range(8):
        alone = SAMPLERS["picard"](oracle, x[i : i + 1], times, window=10, tolerance=1e-2)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-12)
    assert float((together - SAMPLERS["ddim"](oracle, x, times)).abs().max()) > 1e-4


def test_labels_go_with_their_samples():
    oracle = MixtureOracle(
        VP(), 3 * normal(4, 6, seed=2), torch.full((4,), 0.1).double(), [1.0] * 4, labels=torch.arange(4)
    )
    times, labels = SCHEDULES["karras"](VP(), 12), torch.tensor([3, 0, 1, -1, 2])
    for condition in (labels, 2, None):
        found = SAMPLERS["picard"](oracle, normal(5, 6), times, condition=condition, tolerance=0.0)
        expected = SAMPLERS["ddim"](oracle, normal(5, 6), times, condition=condition)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_callback_sees_ddims_states():
    for times in (SCHEDULES["karras"](EDM(), 9), SCHEDULES["karras"](EDM(), 9).flip(0)):
        trails = []
        for name, options in (("picard", {"window": 4, "tolerance": 0.0}), ("ddim", {})):
            trail = []

            def note(i, t, x, prediction, trail=trail):
                trail.append(torch.stack([x, prediction.x, prediction.x0 if prediction.t > 0 else x]))

            SAMPLERS[name](gaussian(EDM()), normal(3, 6), times, callback=note, **options)
            trails.append(torch.stack(trail))
        torch.testing.assert_close(*trails, rtol=1e-11, atol=1e-12)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"window": 0}, "window must be an integer of at least 1, got 0"),
        ({"tolerance": -1.0}, "tolerance must be at least 0 and finite, got -1"),
        ({"tolerance": math.nan}, "tolerance must .* got nan"),
        ({"sweeps": 0}, "sweeps must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_options_are_named(options, says):
    with pytest.raises(ValueError, match=says):
        SAMPLERS["picard"](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), **options)
