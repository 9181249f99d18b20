"""Every path: derivatives against differences, the SDE against its marginals, log-SNR and its inverse, the ends."""

import math

import pytest
import torch

from implementations.catalogue import PATHS
from implementations.diffusion import EDM, VE, VP, Cosine, DiscreteVP, RectifiedFlow, SubVP, TrigFlow
from implementations.schedules.zero_snr import rescale_betas

BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
TERMINAL = DiscreteVP(rescale_betas(BETAS))  # its last beta is 1
EVERY = [VP(), Cosine(), SubVP(), VE(), EDM(), RectifiedFlow(), TrigFlow(), DiscreteVP(BETAS), TERMINAL]
every_path = pytest.mark.parametrize("path", EVERY, ids=lambda path: type(path).__name__)


def inside(path, n=301):
    """Times strictly inside, away from the knots of a table, where its derivative jumps."""
    share = torch.linspace(0.003, 0.997, n, dtype=torch.float64)
    times = path.t_min + share * (path.t_max - path.t_min)
    return times.floor() + 0.25 + 0.5 * times.frac() if isinstance(path, DiscreteVP) else times


def difference(function, times, step):
    """Fourth-order central difference."""
    return (
        8 * (function(times + step) - function(times - step)) - function(times + 2 * step) + function(times - 2 * step)
    ) / (12 * step)


@every_path
@pytest.mark.parametrize("name", ["alpha", "sigma"])
def test_derivatives_equal_differences(path, name):
    times = inside(path)
    step = 1e-4 * (path.t_max - path.t_min) if not isinstance(path, DiscreteVP) else 0.01
    expected = difference(getattr(path, name), times, step)
    scale = expected.abs().clamp(min=1e-3 * float(expected.abs().max()) + 1e-12)  # alpha' is 0 on EDM and VE
    # rounding 1e-16/step and truncation step^4 over t^4 near an end where sigma' grows
    assert float(((getattr(path, f"d_{name}")(times) - expected) / scale).abs().max()) < 1e-5


@every_path
def test_sde_has_the_marginals_of_the_path(path):
    """d(alpha)/dt = f alpha and d(sigma^2)/dt = 2 f sigma^2 + g^2 (2206.00927)."""
    times = inside(path)
    f, g = path.drift(times), path.diffusion(times)
    alpha, sigma = path.alpha(times), path.sigma(times)
    torch.testing.assert_close(f * alpha, path.d_alpha(times), rtol=1e-12, atol=1e-14)
    growth = 2 * sigma * path.d_sigma(times)
    # the two terms cancel at the noisy end of variance-preserving paths: relative to the larger
    assert float(((2 * f * sigma**2 + g**2 - growth).abs() / (g**2 + growth)).max()) < 1e-12


@every_path
def test_time_inverts_log_snr(path):
    low, high = float(path.log_snr(path.t_max)), float(path.log_snr(path.t_min))
    levels = torch.linspace(max(low, -4), min(high, 6), 2001, dtype=torch.float64)
    assert float((path.log_snr(path.time(levels)) - levels).abs().max()) < 1e-12
    times = inside(path)
    assert float((path.time(path.log_snr(times)) - times).abs().max()) < 1e-11 * (path.t_max - path.t_min)


@every_path
def test_noise_grows_with_time_and_lambda_is_the_log_ratio(path):
    times = torch.linspace(path.t_min, path.t_max, 1001, dtype=torch.float64)
    assert (path.log_snr(times).diff() < 0).all()
    times = inside(path)
    torch.testing.assert_close(
        path.log_snr(times), (path.alpha(times) / path.sigma(times)).log(), rtol=1e-11, atol=1e-13
    )
    if path.variance_preserving:
        torch.testing.assert_close(
            path.alpha(times) ** 2 + path.sigma(times) ** 2, torch.ones_like(times), rtol=0, atol=1e-15
        )


