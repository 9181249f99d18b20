"""Runge-Kutta methods: the equation of each coordinate, order conditions, nodes, and what the methods equal."""

import itertools
import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, CountingDenoiser, RectifiedFlow, TrigFlow
from implementations.diffusion.grid import Grid, Points
from implementations.samplers import SAMPLERS
from implementations.samplers.runge_kutta import BOSH3, COORDINATES, RK4
from tests.exact import gaussian, normal

PATHS = [VP(), EDM(), RectifiedFlow(), TrigFlow()]
METHODS = ("euler", "heun", "midpoint", "bosh3", "rk4")


def inner(path, steps=6):
    return SCHEDULES["karras"](path, steps, sigma_min=0.05, sigma_max=20.0, clean=False)


def classical(f, y, u, end, method):
    """One step of the textbook's formula for ``dy/du = f(u, y)``."""
    h = end - u
    k1 = f(u, y)
    if method == "euler":
        return y + h * k1
    if method == "heun":
        return y + h / 2 * (k1 + f(end, y + h * k1))
    k2 = f(u + h / 2, y + h / 2 * k1)
    if method == "bosh3":
        k3 = f(u + 3 * h / 4, y + 3 * h / 4 * k2)
        return y + h * (2 * k1 + 3 * k2 + 4 * k3) / 9
    k3 = f(u + h / 2, y + h / 2 * k2)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(end, y + h * k3))


TEXTBOOK = [(m, c) for m in ("euler", "heun", "bosh3", "rk4") for c in COORDINATES if (m, c) != ("heun", "lambda")]


@pytest.mark.parametrize(("method", "coordinate"), TEXTBOOK)
def test_methods_are_the_textbooks_in_the_coordinates_equation(method, coordinate):
    for path in PATHS:
        oracle, times = gaussian(path), inner(path)

        def at(u, path=path):
            log_snr = {"sigma": lambda u: -math.log(u), "lambda": math.log, "angle": lambda u: -math.log(math.tan(u))}
            return torch.tensor(u, dtype=torch.float64) if coordinate == "t" else path.time(log_snr[coordinate](u))

        def scale(t, path=path):
            alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
            return {"sigma": alpha, "lambda": sigma, "angle": math.hypot(alpha, sigma), "t": 1.0}[coordinate]

        def slope(u, y, oracle=oracle, at=at, scale=scale):
            t = at(u)
            found = oracle(y * scale(t), t)
            return {
                "sigma": lambda: found.eps,
                "lambda": lambda: found.x0,
                "angle": lambda: found.v / scale(t),
                "t": lambda: found.velocity,
            }[coordinate]()

        def variable(t, path=path):
            alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
            values = {"sigma": sigma / alpha, "lambda": alpha / sigma, "angle": math.atan2(sigma, alpha), "t": float(t)}
            return values[coordinate]

        x = normal(3, 6) * float(path.sigma(times[0]))
        y = x / scale(times[0])
        for here, there in itertools.pairwise(times):
            y = classical(slope, y, variable(here), variable(there), method)
        found = SAMPLERS[method](oracle, x, times, coordinate=coordinate)
        torch.testing.assert_close(found, y * scale(times[-1]), rtol=1e-10, atol=1e-11)  # the nodes' inverses round


@pytest.mark.parametrize("tableau", [RK4, BOSH3])
def test_order_conditions(tableau):
    """Butcher's: sum b = 1, sum b c = 1/2, sum b c^2 = 1/3, sum b a c = 1/6; a stage's weights sum to its node."""
    c, b = [0.0, *tableau.nodes], tableau.weights
    assert [sum(row) for row in tableau.stages] == pytest.approx(list(tableau.nodes), abs=1e-15)
    assert [sum(w * node**k for w, node in zip(b, c, strict=True)) for k in range(3)] == pytest.approx(
        [1, 1 / 2, 1 / 3]
    )
    inside = [0.0, *(sum(a * node for a, node in zip(row, c, strict=False)) for row in tableau.stages)]
    assert sum(w * s for w, s in zip(b, inside, strict=True)) == pytest.approx(1 / 6)


