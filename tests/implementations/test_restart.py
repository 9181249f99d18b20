"""Restart and gradient estimation: what they equal, written out, and what their options do."""

import itertools
import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, CountingDenoiser, RectifiedFlow, TrigFlow
from implementations.diffusion.law import marginal_law, output_law, variance_error
from implementations.diffusion.noise import PerSampleNoise
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

PATHS = [VP(), EDM(), RectifiedFlow(), TrigFlow()]


def inside(path, steps, sigma_min=0.05, sigma_max=20.0):
    return SCHEDULES["karras"](path, steps, sigma_min=sigma_min, sigma_max=sigma_max, clean=False)


# restart


def test_without_intervals_restart_is_heun():
    for path in PATHS:
        times = SCHEDULES["uniform"](path, 8)
        for grid in (times, times.flip(0)):
            x = path.prior(normal(4, 6), float(grid[0])) if grid is times else normal(4, 6)
            found = SAMPLERS["restart"](gaussian(path), x, grid, intervals=())
            torch.testing.assert_close(found, SAMPLERS["heun"](gaussian(path), x, grid), rtol=1e-12, atol=1e-13)


def test_restart_written_out_on_the_edm_path():
    """Two intervals; the lower level of each is the grid's nearest, the draws are numbered as they come."""
    oracle, noise = gaussian(EDM()), PerSampleNoise(range(4), "steps")
    times = inside(EDM(), 10).tolist()
    first = x = 20 * normal(4, 6)

    def heun(x, here, there):
        slope = (x - oracle(x, here).x0) / here
        end = x + (there - here) * slope
        return x + (there - here) / 2 * (slope + (end - oracle(end, there).x0) / there)

    draw = 0
    for here, there in itertools.pairwise(times):
        x = heun(x, here, there)
        for at, high, again, steps in ((times[3], 9.0, 1, 2), (times[8], 0.9, 2, 3)):
            for _ in range(again if there == at else 0):
                x = x + math.sqrt(high**2 - there**2) * noise(draw, x)
                draw += 1
                levels = [
                    (high ** (1 / 7) + k / steps * (there ** (1 / 7) - high ** (1 / 7))) ** 7 for k in range(steps + 1)
                ]
                for above, below in itertools.pairwise(levels):
                    x = heun(x, above, below)
    assert draw == 3
    intervals = ((times[3] * 1.05, 9.0, 1, 2), (times[8] * 0.95, 0.9, 2, 3))
    found = SAMPLERS["restart"](
        oracle, first, torch.tensor(times, dtype=torch.float64), noise=noise, intervals=intervals
    )
    torch.testing.assert_close(found, x, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("path", [VP(), RectifiedFlow()], ids=lambda path: type(path).__name__)
def test_weak_order_of_restart_is_heuns_where_its_own_steps_are_refined_too(path):
    biases = []
    for steps in (40, 160):
        times, intervals = inside(path, steps), ((0.1, 1.0, 2, steps // 4),)
        law = output_law(SAMPLERS["restart"], gaussian(path), times, {"intervals": intervals})
        biases.append(variance_error(law, marginal_law(gaussian(path), times[-1])))
    assert abs(math.log2(biases[0] / biases[1]) / 2 - 2) < 0.15, biases


def test_restarts_contract_the_error_that_came_before():
    """A start that is wrong by a factor: each restart forgets some of it (2306.14878, thm. 1)."""
    times, responses = inside(EDM(), 30), []
    for again in (0, 1, 3):
        intervals = ((0.3, 15.0, again, 12),) if again else ()
        ends = [
            SAMPLERS["restart"](
                gaussian(EDM()), x, times, intervals=intervals, noise=lambda _, like: torch.zeros_like(like)
            )
            for x in (torch.zeros(1, 6).double(), torch.full((1, 6), 20.0).double())
        ]
        responses.append(float((ends[1] - ends[0]).norm()))
    assert responses[1] < 0.5 * responses[0]
    assert responses[2] < 0.5 * responses[1]


def test_restart_states_its_cost_on_every_grid():
    entry = SAMPLERS["restart"]
    for path, steps in itertools.product(PATHS, (1, 2, 4, 12)):
        for intervals in ((), ((0.06, 0.3, 2, 3),), ((1.0, 5.0, 1, 2), (0.06, 0.3, 3, 1), (0.02, 0.05, 1, 1))):
            for schedule in ("uniform", "karras"):
                times, counting = SCHEDULES[schedule](path, steps), CountingDenoiser(gaussian(path))
                entry(counting, path.prior(normal(2, 6), float(times[0])), times, intervals=intervals)
                assert entry.evaluations(times, path=path, intervals=intervals) == counting.calls
    # without a path, as if every interval held a level
    assert entry.evaluations([3.0, 2.0, 0.0], intervals=((0.06, 0.3, 2, 3),)) == 3 + 12
    assert entry.steps_for(23, intervals=((0.06, 0.3, 2, 3),)) == 6


def test_every_part_of_an_interval_does_something():
    times, x = inside(VP(), 10), normal(3, 6)
    usual = [0.1, 1.0, 1, 2]
    noise = PerSampleNoise(range(len(x)))
    base = SAMPLERS["restart"](gaussian(VP()), x, times, noise=noise, intervals=(usual,))
    for part, other in enumerate((0.5, 2.0, 2, 4)):
        changed = [*usual[:part], other, *usual[part + 1 :]]
        found = SAMPLERS["restart"](gaussian(VP()), x, times, noise=noise, intervals=(changed,))
        assert float((found - base).abs().max()) > 1e-4


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("interval", "says"),
    [
        ((0.1, 1.0, 2), r"\(low, high, restarts, steps\), got \(0.1, 1.0, 2\)"),
        ((1.0, 0.1, 2, 2), "0 < low < high, finite, got 1.0 and 0.1"),
        ((0.1, math.inf, 2, 2), "got 0.1 and inf"),
        ((0.1, 1.0, 0, 2), "restarts must be an integer of at least 1, got 0"),
        ((0.1, 1.0, 1, 1.5), "steps must be an integer of at least 1, got 1.5"),
        ((0.1, 100.0, 1, 2), "below the grid's first level, 20, got high 100"),
    ],
)
def test_wrong_intervals_are_named(interval, says):
    with pytest.raises(ValueError, match=f"intervals.*{says}"):
        SAMPLERS["restart"](gaussian(VP()), normal(2, 6), inside(VP(), 4), intervals=(interval,))


# gradient estimation


def test_gamma_1_is_ddim():
    for path in PATHS:
        times = SCHEDULES["uniform"](path, 8)
        x = path.prior(normal(4, 6), path.t_max)
        found = SAMPLERS["gradient_estimation"](gaussian(path), x, times, gamma=1.0)
        torch.testing.assert_close(found, SAMPLERS["euler"](gaussian(path), x, times), rtol=1e-12, atol=1e-13)


def test_gradient_estimation_written_out():
    for path in (EDM(), RectifiedFlow()):
        oracle, times = gaussian(path), inside(path, 8)
        first = x = normal(4, 6) * float(path.sigma(times[0]))
        past = None
        for here, there in itertools.pairwise(times):
            eps = oracle(x, here).eps
            mixed = eps if past is None else 1.7 * eps - 0.7 * past
            x = path.alpha(there) * (x / path.alpha(here) + (path.ratio(there) - path.ratio(here)) * mixed)
            past = eps
        found = SAMPLERS["gradient_estimation"](oracle, first, times, gamma=1.7)
        torch.testing.assert_close(found, x, rtol=1e-11, atol=1e-12)


@pytest.mark.unchecked
def test_gradient_estimation_of_gamma_3_2_is_adams_bashforth_on_equal_steps():
    """Second order there, first with any other gamma."""

    def slope(gamma):
        path, errors = EDM(), []
        for steps in (100, 400):
            times = torch.linspace(4.0, 0.5, steps + 1, dtype=torch.float64)
            x = 4 * normal(4, 6)
            found = SAMPLERS["gradient_estimation"](gaussian(path), x, times, gamma=gamma)
            errors.append(float((found - gaussian(path).flow(x, times[0], times[-1])).norm()))
        return math.log2(errors[0] / errors[1]) / 2

    assert slope(1.5) > 1.85
    assert abs(slope(2.0) - 1) < 0.1


@pytest.mark.unchecked
def test_wrong_gammas_are_named():
    with pytest.raises(ValueError, match="gamma must be finite, got inf"):
        SAMPLERS["gradient_estimation"](gaussian(VP()), normal(2, 6), inside(VP(), 4), gamma=math.inf)
