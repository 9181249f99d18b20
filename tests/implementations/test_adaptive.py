"""Adaptive solvers: error follows tolerance, samples are by themselves, the pairs' orders, formulas, and errors."""

import math

import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VP,
    CountingDenoiser,
    Denoiser,
    MixtureOracle,
    Prediction,
    RectifiedFlow,
    TrigFlow,
)
from implementations.samplers import SAMPLERS
from implementations.samplers.adaptive import DOPRI5
from tests.exact import draws, gaussian, normal

VARIANTS = [("dopri5", {"coordinate": c}) for c in ("sigma", "lambda", "angle", "t")]
VARIANTS += [("dpm_adaptive", {"order": k}) for k in (2, 3)]
variants = pytest.mark.parametrize(("name", "options"), VARIANTS)
names = pytest.mark.parametrize("name", ["dopri5", "dpm_adaptive"])


def span(path, steps=1, sigma_min=0.02, sigma_max=40.0):
    return SCHEDULES["log_snr"](path, steps, sigma_min=sigma_min, sigma_max=sigma_max, clean=False)


def solved(name, path, tolerance, steps=1, **options):
    """The error, and what it cost."""
    counting, times = CountingDenoiser(gaussian(path)), span(path, steps)
    x = normal(8, 6) * math.hypot(float(path.alpha(times[0])), float(path.sigma(times[0])))
    found = SAMPLERS[name](counting, x, times, rtol=tolerance, atol=tolerance, **options)
    return float((found - gaussian(path).flow(x, times[0], times[-1])).square().mean().sqrt()), counting.calls


@pytest.mark.unchecked
@variants
def test_the_error_follows_the_tolerance(name, options):
    """A thousandth of the tolerance has about a thousandth of the error, at the cost that the order foretells."""
    path, order = VP(), SAMPLERS[name].theory(options)
    loose, tight = (1e-3, 1e-6) if order > 2 else (1e-2, 1e-5)
    (wrong, few), (right, many) = solved(name, path, loose, **options), solved(name, path, tight, **options)
    assert right < 30 * tight  # local errors add up
    assert 50 < wrong / right < 20_000  # 10^3, but where single steps are far better than asked for
    assert many / few < 1.5 * 1000 ** (1 / order)


@pytest.mark.unchecked
@variants
def test_one_grid_of_levels_gives_the_same_samples_on_every_path(name, options):
    """Steps and errors are chosen in units that no path has a say in."""
    if options.get("coordinate") == "t":
        paths, tolerance = (EDM(),), 0.0
    else:
        paths, tolerance = (VP(), EDM(), RectifiedFlow(), TrigFlow()), 1e-12
    results, costs = [], []
    for path in paths:
        times, counting = span(path, 3), CountingDenoiser(gaussian(path))
        x = normal(4, 6) * math.hypot(float(path.alpha(times[0])), float(path.sigma(times[0])))
        results.append(SAMPLERS[name](counting, x, times, **options) / float(path.alpha(times[-1])))
        costs.append(counting.calls)
    assert len(set(costs)) == 1
    assert max(float((r - results[0]).abs().max() / results[0].abs().max()) for r in results) <= tolerance


@pytest.mark.unchecked
@variants
def test_a_samples_steps_are_its_own(name, options):
    """Beside neighbours that are harder by far, and on a mixture, where the steps of samples differ."""
    oracle = MixtureOracle(VP(), normal(4, 6, seed=2) * 3, torch.full((4,), 0.01).double(), [1.0] * 4)
    times, x = span(VP()), normal(6, 6)
    hard = torch.cat([x, 30 * normal(3, 6, seed=1)])
    together = SAMPLERS[name](oracle, hard, times, **options)
    for i in range(6):
        alone = SAMPLERS[name](oracle, x[i : i + 1], times, **options)
        # rounding moves a step's length, and the error of a step far less
        torch.testing.assert_close(alone[0], together[i], rtol=1e-9, atol=1e-11)


class Asked(CountingDenoiser):
    """Notes the times."""

    def __init__(self, denoiser):
        super().__init__(denoiser)
        self.times = []

    def __call__(self, x, t, condition=None):
        self.times.append(torch.as_tensor(t).expand(len(x)).clone())
        return super().__call__(x, t, condition)


