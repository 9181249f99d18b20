"""SA-Solver: Adams methods of the flow at tau = 0, SDE-DPM-Solver++ without corrector, the corrector in plain steps."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP
from implementations.samplers import SAMPLERS
from implementations.schedules.spacing import grade
from tests.exact import draws, gaussian, normal, run


def slope(**options):
    """Over one doubling, at levels where predictor's and corrector's errors, of opposite signs, cancel least."""
    path, errors = VP(), []
    oracle = gaussian(path)
    for steps in (160, 320):
        times = grade(SCHEDULES["karras"](path, steps, sigma_min=1.0, sigma_max=10.0, clean=False))
        x = oracle.flow(normal(8, 6), path.t_max, times[0])
        found = SAMPLERS["sa_solver"](oracle, x, times, **options)
        errors.append(float((found - oracle.flow(x, times[0], times[-1])).square().mean().sqrt()))
    assert errors[-1] > 1e-11  # above rounding
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({"order": 1, "corrector_order": 0}, 1),
        ({"order": 2, "corrector_order": 0}, 2),
        ({"order": 3, "corrector_order": 0}, 3),
        ({"order": 2, "corrector_order": 0, "few_steps": True}, 2),
        ({"order": 2, "corrector_order": 0, "prediction": "noise"}, 2),
        # a corrector of one value more than the predictor's raises the order
        ({"order": 1, "corrector_order": 2}, 2),
        ({"order": 2, "corrector_order": 2}, 2),
        ({"order": 2, "corrector_order": 3}, 3),
        ({"order": 3}, 3),
    ],
)
def test_order_of_the_flow(options, order):
    assert abs(slope(tau=0.0, **options) - order) < (0.1 if order < 3 else 0.2)


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.3])
def test_without_corrector_it_is_the_multistep_methods(tau):
    for path in (VP(), EDM()):
        plain = {"corrector_order": 0, "tau": tau}
        for options, other, its in [
            ({"order": 1}, "gddim", {"eta": tau}),
            ({"order": 1, "prediction": "noise"}, "seeds", {"order": 1, "eta": tau**2}),
            ({"order": 2}, "dpmpp_2m_sde", {"eta": tau**2, "solver_type": "heun"}),
            ({"order": 3}, "dpmpp_3m_sde", {"eta": tau**2}),
        ]:
            left, right = run("sa_solver", path, **plain, **options), run(other, path, **its)
            torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_the_corrector_does_a_step_again_with_the_same_noise():
    """Predictor of 1, corrector of 2 values, in plain steps where alpha = 1, in lambda = -log s."""
    path, tau, steps = EDM(), 0.8, 6
    oracle, times = gaussian(path), SCHEDULES["karras"](EDM(), steps, sigma_min=0.1, sigma_max=10.0, clean=False)
    rate = 1 + tau**2

    def integral(s, t, last, before=None):
        """``int e^(-rate (lambda_t - lambda)) rate P(lambda) d lambda`` by a fine trapezoid."""
        way = torch.linspace(0, math.log(s / t), 200_001, dtype=torch.float64)
        weight = rate * (-rate * (way[-1] - way)).exp()
        share = torch.trapezoid(weight * way / way[-1], way)  # of the end
        whole = torch.trapezoid(weight, way)
        return whole * last if before is None else share * last + (whole - share) * before

    x = predicted = normal(4, 6) * 10
    previous = None
    for i in range(steps):
        s, t = float(times[i]), float(times[i + 1])
        x0 = oracle(predicted, s).x0
        if previous is not None:
            start, old, x0_old, kick = previous
            x = start * (s / old) ** rate + integral(old, s, x0, x0_old) + kick
        kick = t * math.sqrt(1 - (t / s) ** (2 * tau**2)) * draws(i, x)
        predicted = x * (t / s) ** rate + integral(s, t, x0) + kick
        previous = x, s, x0, kick
    found = SAMPLERS["sa_solver"](oracle, normal(4, 6) * 10, times, noise=draws, order=1, corrector_order=2, tau=tau)
    torch.testing.assert_close(found, predicted, rtol=1e-8, atol=1e-8)  # the trapezoid's


def test_tau_is_a_number_or_a_function_within_an_interval():
    base = run("sa_solver", tau=0.8)
    assert torch.equal(run("sa_solver", tau=lambda level: 0.8), base)
    inside = run("sa_solver", tau=0.8, interval=(0.1, 2.0))
    assert torch.equal(run("sa_solver", tau=lambda level: 0.8 if 0.1 <= level <= 2 else 0.0), inside)
    assert not torch.allclose(inside, base)
    none = run("sa_solver", tau=0.8, interval=(1e6, 1e7))
    torch.testing.assert_close(none, run("sa_solver", tau=0.0), rtol=0, atol=0)


def test_options_act():
    base = run("sa_solver", order=3)
    for options in ({"corrector_order": 0}, {"corrector_order": 1}, {"corrector_order": 4}, {"few_steps": True},
                    {"tau": 0.5}, {"prediction": "noise"}, {"order": 2}, {"order": 4}):  # fmt: skip
        found = run("sa_solver", **{"order": 3, "corrector_order": 3, **options})
        assert not torch.allclose(found, base, rtol=1e-6), options
    torch.testing.assert_close(run("sa_solver", order=3, corrector_order=3), base, rtol=0, atol=0)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "options",
    [
        {"order": 0}, {"order": 5}, {"corrector_order": -1}, {"corrector_order": 5}, {"tau": -0.1}, {"tau": math.nan},
        {"tau": lambda level: -level}, {"interval": (2.0, 1.0)}, {"interval": (-1.0, 1.0)}, {"prediction": "v"},
    ],
)  # fmt: skip
def test_wrong_options_are_named(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
        run("sa_solver", **options)