@every_path
def test_ends_are_exact_and_never_nan(path):
    for t in (path.t_min, path.t_max):
        for name in ("alpha", "sigma", "d_alpha", "d_sigma", "drift", "diffusion", "log_snr", "ratio"):
            value = getattr(path, name)(t)
            assert value.dtype == torch.float64
            assert not value.isnan(), (name, t)
    assert float(path.alpha(path.t_min)) == 1
    if isinstance(path, VE):
        assert float(path.sigma(path.t_min)) == pytest.approx(path.sigma_min, rel=1e-15)
    else:
        assert float(path.sigma(path.t_min)) == 0
        assert float(path.log_snr(path.t_min)) == math.inf
    if isinstance(path, Cosine | RectifiedFlow | TrigFlow):
        assert float(path.alpha(path.t_max)) == 0
        assert float(path.log_snr(path.t_max)) == -math.inf
        assert float(path.time(-math.inf)) == pytest.approx(path.t_max, rel=1e-15)


@pytest.mark.parametrize("path", [VP(), Cosine()], ids=lambda path: type(path).__name__)
def test_diffusion_is_finite_at_zero_where_the_derivative_of_sigma_is_not(path):
    assert math.isinf(float(path.d_sigma(0.0)))
    assert float(path.diffusion(0.0)) == pytest.approx(float(path.diffusion(1e-9)), rel=1e-6)


def test_discrete_vp_holds_the_table_at_its_timesteps():
    path, k = DiscreteVP(BETAS), torch.arange(1000)
    torch.testing.assert_close(path.alpha(k) ** 2, (1 - BETAS).cumprod(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(path.time(path.log_snr(k)), k.double(), rtol=0, atol=1e-9)
    between = path.log_snr(torch.tensor([10.0, 10.5, 11.0]))
    assert float(between[1]) == pytest.approx(float(between[0] + between[2]) / 2, rel=1e-14)
    clean = path.ratio(torch.tensor([-1.0, -0.5, 0.0]))
    torch.testing.assert_close(clean, clean[2] * torch.tensor([0.0, 0.5, 1.0]).double(), rtol=1e-13, atol=0)


def test_a_last_beta_of_one_ends_without_signal():
    k = torch.arange(1000)
    alphas = TERMINAL.alpha(k)
    torch.testing.assert_close(alphas**2, (1 - TERMINAL.betas).cumprod(0), rtol=1e-10, atol=0)
    assert float(alphas[-1]) == 0
    ratios = 1 / TERMINAL.ratio(torch.tensor([998.0, 998.5, 999.0]))
    torch.testing.assert_close(ratios, ratios[0] * torch.tensor([1.0, 0.5, 0.0]).double(), rtol=1e-12, atol=0)
    end = torch.tensor([998.0, 998.75, 999.0])
    torch.testing.assert_close(TERMINAL.time(TERMINAL.log_snr(end)), end.double(), rtol=0, atol=1e-9)
    assert float(TERMINAL.d_alpha(999.0)) == pytest.approx(-float(ratios[0]), rel=1e-12)
    assert float(TERMINAL.d_sigma(999.0)) == 0
    assert float(TERMINAL.drift(999.0)) == -math.inf


@every_path
def test_prior_has_the_scale_of_the_noise(path):
    noise = torch.ones(2, 3)
    for t in (path.t_max, float(path.time(0.5))):
        expected = 1.0 if path.variance_preserving else float(path.sigma(t))
        torch.testing.assert_close(path.prior(noise, t), noise * expected)


def test_the_catalogue_holds_every_path():
    assert {entry.resolve() for entry in PATHS.values()} >= {type(path) for path in EVERY}


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: VP(beta_min=0), "beta_min"),
        (lambda: SubVP(beta_min=3, beta_max=2), "beta_min"),
        (lambda: Cosine(s=0), "s must"),
        (lambda: VE(sigma_min=2, sigma_max=1), "sigma_min"),
        (lambda: EDM(sigma_max=-1), "sigma_max"),
        (lambda: DiscreteVP([0.1, 1.0]), "betas"),
        (lambda: DiscreteVP([0.1]), "betas"),
    ],
)
def test_wrong_parameters_are_named(make, names):
    with pytest.raises(ValueError, match=names):
        make()
