"""The Fréchet distance against closed forms, high precision, its own second route, and its statistics' algebra."""

from __future__ import annotations

import mpmath
import pytest
import torch
from safetensors.torch import save_file

import metrics.samples.frechet as frechet
from metrics import FeatureStatistics, FrechetDistance, frechet_distance, frechet_distance_from_features


def draw(n: int, d: int, seed: int, *, shift: float = 0.0) -> torch.Tensor:
    """Correlated features whose spectrum falls as 1/k."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, dtype=torch.float64, generator=generator) / torch.arange(1, d + 1)
    return torch.randn(n, d, dtype=torch.float64, generator=generator) @ mixing.mT + shift


def exactly(mean: torch.Tensor, covariance: torch.Tensor, **origin: str) -> FeatureStatistics:
    """Statistics of 1,000 imagined samples that have exactly this mean and covariance."""
    return FeatureStatistics(1000, mean.double(), 999 * covariance.double(), **origin)


def traces(*features: torch.Tensor) -> float:
    return sum(float(torch.cov(x.mT).trace()) for x in features)


def test_commuting_covariances_have_a_closed_form():
    """With S = U diag(w) U' on both sides, d² = |m1 - m2|² + sum (sqrt w1 - sqrt w2)²."""
    u = torch.linalg.qr(draw(12, 12, 0)).Q
    w1, w2 = torch.linspace(0.1, 3, 12).double(), torch.linspace(5, 0, 12).double()
    m1, m2 = torch.ones(12).double(), torch.linspace(-1, 1, 12).double()
    found = frechet_distance(exactly(m1, u * w1 @ u.mT), exactly(m2, u * w2 @ u.mT))
    truth = (m1 - m2).square().sum() + (w1.sqrt() - w2.sqrt()).square().sum()
    assert found == pytest.approx(float(truth), rel=1e-11)  # the zero of w2 costs no more: it is dropped as rounding


@pytest.mark.parametrize("angle", [0.0, 0.3, torch.pi / 2])
def test_rank_one_covariances_have_a_closed_form(angle: float):
    """tr sqrt(uu' vv') = |u'v|: the roots that a matrix square root gets wrong by 1e-8."""
    u = 2 * torch.eye(6).double()[0]
    v = 3 * torch.tensor([torch.cos(torch.tensor(angle).double()), torch.sin(torch.tensor(angle).double()), 0, 0, 0, 0])
    found = frechet_distance(exactly(0 * u, torch.outer(u, u)), exactly(0 * u, torch.outer(v.double(), v.double())))
    assert found == pytest.approx(4 + 9 - 2 * abs(float(u @ v.double())), abs=1e-12 * 13)


@pytest.mark.parametrize(("n", "m", "d"), [(9, 7, 4), (30, 4, 3), (3, 8, 5), (3, 2, 6)])
def test_agrees_with_fifty_digits(n: int, m: int, d: int):
    """Also where n < d: zeros are then 1e-50, and their roots nothing."""
    x, y = draw(n, d, 1), draw(m, d, 2, shift=0.5)
    with mpmath.workdps(50):
        (m1, s1), (m2, s2) = (moments(z) for z in (x, y))
        root = sum(mpmath.re(mpmath.sqrt(w)) for w in mpmath.eig(s1 * s2, left=False, right=False))
        truth = float(mpmath.norm(m1 - m2) ** 2 + sum(s1[i, i] + s2[i, i] for i in range(d)) - 2 * root)
    statistics = [FeatureStatistics.from_features(z) for z in (x, y)]
    assert frechet_distance(*statistics) == pytest.approx(truth, rel=1e-12)  # float64 over some tens of operations
    assert frechet_distance_from_features(x, y) == pytest.approx(truth, rel=1e-12)


def moments(x: torch.Tensor) -> tuple[mpmath.matrix, mpmath.matrix]:
    rows, n = mpmath.matrix(x.tolist()), len(x)
    mean = mpmath.matrix([mpmath.fsum(rows[:, j]) / n for j in range(x.shape[1])])
    centred = rows - mpmath.ones(n, 1) * mean.T
    return mean, centred.T * centred / (n - 1)


@pytest.mark.parametrize("n", [2, 20, 63, 64, 65, 300])
def test_both_routes_agree_at_any_rank(n: int):
    """From sums and from features; below n = 65 the covariances are singular."""
    x, y = draw(n, 64, 3), draw(n + 5, 64, 4, shift=0.2)
    found = frechet_distance(FeatureStatistics.from_features(x), FeatureStatistics.from_features(y))
    assert found == pytest.approx(frechet_distance_from_features(x, y), rel=1e-10)  # of the squaring, at d²/traces 0.1


