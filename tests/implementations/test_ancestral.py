"""Ancestral samplers: without noise the flow's solvers, learned variances, the step below the next level."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, Denoiser, Prediction
from implementations.samplers import SAMPLERS
from tests.exact import draws, gaussian, normal, run


@pytest.mark.parametrize(
    ("name", "other"),
    [("euler_ancestral", "euler"), ("dpm_2_ancestral", "midpoint"), ("dpmpp_2s_ancestral", "dpmpp_2s")],
)
def test_without_noise_it_is_the_flows_solver(name, other):
    for path in (VP(), EDM()):
        torch.testing.assert_close(run(name, path, eta=0.0), run(other, path), rtol=1e-12, atol=1e-12)


def test_euler_ancestral_with_all_noise_is_ddpm():
    torch.testing.assert_close(run("euler_ancestral"), run("ddpm"), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(run("euler_ancestral", eta=0.3), run("ddim", eta=0.3), rtol=0, atol=0)


@pytest.mark.parametrize("eta", [0.6, 1.0])
def test_steps_go_below_the_next_level_and_back_up(eta):
    """In plain numbers where alpha = 1: down = sqrt(s'^2 - up^2), a second-order step from s to down, noise up."""
    path, s, t = EDM(), 3.0, 1.2
    oracle, x = gaussian(path), normal(4, 6) * 3
    up = eta * t * math.sqrt(1 - t**2 / s**2)
    down = math.sqrt(t**2 - up**2)
    middle = math.sqrt(s * down)
    x0 = oracle(x, s).x0
    between = x0 + (x - x0) * middle / s
    x0_between = oracle(between, middle).x0
    slope = (between - x0_between) / middle
    expected = {
        "dpm_2_ancestral": x + slope * (down - s),
        "dpmpp_2s_ancestral": x0_between + (x - x0_between) * down / s,
    }
    for name, state in expected.items():
        found = SAMPLERS[name](oracle, x, torch.tensor([s, t]), noise=draws, eta=eta, s_noise=0.9)
        # float32 times, and a root of a difference of 1e-7 of its terms
        torch.testing.assert_close(found, state + 0.9 * up * draws(0, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["ddim", "euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral"])
def test_options_act_and_are_checked(name):
    base = run(name, eta=0.8)
    assert not torch.allclose(base, run(name, eta=0.7))
    assert not torch.allclose(base, run(name, eta=0.8, s_noise=1.1))
    for options in ({"eta": 1.1}, {"eta": -0.1}, {"eta": math.nan}, {"s_noise": -1.0}, {"s_noise": math.inf}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
            run(name, **options)


class Learned(Denoiser):
    """A Gaussian's oracle with an opinion of the variance."""

    def __init__(self, path, aux):
        self.path, self.oracle, self.aux = path, gaussian(path), aux

    def __call__(self, x, t, condition=None):
        return Prediction(self.path, x, t, eps=self.oracle(x, t).eps, aux=self.aux)


def test_learned_variance_lies_between_the_fixed_ones_in_the_logarithm():
    times, x = SCHEDULES["karras"](VP(), 5, clean=False)[2:4], normal(4, 6)

    def scale(variance, aux=None):
        ends = [
            SAMPLERS["ddpm"](Learned(VP(), aux), x, times, variance=variance, noise=lambda _, like, z=z: like * 0 + z)
            for z in (0.0, 1.0)
        ]
        return ends[1] - ends[0]

    small, large = scale("small"), scale("large")
    v = torch.linspace(-1, 1, 6).double().expand(4, 6)
    fraction = (v + 1) / 2
    expected = (large.square().log() * fraction + small.square().log() * (1 - fraction)).exp()  # eq. 15
    torch.testing.assert_close(scale("learned_range", v).square(), expected, rtol=1e-10, atol=0)
    assert float((large / small).min()) > 1.05  # or else nothing is tested
    half = scale("learned_range", v.bfloat16())  # a network's dtype, of 8 bits
    torch.testing.assert_close(half.square(), expected, rtol=2**-7 * float((large / small).log().max()), atol=0)


@pytest.mark.parametrize("aux", [None, torch.zeros(4, 3), "half"])
def test_a_prediction_without_variance_is_named(aux):
    with pytest.raises(ValueError, match=r"aux is of shape \(4, 6\), got"):
        SAMPLERS["ddpm"](Learned(VP(), aux), normal(4, 6), torch.tensor([0.9, 0.5]), variance="learned_range")
