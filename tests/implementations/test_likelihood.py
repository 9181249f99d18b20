"""Likelihood by the flow: the exact log-density of oracles, at the order of the method; probes; bits a dimension."""

import math

import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VE,
    VP,
    Cosine,
    Denoiser,
    DiscreteVP,
    GaussianOracle,
    MixtureOracle,
    Network,
    RectifiedFlow,
    SubVP,
    TrigFlow,
)
from implementations.diffusion.noise import PerSampleNoise
from implementations.samplers.likelihood import dequantise, log_likelihood
from metrics.samples.likelihood import bits_per_dim

CONTINUOUS = [VP(), Cosine(), SubVP(), VE(), EDM(), RectifiedFlow(), TrigFlow()]
PATHS = [*CONTINUOUS, DiscreteVP(torch.linspace(1e-4, 0.02, 1000))]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
ORDERS = {"euler": 1, "heun": 2, "bosh3": 3, "rk4": 4}


def gaussian(path, d=3):
    return GaussianOracle(path, torch.linspace(-1, 1, d).double(), torch.linspace(0.05, 2, d).double())


def correlated(path):
    """A full covariance: a Jacobian with entries off the diagonal."""
    root = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.4, 0.2]], dtype=torch.float64)
    return GaussianOracle(path, torch.zeros(3, dtype=torch.float64), root @ root.T)


def mixture(path):
    means = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], dtype=torch.float64)
    variances = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    return MixtureOracle(path, means, variances, [0.5, 0.3, 0.2], labels=torch.tensor([0, 1, 1]))


def ascending(path, steps, schedule="karras"):
    return SCHEDULES[schedule](path, steps, sigma_min=0.02, sigma_max=40.0, clean=False).flip(0)


def problem(oracle, times, n=4):
    """Data noised to the first time, and the exact log-density at the last."""
    generator = torch.Generator().manual_seed(0)
    data = oracle.sample(n, generator)
    noise = torch.randn(data.shape, generator=generator, dtype=torch.float64)
    x = oracle.path.alpha(times[0]) * data + oracle.path.sigma(times[0]) * noise
    return x, lambda y: oracle.log_density(y, times[-1])


def error(oracle, times, **options):
    x, prior = problem(oracle, times)
    found = log_likelihood(oracle, x, times, prior=prior, **options)
    return float((found.nats - oracle.log_density(x, times[0])).square().mean().sqrt())


# order


@pytest.mark.parametrize("method", ORDERS)
@pytest.mark.parametrize("coordinate", ["angle", "sigma", "lambda", "t"])
def test_the_error_falls_with_the_order_on_a_gaussian(method, coordinate):
    # in t the paths differ; in the other coordinates equivariance covers the rest
    for path in (SubVP(), RectifiedFlow()) if coordinate == "t" else (VP(),):
        errors = [
            error(gaussian(path), ascending(path, steps), method=method, coordinate=coordinate) for steps in (20, 80)
        ]
        slope = math.log2(errors[0] / errors[-1]) / 2
        assert abs(slope - ORDERS[method]) < (0.15 if ORDERS[method] < 3 else 0.25), (path, errors)


@pytest.mark.parametrize("oracle", [mixture(EDM()), correlated(EDM())], ids=["mixture", "correlated"])
def test_the_error_falls_with_the_order_elsewhere(oracle):
    errors = [error(oracle, ascending(oracle.path, steps), method="heun") for steps in (20, 80)]
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(2, abs=0.2), errors
    assert error(oracle, ascending(oracle.path, 80), method="rk4") < 1e-4


def test_one_log_snr_grid_gives_one_likelihood():
    """But for the volume of the scale alpha, ``-d log alpha``: of the same data, on every path."""
    results = []
    for path in CONTINUOUS:
        times = ascending(path, 12)
        oracle = gaussian(path)
        x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3) * path.alpha(times[0])
        found = log_likelihood(oracle, x, times, prior=lambda y, t=times[-1], o=oracle: o.log_density(y, t))
        results.append(found.nats + 3 * path.alpha(times[0]).log())
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-10, atol=1e-10)


@every_path
def test_from_end_to_end_with_the_prior_of_a_user(path):
    """In the angle nothing is singular; what is left is the prior's mismatch with the marginal, where alpha > 0."""
    oracle, times = gaussian(path), SCHEDULES["cosine"](path, 60).flip(0)
    x = oracle.sample(4, torch.Generator().manual_seed(0))
    found = log_likelihood(oracle, x, times, method="rk4")
    apart = float((found.nats - oracle.log_density(x, float(times[0]))).abs().max())
    ends_in_noise = float(path.alpha(path.t_max)) == 0
    assert apart < (1e-5 if ends_in_noise else 0.1)
    assert bool((found.error == 0).all())
    # the flow's own end
    exact = oracle.flow(x, float(times[0]), float(times[-1]))
    torch.testing.assert_close(found.latent, exact, rtol=1e-4, atol=1e-4)


