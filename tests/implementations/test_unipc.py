"""UniPC and UniC: the corrector against a step written out, its order after other solvers, its cost, its options."""

import itertools
import math

import pytest
import torch

from implementations.diffusion import SCHEDULES, VP, CountingDenoiser, RectifiedFlow
from implementations.diffusion.grid import Grid
from implementations.samplers import SAMPLERS
from implementations.samplers.exponential import FORMS, exact_moments, midpoint_moments, weights
from implementations.schedules.spacing import grade
from tests.exact import gaussian, normal


def times_of(path, steps=8):
    return SCHEDULES["karras"](path, steps, sigma_min=0.05, sigma_max=20.0, clean=False)


def run(name, path=None, steps=8, **options):
    path = path or VP()
    return SAMPLERS[name](gaussian(path), normal(4, 6), times_of(path, steps), **options)


@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_three_steps_written_out(prediction):
    """Predict, evaluate, correct with that evaluation, predict from the corrected state: UniPC-2, B(h) = e^h - 1."""
    path, form = VP(), FORMS[prediction]
    grid, oracle, x = Grid(path, times_of(path, 3)), gaussian(path), normal(4, 6)

    def linear(i, nodes, qs, moments):
        a, b, z = form.step(grid.points[i], grid.points[i + 1])
        terms = zip(weights(nodes, moments(z, len(nodes))), qs, strict=True)
        return a, b * sum(w * q for w, q in terms)

    def q(i, x):
        return form.read(oracle(x, grid.times[i]))

    levels = [point.log_snr for point in grid.points]
    h = [b - a for a, b in itertools.pairwise(levels)]
    q0 = q(0, x)
    a, rest = linear(0, [0.0], [q0], exact_moments)
    q1 = q(1, a * x + rest)
    a, rest = linear(0, [0.0, 1.0], [q0, q1], midpoint_moments)
    x1 = a * x + rest
    a, rest = linear(1, [0.0, -h[0] / h[1]], [q1, q0], midpoint_moments)
    q2 = q(2, a * x1 + rest)
    a, rest = linear(1, [0.0, 1.0, -h[0] / h[1]], [q1, q2, q0], exact_moments)
    x2 = a * x1 + rest
    a, rest = linear(2, [0.0, -h[1] / h[2]], [q2, q1], midpoint_moments)
    found = SAMPLERS["unipc_bh2"](oracle, x, times_of(path, 3), order=2, prediction=prediction)
    torch.testing.assert_close(found, a * x2 + rest, rtol=1e-12, atol=1e-13)


def test_unic_after_the_multistep_solver_is_unipc():
    for order, name in ((1, "ddim"), (2, "dpmpp_2m"), (3, "dpmpp_3m")):
        found, expected = run("unic", predictor=name), run("unipc_bh2", order=order)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    noise = {"predictor": "dpm_solver_multistep", "predictor_options": {"order": 3}, "prediction": "noise"}
    torch.testing.assert_close(
        run("unic", **noise), run("unipc_bh2", order=3, prediction="noise"), rtol=1e-12, atol=1e-13
    )


