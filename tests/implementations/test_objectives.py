"""Objectives: minimisers on Gaussian data are the oracle's, weights and densities are those of the papers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor, nn

from implementations.diffusion import EDM, VP, Denoiser, GaussianOracle, Network, Prediction, RectifiedFlow
from implementations.diffusion.path import Path
from implementations.objectives import OBJECTIVES, TIMESTEPS, WEIGHTINGS, noised, regression
from implementations.objectives.consistency import (
    consistency_distillation,
    consistency_training,
    karras_levels,
    pick_interval,
    step_of,
)
from implementations.objectives.score_matching import denoising, implicit, sliced

MEAN, VARIANCE = 0.4, 0.6
NODES, MASS = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(12))
MASS = MASS / MASS.sum()
PATHS = [VP(), EDM(), RectifiedFlow()]
VIEWS = ["x0", "eps", "v", "velocity", "score"]


def grid() -> tuple[Tensor, Tensor, Tensor]:
    """Data, noise and their weights: the expectation of polynomials over both is exact."""
    x0 = (MEAN + math.sqrt(VARIANCE) * NODES).repeat_interleave(12)[:, None]
    return x0, NODES.repeat(12)[:, None], MASS.repeat_interleave(12) * MASS.repeat(12)


class Linear(Denoiser):
    """x0 = a x + b at one time, with parameters."""

    def __init__(self, path: Path, a: float, b: float):
        self.path, self.a, self.b = path, torch.tensor([a, b], dtype=torch.float64, requires_grad=True), None

    def __call__(self, x, t, condition=None):
        return Prediction(self.path, x, t, x0=self.a[0] * x + self.a[1])


def optimal(path: Path, t: float) -> Linear:
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
    gain = alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2)
    return Linear(path, gain, MEAN * (1 - gain * alpha))


def test_a_training_step_in_float32_stays_in_float32():
    """Coefficients of a path are float64, of float32 times too; what a network is given is not."""
    x0, noise, t = torch.randn(4, 1, 6, 6), torch.randn(4, 1, 6, 6), torch.rand(4)
    assert VP().alpha(t).dtype is torch.float64
    assert noised(VP(), x0, t, noise).dtype is torch.float32
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    given = []
    network.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].dtype))
    denoiser = Network(VP(), lambda x, t: network(x), head="eps")
    loss = regression(denoiser, x0, t, noise, view="eps").mean()
    loss.backward()
    assert given == [torch.float32]
    assert network.weight.grad.isfinite().all()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("weighting", ["", *WEIGHTINGS])
@pytest.mark.parametrize("view", VIEWS)
def test_the_minimiser_on_gaussian_data_is_the_oracle(path: Path, weighting: str, view: str):
    """The exact gradient of the exact expectation vanishes at the posterior mean, and not beside it."""
    x0, noise, mass = grid()
    for t in (0.2, 0.7):
        times = torch.full((len(x0),), t, dtype=torch.float64)

        def expected(denoiser: Linear, times: Tensor = times) -> tuple[float, float]:
            loss = (mass * regression(denoiser, x0, times, noise, view=view, weighting=weighting)).sum()
            (slope,) = torch.autograd.grad(loss, denoiser.a)
            return float(loss.detach()), float(slope.abs().max())

        best = optimal(path, t)
        oracle = GaussianOracle(path, torch.tensor([MEAN]).double(), torch.tensor([VARIANCE]).double())
        x = noised(path, x0, times, noise)
        torch.testing.assert_close(best(x, times).x0.detach(), oracle(x, times).x0)
        loss, slope = expected(best)
        off = Linear(path, 1.05 * float(best.a[0].detach()), float(best.a[1].detach()))
        worse, steep = expected(off)
        assert slope < 1e-10 * steep
        assert loss < worse


@pytest.mark.parametrize("weighting", list(WEIGHTINGS))
def test_a_weighting_means_the_same_in_every_view(weighting: str):
    x0, noise, _ = grid()
    for path in PATHS:
        t = torch.linspace(0.1, 0.9, len(x0), dtype=torch.float64)
        losses = [regression(Linear(path, 0.3, 0.1), x0, t, noise, view=v, weighting=weighting) for v in VIEWS]
        for loss in losses[1:]:
            torch.testing.assert_close(loss, losses[0], rtol=1e-9, atol=1e-12)


def test_weights_are_those_of_the_papers():
    """Each in the head of its paper, on the variance-preserving path, or on EDM's with EDM's symbols."""
    path, t = VP(), torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    snr = (path.alpha(t) / path.sigma(t)) ** 2
    eps, v = snr, snr + 1  # squared errors per squared error of x0
    weigh = {name: weight(path, t) for name, weight in WEIGHTINGS.items()}
    expected = {
        "snr": eps,  # 2006.11239, eq. 14: the plain error of eps
        "truncated_snr": torch.maximum(snr, torch.ones_like(snr)),  # 2202.00512, sec. 4
        "snr_plus_one": v,  # 2202.00512, sec. 4: the plain error of v
        "min_snr": eps * torch.minimum(snr, torch.tensor(5.0)) / snr,  # 2303.09556: the weight of eps
        "soft_min_snr": 1 / (1 / snr + 1 / 4),  # 2401.11605: 1 / (sigma^2 + 1/gamma) with sigma^2 = 1 / snr
        "p2": eps / (1 + snr),  # 2204.00227, eq. 8: of eps
        "edm": (1 / snr + 0.25) / (0.25 / snr),  # 2206.00364, table 1, with sigma^2 = 1 / snr
        "sigmoid": eps / (1 + (snr.log() - 2).exp()),  # 2303.00848: sigmoid(2 - log snr), of eps
    }
    for name, value in expected.items():
        torch.testing.assert_close(weigh[name], value, msg=name)
    torch.testing.assert_close(WEIGHTINGS["min_snr"](path, t) / v, torch.minimum(snr, torch.tensor(5.0)) / (snr + 1))
    beta = 0.1 + 19.9 * t  # 2101.09258, eq. 7: g^2 / 2 of the score's error, which is that of eps over sigma
    torch.testing.assert_close(weigh["likelihood"], beta / 2 * eps / path.sigma(t) ** 2)


def test_bad_views_and_weightings_are_named():
    x0, noise, _ = grid()
    t = torch.full((len(x0),), 0.5, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"view must be one of .*, got 'noise'"):
        regression(Linear(VP(), 1, 0), x0, t, noise, view="noise")
    with pytest.raises(ValueError, match=r"no weighting named 'minsnr'; did you mean min_snr\?"):
        regression(Linear(VP(), 1, 0), x0, t, noise, view="x0", weighting="minsnr")
    with pytest.raises(ValueError, match="gamma must be positive, got 0"):
        regression(Linear(VP(), 1, 0), x0, t, noise, view="x0", weighting="min_snr", gamma=0.0)


# Densities of times --------------------------------------------------------------------------------------------------


def logit_normal_density(tau: float, mean: float, std: float) -> float:
    """2403.03206, eq. 19."""
    square = (math.log(tau / (1 - tau)) - mean) ** 2 / (2 * std**2)
    return math.exp(-square) / (std * math.sqrt(2 * math.pi) * tau * (1 - tau))


@pytest.mark.parametrize(
    ("name", "options", "density"),
    [
        ("uniform", {}, lambda tau: 1.0),
        ("logit_normal", {}, lambda tau: logit_normal_density(tau, 0.0, 1.0)),
        ("logit_normal", {"mean": 0.5, "std": 0.6}, lambda tau: logit_normal_density(tau, 0.5, 0.6)),
        ("cosmap", {}, lambda tau: 2 / (math.pi - 2 * math.pi * tau + 2 * math.pi * tau**2)),  # eq. 21
    ],
)
def test_a_density_integrates_to_its_quantiles(name: str, options: dict, density):
    u = torch.linspace(0.02, 0.98, 9, dtype=torch.float64)
    for share, t in zip(u, TIMESTEPS[name](RectifiedFlow(), u, **options), strict=True):
        found, error = scipy.integrate.quad(density, 0, float(t), epsabs=1e-11, epsrel=1e-11)
        assert found == pytest.approx(float(share), abs=1e-8 + error)


@pytest.mark.parametrize("scale", [-1.0, -0.5, 0.8, 1.29, 1.75])
def test_the_mode_density_is_that_of_the_papers_map(scale: float):
    """Its map of independent uniform numbers (eq. 20), by Kolmogorov and Smirnov; and exactly, of 1 - u."""

    def paper(u):
        return 1 - u - scale * (np.cos(math.pi / 2 * u) ** 2 - 1 + u)

    u = torch.linspace(0.001, 0.999, 2000, dtype=torch.float64)
    quantiles = TIMESTEPS["mode"](RectifiedFlow(), u, scale=scale).numpy()
    assert (np.diff(quantiles) > 0).all()
    np.testing.assert_allclose(quantiles, paper(1 - u.numpy()), atol=1e-12)
    drawn = paper(np.random.default_rng(0).random(5000))
    assert scipy.stats.kstest(drawn, lambda t: np.interp(t, quantiles, u.numpy())).pvalue > 0.01


def test_on_edms_path_log_sigma_is_normal_and_bad_options_are_named():
    u = torch.rand(5000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = TIMESTEPS["logit_normal"](EDM(), u, mean=-1.2, std=1.2)
    assert scipy.stats.kstest(sigma.log().numpy(), scipy.stats.norm(-1.2, 1.2).cdf).pvalue > 0.01
    assert float(TIMESTEPS["logit_normal"](EDM(), torch.tensor([1 - 1e-16]).double(), std=9.0)) == 80  # on the path
    with pytest.raises(ValueError, match=r"scale must lie in \[-1, 1.7519\], got 2"):
        TIMESTEPS["mode"](EDM(), u, scale=2.0)
    with pytest.raises(ValueError, match="std must be positive and finite, got 0"):
        TIMESTEPS["logit_normal"](EDM(), u, std=0.0)


# Score matching ------------------------------------------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def test_sliced_score_matching_is_unbiased():
    """Over the directions sqrt(d) e_k, whose mean of v v' is 1, the mean is the exact objective, and its gradient."""
    score, x = network(), torch.randn(5, 3, dtype=torch.float64)
    exact = implicit(score, x)
    slope = torch.autograd.grad(exact.sum(), score.parameters(), allow_unused=True)
    for reduced in (True, False):
        parts = [
            sliced(score, x, math.sqrt(3) * torch.eye(3, dtype=torch.float64)[k].expand(5, 3), reduced=reduced)
            for k in range(3)
        ]
        mean = sum(parts) / 3
        torch.testing.assert_close(mean, exact)
        found = torch.autograd.grad(mean.sum(), score.parameters(), allow_unused=True)
        for one, other in zip(found, slope, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other)