# probes


def test_probes_estimate_the_exact_divergence_within_their_error():
    oracle = correlated(VP())
    times = ascending(VP(), 20)
    x, prior = problem(oracle, times, n=200)
    exact = log_likelihood(oracle, x, times, prior=prior).nats
    spread = {}
    for distribution in ("rademacher", "gaussian"):
        found = log_likelihood(
            oracle, x, times, prior=prior, divergence="hutchinson", probes=16, distribution=distribution
        )
        apart, variance = found.nats - exact, found.error.square().mean()
        assert abs(float(apart.mean())) < 5 * math.sqrt(float(variance) / 200)
        # of 200 squares, whose tails are those of a chi-squared: 5 standard errors of .1
        assert float(apart.square().mean() / variance) == pytest.approx(1, abs=0.5)
        spread[distribution] = float(found.error.mean())
    assert spread["rademacher"] < spread["gaussian"]


def test_rademacher_probes_are_exact_on_a_diagonal_jacobian():
    oracle, times = gaussian(VP()), ascending(VP(), 10)
    x, prior = problem(oracle, times)
    exact = log_likelihood(oracle, x, times, prior=prior)
    one = log_likelihood(oracle, x, times, prior=prior, divergence="hutchinson")
    torch.testing.assert_close(one.nats, exact.nats, rtol=1e-12, atol=1e-12)
    assert bool(one.error.isnan().all())  # one probe says nothing of its error
    two = log_likelihood(oracle, x, times, prior=prior, divergence="hutchinson", probes=2)
    assert float(two.error.max()) < 1e-12
    assert torch.equal(exact.latent, two.latent)


