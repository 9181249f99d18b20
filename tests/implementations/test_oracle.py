"""Oracles: the score is the gradient of the log density, the flow solves its ODE, chunks and special cases agree."""

import math

import pytest
import scipy.integrate
import torch

from implementations.diffusion import (
    EDM,
    VE,
    VP,
    Cosine,
    EmpiricalOracle,
    GaussianOracle,
    MixtureOracle,
    RectifiedFlow,
    TrigFlow,
)
from tests.exact import normal

PATHS = [VP(), VE(), RectifiedFlow(), TrigFlow()]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)


def covariance(d, seed=0):
    root = normal(d, d, seed=seed)
    return root @ root.T / d + 0.05 * torch.eye(d, dtype=torch.float64)


def oracles(path):
    labels = torch.tensor([0, 1, 1])
    full = torch.stack([covariance(6, seed) for seed in range(3)])
    means, weights = normal(3, 2, 3), torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    return {
        "scalar": GaussianOracle(path, normal(2, 3), 0.7),
        "diagonal": GaussianOracle(path, normal(2, 3), normal(2, 3).square() + 0.1),
        "full": GaussianOracle(path, normal(2, 3), covariance(6)),
        "isotropic mixture": MixtureOracle(path, means, torch.tensor([0.1, 0.5, 1.0]), weights, labels),
        "diagonal mixture": MixtureOracle(path, means, normal(3, 2, 3).square() + 0.1, weights, labels),
        "full mixture": MixtureOracle(path, means, full, weights, labels),
        "empirical": EmpiricalOracle(path, normal(7, 2, 3), torch.arange(7) % 2, chunk=3),
    }


ORACLES = tuple(oracles(VP()))


