"""DEIS: eps a polynomial in t is integrated exactly; where t is sigma it is Adams-Bashforth."""

import math
import weakref

import pytest
import torch
from scipy import integrate

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VP,
    Cosine,
    Denoiser,
    DiscreteVP,
    Prediction,
    RectifiedFlow,
    SubVP,
    TrigFlow,
)
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

ORDERS = (1, 2, 3, 4)
PATHS = [VP(), Cosine(), SubVP(), EDM(), RectifiedFlow(), TrigFlow()]


class Driven(Denoiser):
    """eps as a function of t alone."""

    def __init__(self, path, eps):
        self.path, self.eps = path, eps

    def __call__(self, x, t, condition=None):
        return Prediction(self.path, x, t, eps=torch.full_like(x, self.eps(float(t))))


def increments(path, eps, times, **options):
    """What each step adds to x/alpha."""
    states = [torch.zeros(1, 1, dtype=torch.float64)]
    SAMPLERS["deis_tab"](
        Driven(path, eps), states[0], times, callback=lambda i, t, x, p: states.append(x / path.alpha(t)), **options
    )
    return torch.cat(states).flatten().diff().tolist()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_polynomials_in_t_below_the_order_are_integrated_exactly(path):
    """Steps of a third of a nat and one of eight, against quadrature of ``t^k d(sigma/alpha)``."""
    levels = torch.tensor([20.0, 14.0, 10.0, 7.0, 5.0, 0.002], dtype=torch.float64)
    times = path.time(-levels.log())

    def exact(i, degree):
        # in log-SNR, where d(sigma/alpha) = -(sigma/alpha) d lambda
        ends = -levels[i].log(), -levels[i + 1].log()
        value, _ = integrate.quad(
            lambda at: -(float(path.time(at)) ** degree) * math.exp(-at), *map(float, ends), epsabs=0, epsrel=1e-12
        )
        return value

    for order in ORDERS:
        for degree in range(5):
            found = increments(path, lambda t, k=degree: t**k, times, order=order)
            apart = max(abs(found[i] / exact(i, degree) - 1) for i in range(order - 1, 5))
            assert apart < 1e-11 if degree < order else apart > 1e-6, (order, degree, apart)


@pytest.mark.parametrize("order", ORDERS)
def test_where_t_is_sigma_it_is_lms_and_elsewhere_it_is_not(order):
    for path, same in ((EDM(), True), (VP(), order == 1), (RectifiedFlow(), order == 1)):
        oracle, times, x = gaussian(path), SCHEDULES["karras"](path, 12), normal(4, 6)
        left, right = (SAMPLERS[name](oracle, x, times, order=order) for name in ("deis_tab", "deis_rhoab"))
        apart = float((left - right).abs().max())
        assert apart < 1e-11 if same else apart > 1e-3


def test_first_order_is_ddim_and_every_order_another_method():
    for path in (VP(), RectifiedFlow(), DiscreteVP(torch.linspace(1e-4, 0.02, 1000))):
        oracle, times, x = gaussian(path), SCHEDULES["uniform"](path, 12), normal(4, 6)
        found = [SAMPLERS["deis_tab"](oracle, x, times, order=order) for order in ORDERS]
        torch.testing.assert_close(found[0], SAMPLERS["ddim"](oracle, x, times), rtol=1e-12, atol=1e-12)
        assert torch.equal(SAMPLERS["deis_tab"](oracle, x, times), found[2])
        assert all(float((found[k] - found[k + 1]).abs().max()) > 1e-4 for k in range(3))


def test_a_start_at_alpha_0_leaves_no_history():
    path, x = RectifiedFlow(), normal(4, 6)
    oracle, times = gaussian(path), SCHEDULES["uniform"](path, 7)
    first = SAMPLERS["ddim"](oracle, x, times[:2])
    later = SAMPLERS["deis_tab"](oracle, first, times[1:])
    torch.testing.assert_close(SAMPLERS["deis_tab"](oracle, x, times), later, rtol=1e-13, atol=1e-13)


def test_no_more_predictions_are_kept_than_the_order_needs():
    seen, most = [], 0

    def watch(i, t, x, prediction):
        nonlocal most
        seen.append(weakref.ref(prediction.eps))
        most = max(most, sum(ref() is not None for ref in seen))

    SAMPLERS["deis_tab"](gaussian(VP()), normal(4, 6), SCHEDULES["karras"](VP(), 30), callback=watch)
    assert most == 4  # three, and at the last step to the clean end its own


def test_runge_kutta_of_orders_1_2_and_4_are_eulers_heuns_and_kuttas():
    oracle, times, x = gaussian(VP()), SCHEDULES["karras"](VP(), 8), normal(4, 6)
    for order, name in ((1, "euler"), (2, "heun"), (4, "rk4")):
        found = SAMPLERS["deis_rhork"](oracle, x, times, order=order)
        reference = SAMPLERS[name](oracle, x, times, coordinate="sigma")
        torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-12)


def test_third_order_is_kuttas():
    """Stages at the start, the middle and the end, the last from ``2 k2 - k1``: one step of ``x' = r x`` by hand."""

    class Product(Denoiser):
        path = EDM()

        def __call__(self, x, t, condition=None):
            return Prediction(self.path, x, t, eps=x * float(t))

    r, h, x = 2.0, -0.5, 3.0
    k1 = r * x
    k2 = (r + h / 2) * (x + h / 2 * k1)
    k3 = (r + h) * (x + h * (2 * k2 - k1))
    times = torch.tensor([r, r + h], dtype=torch.float64)
    found = SAMPLERS["deis_rhork"](Product(), torch.full((1, 1), x, dtype=torch.float64), times, order=3)
    assert float(found) == pytest.approx(x + h * (k1 + 4 * k2 + k3) / 6, rel=1e-14)


@pytest.mark.unchecked
@pytest.mark.parametrize("order", [0, 5])
@pytest.mark.parametrize("name", ["deis_tab", "deis_rhork"])
def test_a_wrong_order_is_named(name, order):
    with pytest.raises(ValueError, match=f"order must be an integer from 1 to 4, got {order}"):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), order=order)
