"""Adams-Bashforth methods: what they integrate exactly, their order on equal steps, their starts, diffusers' PNDM."""

import itertools
import math
import weakref

import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VP,
    Denoiser,
    DiscreteVP,
    Prediction,
    RectifiedFlow,
    SubVP,
)
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

ORDERS = (1, 2, 3, 4)


class Driven(Denoiser):
    """eps as a function of sigma/alpha alone: a solver of the flow is then a quadrature of it."""

    def __init__(self, path, eps):
        self.path, self.eps = path, eps

    def __call__(self, x, t, condition=None):
        return Prediction(self.path, x, t, eps=torch.full_like(x, self.eps(float(self.path.ratio(t)))))


def increments(name, path, eps, times, **options):
    """What each step adds to x/alpha."""
    states = [torch.zeros(1, 1, dtype=torch.float64)]
    SAMPLERS[name](
        Driven(path, eps), states[0], times, callback=lambda i, t, x, p: states.append(x / path.alpha(t)), **options
    )
    return torch.cat(states).flatten().diff()


def equal_ratios(path, high, low, steps):
    return path.time(-torch.linspace(high, low, steps + 1, dtype=torch.float64).log())


@pytest.mark.parametrize("path", [VP(), SubVP(), EDM()], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("order", ORDERS)
def test_lms_integrates_polynomials_below_its_order_on_any_grid(path, order):
    times = SCHEDULES["karras"](path, 9, sigma_min=0.1, sigma_max=3.0, clean=False)
    ratios = path.ratio(times)
    for degree in range(5):
        exact = (ratios ** (degree + 1)).diff() / (degree + 1)
        found = increments("lms", path, lambda r, k=degree: r**k, times, order=order)
        # against the largest: an increment is the difference of two states
        apart = float((found - exact)[order - 1 :].abs().max() / exact.abs().max())
        assert apart < 1e-13 if degree < order else apart > 1e-6, (degree, apart)


@pytest.mark.parametrize("order", ORDERS)
def test_ipndm_is_lms_on_equal_steps_and_another_method_on_others(order):
    oracle = gaussian(VP())
    x = normal(4, 6)
    for times, same in [(equal_ratios(VP(), 3.0, 0.1, 12), True), (SCHEDULES["karras"](VP(), 12), order == 1)]:
        left, right = (SAMPLERS[name](oracle, x, times, order=order) for name in ("lms", "ipndm"))
        apart = float((left - right).abs().max())
        assert apart < 1e-12 if same else apart > 1e-4


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["lms", "ipndm"])
def test_one_step_from_exact_history_has_the_order_of_the_grid(name, order):
    """The defect of a step falls as its length to the order plus one, on equal steps and on steps that grow."""
    entry = SAMPLERS[name]
    for uniform in (True, False):
        errors = []
        for h in (0.01, 0.005):
            u = h * torch.arange(-4, 2, dtype=torch.float64)  # the last step begins at 2
            ratios = 2 - u if uniform else 2 * torch.exp(-u)
            found = increments(name, EDM(), math.cos, ratios, order=order)
            errors.append(abs(float(found[-1] - ratios.sin().diff()[-1])))
        theory = entry.theory({"order": order}, uniform=uniform)
        # the next power of h still shows by a sixth of an order where two terms of the leading one all but cancel
        assert math.log2(errors[0] / errors[1]) == pytest.approx(theory + 1, abs=0.2), (uniform, errors)


def test_weights_of_equal_steps_are_of_first_order_where_steps_alternate():
    """The second order of ipndm on unequal steps is that of grids whose neighbours grow alike."""
    errors = []
    for h in (0.04, 0.02):
        ratios = 2 - torch.tensor([0, h, 3 * h, 4 * h, 6 * h, 7 * h], dtype=torch.float64)
        found = increments("ipndm", EDM(), lambda r: 1 / (1 + r), ratios)
        errors.append(abs(float(found[-1] - torch.log1p(ratios).diff()[-1])))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.25)


def test_first_order_is_ddim():
    for path in (VP(), RectifiedFlow()):
        oracle, times, x = gaussian(path), SCHEDULES["karras"](path, 8), normal(4, 6)
        for name in ("lms", "ipndm"):
            found = SAMPLERS[name](oracle, x, times, order=1)
            torch.testing.assert_close(found, SAMPLERS["ddim"](oracle, x, times), rtol=1e-12, atol=1e-12)


def test_plms_and_pndm_continue_as_ipndm_of_fourth_order():
    """With eps driven from outside only the start differs: one step, or three."""
    times = SCHEDULES["karras"](VP(), 9, sigma_min=0.1, sigma_max=3.0, clean=False)
    reference = increments("ipndm", VP(), math.cos, times)
    for name, start in (("plms", 1), ("pndm", 3)):
        found = increments(name, VP(), math.cos, times)
        torch.testing.assert_close(found[start:], reference[start:], rtol=1e-12, atol=1e-12)
        assert float((found - reference)[:start].abs().min()) > 1e-5


