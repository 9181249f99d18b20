"""The SDEs of every path have its marginals, forward and back; chains tend to them; solvers are what they are named."""

import math

import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VE,
    VP,
    Cosine,
    DiscreteVP,
    Prediction,
    RectifiedFlow,
    SubVP,
    TrigFlow,
)
from implementations.diffusion.chains import Chain, ddpm_betas, smld_sigmas
from implementations.diffusion.law import marginal_law, output_law, variance_error
from implementations.diffusion.sde import diffuse, forward_drift, reverse_drift
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
CONTINUOUS = [VP(), Cosine(), SubVP(), VE(), EDM(), RectifiedFlow(), TrigFlow()]
PATHS = [*CONTINUOUS, DiscreteVP(BETAS)]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
SOLVERS = [("euler_maruyama", {"eta": 1.5}), ("reverse_diffusion", {})]


def inside(path, share):
    return path.t_min + share * (path.t_max - path.t_min)


def impulses(run, draws):
    """alpha and sigma of an affine map of one start and some noises, by unit impulses."""
    start = torch.zeros(draws + 1, 1, dtype=torch.float64)
    start[0] = 1

    def noise(k, like):
        unit = torch.zeros_like(like)
        unit[k + 1] = 1
        return unit

    found = run(start, noise)
    return float(found[0]), float(found[1:].square().sum().sqrt())


# the forward SDE


@every_path
def test_the_forward_sde_has_the_marginals_of_the_path(path):
    """Exactly, but for the steps of Euler and Maruyama: mean and deviation by impulses, an error of first order."""
    start, end = inside(path, 0.1), inside(path, 0.8)
    alpha = float(path.alpha(end) / path.alpha(start))
    sigma = math.sqrt(float(path.sigma(end)) ** 2 - alpha**2 * float(path.sigma(start)) ** 2)
    errors = []
    for steps in (40, 160):
        times = torch.linspace(start, end, steps + 1, dtype=torch.float64)
        a, s = impulses(lambda x, noise, times=times: diffuse(path, x, times, noise=noise), steps)
        errors.append(abs(a / alpha - 1) + abs(s / sigma - 1))
    assert errors[-1] < 0.05
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(1, abs=0.1)


def test_simulated_noise_has_the_moments_of_the_path():
    path, n = RectifiedFlow(), 20_000
    times = torch.linspace(0, 0.6, 101, dtype=torch.float64)
    found = diffuse(path, torch.full((n, 1), 2.0, dtype=torch.float64), times, noise=lambda k, _: normal(n, 1, seed=k))
    # five standard errors, and 1 % for the steps
    assert float(found.mean()) == pytest.approx(2 * 0.4, abs=5 * 0.6 / math.sqrt(n) + 0.008)
    assert float(found.std()) == pytest.approx(0.6, rel=5 / math.sqrt(2 * n) + 0.01)


def test_diffuse_goes_up_where_the_sde_is_finite():
    x = normal(2, 3)
    for path, times in ((VP(), [1.0, 0.5]), (RectifiedFlow(), [0.5, 0.5]), (VE(), [1.0, 0.0])):
        with pytest.raises(ValueError, match="ascend"):
            diffuse(path, x, torch.tensor(times))
    assert diffuse(RectifiedFlow(), x, torch.tensor([0.0, 0.5, 1.0])).isfinite().all()  # f at the last time is not used
    with pytest.raises(ValueError, match=r"t must lie in .*, got nan"):
        diffuse(DiscreteVP(BETAS), x, torch.tensor([math.nan, 0.5]))


# the SDEs that lead back


@every_path
def test_every_reverse_sde_has_the_marginals_of_a_gaussian(path):
    """By the moments' ODE: ``dm/dt`` is the drift at m, ``dV/dt = 2 A V - eta^2 g^2`` with A the drift's slope."""
    oracle = gaussian(path)
    mean, spectrum = oracle.means[0], oracle.spectra[0]
    for share in (0.1, 0.3, 0.6, 0.9):
        t = inside(path, share)
        alpha, sigma, d_alpha, d_sigma, g = (
            float(f(t)) for f in (path.alpha, path.sigma, path.d_alpha, path.d_sigma, path.diffusion)
        )
        rows = torch.stack([alpha * mean, alpha * mean + 1])
        for eta in (0.0, 0.5, 1.0, 2.0):
            drift = reverse_drift(oracle(rows, t), eta)
            slope, variance = drift[1] - drift[0], alpha**2 * spectrum + sigma**2
            torch.testing.assert_close(drift[0], d_alpha * mean, rtol=1e-9, atol=1e-9)
            growth = 2 * slope * variance - eta**2 * g**2
            torch.testing.assert_close(
                growth, 2 * alpha * d_alpha * spectrum + 2 * sigma * d_sigma, rtol=1e-9, atol=1e-9 * (g**2 + 1)
            )


