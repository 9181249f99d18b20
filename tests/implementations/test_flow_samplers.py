"""Stochastic samplers of flow matching: their limits, the diffusion forms, last steps, starts at alpha = 0, laws."""

import itertools
import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, Cosine, RectifiedFlow, TrigFlow
from implementations.diffusion.law import marginal_law, output_law, variance_error
from implementations.diffusion.noise import PerSampleNoise
from implementations.samplers import SAMPLERS
from implementations.samplers.flow import DIFFUSION_FORMS, LAST_STEPS
from tests.exact import gaussian, normal

BOUNDED = [form for form in DIFFUSION_FORMS if form != "sbdm"]


def inside(path, steps):
    return SCHEDULES["karras"](path, steps, sigma_min=0.2, sigma_max=10.0, clean=False)


# noised again


def test_without_noise_noised_again_is_ddim():
    for path in (VP(), EDM(), RectifiedFlow(), TrigFlow()):
        times = SCHEDULES["uniform"](path, 8)
        for grid in (times, times.flip(0)):
            x = path.prior(normal(4, 6), float(grid[0])) if grid is times else normal(4, 6)
            found = SAMPLERS["flow_stochastic"](gaussian(path), x, grid, fraction=0.0)
            torch.testing.assert_close(found, SAMPLERS["euler"](gaussian(path), x, grid), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_noised_again_written_out_on_the_linear_path(fraction):
    oracle, noise = gaussian(RectifiedFlow()), PerSampleNoise(range(4), "steps")
    times = torch.tensor([1.0, 0.6, 0.2, 0.0], dtype=torch.float64)
    first = x = normal(4, 6)
    for i, (here, there) in enumerate(itertools.pairwise(times)):
        velocity = oracle(x, here).velocity
        x0, eps = x - here * velocity, x + (1 - here) * velocity
        x = (1 - there) * x0 + there * (math.sqrt(1 - fraction**2) * eps + fraction * noise(i, x))
    found = SAMPLERS["flow_stochastic"](oracle, first, times, noise=noise, fraction=fraction)
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-13)


def test_all_noise_fresh_converges_to_too_small_a_variance():
    """What the docstring says: more steps do not help, and the law is too narrow."""
    path, errors = RectifiedFlow(), []
    for steps in (20, 200):
        times = inside(path, steps)
        law = output_law(SAMPLERS["flow_stochastic"], gaussian(path), times)
        truth = marginal_law(gaussian(path), times[-1])
        assert bool((law.variance < truth.variance).all())
        errors.append(variance_error(law, truth))
    assert min(errors) > 0.3


# SiT's SDE


@pytest.mark.parametrize("form", list(DIFFUSION_FORMS))
def test_weak_order_of_every_form(form):
    """On levels where no form is stiff. The law holds for any w, so a wrong one would pass: see the next tests."""
    path, biases = RectifiedFlow(), []
    for steps in (40, 160):
        times = inside(path, steps)
        law = output_law(SAMPLERS["sit_sde"], gaussian(path), times, {"form": form})
        biases.append(variance_error(law, marginal_law(gaussian(path), times[-1])))
    assert abs(math.log2(biases[0] / biases[1]) / 2 - 1) < 0.15, biases


@pytest.mark.parametrize("form", list(DIFFUSION_FORMS))
def test_one_step_is_the_equation_with_the_forms_diffusion(form):
    here, there, z, norm = 0.7, 0.6, normal(3, 6, seed=1), 1.7
    tau = {
        "linear": 0.7,
        "decreasing": math.sin(math.pi * 0.35) ** 4,
        "increasing_decreasing": math.sin(math.pi * 0.7) ** 2,
    }
    # g^2 of the linear path is 2 t / (1 - t)
    w = norm * ({"constant": 1.0, "sigma": 0.7, "sbdm": 2 * 0.7 / 0.3} | tau)[form]
    oracle, x = gaussian(RectifiedFlow()), normal(3, 6)
    seen = oracle(x, here)
    expected = x + (there - here) * (seen.velocity - w / 2 * seen.score) + math.sqrt(w * (here - there)) * z
    times = torch.tensor([here, there], dtype=torch.float64)
    found = SAMPLERS["sit_sde"](oracle, x, times, form=form, norm=norm, noise=lambda _, like: z)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_decreasing_is_the_authors_formula():
    """``(cos(pi s) + 1)^2 / 4`` with s = 1 - t, the time of theirs."""
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    expected = (1 + torch.cos(math.pi * (1 - t))).square() / 4
    torch.testing.assert_close(DIFFUSION_FORMS["decreasing"](RectifiedFlow(), t), expected, rtol=1e-12, atol=1e-15)


