"""gDDIM on isotropic paths: noise at a rate, DEIS without it, the corrector's order and cost."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, CountingDenoiser, RectifiedFlow, TrigFlow
from implementations.samplers import SAMPLERS
from implementations.schedules.spacing import grade
from tests.exact import draws, gaussian, normal


def run(name, path=None, steps=8, clean=True, **options):
    path = path or VP()
    times = SCHEDULES["karras"](path, steps, sigma_max=50.0, clean=clean)
    scale = math.hypot(float(path.alpha(times[0])), float(path.sigma(times[0])))
    return SAMPLERS[name](gaussian(path), normal(4, 6) * scale, times, noise=draws, **options)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_one_step_in_the_papers_terms(eta):
    """With the paper's alpha, the square of ours."""
    path, times = VP(), torch.tensor([0.7, 0.4], dtype=torch.float64)
    oracle, x = gaussian(path), normal(4, 6)
    bar_s, bar_t = (float(b) for b in path.alpha(times).square())
    variance = (1 - bar_t) * (1 - ((1 - bar_t) / (1 - bar_s) * bar_s / bar_t) ** (eta**2))
    ratio = math.sqrt(bar_t / bar_s)
    eps = oracle(x, times[0]).eps
    mean = ratio * x + (math.sqrt(1 - bar_t - variance) - ratio * math.sqrt(1 - bar_s)) * eps
    found = SAMPLERS["gddim"](oracle, x, times, noise=draws, eta=eta)
    torch.testing.assert_close(found, mean + math.sqrt(variance) * draws(0, x), rtol=1e-12, atol=1e-12)


def test_without_noise_it_is_ddim_and_deis_and_with_all_of_it_ddpm():
    for path in (VP(), EDM(), RectifiedFlow()):
        torch.testing.assert_close(run("gddim", path), run("ddim", path), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(run("gddim", path, eta=1.0), run("ddpm", path), rtol=1e-12, atol=1e-12)
        for order in (1, 2, 3, 4):
            left, right = run("gddim", path, order=order), run("deis_tab", path, order=order)
            torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("path", [VP(), TrigFlow()], ids=lambda path: type(path).__name__)
def test_the_corrector_has_the_order_of_its_values_and_a_smaller_error(order, path):
    oracle = gaussian(path)

    def error(steps, corrector):
        times = grade(SCHEDULES["karras"](path, steps, sigma_max=50.0, clean=False))
        x = oracle.flow(normal(8, 6), path.t_max if isinstance(path, VP) else times[0], times[0])
        found = SAMPLERS["gddim"](oracle, x, times, order=order, corrector=corrector)
        return float((found - oracle.flow(x, times[0], times[-1])).square().mean().sqrt())

    errors = [error(steps, True) for steps in (160, 320)]
    assert abs(math.log2(errors[0] / errors[1]) - order) < (0.1 if order < 3 else 0.2), errors
    assert errors[-1] < error(320, False)


def test_the_corrector_costs_another_evaluation_but_at_the_ends():
    path = RectifiedFlow()
    times = SCHEDULES["uniform"](path, 6)  # from alpha = 0 to sigma = 0
    counting = CountingDenoiser(gaussian(path))
    SAMPLERS["gddim"](counting, normal(3, 6), times, order=2, corrector=True)
    assert counting.calls == 1 + 2 * 4 + 1
    assert SAMPLERS["gddim"].evaluations(times, path=path, order=2, corrector=True) == counting.calls


def test_noise_is_the_same_on_every_path():
    results = []
    for path in (VP(), EDM(), RectifiedFlow(), TrigFlow()):
        results.append(run("gddim", path, eta=0.6))  # to sigma = 0, where alpha = 1
    for found in results[1:]:
        torch.testing.assert_close(found, results[0], rtol=1e-12, atol=1e-12)


@pytest.mark.unchecked
def test_wrong_options_are_named():
    for options in ({"order": 0}, {"order": 5}, {"eta": -0.1}, {"order": 2, "eta": 0.5}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
            run("gddim", **options)
    with pytest.raises(ValueError, match="order must be 1, without corrector, where eta is not 0"):
        run("gddim", eta=0.5, corrector=True)