@names
def test_samples_go_at_their_own_pace_and_within_the_grid(name):
    oracle = MixtureOracle(VP(), normal(4, 6, seed=2) * 3, torch.full((4,), 0.01).double(), [1.0] * 4)
    asked, times = Asked(oracle), span(VP())
    SAMPLERS[name](asked, normal(6, 6), times)
    seen = torch.stack(asked.times)
    assert bool((seen >= times[-1] - 1e-12).all())
    assert bool((seen <= times[0] + 1e-12).all())
    assert float((seen - seen[:, :1]).abs().max()) > 1e-3


@names
def test_every_time_of_the_grid_is_visited(name):
    for times in (span(EDM(), 4), span(EDM(), 4).flip(0)):
        seen = []
        SAMPLERS[name](
            gaussian(EDM()), normal(2, 6), times, callback=lambda i, t, x, p, seen=seen: seen.append(float(t))
        )
        assert seen == times[1:].tolist()


@pytest.mark.unchecked
@names
def test_there_and_back(name):
    path, times = VP(), span(VP())
    x = gaussian(path).flow(normal(4, 6), times[0], times[-1])
    up = SAMPLERS[name](gaussian(path), x, times.flip(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        SAMPLERS[name](gaussian(path), up, times, rtol=1e-6, atol=1e-6), x, rtol=1e-4, atol=1e-4
    )  # a hundred times the tolerance: the way up shrinks what the way down spreads


def test_dormand_and_princes_table():
    """Order conditions of quadrature to 5 for the weights and to 4 for the embedded ones; rows sum to their nodes."""
    nodes, weights = [0.0, *DOPRI5.nodes], DOPRI5.weights
    assert [sum(row) for row in DOPRI5.stages] == pytest.approx(list(DOPRI5.nodes), abs=1e-14)
    for k in range(5):
        moment = sum(w * c**k for w, c in zip(weights, nodes, strict=True))
        assert moment == pytest.approx(1 / (k + 1), abs=1e-14)
    ends = [*nodes, 1.0]  # the seventh is at the end
    moments = [sum(e * c**k for e, c in zip(DOPRI5.error, ends, strict=True)) for k in range(5)]
    assert moments[:4] == pytest.approx([0.0] * 4, abs=1e-15)
    assert abs(moments[4]) > 1e-4


@pytest.mark.unchecked
@pytest.mark.parametrize("order", [2, 3])
def test_dpm_solver_written_out(order):
    """One step that the tolerance lets pass, from lambda to lambda + 0.05 (2206.00927, alg. 1 and 2)."""
    for path in (VP(), RectifiedFlow()):
        levels = [0.3, 0.35]
        times = torch.stack([path.time(level) for level in levels])
        oracle, x, h = gaussian(path), normal(3, 6), 0.05

        def place(share, path=path):
            t = path.time(0.3 + share * 0.05)
            return t, float(path.alpha(t)), float(path.sigma(t))

        t0, a0, _ = place(0)
        eps = oracle(x, t0).eps
        _, a, s = place(1)
        if order == 2:
            t1, a1, s1 = place(1 / 2)
            second = oracle(a1 / a0 * x - s1 * math.expm1(h / 2) * eps, t1).eps
            expected = a / a0 * x - s * math.expm1(h) * second
        else:
            (t1, a1, s1), (t2, a2, s2) = place(1 / 3), place(2 / 3)
            first = oracle(a1 / a0 * x - s1 * math.expm1(h / 3) * eps, t1).eps - eps
            ramp = math.expm1(2 * h / 3) / (2 * h / 3) - 1
            inside = a2 / a0 * x - s2 * math.expm1(2 * h / 3) * eps - 2 * s2 * ramp * first
            second = oracle(inside, t2).eps - eps
            expected = a / a0 * x - s * math.expm1(h) * eps - 1.5 * s * (math.expm1(h) / h - 1) * second
        found = SAMPLERS["dpm_adaptive"](oracle, x, times, order=order, rtol=1.0, atol=1.0)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.unchecked
@names
def test_every_option_does_something(name):
    def result(**options):
        counting = CountingDenoiser(gaussian(VP()))
        return SAMPLERS[name](counting, normal(3, 6), span(VP()), **options), counting.calls

    base = {"rtol": 1e-3, "atol": 1e-3}
    others = [{"rtol": 1e-2}, {"atol": 1e-5, "rtol": 0.0}]
    others += [{"coordinate": "t"}] if name == "dopri5" else [{"order": 2}]
    for changed in others:
        (found, calls), (usual, few) = result(**base | changed), result(**base)
        assert calls != few, changed
        assert not torch.equal(found, usual)


class Kinked(Denoiser):
    """Switches between two answers all the time."""

    def __init__(self):
        self.path = VP()

    def __call__(self, x, t, condition=None):
        t = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        return Prediction(self.path, x, t, eps=(1e9 * t).sin().sign()[:, None] * torch.ones_like(x))


@pytest.mark.unchecked
@names
def test_what_cannot_be_solved_is_named(name):
    times, tight = span(VP()), {"rtol": 1e-6, "atol": 1e-6}
    with pytest.raises(RuntimeError, match=f"{name} took more than 50 evaluations: rtol 1e-06 and atol 1e-06"):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), times, max_evaluations=50, **tight)
    with pytest.raises((RuntimeError, FloatingPointError), match=f"{name}.*not smooth"):
        SAMPLERS[name](Kinked(), normal(2, 6), times, max_evaluations=1000, **tight)