def test_forms_do_not_depend_on_the_unit_of_time():
    """On the EDM path t is 80 times as long: the noise of a whole sweep is the same."""
    for form in ("constant", "linear", "decreasing", "increasing_decreasing"):
        totals = []
        for path in (RectifiedFlow(), EDM(), TrigFlow()):
            t = torch.linspace(path.t_min, path.t_max, 2001, dtype=torch.float64)
            totals.append(float(torch.trapezoid(DIFFUSION_FORMS[form](path, t), t)))
        assert totals == pytest.approx([totals[0]] * 3, rel=1e-9)


def test_without_diffusion_it_is_euler_in_t():
    for path in (VP(), EDM(), RectifiedFlow()):
        times, x = inside(path, 12), path.prior(normal(4, 6), 0.5)
        found = SAMPLERS["sit_sde"](gaussian(path), x, times, norm=0.0)
        torch.testing.assert_close(found, SAMPLERS["flow_euler"](gaussian(path), x, times), rtol=1e-12, atol=1e-12)


def test_last_steps():
    """Of the linear path from t to 0, where Euler's is Tweedie's; on a curved one it is not."""
    oracle, x, times = gaussian(RectifiedFlow()), normal(3, 6), torch.tensor([0.1, 0.0], dtype=torch.float64)
    seen = oracle(x, 0.1)
    expected = {
        "tweedie": x / 0.9 + 0.1**2 / 0.9 * seen.score,
        "mean": x - 0.1 * (seen.velocity - 0.5 * 0.1 * seen.score),  # w = sigma
        "euler": x - 0.1 * seen.velocity,
        "none": x,
    }
    assert set(expected) == set(LAST_STEPS)
    for last, end in expected.items():
        found = SAMPLERS["sit_sde"](oracle, x, times, form="sigma", last=last)
        torch.testing.assert_close(found, end, rtol=1e-12, atol=1e-13)
    times = torch.tensor([0.3, 0.0], dtype=torch.float64)
    curved = [SAMPLERS["sit_sde"](gaussian(TrigFlow()), x, times, last=last) for last in LAST_STEPS]
    assert min(float((a - b).abs().max()) for a, b in itertools.combinations(curved, 2)) > 1e-3


@pytest.mark.parametrize("path", [RectifiedFlow(), TrigFlow(), Cosine()], ids=lambda path: type(path).__name__)
def test_bounded_forms_start_with_noise_at_alpha_0(path):
    times, x = SCHEDULES["uniform"](path, 10), normal(3, 6)

    def draws(form):
        seen = []

        def noise(draw, like):
            seen.append(draw)
            return torch.zeros_like(like)

        found = SAMPLERS["sit_sde"](gaussian(path), x, times, form=form, noise=noise)
        assert found.isfinite().all()
        return seen

    for form in BOUNDED:
        assert draws(form) == list(range(9))
    assert draws("sbdm") == list(range(1, 9))


def test_sampled_moments_are_the_laboratorys():
    """Mean and variance of n = 20,000 draws, within five standard errors."""
    path, n = RectifiedFlow(), 20_000
    times, oracle = inside(path, 8), gaussian(path)
    generator = torch.Generator().manual_seed(0)

    def noise(draw, like):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    start = marginal_law(oracle, times[0])
    x = start.mean + start.variance.sqrt() * normal(n, 6, seed=1)
    for name, options in (("sit_sde", {"form": "sigma"}), ("flow_stochastic", {"fraction": 0.5})):
        law = output_law(SAMPLERS[name], oracle, times, options)
        found = SAMPLERS[name](oracle, x, times, noise=noise, **options)
        assert bool(((found.mean(0) - law.mean).abs() < 5 * (law.variance / n).sqrt()).all())
        assert bool(((found.var(0) / law.variance - 1).abs() < 5 * math.sqrt(2 / n)).all())


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("flow_stochastic", {"fraction": 1.5}, r"fraction must lie in \[0, 1\], got 1.5"),
        ("sit_sde", {"form": "cosine"}, "form must be one of constant, sbdm, .* got 'cosine'"),
        ("sit_sde", {"norm": -1.0}, "norm must be at least 0 and finite, got -1"),
        ("sit_sde", {"last": "heun"}, "last must be one of tweedie, mean, euler, none, got 'heun'"),
    ],
)
def test_wrong_options_are_named(name, options, says):
    with pytest.raises(ValueError, match=says):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), **options)
