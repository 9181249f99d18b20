"""DPM-Solver-v3: degenerate cases, statistics in closed form, the integrals by an ODE, what the statistics gain."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, CountingDenoiser, GaussianOracle, MixtureOracle
from implementations.diffusion.artifact import Artifact
from implementations.samplers import SAMPLERS
from implementations.samplers.model_statistics import Constant, Table, prepare
from tests.exact import normal

MEAN, VARIANCE = torch.linspace(-1, 1, 6).double(), torch.linspace(0.05, 2, 6).double()


def constant(value, *shape):
    return torch.full(shape, value, dtype=torch.float64)


def gaussian(path):
    return GaussianOracle(path, MEAN, VARIANCE)


def mixture(path):
    return MixtureOracle(path, 0.7 * normal(4, 6, seed=5), constant(0.3, 4), torch.ones(4).double())


def grid(path, steps, schedule="karras"):
    return SCHEDULES[schedule](path, steps, sigma_min=0.05, sigma_max=20.0, clean=False)


@pytest.fixture(scope="module")
def learnt():
    path = VP()
    return {
        oracle: prepare(oracle(path), normal(256, 6, seed=1), grid(path, 80, "log_snr"))
        for oracle in (gaussian, mixture)
    }


def run(oracle=gaussian, steps=8, **options):
    path = VP()
    return SAMPLERS["dpm_solver_v3"](oracle(path), normal(16, 6), grid(path, steps), **options)


# without statistics


@pytest.mark.parametrize("order", [1, 2, 3])
def test_without_statistics_it_is_the_exponential_multistep_solver(order):
    path, x = VP(), normal(16, 6)
    found = run(order=order)
    expected = SAMPLERS["res_multistep"](gaussian(path), x, grid(path, 8), order=order)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    found = run(order=order, prediction="noise")
    options = {"order": order, "solver_type": "heun"}
    expected = SAMPLERS["dpm_solver_multistep"](gaussian(path), x, grid(path, 8), **options)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_with_equal_weights_its_corrector_is_unipcs():
    """Divided differences of two values are the line through them: UniC-1, but for its B(h)."""
    found = run(order=1, corrector="pseudo", steps=40)
    expected = SAMPLERS["unipc_bh2"](gaussian(VP()), normal(16, 6), grid(VP(), 40), order=1)
    # at two predictions UniC takes half the kernel's mean: a difference of h^3 a step
    assert 1e-6 < float((found - expected).abs().max()) < 5e-3


# the statistics


def test_statistics_of_a_gaussian_are_known(learnt):
    """With y = x/alpha and r = sigma/alpha, eps is r (y - m) / (C + r^2): l = r^2 / (C + r^2), f = -l m."""
    tensors = learnt[gaussian].tensors
    r2 = (-2 * tensors["log_snr"]).exp()[:, None]
    l_ = r2 / (VARIANCE + r2)
    torch.testing.assert_close(tensors["l"], l_, rtol=1e-10, atol=1e-12)
    assert float(tensors["s"].abs().max()) == 0  # f is the same for all samples: nothing to regress on
    # f' is a difference over steps of 0.075: h^2 / 6 of the third derivative, twice that at the ends
    torch.testing.assert_close(tensors["b"], 2 * l_ * (1 - l_) * MEAN, rtol=0, atol=2e-3)


def test_l_of_an_exact_denoiser_is_the_mean_square_of_its_noise():
    """E of the score's Jacobian is minus that of its square, for the true law at every time."""
    path, n, start = VP(), 4000, 0.4
    oracle = mixture(path)
    x = path.alpha(start) * oracle.sample(n, torch.Generator().manual_seed(2)) + path.sigma(start) * normal(n, 6)
    artifact = prepare(oracle, x, torch.tensor([start, 0.399, 0.398], dtype=torch.float64))
    eps = oracle(x, start).eps
    assert float((artifact.tensors["l"][0] - eps.square().mean(0)).abs().max()) < 5 * math.sqrt(2 / n)


def test_an_artifact_has_a_hash_and_a_stated_cost():
    path = VP()
    for schedule, clean, visited in (("karras", False, 13), ("karras", True, 12)):
        times = SCHEDULES[schedule](path, 12, clean=clean)
        counting = CountingDenoiser(mixture(path))
        artifact = prepare(counting, normal(8, 6), times, probes=2)
        assert artifact.evaluations == counting.calls == 5 * visited  # one of the flow and two a probe
        assert artifact.hash == prepare(mixture(path), normal(8, 6), times, probes=2).hash
        assert artifact.hash != prepare(mixture(path), normal(8, 6), times).hash
        assert len(artifact.tensors["log_snr"]) == visited