@pytest.mark.unchecked
@names
def test_steps_that_cannot_be_told_from_none_are_named(name):
    """A tolerance below the rounding of the state: no step is short enough."""

    class Rounded(Denoiser):
        def __init__(self):
            self.path, self.calls = VP(), 0

        def __call__(self, x, t, condition=None):
            self.calls += 1
            t = torch.as_tensor(t, dtype=torch.float64)
            return Prediction(self.path, x, t, eps=torch.full_like(x, 1e12 * (-1.0) ** self.calls))

    with pytest.raises(FloatingPointError, match=f"{name}: a step at t = 0.* is too short"):
        SAMPLERS[name](Rounded(), normal(2, 6), span(VP()), rtol=1e-6, atol=1e-6)


@pytest.mark.unchecked
@names
def test_wrong_options_are_named(name):
    for options, says in [
        ({"rtol": -1e-3}, "rtol must be at least 0 and finite, got -0.001"),
        ({"atol": math.nan}, "atol must be at least 0 and finite, got nan"),
        ({"rtol": 0.0, "atol": 0.0}, "rtol or atol must be positive"),
        ({"max_evaluations": 0}, "max_evaluations must be an integer of at least 1, got 0"),
        ({"coordinate": "rho"}, "coordinate must")
        if name == "dopri5"
        else ({"order": 4}, "order must be 2 or 3, got 4"),
    ]:
        with pytest.raises(ValueError, match=says):
            SAMPLERS[name](gaussian(VP()), normal(2, 6), span(VP()), **options)


@pytest.mark.unchecked
def test_no_sliver_remains():
    """Between two times the solver takes two steps where two are due, and not a third of 1e-16."""
    counting, times = CountingDenoiser(gaussian(VP())), torch.tensor([0.5, 0.1], dtype=torch.float64)
    SAMPLERS["dopri5"](counting, normal(2, 6), times, rtol=1.0, atol=1.0)
    assert (counting.calls - 1) % 6 == 0
    assert counting.calls <= 1 + 6 * 4


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_dpm_adaptive_with_noise_has_the_law_of_the_path(eta):
    """Mean and variance within four standard errors of 4,000 samples, where steps are short."""
    path, n = VP(), 4000
    oracle = gaussian(path)
    times = SCHEDULES["karras"](path, 2, sigma_min=0.05, sigma_max=5.0, clean=False)
    alpha, sigma = (f(times).tolist() for f in (path.alpha, path.sigma))
    x = alpha[0] * (oracle.mean + oracle.variance.sqrt() * normal(n, 6)) + sigma[0] * normal(n, 6, seed=5)
    options = {"rtol": 0.005, "atol": 0.001, "noise": draws}
    found = SAMPLERS["dpm_adaptive"](oracle, x, times, eta=eta, **options)
    variance = alpha[-1] ** 2 * oracle.variance + sigma[-1] ** 2
    assert float((found.var(0) / variance - 1).abs().max()) < 4 * math.sqrt(2 / n)
    assert float(((found.mean(0) - alpha[-1] * oracle.mean) / variance.sqrt()).abs().max()) < 4 / math.sqrt(n)
    assert not torch.allclose(found, SAMPLERS["dpm_adaptive"](oracle, x, times, **options), atol=0.1)
    less = SAMPLERS["dpm_adaptive"](oracle, x, times, eta=eta, s_noise=0.5, **options)
    assert bool((less.var(0) < found.var(0)).all())


@pytest.mark.unchecked
def test_noise_of_dpm_adaptive_is_checked():
    times = SCHEDULES["karras"](VP(), 2, clean=False)
    for options in ({"eta": 1.5}, {"eta": -0.1}, {"s_noise": math.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
            SAMPLERS["dpm_adaptive"](gaussian(VP()), normal(2, 6), times, **options)
