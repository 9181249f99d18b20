"""The Vendi score counts what there is to count, in every order, and is what the definition says."""

from __future__ import annotations

import math

import pytest
import torch

from metrics import FeatureMetric, bootstrap, vendi_score, vendi_score_from_similarity, vendi_scores
from tests.exact import normal

ORDERS = [0.0, 0.5, 1.0, 2.0, math.inf]


def naive(similarity: list[list[float]], order: float) -> float:
    eigenvalues = torch.linalg.eigvalsh(torch.tensor(similarity, dtype=torch.float64) / len(similarity)).tolist()
    kept = [value for value in eigenvalues if value > 1e-13]
    if order == 1:
        return math.exp(-sum(value * math.log(value) for value in kept))
    return 1 / max(kept) if math.isinf(order) else sum(value**order for value in kept) ** (1 / (1 - order))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("n", "d"), [(5, 9), (30, 4), (12, 12)])
def test_double_loop(order: float, n: int, d: int):
    """On either side of n = d: the smaller of the two matrices gives the same eigenvalues."""
    x = normal(n, d).tolist()
    cosine = [[sum(a * b for a, b in zip(u, v, strict=True)) / math.hypot(*u) / math.hypot(*v) for v in x] for u in x]
    assert vendi_score(normal(n, d), order=order) == pytest.approx(naive(cosine, order), rel=1e-10)
    similarity = torch.tensor(cosine, dtype=torch.float64)
    assert vendi_score_from_similarity(similarity, order=order) == pytest.approx(naive(cosine, order), rel=1e-10)
    gaussian = [[math.exp(-(math.dist(u, v) ** 2) / (2 * 1.7**2)) for v in x] for u in x]
    found = vendi_score(normal(n, d), order=order, kernel="rbf", bandwidth=1.7)
    assert found == pytest.approx(naive(gaussian, order), rel=1e-10)


@pytest.mark.parametrize("order", ORDERS)
def test_counts_clusters_far_apart(order: float):
    """Equal ones: their number, in every order; by the cosine orthogonal directions, by rbf points at a distance."""
    directions = torch.eye(5, 8).double().repeat(20, 1) * torch.linspace(0.1, 90, 100).double()[:, None]
    assert vendi_score(directions, order=order) == pytest.approx(5, rel=1e-12)
    points = 100.0 * torch.arange(4).double()[:, None].expand(-1, 3).repeat(10, 1)
    assert vendi_score(points, order=order, kernel="rbf", bandwidth=1.0) == pytest.approx(4, rel=1e-12)


def test_bounds_and_orders():
    assert vendi_score(normal(1, 6).expand(30, -1)) == pytest.approx(1, rel=1e-12)
    assert vendi_score(torch.eye(30)) == pytest.approx(30, rel=1e-12)
    by_order = [vendi_score(normal(40, 6), order=q) for q in ORDERS]
    assert by_order == sorted(by_order, reverse=True)
    assert by_order[0] == pytest.approx(6)  # the rank
    assert vendi_score(normal(40, 6), order=1 + 1e-9) == pytest.approx(vendi_score(normal(40, 6)), rel=1e-8)
    near = vendi_score(normal(40, 6), order=1 + 1e-6)  # and not equal
    assert near == pytest.approx(vendi_score(normal(40, 6)), rel=1e-5)


def test_rare_samples_count_less_in_higher_orders():
    x = torch.eye(2, 3).double().repeat_interleave(torch.tensor([95, 5]), dim=0)
    assert vendi_score(x, order=0.0) == pytest.approx(2)
    assert vendi_score(x, order=1.0) == pytest.approx(math.exp(-0.95 * math.log(0.95) - 0.05 * math.log(0.05)))
    assert vendi_score(x, order=math.inf) == pytest.approx(1 / 0.95)


def test_invariances():
    x = normal(50, 6)
    score, rotation = vendi_score(x), torch.linalg.qr(normal(6, 6, seed=1)).Q
    assert vendi_score(x[torch.randperm(50)]) == pytest.approx(score, rel=1e-12)
    assert vendi_score(1e6 * x @ rotation) == pytest.approx(score, rel=1e-12)
    assert vendi_score(x.repeat(3, 1)) == pytest.approx(score, rel=1e-12)
    assert vendi_score(1e-200 * x) == pytest.approx(score, rel=1e-12)  # squares of that are 0
    wide = {"kernel": "rbf", "bandwidth": 2.0}
    assert vendi_score(x @ rotation + 1000, **wide) == pytest.approx(vendi_score(x, **wide), rel=1e-9)  # 1e-13 · 1e3


def test_a_dropped_mode_lowers_the_ratio():
    real = torch.eye(4, 6).double().repeat(30, 1)
    found = vendi_scores(real, real[real[:, 3] == 0])
    assert found == pytest.approx((4, 3, 0.75))
    rbf = vendi_scores(real, real[real[:, 3] == 0], order=2.0, kernel="rbf", bandwidth=0.01)
    assert rbf == pytest.approx((4, 3, 0.75))


def test_halves_keep_the_score_and_draws_with_replacement_lose_some():
    x = normal(200, 6)
    low, high = bootstrap(vendi_score, x, resamples=40)
    assert low <= vendi_score(x) <= high
    rbf = {"kernel": "rbf", "bandwidth": 0.1}  # nearly every sample is one of its own
    low, high = bootstrap(lambda z: vendi_score(z, **rbf), x, resamples=10, kind="percentile")
    assert high < 0.75 * vendi_score(x, **rbf)  # 1 - 1/e of them


def test_as_a_metric_in_batches():
    metric = FeatureMetric(vendi_scores, order=2.0)
    for batch in normal(90, 6).split(31):
        metric.update(batch, real=True)
    metric.update(normal(40, 6, seed=1), real=False)
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == pytest.approx(vendi_scores(normal(90, 6), normal(40, 6, seed=1), order=2.0)._asdict(), rel=1e-10)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = normal(5, 6)
    for wrong in (torch.zeros(5), torch.zeros(0, 5)):
        with pytest.raises(ValueError, match=r"\(n, d\) is accepted"):
            vendi_score(wrong)
    with pytest.raises(ValueError, match="2 of 4 rows of features are zeros"):
        vendi_score(torch.tensor([[0.0, 0], [1, 0], [0, 0], [0, 1]]))
    with pytest.raises(ValueError, match="5 of 5 rows of features are not finite"):
        vendi_score(x * math.nan)
    with pytest.raises(ValueError, match="kernel is 'linear'"):
        vendi_score(x, kernel="linear")
    for options in ({"kernel": "rbf"}, {"bandwidth": 1.0}, {"kernel": "rbf", "bandwidth": 0.0}):
        with pytest.raises(ValueError, match="bandwidth is"):
            vendi_score(x, **options)
    for order in (-1.0, math.nan):
        with pytest.raises(ValueError, match="order is"):
            vendi_score(x, order=order)
    with pytest.raises(ValueError, match=r"\(5, 6\); \(n, n\)"):
        vendi_score_from_similarity(x)
    with pytest.raises(ValueError, match="from symmetry"):
        vendi_score_from_similarity(2 * torch.eye(3))