def test_midpoint_in_sigma_is_dpm_solver_2_and_in_lambda_dpmpp_2s():
    for path in PATHS:
        oracle, times = gaussian(path), inner(path)
        first = x = y = normal(3, 6) * float(path.sigma(times[0]))
        for here, there in itertools.pairwise(times):
            levels = path.log_snr(torch.stack([here, there])).tolist()
            h, middle = levels[1] - levels[0], path.time(sum(levels) / 2)
            (a0, a1, a2), (s0, s1, s2) = (
                [float(f(t)) for t in (here, middle, there)] for f in (path.alpha, path.sigma)
            )
            inside = a1 / a0 * x - s1 * math.expm1(h / 2) * oracle(x, here).eps
            x = a2 / a0 * x - s2 * math.expm1(h) * oracle(inside, middle).eps  # 2206.00927, alg. 1
            inside = s1 / s0 * y - a1 * math.expm1(-h / 2) * oracle(y, here).x0
            y = s2 / s0 * y - a2 * math.expm1(-h) * oracle(inside, middle).x0  # 2211.01095, alg. 1, r = 1/2
        for coordinate, expected in (("sigma", x), ("lambda", y)):
            found = SAMPLERS["midpoint"](oracle, first, times, coordinate=coordinate)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_midpoint_halves_t_in_t_and_log_snr_elsewhere():
    path, asked = RectifiedFlow(), []

    class Watched(CountingDenoiser):
        def __call__(self, x, t, condition=None):
            asked.append(float(t))
            return super().__call__(x, t, condition)

    times = torch.tensor([0.8, 0.4], dtype=torch.float64)
    for coordinate in COORDINATES:
        SAMPLERS["midpoint"](Watched(gaussian(path)), normal(2, 6), times, coordinate=coordinate)
    level = math.sqrt(0.8 / 0.2 * 0.4 / 0.6)
    assert asked[1::2] == pytest.approx([level / (1 + level)] * 3 + [0.6])


@pytest.mark.parametrize("method", METHODS)
def test_every_coordinate_is_another_method(method):
    path = VP()
    times, x = inner(path), normal(3, 6)
    results = [SAMPLERS[method](gaussian(path), x, times, coordinate=c) for c in COORDINATES]
    pairs = [(a, b) for i, a in enumerate(results) for b in results[:i]]
    apart = sorted(float((a - b).abs().max()) for a, b in pairs)
    # Euler's two are both DDIM
    assert apart[0] < 1e-12 if method == "euler" else apart[0] > 1e-6
    assert apart[1] > 1e-6


@pytest.mark.unchecked
@pytest.mark.parametrize("method", METHODS)
def test_wrong_coordinates_are_named(method):
    with pytest.raises(ValueError, match="coordinate must be one of sigma, lambda, angle, t, got 'rho'"):
        SAMPLERS[method](gaussian(VP()), normal(2, 6), inner(VP()), coordinate="rho")


def test_levels_are_the_points_of_a_grid():
    for path in PATHS:
        times = SCHEDULES["karras"](path, 5, clean=False)
        points = Grid(path, times).points
        assert Points.at_times(path, times).unbind() == points
        levels = Points.at_log_snrs(path, path.log_snr(times))
        for name in ("ratio", "radius", "angle"):
            expected = [getattr(point, name) for point in points]
            assert getattr(levels, name).tolist() == pytest.approx(expected, rel=1e-12)


def test_high_orders_pay_on_a_smooth_flow():
    """At 24 evaluations between the same levels, in the angle: the higher the order, the smaller the error."""
    path = VP()
    oracle, errors = gaussian(path), []
    for method, steps in (("euler", 24), ("midpoint", 12), ("bosh3", 8), ("rk4", 6)):
        times = SCHEDULES["log_snr"](path, steps, sigma_min=0.2, sigma_max=5.0, clean=False)
        x = normal(8, 6)
        found = SAMPLERS[method](oracle, x, times, coordinate="angle")
        errors.append(float((found - oracle.flow(x, times[0], times[-1])).norm()))
    assert errors == sorted(errors, reverse=True), errors