def test_the_starts_are_a_trapezoid_and_runge_kutta():
    times = torch.tensor([2.0, 1.7], dtype=torch.float64)
    a, b = math.cos(2.0), math.cos(1.7)
    assert float(increments("plms", EDM(), math.cos, times)) == pytest.approx(-0.3 * (a + b) / 2, rel=1e-12)
    simpson = -0.3 * (a + 4 * math.cos(1.85) + b) / 6
    for coordinate in ("t", "sigma"):
        found = increments("pndm", EDM(), math.cos, times, coordinate=coordinate)
        assert float(found) == pytest.approx(simpson, rel=1e-12)


def test_pndm_is_of_fourth_order_on_equal_steps_with_a_start_as_good():
    path, x, errors = VP(), normal(4, 6), []
    oracle = gaussian(path)
    for steps in (160, 320):
        times = equal_ratios(path, 3.0, 0.5, steps)
        found = SAMPLERS["pndm"](oracle, x, times, coordinate="sigma")
        errors.append(float((found - oracle.flow(x, times[0], times[-1])).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)


def test_pndm_is_halved_in_t_or_in_sigma():
    for path, same in ((EDM(), True), (VP(), False)):
        oracle, times, x = gaussian(path), SCHEDULES["karras"](path, 6), normal(4, 6)
        found = [SAMPLERS["pndm"](oracle, x, times, coordinate=c) for c in ("t", "sigma")]
        apart = float((found[0] - found[1]).abs().max())
        assert apart < 1e-12 if same else apart > 1e-4
        assert torch.equal(SAMPLERS["pndm"](oracle, x, times), found[0])


def test_a_start_at_alpha_0_leaves_no_history():
    """DDIM's step to the second time, then the method as if it began there."""
    path, x = RectifiedFlow(), normal(4, 6)
    oracle, times = gaussian(path), SCHEDULES["uniform"](path, 7)
    first = SAMPLERS["ddim"](oracle, x, times[:2])
    for name in ("lms", "ipndm", "pndm", "plms"):
        later = SAMPLERS[name](oracle, first, times[1:])
        torch.testing.assert_close(SAMPLERS[name](oracle, x, times), later, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ["lms", "ipndm", "pndm", "plms"])
def test_no_more_predictions_are_kept_than_the_order_needs(name):
    seen, most = [], 0

    def watch(i, t, x, prediction):
        nonlocal most
        seen.append(weakref.ref(prediction.eps))
        most = max(most, sum(ref() is not None for ref in seen))

    SAMPLERS[name](gaussian(VP()), normal(4, 6), SCHEDULES["karras"](VP(), 30), callback=watch)
    assert most == 5  # the last step, to the clean end, holds its own and has not yet let go of four


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("steps", [5, 10, 25])
def test_pndm_is_that_of_diffusers(steps, skip):
    """Up to its last step, which diffusers takes to a clean end with the history, and we by the data predicted.

    The timesteps are those that it asks for: with Runge-Kutta steps, the halves too, on even strides alone.
    """
    scheduler = pytest.importorskip("diffusers").PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=skip)
    scheduler.set_timesteps(steps)
    path = DiscreteVP(scheduler.betas.double())
    oracle, stride = gaussian(path), 1000 // steps
    times = torch.arange(steps - 1, -1, -1, dtype=torch.float64) * stride
    x = theirs = normal(4, 6)
    for t in scheduler.timesteps[: -1 if len(scheduler.timesteps) > 1 else None]:
        theirs = scheduler.step(oracle(theirs, t.double()).eps, int(t), theirs).prev_sample
    ours = SAMPLERS["plms" if skip else "pndm"](oracle, x, times)
    # its table of alpha-bar is a float32 product of up to 1000 factors
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["lms", "ipndm"])
@pytest.mark.parametrize("order", [0, 5, 2.5, True])
def test_a_wrong_order_is_named(name, order):
    with pytest.raises(ValueError, match=f"order must be an integer from 1 to 4, got {order}"):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), order=order)


@pytest.mark.unchecked
def test_a_wrong_coordinate_is_named():
    with pytest.raises(ValueError, match="coordinate must be t or sigma, got 'lambda'"):
        SAMPLERS["pndm"](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), coordinate="lambda")


def test_every_order_is_another_method():
    oracle, x, times = gaussian(VP()), normal(4, 6), SCHEDULES["karras"](VP(), 12)
    for name in ("lms", "ipndm"):
        found = [SAMPLERS[name](oracle, x, times, order=order) for order in ORDERS]
        assert all(float((a - b).abs().max()) > 1e-4 for a, b in itertools.pairwise(found))
        assert torch.equal(SAMPLERS[name](oracle, x, times), found[-1])