def test_statistics_hold_on_any_path(learnt):
    path = EDM()
    found = SAMPLERS["dpm_solver_v3"](
        mixture(path),
        normal(16, 6) * math.hypot(1, 20.0),
        grid(path, 8),
        artifact=learnt[mixture],
    )
    expected = run(mixture, artifact=learnt[mixture]) / float(VP().alpha(grid(VP(), 8)[-1]))
    # the starts agree to 1e-16, x/alpha of both; the table is read at log-SNRs that agree to 1e-13
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("rate", "slope"), [(1.0, 0.0), (0.0, -1.0), (0.4, 0.7)])
@pytest.mark.parametrize("h", [2.0, -1.5, 0.03])
def test_integrals_of_a_table_are_those_of_constants(rate, slope, h):
    levels = torch.linspace(-3, 3, 41, dtype=torch.float64)
    full = {name: constant(value, 41, 2) for name, value in (("l", rate), ("s", slope), ("b", 0.0))}
    table = Table(Artifact("dpm_solver_v3", {"log_snr": levels, **full}, 0), normal(3, 2))
    found, expected = table.integrate(-0.51, -0.51 + h, 4), Constant(rate, slope).integrate(-0.51, -0.51 + h, 4)
    for name in ("decay", "growth"):
        torch.testing.assert_close(getattr(found, name), constant(getattr(expected, name), 2))
    for a, b in zip(found.moments, expected.moments, strict=True):
        torch.testing.assert_close(
            a, constant(b, 2), rtol=2e-8, atol=0
        )  # Gauss: (120 / 2e6) .03^3 of u^3 e^u in one cell
    assert not found.source.any()
    assert not found.shift.any()


def test_a_step_is_exact_where_f_obeys_its_equation():
    """f' = s f + b with l, s and b of lambda, by Runge-Kutta on (y, f): one step from f at its start is the flow."""
    levels = torch.linspace(-2, 2, 161, dtype=torch.float64)[:, None]
    functions = [lambda v: 0.5 + 0.3 * math.sin(v), lambda v: -0.4 + 0.2 * v, lambda v: math.cos(v)]
    columns = [torch.tensor([[fn(float(v))] for v in levels]).double() for fn in functions]
    tensors = dict(zip(("l", "s", "b"), columns, strict=True))
    table = Table(Artifact("dpm_solver_v3", {"log_snr": levels[:, 0], **tensors}, 0), normal(1, 1))

    def rhs(v, y, f):
        l_, s, b = (fn(v) for fn in functions)
        return -l_ * y - f, s * f + b

    y, f, v, n = 0.7, -0.3, -1.0, 400
    h = 1.9 / n
    for _ in range(n):
        k1 = rhs(v, y, f)
        k2 = rhs(v + h / 2, y + h / 2 * k1[0], f + h / 2 * k1[1])
        k3 = rhs(v + h / 2, y + h / 2 * k2[0], f + h / 2 * k2[1])
        k4 = rhs(v + h, y + h * k3[0], f + h * k3[1])
        y, f = (
            value + h / 6 * (a + 2 * b + 2 * c + d) for value, a, b, c, d in zip((y, f), k1, k2, k3, k4, strict=True)
        )
        v += h
    over = table.integrate(-1.0, 0.9, 1)
    found = over.decay * 0.7 - over.moments[0] * -0.3 - over.source
    # the table is a cubic between points .025 apart, Runge-Kutta's steps are .005: 1e-9 of either
    assert float(found) == pytest.approx(y, abs=1e-8)


# what they gain


def test_statistics_reduce_the_error_at_few_steps(learnt):
    path = VP()
    times = grid(path, 100)  # of Runge-Kutta's fourth order: 1e-6
    for oracle, gain in ((gaussian, 50), (mixture, 2)):
        expected = SAMPLERS["rk4"](oracle(path), normal(16, 6), times, coordinate="lambda")
        for steps in (5, 8):
            for order, corrector in ((1, "none"), (2, "none"), (3, "none"), (3, "same")):
                errors = [
                    float((run(oracle, steps, artifact=artifact, order=order, corrector=corrector) - expected).norm())
                    for artifact in (None, learnt[oracle])
                ]
                assert errors[1] < errors[0] / gain, (oracle.__name__, steps, order, corrector, errors)