def test_the_divergence_is_the_trace_of_autograds_jacobian():
    score, x = network(), torch.randn(4, 3, dtype=torch.float64)
    jacobians = torch.stack([torch.autograd.functional.jacobian(score, row) for row in x])
    truth = score(x).square().sum(1) / 2 + jacobians.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(implicit(score, x), truth)
    constant = implicit(lambda x: torch.ones_like(x), x)  # of divergence 0
    torch.testing.assert_close(constant, torch.full_like(constant, 1.5))


def test_minimisers_of_score_matching_are_the_scores():
    """Exact expectations on a Gaussian, of a linear score: that of the data, and of the noised data."""
    x, noise, mass = grid()
    for loss, variance in (
        (lambda score: implicit(score, x), VARIANCE),
        (lambda score: sliced(score, x, torch.ones_like(x)), VARIANCE),
        (lambda score: denoising(score, x, noise, sigma=0.5), VARIANCE + 0.25),
    ):
        slopes = []
        for gain in (1.0, 1.1):
            a = torch.tensor([-gain / variance, gain * MEAN / variance], dtype=torch.float64, requires_grad=True)
            total = (mass * loss(lambda x, a=a: a[0] * x + a[1])).sum()
            slopes.append(float(torch.autograd.grad(total, a)[0].abs().max()))
        assert slopes[0] < 1e-10 * slopes[1]
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        denoising(lambda x: x, x, noise, sigma=0.0)