def spectrum(kind: str, d: int = 300) -> torch.Tensor:
    k = torch.arange(d, dtype=torch.float64)
    return {
        "flat": torch.ones(d).double(), "harmonic": 1 / (k + 1), "spiked": 1 + 1e4 * (k == 0),
        "cond 1e4": 10 ** (-4 * k / d), "cond 1e6": 10 ** (-6 * k / d), "cond 1e9": 10 ** (-9 * k / d),
        "rank 200": 1.0 * (k < 200), "noise": torch.where(k < 200, 1, 3e-14),
    }[kind]  # fmt: skip


def rotated(values: torch.Tensor, seed: int) -> torch.Tensor:
    u = torch.linalg.qr(draw(len(values), len(values), seed)).Q
    return u * values @ u.mT


def by_singular_values(a: torch.Tensor, b: torch.Tensor) -> float:
    """The distance of two centred Gaussians, with 0 for eigenvalues within 1e-12 of the largest."""

    def root(covariance: torch.Tensor) -> torch.Tensor:
        values, vectors = torch.linalg.eigh(covariance)
        return vectors * values.where(values > 1e-12 * values[-1], 0).sqrt()

    return float(a.trace() + b.trace() - 2 * torch.linalg.svdvals(root(a).mT @ root(b)).sum())


@pytest.mark.parametrize("relation", ["other", "reversed", "identity"])
@pytest.mark.parametrize("kind", ["flat", "harmonic", "spiked", "cond 1e4", "cond 1e6"])
def test_eigenvalues_agree_with_singular_values(kind: str, relation: str):
    values = spectrum(kind)
    a = rotated(values, 30)
    b = {"other": rotated(values, 31), "reversed": rotated(values.flip(0), 30), "identity": torch.eye(300).double()}
    found = frechet_distance(exactly(torch.zeros(300), a), exactly(torch.zeros(300), b[relation]))
    # The bound of the eigenvalues lets 1e-9 of the traces pass; what is found is far below it.
    assert abs(found - by_singular_values(a, b[relation])) < 1e-11 * float(a.trace() + b[relation].trace())


@pytest.mark.parametrize("kind", ["cond 1e9", "rank 200", "noise"])
def test_eigenvalues_are_left_where_rank_or_condition_need_it(kind: str):
    """The noise of a long stream is positive, so that Cholesky's factor itself does not fail."""
    a, b = rotated(spectrum(kind), 32), rotated(spectrum("flat" if kind != "cond 1e9" else kind), 33)
    found = frechet_distance(exactly(torch.zeros(300), a), exactly(torch.zeros(300), b))
    assert abs(found - by_singular_values(a, b)) < 1e-11 * float(a.trace() + b.trace())
    if kind != "cond 1e9":  # against the identity: sum sqrt(w) over the 200 that are no rounding
        found = frechet_distance(exactly(torch.zeros(300), a), exactly(torch.zeros(300), torch.eye(300)))
        assert abs(found - (200 + 300 - 2 * 200)) < 1e-10 * 500


def test_statistics_of_many_features_take_the_fast_route(monkeypatch: pytest.MonkeyPatch):
    a, b = (exactly(torch.ones(260) * seed, rotated(spectrum("harmonic", 260), seed)) for seed in (34, 35))
    fast = frechet_distance(a, b)
    monkeypatch.setattr(frechet, "_LARGE", 261)
    assert frechet_distance(a, b) == pytest.approx(fast, rel=1e-9)
    monkeypatch.setattr(frechet, "_LARGE", 260)
    monkeypatch.setattr(frechet, "_by_singular_values", None)
    assert frechet_distance(a, b) == fast


def flat(n: int, d: int, rank: int, seed: int, shift: float) -> torch.Tensor:
    """Features on a plane of a few dimensions, far from 0."""
    generator = torch.Generator().manual_seed(seed)
    plane = torch.randn(rank, d, dtype=torch.float64, generator=generator)
    return torch.randn(n, rank, dtype=torch.float64, generator=generator) @ plane + shift


def streamed(features: torch.Tensor, batch: int) -> FeatureStatistics:
    first, *rest = (FeatureStatistics.from_features(part) for part in features.split(batch))
    return sum(rest, first)


@pytest.mark.parametrize("batch", [100_000, 1000])
def test_no_digits_are_lost_to_a_mean_or_to_many_samples(batch: int):
    """A spurious eigenvalue of 1e-16 would show as 1e-8 of the traces: against a full rank it meets its square root."""
    x, y = flat(100_000, 8, 2, 20, shift=100.0), draw(500, 8, 21, shift=100.0)
    found = frechet_distance(streamed(x, batch), FeatureStatistics.from_features(y))
    assert abs(found - frechet_distance_from_features(x, y)) < 1e-10 * traces(x, y)