@every_path
def test_drifts_take_a_time_a_sample(path):
    oracle, x = gaussian(path), normal(3, 6)
    t = torch.tensor([inside(path, share) for share in (0.2, 0.5, 0.7)], dtype=torch.float64)
    for k in range(3):
        alone = x[k : k + 1], float(t[k])
        torch.testing.assert_close(reverse_drift(oracle(x, t))[k : k + 1], reverse_drift(oracle(*alone)))
        torch.testing.assert_close(forward_drift(path, x, t)[k : k + 1], forward_drift(path, *alone))
    f, g = float(path.drift(t[0])), float(path.diffusion(t[0]))
    score = oracle.score(x, float(t[0]))
    expected = f * x - g**2 * score  # 2011.13456, eq. 6
    torch.testing.assert_close(reverse_drift(oracle(x, float(t[0]))), expected, rtol=1e-9, atol=1e-9)


def test_the_score_at_sigma_zero_is_named():
    prediction = Prediction(RectifiedFlow(), normal(2, 3), 0.0, v=normal(2, 3))
    with pytest.raises(ValueError, match="score"):
        reverse_drift(prediction)
    assert torch.equal(reverse_drift(prediction, 0.0), prediction.velocity)


# solvers


@every_path
def test_no_noise_is_euler_in_t(path):
    oracle, times = gaussian(path), SCHEDULES["karras"](path, 20)
    x = path.prior(normal(5, 6), float(times[0]))
    found = SAMPLERS["euler_maruyama"](oracle, x, times, eta=0.0)
    torch.testing.assert_close(found, SAMPLERS["euler"](oracle, x, times, coordinate="t"), rtol=1e-12, atol=1e-12)
    up = SAMPLERS["euler_maruyama"](oracle, x, times.flip(0), eta=0.0)
    torch.testing.assert_close(up, SAMPLERS["euler"](oracle, x, times.flip(0), coordinate="t"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: "-".join(map(str, (solver[0], *solver[1].values()))))
def test_weak_order_on_the_other_paths(solver):
    name, options = solver
    for path in (SubVP(), Cosine(), VE(), EDM(), TrigFlow()):  # VP and RectifiedFlow are asked in test_samplers
        oracle, biases = gaussian(path), []
        for steps in (80, 320):
            times = SCHEDULES["karras"](path, steps, sigma_min=0.02, sigma_max=40.0, clean=False)
            law = output_law(SAMPLERS[name], oracle, times, options)
            biases.append(variance_error(law, marginal_law(oracle, times[-1])))
        assert math.log2(biases[0] / biases[1]) / 2 == pytest.approx(1, abs=0.15), (path, biases)


def test_steps_are_those_of_the_papers_chains():
    """On DDPM's table and on SMLD's levels, by the score (2011.13456, eq. 4, 46, 47 and app. E)."""
    x, z = normal(3, 6), normal(3, 6, seed=1)

    def stepped(name, path, times, **options):
        return SAMPLERS[name](
            gaussian(path), x, torch.tensor(times, dtype=torch.float64), noise=lambda _, like: z, **options
        )

    table = DiscreteVP(BETAS)
    for k in (1, 300, 999):
        beta, score = float(BETAS[k]), gaussian(table).score(x, float(k))
        found = stepped("reverse_diffusion", table, [k, k - 1])
        torch.testing.assert_close(found, (2 - math.sqrt(1 - beta)) * x + beta * score + math.sqrt(beta) * z)
        found = stepped("ddpm", table, [k, k - 1], variance="large")
        torch.testing.assert_close(found, (x + beta * score) / math.sqrt(1 - beta) + math.sqrt(beta) * z)
    ve = VE()
    here, there = (float(ve.sigma(t)) ** 2 for t in (0.5, 0.48))
    score, gap = gaussian(ve).score(x, 0.5), here - there
    found = stepped("reverse_diffusion", ve, [0.5, 0.48])
    torch.testing.assert_close(found, x + gap * score + math.sqrt(gap) * z)
    found = stepped("ddpm", ve, [0.5, 0.48])
    torch.testing.assert_close(found, x + gap * score + math.sqrt(there * gap / here) * z)


def test_euler_maruyama_by_the_paper():
    path, x, z = VP(), normal(3, 6), normal(3, 6, seed=1)
    beta, score, eta, dt = 0.1 + 19.9 * 0.5, gaussian(path).score(x, 0.5), 0.7, -0.02
    found = SAMPLERS["euler_maruyama"](
        gaussian(path), x, torch.tensor([0.5, 0.48], dtype=torch.float64), noise=lambda _, like: z, eta=eta
    )
    drift = -beta / 2 * x - (1 + eta**2) / 2 * beta * score
    torch.testing.assert_close(found, x + drift * dt + eta * math.sqrt(beta * -dt) * z)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("euler_maruyama", {"eta": -0.1}, "eta must be at least 0"),
        ("euler_maruyama", {"eta": math.inf}, "eta"),
        ("euler_maruyama", {"eta": math.nan}, "eta"),
    ],
)
def test_wrong_options_are_named(name, options, says):
    with pytest.raises(ValueError, match=says):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), **options)