# Pairs and trajectories ----------------------------------------------------------------------------------------------


class Along(Denoiser):
    """The exact consistency function of a Gaussian: its x0 is the end of the flow."""

    def __init__(self, oracle: GaussianOracle):
        self.path, self.oracle = oracle.path, oracle

    def __call__(self, x, t, condition=None):
        return Prediction(
            self.path, x, t, x0=torch.cat([self.oracle.flow(x[i : i + 1], t[i], 0.0) for i in range(len(x))])
        )


def gaussian(path: Path, variance: float = VARIANCE) -> GaussianOracle:
    return GaussianOracle(path, torch.tensor([MEAN, -0.2]).double(), torch.tensor([variance, variance / 2]).double())


@pytest.mark.parametrize("path", [EDM(), RectifiedFlow()], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize(("solver", "order"), [("euler", 2), ("heun", 3)])
def test_a_teachers_step_has_the_local_order_of_its_solver(path: Path, solver: str, order: int):
    oracle, x = gaussian(path), torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for length in (0.02, 0.01, 0.005):
        t = torch.linspace(0.3, 0.8, 6, dtype=torch.float64)
        truth = torch.cat([oracle.flow(x[i : i + 1], t[i], t[i] - length) for i in range(6)])
        errors.append(float((step_of(oracle, x, t, t - length, None, solver) - truth).abs().max()))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes == pytest.approx([order] * 2, abs=0.1)


def test_an_exact_consistency_function_has_no_loss_but_the_solvers():
    oracle = gaussian(EDM())
    student = Along(oracle)
    x0, noise = (torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    t = torch.linspace(0.2, 3, 8, dtype=torch.float64)
    losses = [
        float(consistency_distillation(student, student, oracle, x0, t, t - h, noise, distance="l2").mean().sqrt())
        for h in (0.02, 0.01)
    ]
    assert losses[0] < 1e-5
    assert math.log2(losses[0] / losses[1]) == pytest.approx(3, abs=0.1)
    wrong = consistency_distillation(oracle, oracle, oracle, x0, t, t - 0.02, noise, distance="l2")  # not consistent
    assert float(wrong.mean().sqrt()) > 100 * losses[0]


def test_consistency_training_is_distillation_where_the_data_are_a_point():
    """There the lines of equal noise are the flow."""
    oracle = gaussian(EDM(), 0.0)
    x0, noise = oracle.means.expand(8, 2), torch.randn(8, 2, dtype=torch.float64)
    t = torch.linspace(0.2, 3, 8, dtype=torch.float64)
    for distance in ("l2", "pseudo_huber"):
        student = Linear(EDM(), 0.3, 0.1)
        one = consistency_training(student, student, x0, t, t / 2, noise, distance=distance)
        two = consistency_distillation(student, student, oracle, x0, t, t / 2, noise, distance=distance)
        torch.testing.assert_close(one, two)
    with pytest.raises(ValueError, match="s must lie below t"):
        consistency_training(student, student, x0, t, t, noise)
    with pytest.raises(ValueError, match="one path is accepted"):
        consistency_distillation(student, student, gaussian(VP()), x0, t, t / 2, noise)


def test_the_target_has_no_gradient_and_the_distances_are_their_formulas():
    x0, noise = torch.zeros(4, 2).double(), torch.randn(4, 2, dtype=torch.float64)
    t = torch.linspace(1, 2, 4, dtype=torch.float64)
    student, target = Linear(EDM(), 0.3, 0.1), Linear(EDM(), 0.5, 0.0)
    loss = consistency_training(student, target, x0, t, t / 2, noise)
    assert torch.autograd.grad(loss.sum(), target.a, allow_unused=True, retain_graph=True)[0] is None
    apart = ((0.3 * t[:, None] * noise + 0.1) - 0.5 * (t / 2)[:, None] * noise).square().sum(1)
    c = 0.00054 * math.sqrt(2)
    torch.testing.assert_close(loss.detach(), 2 / t * ((apart + c**2).sqrt() - c))
    plain = consistency_training(student, target, x0, t, t / 2, noise, distance="l2")
    torch.testing.assert_close(plain.detach(), apart / 2)


def test_levels_and_intervals_of_consistency_are_the_papers():
    levels = karras_levels(11, 0.002, 80.0)
    truth = [(0.002 ** (1 / 7) + i / 10 * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7 for i in range(11)]
    assert levels.tolist() == pytest.approx(truth)
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    shares = torch.bincount(pick_interval(u, levels), minlength=10).double() / 20_000
    erf = [math.erf((math.log(s) + 1.1) / (math.sqrt(2) * 2)) for s in truth]  # 2310.14189, eq. 9
    mass = np.diff(erf) / (erf[-1] - erf[0])
    assert shares.tolist() == pytest.approx(mass.tolist(), abs=1e-4)


def test_on_a_models_own_pairs_a_straight_flow_has_no_loss():
    """x0 = m + s z pairs each noise with its end on a line that crosses no other; independent pairs do cross."""

    class Straight(Denoiser):
        path = RectifiedFlow()

        def __call__(self, x, t, condition=None):
            t = t[:, None]
            z = (x - (1 - t) * MEAN) / ((1 - t) * math.sqrt(VARIANCE) + t)
            return Prediction(self.path, x, t[:, 0], velocity=z - MEAN - math.sqrt(VARIANCE) * z)

    z = torch.randn(50, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x0, t = MEAN + math.sqrt(VARIANCE) * z, torch.linspace(0.05, 0.95, 50, dtype=torch.float64)
    assert float(OBJECTIVES["reflow"](Straight(), x0, t, z).max()) < 1e-20
    assert float(OBJECTIVES["rectified_flow"](Straight(), x0.flip(0), t, z).mean()) > 0.1


def test_every_name_resolves_and_presets_hold():
    for entry in [*OBJECTIVES.values(), *TIMESTEPS.values()]:
        assert callable(entry.resolve())
    x0, noise, _ = grid()
    t = torch.full((len(x0),), 0.5, dtype=torch.float64)
    for name in ("eps", "x0", "v"):
        denoiser = Linear(VP(), 0.3, 0.1)
        torch.testing.assert_close(
            OBJECTIVES[name](denoiser, x0, t, noise), regression(denoiser, x0, t, noise, view=name)
        )
