"""Tasks of objectives: losses know the exact divergence, the truth lies in its floor, and planted bugs do not."""

import math
import typing

import pytest
import torch
from pydantic import ValidationError

import bench.tasks.objectives.quality as quality
import bench.tasks.objectives.scores as scores
from bench.data.toy import TOYS
from bench.plan.cells import expand
from bench.plan.suite import find, read
from bench.task import Context
from bench.tasks.objectives.declarations import (
    QualityParameters,
    Regression,
    ScoreMatchingParameters,
    Weighting,
    objective_quality,
    score_matching,
)
from implementations.catalogue.objectives import OBJECTIVES, TIMESTEPS
from implementations.diffusion.path import VP
from implementations.objectives import WEIGHTINGS
from implementations.objectives.score_matching import implicit, sliced

D, S, I = SCORES = ("denoising_score_matching", "sliced_score_matching", "implicit_score_matching")  # noqa: E741
NAMES = ("two_moons", "rings", "eight_gaussians")


def value(measure):
    return getattr(measure, "value", measure)


def compare(**parameters):
    small = {"draws": 4000, "groups": 8, "batch": 64, "max_seconds": 0.0}
    return score_matching.run(ScoreMatchingParameters(**{**small, **parameters}), Context(3))


# the truth of scores


@pytest.mark.parametrize("name", NAMES)
def test_a_noised_toy_has_the_density_that_noise_gives_it(name):
    """At a few points the mean of p(x - sigma z) over draws of z, five standard errors; and it sums to one."""
    toy, sigma, n = TOYS[name](), 0.3, 4000
    source = torch.Generator().manual_seed(0)
    x = toy.sample(5, source).double()
    z = torch.randn(n, 1, 2, generator=source, dtype=torch.float64)
    values = toy.log_density((x - sigma * z).reshape(-1, 2)).exp().reshape(n, 5)
    found = scores.noised(toy, sigma).log_density(x).exp()
    assert ((values.mean(0) - found).abs() < 5 * values.std(0) / math.sqrt(n)).all()
    if name != "two_moons":  # whose density is a sum over 384 nodes
        assert float(scores.integrate(name, sigma).mass.sum()) == pytest.approx(1, abs=1e-9)


def test_the_true_score_is_the_slope_of_the_density():
    toy, x, h = TOYS["rings"](noise=0.4), torch.tensor([[1.2, 0.3], [-2.4, 1.0]]).double(), 1e-5
    steps = h * torch.eye(2, dtype=torch.float64)
    slopes = torch.stack([(toy.log_density(x + e) - toy.log_density(x - e)) / (2 * h) for e in steps], 1)
    torch.testing.assert_close(scores.true_score(toy, x), slopes, rtol=1e-6, atol=1e-6)


# each loss beside it


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_loss_knows_the_divergence(name):
    """Four standard errors; quadrature's own error is far below them."""
    found = compare(toy=name, sigma=0.5)
    for own in found.values():
        assert abs(own["deviation"]) < 4
        assert own["quadrature_error"] < 1e-6
        assert own["divergence_exact"] > 0
        assert set(own) == set(score_matching.measures)


def half_the_divergence(score, x):
    return (implicit(score, x) + score(x).square().sum(1) / 2) / 2


def wrong_scale(score, x, noise, *, sigma):
    return (score(x + sigma * noise) + noise / sigma**2).square().sum(1) / 2


def long_directions(score, x, directions):
    return sliced(score, x, 1.5 * directions)


@pytest.mark.parametrize(
    ("loss", "bug", "name"),
    [("implicit", half_the_divergence, I), ("denoising", wrong_scale, D), ("sliced", long_directions, S)],
)
def test_a_wrong_loss_deviates(monkeypatch, loss, bug, name):
    monkeypatch.setattr(scores, loss, bug)
    found = compare(objectives=[name], sigma=0.5)[name]
    assert abs(found["deviation"]) > 8


def test_all_losses_have_the_gradient_of_the_divergence():
    """Along a few directions of the weights, within five standard errors of that of the loss with the true score."""
    parameters = ScoreMatchingParameters(sigma=0.5)
    toy, sigma = TOYS["eight_gaussians"](), 0.5
    network = scores.make_score(parameters, scores.integrate("eight_gaussians", sigma), 0)
    source = torch.Generator().manual_seed(1)
    batches = [
        (toy.sample(256, source).double(), *torch.randn(2, 256, 2, generator=source, dtype=torch.float64))
        for _ in range(40)
    ]
    size = sum(p.numel() for p in network.parameters())
    directions = torch.randn(size, 4, generator=source, dtype=torch.float64)

    def slopes(loss):
        steps = (scores._step(loss, network, batch) for batch in batches)
        return torch.stack([torch.cat([g.flatten() for g in step]) for step in steps]) @ directions

    exact = slopes(lambda *of: scores.explicit(toy, sigma, *of))
    for name in SCORES:
        apart = slopes(scores.make_loss(name, sigma)) - exact
        assert (apart.mean(0).abs() < 5 * apart.std(0) / math.sqrt(len(apart))).all()