@pytest.mark.unchecked
def test_orders_with_statistics_and_with_correctors(learnt):
    path, x = VP(), normal(16, 6)
    expected = SAMPLERS["rk4"](mixture(path), x, grid(path, 300), coordinate="lambda")
    for least, options in [
        (1, {"order": 1}), (2, {"order": 2}), (3, {"order": 3}),
        (2, {"order": 2, "corrector": "same"}), (3, {"order": 3, "corrector": "same"}),
        (2, {"order": 3, "corrector": "pseudo"}), (2, {"order": 3, "pseudo": True}),
    ]:  # fmt: skip
        errors = [
            float((run(mixture, steps, artifact=learnt[mixture], **options) - expected).norm()) for steps in (40, 80)
        ]
        slope = math.log2(errors[0] / errors[1])
        assert slope > least - 0.2, (options, errors)  # with no more than 80 steps the best are still steeper
        if "pseudo" in (options.get("corrector"), *options):
            assert slope < 2.3, (options, errors)


# options


def test_every_option_does_something(learnt):
    artifact = learnt[mixture]
    reference = run(mixture, artifact=artifact)
    for options in [
        {"artifact": None}, {"artifact": None, "prediction": "noise"}, {"order": 2}, {"pseudo": True},
        {"corrector": "same"}, {"corrector": "pseudo"}, {"lower_order_final": True},
    ]:  # fmt: skip
        assert float((run(mixture, **{"artifact": artifact, **options}) - reference).abs().max()) > 1e-6, options
    corrected = run(mixture, artifact=artifact, corrector="same")
    partly = run(mixture, artifact=artifact, corrector="same", corrected_above=1.0)
    never = run(mixture, artifact=artifact, corrector="same", corrected_above=100.0)
    assert float((partly - corrected).abs().max()) > 1e-6
    assert float((partly - reference).abs().max()) > 1e-6
    assert torch.equal(never, reference)
    bare, noisy = run(mixture), run(mixture, prediction="noise")
    assert float((bare - noisy).abs().max()) > 1e-6


@pytest.mark.unchecked
def test_wrong_options_are_named(learnt):
    for options, says in [
        ({"order": 4}, "order must be an integer from 1 to 3, got 4"),
        ({"corrector": "half"}, "corrector must be none, same or pseudo, got 'half'"),
        ({"corrected_above": -1.0}, "corrected_above must .* got -1"),
        ({"prediction": "v"}, "prediction must be data or noise"),
        ({"artifact": Artifact("gits", {}, 0)}, "artifact must be what dpm_solver_v3 prepared, got one of gits"),
    ]:
        with pytest.raises(ValueError, match=says):
            run(**options)
    with pytest.raises(ValueError, match=r"shape \(6,\) for \(4,\)"):
        Table(learnt[gaussian], normal(2, 4))
    with pytest.raises(ValueError, match="times must lie within the artifact's log-SNRs"):
        SAMPLERS["dpm_solver_v3"](gaussian(VP()), normal(2, 6), SCHEDULES["karras"](VP(), 8), artifact=learnt[gaussian])
    with pytest.raises(ValueError, match="at least 3 points"):
        prepare(gaussian(VP()), normal(2, 6), grid(VP(), 1))
    with pytest.raises(ValueError, match="probes must be an integer of at least 1, got 0"):
        prepare(gaussian(VP()), normal(2, 6), grid(VP(), 8), probes=0)


def test_float32_statistics_and_samples():
    path = VP()
    artifact = prepare(mixture(path), normal(64, 6, seed=1).float(), grid(path, 80, "log_snr"))
    exact = prepare(mixture(path), normal(64, 6, seed=1), grid(path, 80, "log_snr"))
    # differences of float32 over .05 sigma: 1e-7 / .1 a sample
    torch.testing.assert_close(artifact.tensors["l"], exact.tensors["l"], rtol=0, atol=1e-4)
    found = SAMPLERS["dpm_solver_v3"](mixture(path), normal(16, 6).float(), grid(path, 8), artifact=artifact)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), run(mixture, artifact=exact), rtol=0, atol=1e-2)