def test_rounding_of_a_long_stream_is_no_eigenvalue():
    """It walks with the number of merges beyond d eps, if not for every seed."""
    y = draw(500, 2, 22, shift=100.0)
    other = FeatureStatistics.from_features(y)
    for seed in range(8):
        x = flat(3000, 2, 1, seed, shift=100.0)
        found = frechet_distance(streamed(x, 3), other)
        assert abs(found - frechet_distance_from_features(x, y)) < 1e-10 * traces(x, y)


def test_small_variances_are_kept_at_a_large_mean():
    """A spectrum over five decades at a mean of 1,000, where sums of x x' keep five digits less."""
    scales = torch.logspace(0, -2.5, 32, dtype=torch.float64)
    generator = torch.Generator().manual_seed(23)
    x, y = torch.randn(2, 20_000, 32, dtype=torch.float64, generator=generator) * scales + 1000
    found = frechet_distance(streamed(x, 3000), FeatureStatistics.from_features(1.1 * (y - 1000) + 1000))
    truth = frechet_distance_from_features(x, 1.1 * (y - 1000) + 1000)
    # the least eigenvalue, 1e-5 of the largest, has eps / 1e-5 of rounding; d² is 1 % of the traces
    assert found == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("n", [20, 65, 300])
def test_self_distance_vanishes_relative_to_the_traces(n: int):
    x = draw(n, 64, 5, shift=3.0)
    statistics = FeatureStatistics.from_features(x)
    assert frechet_distance(statistics, statistics) <= 1e-12 * 2 * traces(x)
    assert frechet_distance_from_features(x, x) <= 1e-12 * 2 * traces(x)


@pytest.mark.parametrize("n", [200, 300, 900])
def test_self_distance_of_many_features(n: int):
    """Equal statistics give 0; those merged in another order, what the route leaves."""
    x = draw(n, 260, 36, shift=3.0)
    statistics = FeatureStatistics.from_features(x)
    assert frechet_distance(statistics, FeatureStatistics.from_features(x.clone())) == 0
    assert frechet_distance(statistics, streamed(x.flip(0), 50)) <= 1e-12 * 2 * traces(x)


@pytest.mark.parametrize("n", [200, 900])
@pytest.mark.parametrize("same_mean", [False, True])
@pytest.mark.parametrize("d", [8, 260])
def test_symmetric_to_the_bit(n: int, d: int, same_mean: bool):
    x, y = draw(n, d, 37), draw(n + 1, d, 38)
    assert frechet_distance_from_features(x, y) == frechet_distance_from_features(y, x)
    assert frechet_distance_from_features(x, y[:n]) == frechet_distance_from_features(y[:n], x)
    a, b = (FeatureStatistics.from_features(z) for z in (x, y))
    if same_mean:
        b = FeatureStatistics(b.count, a.mean, b.scatter)
    assert frechet_distance(a, b) == frechet_distance(b, a)


def test_invariant_under_rotation_and_scaled_by_a_square():
    x, y = draw(200, 16, 6), draw(150, 16, 7, shift=1.0)
    d = frechet_distance_from_features(x, y)
    u = torch.linalg.qr(draw(16, 16, 8)).Q
    assert frechet_distance_from_features(x @ u + 5, y @ u + 5) == pytest.approx(d, rel=1e-11)
    assert frechet_distance_from_features(3 * x, 3 * y) == pytest.approx(9 * d, rel=1e-12)


@pytest.mark.parametrize("d", [1, 5, 300])
def test_points_without_spread_are_their_squared_distance_apart(d: int):
    x, y = torch.zeros(4, d).double(), torch.full((3, d), 2.0).double()
    assert frechet_distance_from_features(x, y) == 4 * d
    assert frechet_distance(*(FeatureStatistics.from_features(z) for z in (x, y))) == 4 * d


def test_merged_shards_equal_a_single_pass():
    x, y = draw(300, 32, 9), draw(300, 32, 10, shift=0.1)
    whole = FeatureStatistics.from_features(x)
    merged = streamed(x, 41)
    assert merged.count == whole.count
    torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-12, atol=1e-12)  # another order of sums
    torch.testing.assert_close(whole.covariance, torch.cov(x.mT), rtol=1e-11, atol=1e-12)
    other = FeatureStatistics.from_features(y)
    assert frechet_distance(merged, other) == pytest.approx(frechet_distance(whole, other), rel=1e-11)


