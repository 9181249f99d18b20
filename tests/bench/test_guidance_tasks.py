"""guidance_truth: its truth is the truth, exact schemes lie in the floor, and planted bugs do not."""

import math

import pytest
import torch
from pydantic import ValidationError

from bench.plan.cells import expand
from bench.plan.suite import find, read
from bench.task import Context
from bench.tasks.draws import generator
from bench.tasks.guidance import schemes
from bench.tasks.guidance import truth as module
from bench.tasks.guidance.declarations import TruthParameters, guidance_truth
from bench.tasks.guidance.tilted import draw_tilted, noised_score, posterior, three_classes
from implementations.catalogue import GUIDANCE
from implementations.diffusion import VP, MixtureOracle
from implementations.guidance.classifier_free import ClassifierFree
from implementations.guidance.contract import CONDITIONAL, UNCONDITIONAL, add_difference
from metrics import energy_distance

SMALL = {"samples": 200, "points": 20, "steps": 16}


def run(seed=0, **parameters):
    return guidance_truth.run(TruthParameters(**{**SMALL, **parameters}), Context(seed))


def value(measure):
    return getattr(measure, "value", measure)


# the truth


def two_equal_gaussians(path):
    """Two classes of equal isotropic variance: p(c | x) is a logistic function, and tilting is known for w = 1 and 0."""
    means = torch.tensor([[0.6, 0.0], [-0.6, 0.0]], dtype=torch.float64)
    return MixtureOracle(path, means, torch.tensor([0.2, 0.2]).double(), [0.5, 0.5], labels=torch.tensor([0, 1]))


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0])
def test_rejection_draws_the_density_that_a_grid_integrates(w):
    """Mean and purity of 20,000 draws against sums over a fine grid of p(x) p(c|x)^w; five standard errors."""
    oracle, n = three_classes(VP()), 20_000
    side = torch.linspace(-4, 4, 321, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    share = posterior(oracle, x, 0.0, 1)
    mass = (oracle.log_density(x, 0.0) + w * share.log()).softmax(0)
    draws = draw_tilted(oracle, w, 1, n, generator(0, "truth"))
    for values, exact in (
        (draws, mass @ x),
        (draws.square(), mass @ x.square()),
        (posterior(oracle, draws, 0.0, 1), mass @ share),
    ):
        room = 5 * values.std(0) / n**0.5
        assert bool(((values.mean(0) - exact).abs() < room).all())


@pytest.mark.parametrize("level", [0.3, 1.0, 3.0])
def test_the_noised_score_is_the_oracle_s_where_the_tilt_is_none(level):
    """At w = 1 the tilted density is the class's, and at w = 0 that of all, whose noised scores are in closed form."""
    path = VP()
    t = path.time(-math.log(level))
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
    oracle = three_classes(path)
    x = (
        alpha * oracle.sample(30, generator(0, "data"))
        + sigma * torch.randn(30, 2, generator=generator(0, "noise")).double()
    )
    for w, condition in ((1.0, 2), (0.0, None)):
        found = noised_score(oracle, w, 2, x, alpha, sigma)
        assert (found.score - oracle.score(x, t, condition)).abs().max() < 1e-9
        assert found.error < 1e-6


def test_the_noised_score_of_a_tilt_by_differences_of_its_density():
    """grad log of the integral itself, on a grid of another spacing."""
    oracle, w, alpha, sigma = two_equal_gaussians(VP()), 2.5, 0.8, 0.6
    side = torch.linspace(-5, 5, 401, dtype=torch.float64)
    x0 = torch.cartesian_prod(side, side)
    log_q = oracle.log_density(x0, 0.0) + w * posterior(oracle, x0, 0.0, 0).log()

    def log_density(x):
        return (log_q - (x[:, None] - alpha * x0).square().sum(-1) / (2 * sigma**2)).logsumexp(1)

    x, h = torch.tensor([[0.3, 0.4], [-1.0, 0.2]]).double(), 1e-4
    steps = torch.eye(2, dtype=torch.float64) * h
    slopes = torch.stack([(log_density(x + step) - log_density(x - step)) / (2 * h) for step in steps], 1)
    assert (noised_score(oracle, w, 0, x, alpha, sigma).score - slopes).abs().max() < 1e-6


def test_too_wide_a_spacing_shows_in_the_error_of_the_quadrature():
    oracle, x = three_classes(VP()), torch.zeros(1, 2, dtype=torch.float64) + 0.013
    assert noised_score(oracle, 2.0, 0, x, 1.0, 0.02).error > 1e-3


# what is measured


def test_at_scale_1_conditional_samples_lie_in_the_floor_and_the_score_is_exact():
    inside = []
    for seed in range(3):
        found = run(seed, guidance="classifier_free", scale=1.0, steps=24)
        assert value(found["score_error"]) < 1e-9
        low, high = found["sliced_w2_floor"].interval
        inside.append(low <= value(found["sliced_w2"]) <= high)
        assert found["evaluations"] == 47  # 24 steps of Heun, the last of one stage
    assert sum(inside) >= 2  # of 3 at 95 %


def test_guidance_samples_another_density_than_its_name_says():
    found = run(guidance="classifier_free", scale=4.0)
    assert value(found["sliced_w2"]) > 2 * found["sliced_w2_floor"].interval[1]
    assert value(found["score_error"]) > 0.3
    assert found["purity"] > found["purity_truth"]
    assert found["diversity"] < found["diversity_truth"]
    assert found["evaluations"] == 2 * 31
    exact = run(guidance="classifier", scale=4.0)  # the oracle's own classifier: the same score, at half the cost
    assert value(exact["sliced_w2"]) == pytest.approx(value(found["sliced_w2"]), rel=1e-6)
    assert exact["evaluations"] == 31


class Stronger(ClassifierFree):
    """A planted bug: the other convention, in which 0 is off."""

    def own_evaluations(self, level):
        return (CONDITIONAL, UNCONDITIONAL)

    def act(self, total, at):
        return add_difference(total, self.scale, at[CONDITIONAL], at[UNCONDITIONAL])


class Swapped(Stronger):
    """A planted bug: the two predictions the wrong way round."""

    def act(self, total, at):
        return add_difference(total, self.scale, at[UNCONDITIONAL], at[CONDITIONAL])


@pytest.mark.parametrize("bug", [Stronger, Swapped])
def test_a_planted_bug_leaves_the_floor(monkeypatch, bug):
    """At w = 1, where the right scheme lies in the floor."""
    found = run_with(monkeypatch, bug, 1.0)
    assert value(found["sliced_w2"]) > found["sliced_w2_floor"].interval[1]
    assert value(found["score_error"]) > 0.1


def run_with(monkeypatch, scheme, scale):
    class Entry:
        name, needs, wraps = "planted", (), "denoiser"

        def __call__(self, denoiser, **options):
            return scheme(denoiser, **options)

    for place in (module, schemes):
        monkeypatch.setattr(place, "GUIDANCE", {"classifier_free": Entry()})
    return run(guidance="classifier_free", scale=scale, samples=1000)


def test_truth_without_the_tilt_is_found(monkeypatch):
    """A planted bug in the draws: those of the class, whatever w is; purity and the score part company."""
    right = run(guidance="classifier_free", scale=4.0)
    module._truth.cache_clear()
    monkeypatch.setattr(module, "draw_tilted", lambda oracle, w, c, n, source: oracle.sample(n, source, c))
    wrong = run(guidance="classifier_free", scale=4.0)
    module._truth.cache_clear()
    module._noised.cache_clear()
    assert wrong["purity_truth"] < right["purity_truth"] - 0.02
    assert value(wrong["sliced_w2"]) == pytest.approx(value(wrong["class_w2"]), rel=0.3)


def test_a_repeated_call_gives_the_same_bits():
    first, second = (run(0, guidance="apg", scale=1.0, options={"momentum": -0.5}) for _ in range(2))
    assert {k: value(v) for k, v in first.items()} == {k: value(v) for k, v in second.items()}


@pytest.mark.parametrize("name", [name for name, entry in GUIDANCE.items() if set(entry.needs) <= set(module.GIVEN)])
def test_every_scheme_that_needs_no_image_runs(name):
    options = {"interval": {"low": 0.3, "high": 2.0}, "dynamic_threshold": {"limit": 2.0}}.get(name, {})
    found = run(guidance=name, scale=1.0, options=options, steps=6)
    assert all(math.isfinite(value(one)) for one in found.values())
    assert set(found) == set(guidance_truth.measures)


def test_what_cannot_be_measured_here_says_why():
    with pytest.raises(ValueError, match="perturbed_attention needs attention, which points of the plane do not have"):
        run(guidance="perturbed_attention")
    with pytest.raises(ValidationError, match=r"did you mean classifier_free"):
        TruthParameters(guidance="classifier_fre")
    with pytest.raises(ValidationError, match=r"levels: sigma/alpha above 0 are accepted, got \[0.0\]"):
        TruthParameters(guidance="apg", levels=[0.0])


def test_the_suite_measures_every_scheme_or_says_why_not():
    suite = read(find("guidance"))
    cells = [cell for cell in expand(suite) if cell.identity.task == "guidance_truth"]
    measured = {cell.identity.entry for cell in cells if not cell.skip}
    skipped = {cell.identity.entry for cell in cells if cell.skip}
    assert measured | skipped == set(GUIDANCE)
    assert {name for name in GUIDANCE if name not in measured} == {
        name for name, entry in GUIDANCE.items() if not set(entry.needs) <= set(module.GIVEN)
    }
    note = next(table.note for table in suite.table if table.name == "truth")
    assert all(name in note for name in GUIDANCE if name not in measured)


def test_every_scheme_is_measured_on_the_network_at_four_scales():
    """None does without what it needs: a cell that is skipped lacks a checkpoint on this machine alone."""
    cells = [cell for cell in expand(read(find("guidance"))) if cell.identity.task == "guidance_quality"]
    assert all(cell.skip is None or cell.skip.startswith("no checkpoint fmnist-") for cell in cells)
    plain = [cell.identity.parameters for cell in cells if cell.identity.parameters["counted"] == "calls"]
    scales = {name: {own["scale"] for own in plain if own["guidance"] == name} for name in GUIDANCE}
    assert {len(found) for name, found in scales.items() if name != "classifier_free"} == {4}
    assert len(scales["classifier_free"]) == 5  # with the conditional network alone
    assert {own["samples"] for own in plain} == {1000}


def test_two_sets_of_draws_are_of_one_density():
    """Below and above w = 1 proposals differ; at 1 both are the class."""
    oracle = three_classes(VP())
    below, above = (draw_tilted(oracle, w, 0, 2000, generator(k, "truth")) for k, w in enumerate((1 - 1e-9, 1.0)))
    assert energy_distance(below, above).value < 0.01
