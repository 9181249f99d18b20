"""SEEDS: without noise DPM-Solver, the paper's second step in plain numbers, draws and their carrying."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP
from implementations.diffusion.grid import Grid
from implementations.samplers import SAMPLERS
from implementations.samplers.stochastic import reverse_sde
from tests.exact import draws, gaussian, normal, run


@pytest.mark.parametrize(
    ("order", "prediction", "other"),
    [
        (1, "noise", "euler"), (2, "noise", "dpm_solver_2"), (3, "noise", "dpm_solver_3"),
        (1, "data", "ddim"), (2, "data", "dpmpp_2s"), (3, "data", "dpmpp_3s"),
    ],
)  # fmt: skip
def test_without_noise_it_is_dpm_solver(order, prediction, other):
    for path in (VP(), EDM()):
        found = run("seeds", path, order=order, prediction=prediction, eta=0.0)
        torch.testing.assert_close(found, run(other, path), rtol=1e-12, atol=1e-12)


def test_the_second_step_of_the_paper():
    """Of order 2, on eps, eta = 1: both noises of the step are exact integrals over its halves."""
    path = VP()
    oracle, x, times = gaussian(path), normal(4, 6), torch.tensor([0.6, 0.45], dtype=torch.float64)
    a, s, level = (f(times).tolist() for f in (path.alpha, path.sigma, path.log_snr))
    h = level[1] - level[0]
    t = path.time(level[0] + h / 2)
    a_mid, s_mid = float(path.alpha(t)), float(path.sigma(t))
    z1, z2 = draws(0, x), draws(1, x)
    eps = oracle(x, times[0]).eps
    middle = a_mid / a[0] * x - 2 * s_mid * math.expm1(h / 2) * eps + s_mid * math.sqrt(math.expm1(h)) * z1
    eps = oracle(middle, t).eps
    noise = s[1] * (math.sqrt(math.exp(2 * h) - math.exp(h)) * z1 + math.sqrt(math.expm1(h)) * z2)
    expected = a[1] / a[0] * x - 2 * s[1] * math.expm1(h) * eps + noise
    found = SAMPLERS["seeds"](oracle, x, times, noise=draws, order=2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_the_noise_of_a_step_is_that_of_its_parts(prediction):
    law = reverse_sde(prediction, 0.7)
    here, between, there = Grid(VP(), torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)).points
    whole = law.deviation(here, there) ** 2
    carried = law.form.step(between, there)[0] ** 2 * law.deviation(here, between) ** 2
    assert carried + law.deviation(between, there) ** 2 == pytest.approx(whole, rel=1e-13)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_draw_has_a_number_of_its_own(order):
    asked = []

    def noise(k, like):
        asked.append(k)
        return torch.zeros_like(like)

    times = SCHEDULES["karras"](VP(), 4, clean=False)
    SAMPLERS["seeds"](gaussian(VP()), normal(4, 6), times, noise=noise, order=order)
    assert asked == list(range(4 * order))


@pytest.mark.unchecked
def test_options_act_and_are_checked():
    base = run("seeds")
    for options in ({"order": 2}, {"eta": 0.5}, {"s_noise": 0.9}, {"prediction": "data"}):
        assert not torch.allclose(run("seeds", **options), base, rtol=1e-6), options
    for options in ({"order": 4}, {"order": True}, {"eta": -1.0}, {"s_noise": math.nan}, {"prediction": "x"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
            run("seeds", **options)