def test_less_noise_in_the_data_is_more_in_the_gradient_of_denoising_alone():
    near, far = (compare(sigma=sigma)[D]["gradient_variance"] for sigma in (0.05, 1.0))
    assert near > 5 * far


def test_the_cost_of_a_step_by_hand():
    """Layers 2-64-64-2: a pass, its weights' gradients, and its inputs' but for the first layer's."""
    forward, first = 2 * 64 + 64 * 64 + 64 * 2, 2 * 64
    found = compare()
    assert found[D]["cost"] == pytest.approx((3 * forward - first) / forward)
    assert found[D]["cost"] < found[S]["cost"] < found[I]["cost"]
    assert value(found[D]["ratio"]) == 1


# what a training teaches


def teach(seed=0, **parameters):
    small = {"steps": 300, "samples": 500, "sampling": 16}
    return objective_quality.run(QualityParameters(**{**small, **parameters}), Context(seed))


def test_the_exact_denoiser_lies_in_the_floor(monkeypatch):
    """In three of four seeds at least, since the range holds 95 % of exact draws."""
    monkeypatch.setattr(quality, "train", lambda p, path, seed: quality.Trained(quality.exact_denoiser(path), [0.0]))
    inside = []
    for seed in range(4):
        found = teach(seed, objective="v")
        inside.append(value(found["sliced_w2"]) < found["sliced_w2_floor"].interval[1])
        assert all(value(found[name]) == 0 for name in quality.LEVELS)
    assert sum(inside) >= 3


@pytest.mark.parametrize(
    ("objective", "path"),
    [("eps", "vp"), ("x0", "vp"), ("edm", "edm"), ("flow_matching", "trigflow"), ("rectified_flow", "rectified_flow")],
)
def test_every_objective_teaches(objective, path):
    """300 steps take a fifth of the untrained network's error at least where noise hides most, of eps and x0 more."""
    before, after = (teach(objective=objective, path=path, steps=steps) for steps in (1, 300))
    share = 0.2 if objective in ("eps", "x0") else 0.8  # in the others an untrained network is already told of x
    assert value(after["x0_error_high"]) < share * value(before["x0_error_high"])
    assert value(after["sliced_w2"]) < value(before["sliced_w2"])
    assert set(after) == set(objective_quality.measures)


def test_a_loss_of_the_wrong_target_is_found(monkeypatch):
    """The planted bug: data of half their size."""
    right, loss = teach(objective="v"), quality.regression
    monkeypatch.setattr(quality, "regression", lambda d, x0, *given, **options: loss(d, x0 / 2, *given, **options))
    wrong = teach(objective="v")
    assert value(wrong["sliced_w2"]) > 1.5 * value(right["sliced_w2"])
    assert value(wrong["x0_error_high"]) > 3 * value(right["x0_error_high"])


def test_objectives_see_the_same_draws():
    """Where variance is preserved the plain error of v is the weighting snr + 1, step by step but for rounding."""
    plain, weighted = (
        quality.train(QualityParameters(objective="v", weighting=w, steps=20), VP(), 0).losses
        for w in ("", "snr_plus_one")
    )
    assert plain == pytest.approx(weighted, rel=1e-4)
    again = quality.train(QualityParameters(objective="v", steps=20), VP(), 0).losses
    assert plain == again
    other = quality.train(QualityParameters(objective="v", steps=20), VP(), 1).losses
    assert plain[0] != other[0]


# declarations and the suite


def test_the_suite_has_every_objective_weighting_and_density():
    cells = [cell.identity for cell in expand(read(find("objectives")))]
    of = {name: {str(c.parameters.get(name)) for c in cells} for name in ("objective", "weighting", "timesteps")}
    assert of["objective"] >= set(typing.get_args(Regression))
    assert of["weighting"] >= set(WEIGHTINGS)
    assert of["timesteps"] >= set(TIMESTEPS)
    assert {entry for c in cells if c.task == "score_matching" for entry in c.entries} == set(SCORES)
    assert set(typing.get_args(Weighting)) == {"", *WEIGHTINGS}
    assert set(typing.get_args(Regression)) == {name for name, entry in OBJECTIVES.items() if entry.of == "noised"}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"objective": "reflow"}, "eps"), ({"objective": "edm"}, "edm is accepted with the objective edm, got 'vp'"),
        ({"objective": "v", "timesteps": "cosmab"}, "did you mean cosmap"),
        ({"objective": "v", "weighting": "min"}, "min_snr"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_here_is_refused(parameters, says):
    with pytest.raises(ValidationError, match=says):
        QualityParameters(**parameters)
    with pytest.raises(ValidationError, match="no objective of scores named 'v'; there are denoising"):
        ScoreMatchingParameters(objectives=["v"])
