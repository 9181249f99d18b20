"""The core of exponential integrators and DPM-Solver: integrals against quadrature, limits, identities, options."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, Prediction, RectifiedFlow
from implementations.diffusion.grid import Grid
from implementations.samplers import SAMPLERS
from implementations.samplers.exponential import (
    FORMS,
    History,
    exact_moments,
    flat_moments,
    midpoint_moments,
    phi,
    weights,
)
from implementations.schedules.spacing import grade
from tests.exact import gaussian, normal


def integral(function, n=20_000):
    """Simpson on [0, 1]: 1e-16 of a smooth function's fourth derivative."""
    u = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    values = function(u)
    return float((values[0] + values[-1] + 4 * values[1::2].sum() + 2 * values[2:-1:2].sum()) / (3 * n))


def run(name, steps=8, path=None, **options):
    path = path or VP()
    times = SCHEDULES["karras"](path, steps, sigma_min=0.05, sigma_max=20.0, clean=False)
    return SAMPLERS[name](gaussian(path), normal(4, 6) * float(path.sigma(times[0])), times, **options)


def slope(name, **options):
    errors = []
    for steps in (60, 120):
        times = grade(SCHEDULES["karras"](VP(), steps, clean=False))
        x, oracle = normal(8, 6), gaussian(VP())
        errors.append(float((SAMPLERS[name](oracle, x, times, **options) - oracle.flow(x, times[0], times[-1])).norm()))
    return math.log2(errors[0] / errors[1])


# the core


@pytest.mark.parametrize("z", [0.0, 1e-8, -1e-8, 0.3, -0.3, 1.4, -1.4, 3.0, -3.0, 12.0, -30.0])
def test_moments_are_the_integrals(z):
    for k, moment in enumerate(exact_moments(z, 5)):
        expected = integral(lambda u, k=k: torch.exp(z * (1 - u)) * u**k)
        assert moment == pytest.approx(expected, rel=1e-12)  # Simpson's error at z = -30 is 1e-13
        assert moment == math.factorial(k) * phi(k + 1, z)


def test_phi_is_continuous_where_its_series_ends():
    for k in range(1, 7):
        for z in (1 + k / 2, -1 - k / 2):
            # the function itself moves by a relative 1e-12 over the gap
            assert phi(k, z * (1 - 1e-12)) == pytest.approx(phi(k, z * (1 + 1e-12)), rel=1e-11)


@pytest.mark.parametrize(
    "nodes", [[0.0], [0.0, -0.7], [1.0, 0.0, -0.3], [0.0, -40.0, -41.0, -41.5], [0.0, -1e-3, -2e-3]]
)
@pytest.mark.parametrize("z", [-2.0, 1e-9, 0.8])
def test_weights_integrate_polynomials(nodes, z):
    found = weights(nodes, exact_moments(z, len(nodes)))
    for k in range(len(nodes)):
        total = sum(w * u**k for w, u in zip(found, nodes, strict=True))
        size = sum(abs(w * u**k) for w, u in zip(found, nodes, strict=True))
        assert abs(total - exact_moments(z, k + 1)[k]) <= 1e-13 * size  # rounding of the terms, which cancel


def test_weights_may_be_one_kernel_an_element():
    z = [-0.5, 0.1, 2.0]
    columns = [torch.tensor(column) for column in zip(*(exact_moments(v, 3) for v in z), strict=True)]
    found = torch.stack(weights([0.0, -0.5, -1.2], columns), 1)
    expected = torch.tensor([weights([0.0, -0.5, -1.2], exact_moments(v, 3)) for v in z])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # float32


def test_equal_steps_of_a_flat_kernel_are_adams_bashforth():
    assert weights([0.0, -1.0], exact_moments(0.0, 2)) == pytest.approx([3 / 2, -1 / 2], rel=1e-14)
    assert weights([0.0, -1.0, -2.0], exact_moments(0.0, 3)) == pytest.approx([23 / 12, -16 / 12, 5 / 12], rel=1e-14)
    assert midpoint_moments(0.0, 2) == flat_moments(0.0, 2) == exact_moments(0.0, 2)
    for moments in (midpoint_moments, flat_moments):
        assert moments(0.7, 3) == exact_moments(0.7, 3)  # they differ at two predictions only
        assert moments(0.7, 2) != exact_moments(0.7, 2)