def test_probes_are_the_samples_own():
    oracle, times = correlated(VP()), ascending(VP(), 5)
    x, prior = problem(oracle, times, n=6)
    options = {"prior": prior, "divergence": "hutchinson", "probes": 3, "distribution": "gaussian"}
    together = log_likelihood(oracle, x, times, noise=PerSampleNoise(range(6)), **options)
    for i in (0, 5):
        alone = log_likelihood(oracle, x[i : i + 1], times, noise=PerSampleNoise([i]), **options)
        torch.testing.assert_close(alone.nats[0], together.nats[i], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(alone.error[0], together.error[i], rtol=1e-8, atol=1e-10)
    other = log_likelihood(oracle, x, times, noise=PerSampleNoise(range(6, 12)), **options)
    assert float((other.nats - together.nats).abs().min()) > 0


# networks, classes, shapes


@pytest.mark.parametrize("shape", [(), (4,), (1, 2, 2)])
@pytest.mark.parametrize("head", ["eps", "x0", "v", "velocity", "score"])
def test_any_head_and_shape(head, shape):
    """The oracle behind a network of each head gives the oracle's likelihood."""
    path = RectifiedFlow()
    d = math.prod(shape)
    oracle = GaussianOracle(path, torch.zeros(shape, dtype=torch.float64), torch.full(shape, 0.3, dtype=torch.float64))

    def module(x, t):
        return getattr(oracle(x, float(t[0])), head)

    times = ascending(path, 10)
    x, prior = problem(oracle, times)
    network = Network(path, module, head=head)
    found = log_likelihood(network, x, times, prior=prior)
    torch.testing.assert_close(found.nats, log_likelihood(oracle, x, times, prior=prior).nats, rtol=1e-8, atol=1e-8)
    assert found.latent.shape == (4, *shape)
    half = log_likelihood(network, x.float(), times.float(), prior=prior)
    assert half.nats.dtype == torch.float64
    assert half.latent.dtype == torch.float32
    torch.testing.assert_close(half.nats, found.nats, rtol=1e-4, atol=1e-4 * d)


def test_a_class_has_its_own_likelihood():
    path, condition = VP(), torch.tensor([0, 1, 1, 0])
    oracle, times = mixture(path), ascending(path, 80)
    x = oracle.sample(4, torch.Generator().manual_seed(1), condition=condition) * path.alpha(times[0])
    exact = oracle.log_density(x, times[0], condition)
    found = log_likelihood(
        oracle, x, times, method="rk4", condition=condition, prior=lambda y: oracle.log_density(y, times[-1], condition)
    )
    torch.testing.assert_close(found.nats, exact, rtol=0, atol=1e-4)


def test_pure_and_without_a_trace_of_gradients():
    oracle, times = gaussian(VP()), ascending(VP(), 5)
    x, _ = problem(oracle, times)
    x = x.requires_grad_()
    before = x.detach().clone()
    with torch.no_grad():  # asking for a gradient is its own affair
        first = log_likelihood(oracle, x, times)
    second = log_likelihood(oracle, x, times)
    assert torch.equal(first.nats, second.nats)
    assert torch.equal(x.detach(), before)
    assert not first.nats.requires_grad
    assert not first.latent.requires_grad


# bits a dimension


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_the_likelihood_is_the_same_where_gradients_are_forbidden(guard, divergence):
    """Also of samples and times that were made there."""
    oracle = mixture(EDM())

    def found():
        x, times = oracle.sample(4, torch.Generator().manual_seed(1)), ascending(oracle.path, 4)
        return log_likelihood(oracle, x, times, divergence=divergence, noise=PerSampleNoise([0, 1, 2, 3]))

    expected = found()
    with guard():
        given = found()
    assert given.nats.tolist() == expected.nats.tolist()
    assert not given.latent.requires_grad


def test_bits_of_dequantised_levels():
    """Levels of a Gaussian: bits by the flow are bits by the density, and no less than the levels' entropy."""
    path, n, deviation = RectifiedFlow(), 400, 12 / 128
    generator = torch.Generator().manual_seed(0)
    levels = (128 + 12 * torch.randn(n, 2, generator=generator, dtype=torch.float64)).floor().to(torch.uint8)
    oracle = GaussianOracle(path, torch.zeros(2, dtype=torch.float64), deviation**2)
    x = dequantise(levels).double()
    assert float(((x + 1) * 128 - levels).min()) >= 0
    assert float(((x + 1) * 128 - levels).max()) < 1
    found = log_likelihood(oracle, x, SCHEDULES["cosine"](path, 40).flip(0), method="rk4")
    bits = bits_per_dim(found.nats, 2, scale=1 / 128)
    exact = bits_per_dim(oracle.log_density(x, 0.0), 2, scale=1 / 128)
    assert bits.value == pytest.approx(exact.value, abs=1e-3)
    entropy = math.log2(12 * math.sqrt(2 * math.pi * math.e))  # of a density as smooth as this, that of its levels
    assert bits.value == pytest.approx(entropy, abs=5 * exact.error)


def test_dequantisation_is_uniform_and_its_options_count():
    torch.manual_seed(0)
    levels = torch.full((2000, 1), 255, dtype=torch.uint8)
    u = dequantise(levels, scale=1.0, offset=0.0).double() - 255
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    expected = (torch.arange(2000).double() + 0.5) / 2000
    assert float((u.flatten().sort().values - expected).abs().max()) < 1.63 / math.sqrt(2000)  # Kolmogorov's 1 %
    assert float(dequantise(levels).max()) < 1
    other = dequantise(levels, scale=1.0, offset=0.0, noise=PerSampleNoise(range(2000, 4000)))
    assert not torch.equal(other.double() - 255, u)


# errors


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "rk45"}, "method must be one of euler, heun"),
        ({"coordinate": "time"}, "coordinate must be one of"),
        ({"divergence": "trace"}, "divergence must be exact or hutchinson"),
        ({"probes": 2}, "options of divergence='hutchinson'"),
        ({"distribution": "gaussian"}, "options of divergence='hutchinson'"),
        ({"divergence": "hutchinson", "probes": 0}, "probes"),
        ({"divergence": "hutchinson", "distribution": "cauchy"}, "distribution must be rademacher or gaussian"),
    ],
)
def test_wrong_options_are_named(options, says):
    with pytest.raises(ValueError, match=says):
        log_likelihood(gaussian(VP()), torch.zeros(2, 3), torch.tensor([0.1, 0.9]), **options)


@pytest.mark.unchecked
def test_wrong_times_and_denoisers_are_named():
    path, x = RectifiedFlow(), torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="must ascend"):
        log_likelihood(gaussian(path), x, torch.tensor([0.9, 0.1]))
    for coordinate in ("sigma", "lambda"):
        with pytest.raises(ValueError, match=f"coordinate {coordinate} is infinite"):
            log_likelihood(gaussian(path), x, torch.tensor([0.0, 1.0]), coordinate=coordinate)
    with pytest.raises(ValueError, match="not finite"):
        log_likelihood(gaussian(path), x * math.nan, torch.tensor([0.1, 0.9]))

    class Detached(Denoiser):
        path = RectifiedFlow()

        def __call__(self, x, t, condition=None):
            with torch.no_grad():
                return gaussian(self.path)(x.detach(), t)

    with pytest.raises(ValueError, match="no gradient by x"):
        log_likelihood(Detached(), x, torch.tensor([0.1, 0.9]))