def test_saved_statistics_come_back_to_the_bit(tmp_path):
    origin = {"extractor": "fmnist@0123", "resize": "none", "data": "abcd"}
    saved = FeatureStatistics.from_features(draw(30, 8, 11), **origin)
    saved.save(tmp_path / "s.safetensors")
    loaded = FeatureStatistics.load(tmp_path / "s.safetensors")
    assert (loaded.count, loaded.extractor, loaded.resize, loaded.data) == (30, *origin.values())
    assert torch.equal(loaded.mean, saved.mean)
    assert torch.equal(loaded.scatter, saved.scatter)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch: pytest.MonkeyPatch):
    file, (old, new) = tmp_path / "s.safetensors", (FeatureStatistics.from_features(draw(30, 8, s)) for s in (1, 2))
    old.save(file)

    def fail(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(frechet.os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        new.save(file)
    assert torch.equal(FeatureStatistics.load(file).mean, old.mean)
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


@pytest.mark.parametrize("damage", ["cut off", "empty", "text", "other tensors", "other shapes", "no count", "nan"])
def test_a_damaged_file_is_named(tmp_path, damage: str):
    file, (mean, scatter) = tmp_path / "bad.safetensors", (torch.zeros(3).double(), torch.eye(3).double())
    metadata = {"count": "30", "extractor": "", "resize": "", "data": ""}
    save_file({"mean": mean, "scatter": scatter}, file, metadata)
    assert FeatureStatistics.load(file).count == 30
    if damage in ("cut off", "empty", "text"):
        file.write_bytes({"cut off": file.read_bytes()[:-9], "empty": b"", "text": b"a, b\n1, 2\n"}[damage])
    elif damage == "other tensors":
        save_file({"weight": mean}, file, metadata)
    elif damage == "other shapes":
        save_file({"mean": mean, "scatter": scatter[:2].clone()}, file, metadata)
    elif damage == "no count":
        save_file({"mean": mean, "scatter": scatter}, file, metadata | {"count": "many"})
    else:
        save_file({"mean": mean / 0, "scatter": scatter}, file, metadata)
    with pytest.raises(ValueError, match=r"bad\.safetensors (is no whole|holds)"):
        FeatureStatistics.load(file)


def test_nothing_merges_as_nothing():
    none, some = FeatureStatistics.from_features(torch.zeros(0, 8)), FeatureStatistics.from_features(draw(30, 8, 14))
    for merged in (none + some, some + none):
        assert merged.count == 30
        assert torch.equal(merged.mean, some.mean)
        assert torch.equal(merged.scatter, some.scatter)
    assert (none + none).count == 0


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name(tmp_path):
    mean, covariance = torch.zeros(3), torch.eye(3)
    for field in ("extractor", "resize"):
        one, two = exactly(mean, covariance, **{field: "one"}), exactly(mean, covariance, **{field: "two"})
        with pytest.raises(ValueError, match=f"differ in {field}: 'one' and 'two'"):
            frechet_distance(one, two)
    with pytest.raises(ValueError, match="differ in data"):
        exactly(mean, covariance, data="one") + exactly(mean, covariance, data="two")
    with pytest.raises(ValueError, match="3 and 4 features"):
        frechet_distance(exactly(mean, covariance), exactly(torch.zeros(4), torch.eye(4)))
    with pytest.raises(ValueError, match="3 and 4 features"):
        frechet_distance_from_features(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="2 of 3 rows of features are not finite"):
        FeatureStatistics.from_features(torch.tensor([[0.0, 1], [torch.nan, 1], [0, torch.inf]]))
    with pytest.raises(ValueError, match=r"\(5,\)"):
        FeatureStatistics.from_features(torch.zeros(5))
    with pytest.raises(ValueError, match="at least 2 samples; there are 1"):
        frechet_distance_from_features(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match="at least 2 samples; there are 1"):
        frechet_distance(FeatureStatistics.from_features(torch.zeros(1, 3)), exactly(mean, covariance))


def test_the_metric_merges_batches_and_ranks():
    x, y = draw(120, 8, 12, shift=100.0), draw(90, 8, 13, shift=100.3)
    truth = frechet_distance_from_features(x, y)

    def gather(state: torch.Tensor, group: object) -> list[torch.Tensor]:
        return [rank.real if state is ranks[0].real else rank.fake for rank in ranks]

    synced = {"dist_sync_fn": gather, "distributed_available_fn": lambda: True}
    whole, ranks = FrechetDistance(8), [FrechetDistance(8, **synced), FrechetDistance(8)]
    for rank, (a, b) in enumerate(zip(x.split(60), y.split(45), strict=True)):
        for metric in (whole, ranks[rank]):
            for part in a.split(17):
                metric.update(part, real=True)
            metric.update(b, real=False)
    assert float(whole.compute()) == pytest.approx(truth, rel=1e-11)
    assert float(ranks[0].compute()) == pytest.approx(truth, rel=1e-11)  # of both, gathered
    merged = FrechetDistance(8)
    for rank in ranks:
        merged.merge_state(rank)
    assert float(merged.compute()) == pytest.approx(truth, rel=1e-11)
    whole.reset()
    with pytest.raises(ValueError, match="there are 0"):
        whole.compute()
    with pytest.raises(ValueError, match=r"\(n, 8\) is accepted"):
        whole.update(torch.zeros(4, 9), real=True)
