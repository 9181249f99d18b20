"""SDE-DPM-Solver++: without noise DPM-Solver++, trivial histories, one Brownian path a step."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP
from implementations.diffusion.law import marginal_law, output_law, variance_error
from implementations.samplers import SAMPLERS
from tests.exact import draws, gaussian, normal, run


@pytest.mark.parametrize(
    ("name", "options", "other", "its"),
    [
        ("dpmpp_sde", {}, "dpmpp_2s", {}),
        ("dpmpp_sde", {"r": 0.3}, "dpmpp_2s", {"r1": 0.3}),
        ("dpmpp_2m_sde", {}, "dpmpp_2m", {}),
        ("dpmpp_2m_sde", {"solver_type": "heun"}, "dpmpp_2m", {"solver_type": "heun"}),
        ("dpmpp_3m_sde", {}, "dpmpp_3m", {"solver_type": "heun"}),
        ("dpmpp_3m_sde", {"solver_type": "midpoint"}, "dpmpp_3m", {"solver_type": "midpoint"}),
        ("dpmpp_3m_sde", {"half_curvature": True}, "dpmpp_3m", {"solver_type": "heun", "half_curvature": True}),
    ],
)
def test_without_noise_it_is_the_flows_solver(name, options, other, its):
    for path in (VP(), EDM()):
        left, right = run(name, path, eta=0.0, **options), run(other, path, **its)
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_histories_grow_from_first_order():
    """One step of 2M is DDPM's, two steps of 3M are 2M's."""
    torch.testing.assert_close(
        run("dpmpp_2m_sde", steps=1, clean=False), run("ddpm", steps=1, clean=False), rtol=1e-12, atol=1e-12
    )
    two = run("dpmpp_2m_sde", steps=2, clean=False, eta=0.7, solver_type="heun")
    torch.testing.assert_close(run("dpmpp_3m_sde", steps=2, clean=False, eta=0.7), two, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(run("dpmpp_3m_sde", steps=3, clean=False), run("dpmpp_2m_sde", steps=3, clean=False))


def test_stage_and_step_see_one_brownian_path():
    """In plain numbers where alpha = 1: each is an ancestral step, their noises increments of a path in sigma."""
    path, s, t, eta, r = EDM(), 3.0, 1.5, 0.8, 0.4
    oracle, x = gaussian(path), normal(4, 6) * 3
    middle = s ** (1 - r) * t**r

    def ancestral(x0, to, z):
        up = eta * to * math.sqrt(1 - to**2 / s**2)
        return x0 + (x - x0) * math.sqrt(to**2 - up**2) / s + up * z

    x0 = oracle(x, s).x0
    x0_middle = oracle(ancestral(x0, middle, draws(0, x)), middle).x0
    whole = (math.sqrt(s - middle) * draws(0, x) + math.sqrt(middle - t) * draws(1, x)) / math.sqrt(s - t)
    expected = ancestral(x0 + (x0_middle - x0) / (2 * r), t, whole)
    found = SAMPLERS["dpmpp_sde"](oracle, x, torch.tensor([s, t]).double(), noise=draws, eta=eta, r=r)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.unchecked
def test_noise_of_stage_and_step_that_were_independent_would_cost_an_order():
    path, sampler = VP(), SAMPLERS["dpmpp_sde"]
    oracle = gaussian(path)

    def forgetful(denoiser, x, times, noise):
        ratio = path.ratio(times).tolist()

        def other(k, like):
            """The second increment that makes the noise of the whole step noise(k), whatever the stage's was."""
            here, there = ratio[k // 2 : k // 2 + 2]
            share = (here - math.sqrt(here * there)) / (here - there)
            return (noise(k, like) - math.sqrt(share) * noise(k - 1, like)) / math.sqrt(1 - share)

        return sampler(denoiser, x, times, noise=lambda k, like: (other if k % 2 else noise)(k, like))

    def slope(method):
        errors = []
        for steps in (80, 160):
            times = SCHEDULES["karras"](path, steps, sigma_min=0.02, sigma_max=40.0, clean=False)
            errors.append(variance_error(output_law(method, oracle, times), marginal_law(oracle, times[-1])))
        return math.log2(errors[0] / errors[1])

    assert abs(slope(sampler) - 2) < 0.2
    assert abs(slope(forgetful) - 1) < 0.2


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dpmpp_sde", [{"eta": 0.5}, {"s_noise": 0.9}, {"r": 0.4}]),
        ("dpmpp_2m_sde", [{"eta": 0.5}, {"s_noise": 0.9}, {"solver_type": "heun"}]),
        ("dpmpp_3m_sde", [{"eta": 0.5}, {"s_noise": 0.9}, {"solver_type": "midpoint"}, {"half_curvature": True}]),
    ],
)
def test_options_act_and_are_checked(name, options):
    base = run(name)
    for option in options:
        assert not torch.allclose(base, run(name, **option)), option
    wrong = [{"eta": -0.5}, {"eta": math.inf}, {"s_noise": -1.0}]
    wrong += [{"r": 1.0}, {"r": 0.0}, {"eta": 1.5}] if name == "dpmpp_sde" else [{"solver_type": "euler"}]
    for option in wrong:
        with pytest.raises(ValueError, match=f"{next(iter(option))} must"):
            run(name, **option)