def test_three_predictions_leave_no_choice_of_b():
    """Only the first steps of order 1 and 2 know B(h): with all but those alike, the states differ by their defect."""
    path = VP()
    times = grade(times_of(path, 40), 12)
    found = [SAMPLERS[f"unipc_{b}"](gaussian(path), normal(4, 6), times, order=3) for b in ("bh1", "bh2")]
    first = float((found[0] - found[1]).abs().max())
    assert 0 < first < 1e-8  # the first interval is 2^-12 of a step
    assert float((run("unipc_bh1", order=2) - run("unipc_bh2", order=2)).abs().max()) > 1e-6


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("predictor", "options", "order"),
    [
        ("ddim", {}, 2),
        ("euler", {"coordinate": "angle"}, 2),
        ("heun", {}, 3),
        ("dpmpp_2s", {}, 3),
        ("dpmpp_3m", {}, 4),
        ("dpm_solver_multistep", {"order": 3}, 4),
    ],
)
def test_it_raises_the_order_of_any_solver_by_one(predictor, options, order):
    path, errors, calls = VP(), [], []
    for steps in (80, 160):
        times = grade(SCHEDULES["karras"](path, steps, clean=False))
        counting, x = CountingDenoiser(gaussian(path)), normal(8, 6)
        found = SAMPLERS["unic"](counting, x, times, predictor=predictor, predictor_options=options)
        errors.append(float((found - gaussian(path).flow(x, times[0], times[-1])).norm()))
        calls.append(counting.calls)
        assert counting.calls == SAMPLERS[predictor].evaluations(times, path=path, **options)
        stated = SAMPLERS["unic"].evaluations(times, path=path, predictor=predictor, predictor_options=options)
        assert counting.calls == stated
    assert math.log2(errors[0] / errors[1]) > order - (0.1 if order < 3 else 0.2), errors


def test_noise_and_data_converge_to_one_flow():
    oracle, path = gaussian(RectifiedFlow()), RectifiedFlow()
    times = times_of(path, 40)
    x = normal(4, 6)
    expected = oracle.flow(x, times[0], times[-1])
    for prediction in ("data", "noise"):
        found = SAMPLERS["unipc_bh2"](oracle, x, times, order=3, prediction=prediction)
        assert float((found - expected).abs().max()) < 1e-3


def test_lower_orders_at_the_end_concern_the_last_steps_only():
    states = []
    for lower in (False, True):
        seen = []
        run(
            "unipc_bh2", order=3, lower_order_final=lower, callback=lambda i, t, x, p, seen=seen: seen.append(x.clone())
        )
        states.append(seen)
    same = [torch.equal(a, b) for a, b in zip(*states, strict=True)]
    assert same == [True] * 6 + [False] * 2


def test_a_step_is_corrected_at_the_order_that_it_had():
    """Of order 2 the last step alone is of order 1: it starts where it would start with ``lower_order_final`` off."""
    starts = []
    for lower in (False, True):
        seen = []
        run("unipc_bh2", order=2, lower_order_final=lower, callback=lambda i, t, x, p, seen=seen: seen.append(p.x))
        starts.append(seen[-1])
    assert torch.equal(*starts)


def test_every_option_does_something():
    for name, options in [
        ("unipc_bh2", {"prediction": "noise"}), ("unipc_bh2", {"order": 3}), ("unipc_bh2", {"variant": "bh1"}),
        ("unipc_bh2", {"lower_order_final": True}),
        ("unic", {"predictor": "ddim"}), ("unic", {"predictor_options": {"solver_type": "heun"}}),
        ("unic", {"order": 1}), ("unic", {"prediction": "noise"}), ("unic", {"variant": "bh1"}),
    ]:  # fmt: skip
        assert float((run(name, **options) - run(name)).abs().max()) > 1e-6, (name, options)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("unipc_bh1", {"order": 0}, "order must be an integer from 1 to 6, got 0"),
        ("unipc_bh1", {"prediction": "x0"}, "prediction must be data or noise, got 'x0'"),
        ("unipc_bh1", {"variant": "bh3"}, "variant must be bh1 or bh2, got 'bh3'"),
        ("unic", {"predictor": "ddpm"}, "predictor must .* got ddpm"),
        ("unic", {"predictor": "ddim", "predictor_options": {"eta": 0.5}}, "predictor must .* got ddim"),
        ("unic", {"order": 7}, "order must"),
        ("unic", {"variant": "b"}, "variant must"),
        ("unic", {"prediction": "v"}, "prediction must"),
    ],
)
def test_wrong_options_are_named(name, options, says):
    with pytest.raises(ValueError, match=says):
        run(name, **options)


def test_an_unknown_predictor_is_named():
    with pytest.raises(LookupError, match="did you mean dpmpp_2"):
        run("unic", predictor="dpmpp_2n")