@every_path
@pytest.mark.parametrize("name", ORACLES)
def test_score_is_the_gradient_of_the_log_density(path, name):
    oracle = oracles(path)[name]
    conditions = [None] if oracle.labels is None else [None, 1, -1, torch.tensor([0, 1, -1, 0])]
    levels = path.time(torch.tensor([2.0, 0.0, -1.0, -2.0], dtype=torch.float64))
    for t in (levels[0], levels):
        for condition in conditions:
            x = normal(4, 2, 3, seed=5).requires_grad_()
            (gradient,) = torch.autograd.grad(oracle.log_density(x, t, condition).sum(), x)
            x = x.detach()
            # autograd adds the terms in another order: rounding alone
            torch.testing.assert_close(oracle.score(x, t, condition), gradient, rtol=1e-10, atol=1e-10)
            prediction = oracle(x, t, condition)
            a, s = (f(t).reshape(-1, 1, 1) for f in (path.alpha, path.sigma))
            torch.testing.assert_close(a * prediction.x0 + s * prediction.eps, x, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(-prediction.eps / s, prediction.score, rtol=1e-10, atol=1e-12)


@every_path
@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_gaussian_flow_solves_the_probability_flow(path, kind):
    oracle = oracles(path)[kind]
    start, end = (float(path.time(level)) for level in (-2.0, 3.0))
    x = normal(3, 2, 3, seed=9)

    def velocity(t, y):
        return oracle(torch.from_numpy(y).reshape(x.shape), t).velocity.reshape(-1).numpy()

    solution = scipy.integrate.solve_ivp(
        velocity, (start, end), x.reshape(-1).numpy(), "DOP853", rtol=1e-11, atol=1e-12
    )
    expected = torch.from_numpy(solution.y[:, -1]).reshape(x.shape)
    # the solver's tolerance, over some hundred steps
    torch.testing.assert_close(oracle.flow(x, start, end), expected, rtol=1e-8, atol=1e-8)
    there = oracle.flow(x, start, end)
    torch.testing.assert_close(oracle.flow(there, end, start), x, rtol=1e-11, atol=1e-11)
    middle = float(path.time(0.4))
    torch.testing.assert_close(oracle.flow(oracle.flow(x, start, middle), middle, end), there, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["scalar", "diagonal", "full", "isotropic mixture", "full mixture"])
@pytest.mark.parametrize("path", [VP(), RectifiedFlow(), TrigFlow()], ids=lambda path: type(path).__name__)
def test_regular_at_both_ends(path, name):
    oracle, x = oracles(path)[name], normal(4, 2, 3, seed=3)
    clean = oracle(x, path.t_min)
    torch.testing.assert_close(clean.x0, x, rtol=1e-12, atol=1e-12)
    assert torch.equal(clean.eps, torch.zeros_like(x))  # E[eps | x] at sigma = 0
    assert clean.score.isfinite().all()
    noisy = oracle(x, path.t_max)
    for view in (noisy.x0, noisy.eps, noisy.score):
        assert view.isfinite().all()
    if float(path.alpha(path.t_max)) == 0:
        torch.testing.assert_close(noisy.eps, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_singular_covariance_is_found_whatever_the_sign_of_its_rounding(dtype):
    """Of rank 5 in 6 dimensions: its zero comes back as some 1e-16 of the largest eigenvalue, above or below 0."""
    for seed in range(100):
        root = normal(6, 5, seed=seed).to(dtype)
        oracle = GaussianOracle(EDM(), torch.zeros(6, dtype=dtype), root @ root.T)
        with pytest.raises(ValueError, match="singular covariance"):
            oracle.score(torch.ones(2, 6), 0.0)
        assert oracle.score(torch.ones(2, 6), 0.01).isfinite().all()


def test_a_small_variance_is_not_taken_for_zero():
    """1e-12 of the largest, a thousand times float64's rounding of a 6 x 6 matrix."""
    basis = torch.linalg.qr(normal(6, 6)).Q
    spectrum = torch.tensor([1e-12, 1, 1, 1, 1, 1], dtype=torch.float64)
    oracle = GaussianOracle(EDM(), torch.zeros(6).double(), basis * spectrum @ basis.T)
    score = oracle.score(1e-6 * basis[:, 0].expand(1, 6), 0.0)
    # an eigenvalue of 1e-12 is known to eps / 1e-12
    assert float((score + 1e6 * basis[:, 0]).norm()) < 1e-3 * 1e6


@pytest.mark.parametrize("name", ["diagonal", "full mixture"])
def test_velocity_at_the_clean_end_where_that_of_sigma_is_infinite(name):
    """As x0 and eps it is inf - inf at t = 0 of these paths; as f x - g^2/2 score it is the limit from above."""
    x = normal(4, 2, 3, seed=3)
    for path in (VP(), Cosine()):
        oracle = oracles(path)[name]
        velocity = oracle(x, 0.0).velocity
        # smooth in t, at a scale of 0.01: the difference over 1e-7 is of 1e-5
        torch.testing.assert_close(velocity, oracle(x, 1e-7).velocity, rtol=1e-4, atol=1e-4)
        times = torch.tensor([0.0, 0.3, 0.0, 0.7], dtype=torch.float64)
        each = torch.cat([oracle(x[i : i + 1], float(t)).velocity for i, t in enumerate(times)])
        torch.testing.assert_close(oracle(x, times).velocity, each, rtol=1e-11, atol=1e-11)
        if name == "diagonal":
            h = 1e-5  # second order: errors of h^2 and of eps / h
            there = [oracle.flow(x, 0.0, k * h) for k in (1, 2)]
            difference = (4 * there[0] - there[1] - 3 * x) / (2 * h)
            torch.testing.assert_close(velocity, difference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ORACLES)
def test_an_empty_batch_is_a_batch(name):
    oracle, x = oracles(VP())[name], torch.zeros(0, 2, 3)
    conditions = [None] if oracle.labels is None else [None, 1, torch.zeros(0).long()]
    for t in (0.5, torch.zeros(0)):
        for condition in conditions:
            prediction = oracle(x, t, condition)
            for view in (prediction.x0, prediction.eps, prediction.v, prediction.velocity, prediction.score):
                assert view.shape == x.shape
            assert oracle.score(x, t, condition).shape == x.shape
            assert oracle.log_density(x, t, condition).shape == (0,)
    assert oracle.sample(0).shape == x.shape
    if isinstance(oracle, GaussianOracle):
        assert oracle.flow(x, 0.5, 0.1).shape == x.shape


@every_path
def test_special_cases_agree(path):
    mean, full, x, t = normal(2, 3), covariance(6), normal(4, 2, 3, seed=3), float(path.time(0.7))
    diagonal = full.diagonal().reshape(2, 3)
    pairs = [
        (GaussianOracle(path, mean, full), MixtureOracle(path, mean[None], full[None], [2.0])),
        (GaussianOracle(path, mean, diagonal), GaussianOracle(path, mean, torch.diag(diagonal.flatten()))),
        (GaussianOracle(path, mean, 0.3), GaussianOracle(path, mean, torch.full((2, 3), 0.3, dtype=torch.float64))),
        # the same component twice
        (GaussianOracle(path, mean, full), MixtureOracle(path, mean.expand(2, 2, 3), full.expand(2, 6, 6), [1.0, 3.0])),
    ]
    for left, right in pairs:
        # the same sums in another basis: rounding
        torch.testing.assert_close(left(x, t).x0, right(x, t).x0, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(left.log_density(x, t), right.log_density(x, t), rtol=1e-11, atol=1e-11)
    labelled = oracles(path)["full mixture"]
    alone = MixtureOracle(
        path, labelled.means[1:].reshape(2, 2, 3), torch.stack([covariance(6, s) for s in (1, 2)]), [5.0, 3.0]
    )
    torch.testing.assert_close(labelled(x, t, 1).x0, alone(x, t).x0, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(labelled.log_density(x, t, 1), alone.log_density(x, t), rtol=1e-11, atol=1e-11)


@every_path
def test_empirical_oracle_equals_the_formula_by_loops(path):
    data, x = normal(9, 4), normal(3, 4, seed=2)
    oracle = EmpiricalOracle(path, data)
    for level in (-3.0, 0.0, 2.0):
        t = float(path.time(level))
        a, s = float(path.alpha(t)), float(path.sigma(t))
        for i in range(3):
            logs = [-float(((x[i] - a * y) ** 2).sum()) / (2 * s * s) for y in data]
            top = max(logs)
            weights = [math.exp(log - top) for log in logs]
            mean = sum(w * y for w, y in zip(weights, data, strict=True)) / sum(weights)
            # |x|^2 - 2 x.y + |y|^2 against |x - y|^2: rounding of the exponent, about e^(2 level) of 1e-16
            torch.testing.assert_close(oracle(x, t).x0[i], mean, rtol=1e-12, atol=1e-12)
            density = top + math.log(sum(weights) / 9) - 2 * math.log(2 * math.pi * s * s)
            assert float(oracle.log_density(x, t)[i]) == pytest.approx(density, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("chunk", [1, 7, 64, 200])
def test_chunks_change_nothing(chunk):
    path, data, labels = VP(), normal(200, 12), torch.arange(200) % 3
    x = normal(20, 12, seed=4)
    whole, parts = EmpiricalOracle(path, data, labels), EmpiricalOracle(path, data, labels, chunk=chunk)
    for t in (0.05, 0.3, 0.9, torch.linspace(0.05, 1, 20, dtype=torch.float64)):
        for condition in (None, 2, torch.arange(20) % 4 - 1):
            for left, right in [
                (whole(x, t, condition).x0, parts(x, t, condition).x0),
                (whole.log_density(x, t, condition), parts.log_density(x, t, condition)),
            ]:
                torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_empirical_condition_restricts_the_data():
    data, labels, x = normal(30, 4), torch.arange(30) % 3, normal(5, 4, seed=2)
    oracle = EmpiricalOracle(VP(), data, labels)
    for t in (0.1, 0.6):
        alone = EmpiricalOracle(VP(), data[labels == 2])
        torch.testing.assert_close(oracle(x, t, 2).x0, alone(x, t).x0, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(oracle.log_density(x, t, 2), alone.log_density(x, t), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(oracle(x, t, -1).x0, oracle(x, t).x0, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["scalar", "diagonal", "full", "isotropic mixture", "full mixture", "empirical"])
def test_samples_have_the_mean_and_covariance_of_the_clean_density(name):
    """Against x0's law as the oracle itself has it at high noise: E[x0 | x] at alpha = 0 is the mean."""
    oracle, n = oracles(RectifiedFlow())[name], 40_000
    samples = oracle.sample(n, torch.Generator().manual_seed(0)).flatten(1)
    mean = oracle(torch.zeros(1, 2, 3, dtype=torch.float64), 1.0).x0.flatten()
    # six standard errors
    assert float(((samples.mean(0) - mean).abs() / (samples.std(0) / math.sqrt(n))).max()) < 6
    if name == "full":
        assert float((samples.T.cov() - covariance(6)).abs().max()) < 6 * 2 * float(covariance(6).max()) / math.sqrt(n)
    again = oracle.sample(n, torch.Generator().manual_seed(0)).flatten(1)
    assert torch.equal(samples, again)


def test_samples_keep_to_their_condition():
    means = torch.tensor([[-5.0], [5.0], [9.0]])
    oracle = MixtureOracle(EDM(), means, torch.full((3,), 1e-4), [1.0, 1.0, 2.0], torch.tensor([0, 1, 1]))
    wanted = torch.arange(100) % 2
    assert torch.equal((oracle.sample(100, condition=wanted) > 0).flatten().long(), wanted)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_samples_have_the_law_of_their_component(kind):
    """Mean and covariance of each of three, drawn together by ``condition``, within six standard errors."""
    variances = torch.tensor([0.1, 1.0, 4.0], dtype=torch.float64)
    given = {
        "isotropic": variances,
        "diagonal": variances[:, None] * (normal(3, 4, seed=1).square() + 0.1),
        "full": variances[:, None, None] * torch.stack([covariance(4, seed) for seed in range(3)]),
    }[kind]
    full = {"isotropic": lambda c: c * torch.eye(4).double(), "diagonal": torch.diag, "full": lambda c: c}[kind]
    means = normal(3, 4, seed=2)
    oracle = MixtureOracle(VP(), means, given, [1.0, 2.0, 7.0], torch.tensor([4, 2, 9]))
    n, wanted = 20_000, torch.tensor([4, 2, 9]).repeat(20_000)
    samples = oracle.sample(len(wanted), torch.Generator().manual_seed(0), wanted)
    for k, label in enumerate([4, 2, 9]):
        drawn, c = samples[wanted == label], full(given[k])
        assert float(((drawn.mean(0) - means[k]) / (c.diagonal() / n).sqrt()).abs().max()) < 6
        # Var of an entry of a Gaussian's sample covariance: (c_ii c_jj + c_ij^2) / (n - 1)
        error = ((torch.outer(c.diagonal(), c.diagonal()) + c.square()) / (n - 1)).sqrt()
        assert float(((drawn.T.cov() - c) / error).abs().max()) < 6


def test_components_are_drawn_by_their_weights():
    weights, n = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64), 30_000
    means = torch.tensor([[-9.0], [0.0], [9.0]], dtype=torch.float64)
    oracle = MixtureOracle(VP(), means, torch.full((3,), 0.01), 5 * weights, torch.tensor([0, 1, 1]))
    for condition, shares in [(None, weights), (-1, weights), (1, torch.tensor([0, 2 / 9, 7 / 9]).double())]:
        drawn = oracle.sample(n, torch.Generator().manual_seed(0), condition)
        counts = torch.cdist(drawn, means).argmin(1).bincount(minlength=3)
        # six standard errors of a binomial, none where the share is 0
        assert bool(((counts / n - shares).abs() <= 6 * (shares * (1 - shares) / n).sqrt()).all())


def test_empirical_samples_are_the_data_of_their_condition_in_equal_shares():
    data, labels, n = torch.arange(10.0)[:, None], torch.arange(10) % 3, 20_000
    oracle = EmpiricalOracle(VP(), data, labels)
    for condition in (None, -1, 2, torch.arange(n) % 3):
        drawn = oracle.sample(n, torch.Generator().manual_seed(0), condition).flatten().long()
        if isinstance(condition, torch.Tensor):
            assert torch.equal(labels[drawn], condition)
            continue
        share = (labels == condition).double() if condition == 2 else torch.ones(10).double()
        share /= share.sum()
        error = (drawn.bincount(minlength=10) / n - share).abs()
        assert bool((error <= 6 * (share * (1 - share) / n).sqrt()).all())  # six standard errors, none at share 0


def test_dtypes_and_devices():
    for name, oracle in oracles(VP()).items():
        x = normal(4, 2, 3)
        for dtype, expected in [
            (torch.float64, torch.float64),
            (torch.float32, torch.float32),
            (torch.bfloat16, torch.float32),
        ]:
            prediction = oracle.to("cpu")(x.to(dtype), 0.5)
            assert {prediction.x0.dtype, prediction.eps.dtype, prediction.score.dtype} == {expected}, name
            assert oracle.log_density(x.to(dtype), 0.5).dtype == expected
        assert oracle.to("meta").sample(2).device.type == "meta"
        assert oracle.sample(2).device.type == "cpu"


def test_unchecked_is_named():
    data, mean = torch.zeros(3, 2), torch.zeros(2)
    labelled = MixtureOracle(EDM(), data, torch.ones(3), torch.ones(3), torch.tensor([0, 1, 1]))
    for call, says in [
        (lambda: GaussianOracle(EDM(), mean, -1.0), "semi-definite"),
        (lambda: GaussianOracle(EDM(), mean, torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "semi-definite"),
        (lambda: GaussianOracle(EDM(), mean, torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        (lambda: GaussianOracle(EDM(), mean, torch.ones(3)), "shape"),
        (lambda: GaussianOracle(EDM(), mean, math.nan), "finite"),
        (lambda: GaussianOracle(EDM(), mean, 1.0)(torch.zeros(4, 3), 1.0), r"\(n, 2\)"),
        (lambda: GaussianOracle(EDM(), mean, 1.0)(torch.zeros(4, 2), 1.0, 3), "no labels"),
        (lambda: GaussianOracle(EDM(), mean, torch.tensor([1.0, 0.0])).score(torch.zeros(4, 2), 0.0), "sigma = 0"),
        (lambda: MixtureOracle(EDM(), data, torch.ones(3), [1.0, 0.0, 1.0]), "positive"),
        (lambda: MixtureOracle(EDM(), data, torch.ones(3), torch.ones(3), torch.tensor([0, -1, 1])), "labels"),
        (lambda: labelled(torch.zeros(4, 2), 1.0, 7), "condition 7"),
        (lambda: labelled(torch.zeros(4, 2), 1.0, torch.zeros(3).long()), "4 ints"),
        (lambda: EmpiricalOracle(EDM(), data)(torch.zeros(4, 2), 0.0), "sigma = 0"),
        (lambda: EmpiricalOracle(EDM(), torch.zeros(0, 2)), "at least one"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
