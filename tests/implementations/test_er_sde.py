"""ER-SDE-Solvers: orders of the flow, the authors' algorithm in plain sums, scales that are powers, wrong scales."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, RectifiedFlow
from implementations.samplers import SAMPLERS
from implementations.samplers.er_sde import LOG_SCALES
from implementations.schedules.spacing import grade
from tests.exact import draws, gaussian, normal, run


@pytest.mark.parametrize(("order", "divided", "theory"), [(1, False, 1), (2, False, 2), (3, False, 3), (3, True, 2)])
def test_order_of_the_flow(order, divided, theory):
    path, errors = VP(), []
    oracle = gaussian(path)
    for steps in (40, 160):
        times = grade(SCHEDULES["karras"](path, steps, sigma_min=0.3, sigma_max=3.0, clean=False))
        x = oracle.flow(normal(8, 6), path.t_max, times[0])
        found = SAMPLERS["er_sde"](oracle, x, times, order=order, scale=None, divided=divided)
        errors.append(float((found - oracle.flow(x, times[0], times[-1])).square().mean().sqrt()))
    assert abs(math.log2(errors[0] / errors[-1]) / 2 - theory) < (0.1 if theory < 3 else 0.2)
    assert errors[-1] > 1e-11


def test_without_noise_the_first_order_is_ddim():
    for path in (VP(), EDM()):
        left, right = run("er_sde", path, order=1, scale=None), run("ddim", path)
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_a_power_of_the_level_is_noise_at_a_rate():
    """phi = r^(1 + tau^2); beyond order 1 the polynomials differ, in r here and in log r there."""
    for tau in (0.5, 1.0):
        found = run("er_sde", order=1, scale=lambda r, p=1 + tau**2: r**p)
        torch.testing.assert_close(found, run("gddim", eta=tau), rtol=1e-12, atol=1e-12)
    named, given = run("er_sde", scale="er_sde_2"), run("er_sde", scale=lambda r: r**1.5)
    torch.testing.assert_close(named, given, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [None, *LOG_SCALES])
def test_the_authors_steps_in_plain_sums(scale):
    """The authors' third-order steps where alpha = 1, their integrals as 100,000 rectangles by their middles."""
    plain = {
        None: lambda r: r,
        "sde": lambda r: r**2,
        "er_sde_1": lambda r: r * (torch.exp(-1 / r) + 10),
        "er_sde_2": lambda r: r**1.5,
        "er_sde_3": lambda r: r**2.5,
        "er_sde_4": lambda r: r**0.9 * torch.log10(1 + 100 * r**1.5),
        "er_sde_5": lambda r: r * (torch.exp(r**0.3) + 10),
    }
    phi, path, steps = plain[scale], EDM(), 5
    oracle, times = gaussian(path), SCHEDULES["karras"](EDM(), steps, sigma_min=0.1, sigma_max=20.0, clean=False)
    x, x0s, slopes = normal(4, 6) * 20, [], []
    for i in range(steps):
        s, t = times[i], times[i + 1]
        ratio = phi(t) / phi(s)
        x0s.append(oracle(x, s).x0)
        levels = t + (s - t) * (torch.arange(100_000).double() + 0.5) / 100_000
        weight = (s - t) / 100_000 / phi(levels)
        x = ratio * x + (1 - ratio) * x0s[-1] + (t**2 - s**2 * ratio**2).clamp(min=0).sqrt() * draws(i, x)
        if i >= 1:
            slopes.append((x0s[-1] - x0s[-2]) / (s - times[i - 1]))
            x = x + (t - s + phi(t) * weight.sum()) * slopes[-1]
        if i >= 2:
            bend = 2 * (slopes[-1] - slopes[-2]) / (s - times[i - 2])
            x = x + ((t - s) ** 2 / 2 + phi(t) * (weight * (levels - s)).sum()) * bend
    found = SAMPLERS["er_sde"](oracle, normal(4, 6) * 20, times, noise=draws, scale=scale, divided=True)
    torch.testing.assert_close(found, x, rtol=1e-8, atol=1e-8)  # the rectangles'


def test_options_act():
    base = run("er_sde")
    for options in (
        {"order": 1},
        {"order": 2},
        {"divided": True},
        {"s_noise": 0.9},
        {"scale": "er_sde_1"},
        {"scale": None},
    ):
        assert not torch.allclose(run("er_sde", **options), base, rtol=1e-6), options


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="order must"):
        run("er_sde", order=4)
    with pytest.raises(ValueError, match="s_noise must"):
        run("er_sde", s_noise=-1.0)
    with pytest.raises(ValueError, match="scale must be one of sde, er_sde_1"):
        run("er_sde", scale="er_sde_9")
    with pytest.raises(ValueError, match="scale must grow at least as fast as sigma/alpha, and does not from"):
        run("er_sde", scale=lambda r: r**0.9)
    with pytest.raises(ValueError, match="scale must be positive"):
        run("er_sde", scale=lambda r: r - 1.0)
    # the fourth grows more slowly than the level beyond 1000, which a straight path reaches near its end
    times = torch.tensor([0.9999, 0.9995, 0.5, 0.1], dtype=torch.float64)
    with pytest.raises(
        ValueError, match="scale must grow at least as fast as sigma/alpha, and does not from 1999 to 9999"
    ):
        SAMPLERS["er_sde"](gaussian(RectifiedFlow()), normal(4, 6), times, scale="er_sde_4")