@pytest.mark.parametrize("name", ["data", "noise"])
def test_a_prediction_that_is_a_polynomial_of_the_log_snr_is_integrated_exactly(name):
    """Against the flow itself, by many small steps: x0 or eps is a parabola in lambda, whatever x."""
    form, path = FORMS[name], RectifiedFlow()

    def q(log_snr):
        return torch.tensor([[1.0 + 0.5 * log_snr - 0.2 * log_snr**2]], dtype=torch.float64)

    grid = Grid(path, torch.linspace(0.6, 0.3, 2, dtype=torch.float64))
    here, there = grid.points
    x = torch.ones(1, 1, dtype=torch.float64)
    found = form.integrate(here, there, x, [(level, q(level)) for level in (here.log_snr, -3.0, -1.0)])
    fine = Grid(path, torch.linspace(0.6, 0.3, 2001, dtype=torch.float64))
    for k, (a, b) in enumerate(zip(fine.points, fine.points[1:], strict=False)):
        value = q((a.log_snr + b.log_snr) / 2)
        x = Prediction(path, x, fine.times[k], **{form.view: value}).combine(b.alpha, b.sigma)
    torch.testing.assert_close(found, x, rtol=1e-7, atol=0)  # 2000 midpoint steps: (h/2000)^2


def test_history_is_trimmed_and_forgets_over_a_gap():
    history = History(3)
    for i in range(5):
        values = history.push(i, float(i), torch.zeros(1))
    assert [level for level, _ in values] == [4.0, 3.0, 2.0]
    assert len(history.push(7, 7.0, torch.zeros(1))) == 1


# identities


def test_first_order_is_ddim():
    reference = run("ddim")
    for found in (run("dpm_solver_1"), run("dpm_solver_multistep", order=1)):
        torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-13)


def test_one_step_of_two_predictions_with_r1_of_1_is_heuns():
    torch.testing.assert_close(run("dpmpp_2s", r1=1.0, solver_type="heun"), run("exp_heun"), rtol=1e-12, atol=1e-13)


def test_2m_is_the_formula_of_the_paper():
    path = EDM()
    times = SCHEDULES["karras"](path, 6, clean=False)
    oracle, x = gaussian(path), normal(4, 6) * 80
    expected, before = x, None
    for s, t, last in zip(times, times[1:], [None, *times], strict=False):
        h, x0 = float((s / t).log()), oracle(expected, s).x0
        r = None if last is None else float((last / s).log()) / h
        d = x0 if r is None else (1 + 1 / (2 * r)) * x0 - before / (2 * r)
        expected, before = t / s * expected - math.expm1(-h) * d, x0
    torch.testing.assert_close(SAMPLERS["dpmpp_2m"](oracle, x, times), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["dpm_solver_2", "dpmpp_2s"])