@pytest.mark.parametrize("name", ["euler_maruyama", "reverse_diffusion"])
def test_noise_is_not_inverted(name):
    with pytest.raises(ValueError, match="ascending times"):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.1, 0.5]))


# chains


@pytest.mark.parametrize("limit", ["ddpm", "smld"])
def test_chains_tend_to_their_paths_at_first_order(limit):
    """DDPM to VP, SMLD to VE: alpha and sigma of step i against those at t = i/N."""
    path, errors = VP() if limit == "ddpm" else VE(), []
    for n in (500, 2000):
        chain = Chain.ddpm(ddpm_betas(path, n)) if limit == "ddpm" else Chain.smld(smld_sigmas(path, n))
        t = torch.arange(1, n + 1).double() / n
        late = t > 0.1
        found, exact = torch.stack(chain.marginals()), torch.stack([path.alpha(t), path.sigma(t)])
        errors.append(float((found / exact - 1).abs()[:, late].max()))
    assert errors[-1] < 0.05
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(1, abs=0.1)


@every_path
def test_transitions_of_a_path_have_its_marginals(path):
    """From x_0 where sigma = 0 there; else on top of what noise there was."""
    times = torch.linspace(path.t_min, inside(path, 0.95), 30, dtype=torch.float64)
    alphas, sigmas = Chain.of_path(path, times).marginals()
    torch.testing.assert_close(alphas * path.alpha(times[0]), path.alpha(times[1:]), rtol=1e-12, atol=0)
    before = (alphas * path.sigma(times[0])).square()
    torch.testing.assert_close((sigmas.square() + before).sqrt(), path.sigma(times[1:]), rtol=1e-10, atol=0)


def test_chains_are_transitions_of_their_own_paths():
    ddpm = Chain.of_path(DiscreteVP(BETAS), torch.arange(-1, 1000).double())
    torch.testing.assert_close(ddpm.scales, Chain.ddpm(BETAS).scales, rtol=1e-12, atol=0)
    torch.testing.assert_close(ddpm.deviations, Chain.ddpm(BETAS).deviations, rtol=1e-9, atol=0)
    sigmas = smld_sigmas(VE(), 50)
    smld = Chain.of_path(VE(), torch.linspace(0, 1, 50, dtype=torch.float64))
    torch.testing.assert_close(smld.deviations, Chain.smld(sigmas).deviations[1:], rtol=1e-12, atol=0)
    torch.testing.assert_close(smld.scales, torch.ones(49).double())


def test_a_chain_runs_to_its_marginal():
    chain = Chain.ddpm(BETAS[:50])
    found = impulses(lambda x, noise: chain.run(x, noise=noise), 50)
    assert found == pytest.approx([float(m[-1]) for m in chain.marginals()], rel=1e-12)
    first, second = (chain.run(normal(2, 3), generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_reversed_chain_gives_the_data_back_at_first_order():
    """DDPM of N steps sampled through all of them, last step to the clean end."""
    errors = []
    for n in (100, 400):
        path = DiscreteVP(ddpm_betas(VP(), n))
        times = torch.arange(n - 1, -1, -1).double()
        law = output_law(SAMPLERS["ddpm"], gaussian(path), times, {"variance": "large"})
        errors.append(variance_error(law, marginal_law(gaussian(path), times[-1])))
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(1, abs=0.15), errors


@pytest.mark.parametrize(
    "make", [lambda: Chain.ddpm([0.1, 1.1]), lambda: Chain.ddpm([0.0]), lambda: Chain.smld([1.0, 0.5])]
)
def test_wrong_tables_are_named(make):
    with pytest.raises(ValueError, match=r"betas must lie in \(0, 1\]|sigmas must rise"):
        make()