def test_the_second_order_is_the_formula_of_the_paper(name):
    """2206.00927, alg. 4 and 2211.01095, alg. 1, at r1 = 0.3."""
    path, r1 = VP(), 0.3
    times = torch.tensor([0.8, 0.4], dtype=torch.float64)
    oracle, x = gaussian(path), normal(4, 6)
    here, there = Grid(path, times).points
    h = there.log_snr - here.log_snr
    stage = Grid(path, times).at(here.log_snr + r1 * h)
    if name == "dpm_solver_2":
        eps = oracle(x, times[0]).eps
        u = stage.alpha / here.alpha * x - stage.sigma * math.expm1(r1 * h) * eps
        mean = (1 - 1 / (2 * r1)) * eps + oracle(u, stage.t).eps / (2 * r1)
        expected = there.alpha / here.alpha * x - there.sigma * math.expm1(h) * mean
    else:
        x0 = oracle(x, times[0]).x0
        u = stage.sigma / here.sigma * x - stage.alpha * math.expm1(-r1 * h) * x0
        mean = (1 - 1 / (2 * r1)) * x0 + oracle(u, stage.t).x0 / (2 * r1)
        expected = there.sigma / here.sigma * x - there.alpha * math.expm1(-h) * mean
    found = SAMPLERS[name](oracle, x, times, r1=r1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_res_is_the_multistep_solver_with_exact_weights():
    torch.testing.assert_close(run("res_multistep"), run("dpmpp_2m", solver_type="heun"), rtol=1e-12, atol=1e-13)
    found = run("res_multistep", order=3)
    torch.testing.assert_close(found, run("dpmpp_3m", solver_type="heun"), rtol=1e-12, atol=1e-13)


# options


def test_every_option_does_something():
    for name, options in [
        ("dpm_solver_2", {"r1": 0.3}), ("dpm_solver_2", {"solver_type": "heun"}),
        ("dpmpp_2s", {"r1": 0.3}), ("dpmpp_2s", {"solver_type": "heun"}),
        ("dpm_solver_3", {"r1": 0.2}), ("dpm_solver_3", {"r2": 0.6}), ("dpm_solver_3", {"solver_type": "heun"}),
        ("dpmpp_3s", {"r1": 0.2}), ("dpmpp_3s", {"r2": 0.6}), ("dpmpp_3s", {"solver_type": "heun"}),
        ("dpmpp_2m", {"solver_type": "heun"}), ("dpmpp_2m", {"lower_order_final": True}),
        ("dpmpp_3m", {"solver_type": "heun"}), ("dpmpp_3m", {"lower_order_final": True}),
        ("dpmpp_3m", {"half_curvature": True}),
        ("dpm_solver_multistep", {"solver_type": "heun"}), ("dpm_solver_multistep", {"lower_order_final": True}),
        ("dpm_solver_multistep", {"order": 3}),
    ]:  # fmt: skip
        assert float((run(name, **options) - run(name)).abs().max()) > 1e-6, (name, options)
    assert not torch.equal(
        run("dpm_solver_multistep", order=3, half_curvature=True), run("dpm_solver_multistep", order=3)
    )


@pytest.mark.unchecked
def test_what_the_order_hangs_on():
    assert slope("dpmpp_3m") == pytest.approx(3, abs=0.2)
    assert slope("dpmpp_3m", half_curvature=True) == pytest.approx(2, abs=0.3)  # 1.75 here, 1.98 at 1280 steps
    assert slope("dpmpp_3s", r1=0.5) == pytest.approx(3, abs=0.2)
    assert slope("dpmpp_3s", r2=0.5) == pytest.approx(2, abs=0.2)
    assert slope("dpmpp_3s", r2=0.5, solver_type="heun") == pytest.approx(2, abs=0.2)
    assert slope("dpmpp_2s", r1=0.8) == pytest.approx(2, abs=0.1)


def test_no_lower_order_at_the_end_but_the_last_steps():
    """The step before the last of order 3 is of order 2, the last of order 1: the states before are the same."""
    states = []
    for lower in (False, True):
        seen = []
        run("dpmpp_3m", lower_order_final=lower, callback=lambda i, t, x, p, seen=seen: seen.append(x.clone()))
        states.append(seen)
    same = [torch.equal(a, b) for a, b in zip(*states, strict=True)]
    assert same == [True] * 6 + [False] * 2


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("dpm_solver_2", {"r1": 0.0}, "r1 must .* 0 < r1 <= 1, got 0"),
        ("dpm_solver_2", {"r1": 1.5}, "r1 must .* got 1.5"),
        ("dpm_solver_3", {"r1": 0.7}, "0 < r1 < r2 <= 1, got 0.7, 0.666"),
        ("dpmpp_2m", {"solver_type": "bh1"}, "solver_type must be midpoint or heun, got 'bh1'"),
        ("dpm_solver_multistep", {"order": 4}, "order must be an integer from 1 to 3, got 4"),
        ("dpm_solver_multistep", {"order": True}, "order must"),
        ("res_multistep", {"order": 5}, "order must be an integer from 1 to 4, got 5"),
    ],
)
def test_wrong_options_are_named(name, options, says):
    with pytest.raises(ValueError, match=says):
        run(name, **options)
