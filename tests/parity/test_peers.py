"""Our samplers against diffusers' and k-diffusion's: the same grid, levels and noise, on exact denoisers."""

from __future__ import annotations

import math
from typing import NamedTuple

import diffusers
import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VP,
    CountingDenoiser,
    DiscreteVP,
    GaussianOracle,
    MixtureOracle,
    RectifiedFlow,
    TrigFlow,
)
from implementations.diffusion.law import marginal_law
from implementations.diffusion.noise import PerSampleNoise
from implementations.peers import k_diffusion_samplers
from implementations.samplers import SAMPLERS
from implementations.schedules.spacing import grade
from tests.exact import gaussian, normal

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of peers' own making
PEERS = [name for name, entry in SAMPLERS.items() if entry.package]
DOUBLE, SINGLE = 1e-6, 1e-4  # relative; the second where a peer's step casts its state to float32
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)


# starts of every order, diffusers' lower order at the end, which it takes below 15 steps alone, and many
STEPS = (1, 2, 3, 4, 5, 6, 9, 14, 15, 30)


class Pair(NamedTuple):
    """One method twice; ``clean``: both make the same step to sigma = 0; ``least``: steps that the peer needs there."""

    peer: str
    options: dict
    ours: str
    our_options: dict
    tolerance: float = DOUBLE
    clean: bool = True
    least: int = 1


CHURN = {"s_churn": 9.0, "s_tmin": 0.05, "s_tmax": 20.0, "s_noise": 1.003}  # below the start: ours lifts none beyond it
HEUN, HALF = {"solver_type": "heun"}, {"half_curvature": True}
PAIRS = [
    Pair("diffusers_ddim", {}, "ddim", {}),
    Pair("diffusers_ddim", {"eta": 0.7}, "ddim", {"eta": 0.7}),
    Pair("diffusers_ddpm", {}, "ddpm", {}),
    Pair("diffusers_ddpm", {"variance": "large"}, "ddpm", {"variance": "large"}),
    Pair("diffusers_plms", {}, "plms", {}, clean=False, least=2),
    Pair("diffusers_ipndm", {}, "ipndm", {}, clean=False),
    Pair("diffusers_euler", {}, "euler", {}, SINGLE),
    Pair("diffusers_edm_euler", {}, "edm_euler", {"s_churn": 0.0}, SINGLE),
    Pair("diffusers_heun", {}, "heun", {}),
    Pair("diffusers_dpm_2", {}, "midpoint", {}),
    Pair("diffusers_lms", {}, "lms", {}, clean=False),
    Pair("diffusers_lms", {"order": 2}, "lms", {"order": 2}, clean=False),
    Pair("diffusers_euler_ancestral", {}, "euler_ancestral", {}, SINGLE),
    Pair("diffusers_dpm_2_ancestral", {}, "dpm_2_ancestral", {}),
    Pair("diffusers_deis", {}, "dpm_solver_multistep", HEUN, clean=False),
    Pair("diffusers_deis", {"order": 3}, "dpm_solver_multistep", HEUN | {"order": 3}, clean=False),
    Pair("diffusers_dpm_solver_2", {}, "dpm_solver_2", {}, clean=False),
    Pair("diffusers_dpm_solver_3", HEUN, "dpm_solver_3", HEUN, clean=False),
    Pair("diffusers_dpm_solver_multistep_2", {}, "dpm_solver_multistep", {}, SINGLE, clean=False),
    Pair("diffusers_dpm_solver_multistep_3", {}, "dpm_solver_multistep", HALF | {"order": 3}, SINGLE, clean=False),
    Pair("diffusers_dpmpp_2s", {}, "dpmpp_2s", {}),
    Pair("diffusers_dpmpp_2s", HEUN, "dpmpp_2s", HEUN),
    Pair("diffusers_dpmpp_3s", HEUN, "dpmpp_3s", HEUN),
    Pair("diffusers_dpmpp_2m", {}, "dpmpp_2m", {}, SINGLE),
    Pair("diffusers_dpmpp_2m", HEUN, "dpmpp_2m", HEUN, SINGLE),
    Pair("diffusers_dpmpp_3m", {}, "dpmpp_3m", HALF, SINGLE),
    Pair("diffusers_dpmpp_3m", HEUN, "dpmpp_3m", HALF | HEUN, SINGLE),
    Pair("diffusers_edm_dpmpp_2m", {}, "dpmpp_2m", {}),
    Pair("diffusers_dpmpp_sde", {}, "dpmpp_sde", {}),
    Pair("diffusers_dpmpp_2m_sde", {}, "dpmpp_2m_sde", {}, SINGLE),
    Pair("diffusers_dpmpp_2m_sde", HEUN, "dpmpp_2m_sde", HEUN, SINGLE),
    Pair("diffusers_sa_solver", {"corrector_order": 1}, "sa_solver",
         {"corrector_order": 1, "few_steps": True}, clean=False),
    Pair("diffusers_sa_solver", {"predictor_order": 3, "corrector_order": 1, "tau": 0.5}, "sa_solver",
         {"order": 3, "corrector_order": 1, "tau": 0.5, "few_steps": True}, clean=False),
    Pair("diffusers_unipc_bh1", {}, "unipc_bh1", {}, clean=False),
    Pair("diffusers_unipc_bh2", {}, "unipc_bh2", {}),
    Pair("diffusers_unipc_bh2", {"order": 3}, "unipc_bh2", {"order": 3}),
    Pair("k_diffusion_euler", {}, "euler", {}),
    Pair("k_diffusion_euler", CHURN, "edm_euler", CHURN),
    Pair("k_diffusion_heun", {}, "heun", {}),
    Pair("k_diffusion_heun", CHURN, "edm_heun", CHURN),
    Pair("k_diffusion_dpm_2", {}, "midpoint", {}),
    Pair("k_diffusion_lms", {}, "lms", {}, clean=False),
    Pair("k_diffusion_lms", {"order": 3}, "deis_rhoab", {"order": 3}, clean=False),
    Pair("k_diffusion_euler_ancestral", {"eta": 0.6}, "euler_ancestral", {"eta": 0.6}),
    Pair("k_diffusion_dpm_2_ancestral", {}, "dpm_2_ancestral", {}),
    Pair("k_diffusion_dpm_2_ancestral", {"eta": 0.6}, "dpm_2_ancestral", {"eta": 0.6}),
    Pair("k_diffusion_dpmpp_2s_ancestral", {"s_noise": 1.01}, "dpmpp_2s_ancestral", {"s_noise": 1.01}),
    Pair("k_diffusion_dpmpp_2s_ancestral", {"eta": 0.0}, "dpmpp_2s", {}),
    Pair("k_diffusion_dpmpp_sde", {}, "dpmpp_sde", {}),
    Pair("k_diffusion_dpmpp_sde", {"r": 0.4, "eta": 0.8}, "dpmpp_sde", {"r": 0.4, "eta": 0.8}),
    Pair("k_diffusion_dpmpp_2m", {}, "dpmpp_2m", {}),
    Pair("k_diffusion_dpmpp_2m_sde", {}, "dpmpp_2m_sde", {}, least=2),
    Pair("k_diffusion_dpmpp_2m_sde", HEUN | {"eta": 0.5}, "dpmpp_2m_sde", HEUN | {"eta": 0.5}, least=2),
    Pair("k_diffusion_dpmpp_3m_sde", {}, "dpmpp_3m_sde", HALF, least=2),
]  # fmt: skip
STRAIGHT = [  # in t, where the path matters
    Pair("diffusers_flow_euler", {}, "flow_euler", {}, SINGLE),
    Pair("diffusers_flow_heun", {}, "flow_heun", {}, SINGLE, clean=False),
    Pair("diffusers_flow_stochastic", {}, "flow_stochastic", {}, SINGLE),
]


def label(value):
    if isinstance(value, Pair):
        return "-".join([value.peer, *(f"{k}={v}" for k, v in value.options.items())])
    return value if isinstance(value, str) else type(value).__name__


def mixture(path):
    return MixtureOracle(
        path, normal(4, 6), torch.full((4,), 0.2).double(), torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    )


def apart(pair, oracle, times):
    noise, x = (
        PerSampleNoise(range(3)),
        normal(3, 6) * math.hypot(*(float(f(times[0])) for f in (oracle.path.alpha, oracle.path.sigma))),
    )
    theirs = SAMPLERS[pair.peer](oracle, x, times, noise=noise, **pair.options)
    ours = SAMPLERS[pair.ours](oracle, x, times, noise=noise, **pair.our_options)
    return float((theirs - ours).abs().max() / ours.abs().max())


# the same method


@pytest.mark.unchecked
@pytest.mark.parametrize("pair", PAIRS, ids=label)
@pytest.mark.parametrize("oracle", [gaussian(VP()), mixture(VP())], ids=label)
def test_the_same_samples_at_every_number_of_steps(pair, oracle):
    """The Gaussian's grids end above sigma = 0, the mixture's at it where both step there alike."""
    clean = pair.clean and not isinstance(oracle, GaussianOracle)
    for steps in STEPS:
        if steps >= pair.least or not (clean or pair.ours == "plms"):
            times = SCHEDULES["karras"](oracle.path, steps, clean=clean)
            assert apart(pair, oracle, times) < pair.tolerance, steps


@pytest.mark.unchecked
@pytest.mark.parametrize("pair", STRAIGHT, ids=label)
@pytest.mark.parametrize("oracle", [gaussian(RectifiedFlow()), mixture(RectifiedFlow())], ids=label)
def test_the_same_samples_on_the_straight_path(pair, oracle):
    for steps in STEPS:
        times = SCHEDULES["uniform"](oracle.path, steps, end=0.0 if pair.clean else 0.01)
        # alpha = 0 at the start: a step of first order here, of second there
        times = times if pair.clean else times.clamp(max=0.99)
        assert apart(pair, oracle, times) < pair.tolerance, steps


@pytest.mark.parametrize("path", [EDM(), RectifiedFlow(), DiscreteVP(BETAS)], ids=label)
@pytest.mark.parametrize(
    "pair", [p for p in PAIRS if p.peer in ("diffusers_unipc_bh2", "k_diffusion_dpmpp_2m_sde")], ids=label
)
def test_peers_run_on_every_path(pair, path):
    assert apart(pair, mixture(path), SCHEDULES["karras"](path, 12)) < pair.tolerance


# the contract


def grid(name, path, steps):
    """Ends at sigma = 0 where the peer reaches it, above it otherwise; upwards for an inversion."""
    times = SCHEDULES["karras"](path, steps, clean=True)
    if SAMPLERS[name].ascending:
        return times.flip(0)
    try:
        SAMPLERS[name](gaussian(path), normal(3, 6), times)
    except (ValueError, FloatingPointError):
        times = SCHEDULES["karras"](path, steps, clean=False)
    return times


@pytest.mark.unchecked
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_keeps_the_contract(name):
    path, steps = VP(), 4
    times, x, seen, entry = grid(name, path, steps), normal(3, 6).float(), [], SAMPLERS[name]
    counting = CountingDenoiser(gaussian(path))
    noise = PerSampleNoise(range(3))
    before = x.clone()
    found = entry(counting, x, times, noise=noise, callback=lambda i, t, x, p: seen.append((i, float(t), x)))
    assert found.dtype == torch.float32
    assert torch.equal(x, before)
    assert torch.equal(found, entry(gaussian(path), x, times, noise=noise))
    assert entry.evaluations(times, path=path) in (counting.calls, None)
    assert torch.equal(seen[-1][2], found)
    if not entry.adaptive:
        assert [i for i, *_ in seen] == list(range(steps))
        assert [t for _, t, _ in seen] == pytest.approx(times[1:].tolist())
    with pytest.raises(ValueError, match=r"ascending times|must ascend"):
        entry(gaussian(path), x, times.flip(0))
    with pytest.raises(ValueError, match="mode must be solver or shipped, got 'raw'"):
        entry(gaussian(path), x, times, mode="raw")


HOMES = [DiscreteVP(BETAS), RectifiedFlow(), EDM(), TrigFlow()]


@pytest.mark.unchecked
@pytest.mark.parametrize("name", [n for n in PEERS if n.startswith("diffusers") and n != "diffusers_unipc_bh1"])
def test_as_shipped_it_samples_at_home_and_nowhere_else(name):
    refusals = []
    for path in HOMES:
        times, entry, oracle = SCHEDULES["uniform"](path, 10), SAMPLERS[name], gaussian(path)
        x = path.prior(normal(500, 6), path.t_max)
        times, x = (times.flip(0), oracle.sample(500)) if entry.ascending else (times, x)
        counting = CountingDenoiser(oracle)
        try:
            found = entry(counting, x, times, mode="shipped")
        except ValueError as error:
            refusals.append(str(error))
            continue
        assert counting.calls == entry.evaluations(times, mode="shipped")
        expected = x.mean(0) * 0 if entry.ascending else oracle.mean
        assert float((found.mean(0) - expected).abs().max()) < 1  # it went to the data, or to the noise
    assert len(refusals) == len(HOMES) - 1
    assert all("as shipped lives on" in refusal for refusal in refusals)


def test_options_of_a_shipped_scheduler_are_its_own():
    path = DiscreteVP(BETAS)
    times, x, entry = SCHEDULES["uniform"](path, 8), normal(3, 6), SAMPLERS["diffusers_dpmpp_2m"]
    plain = entry(gaussian(path), x, times, mode="shipped")
    for options in ({"timestep_spacing": "trailing"}, {"use_karras_sigmas": True}, {"final_sigmas_type": "sigma_min"}):
        assert not torch.equal(plain, entry(gaussian(path), x, times, mode="shipped", **options))
        with pytest.raises(ValueError, match="belongs to mode='shipped'"):
            entry(gaussian(path), x, times, **options)
    with pytest.raises(ValueError, match="clip is no option of DPMSolverMultistepScheduler; there are num_train"):
        entry(gaussian(path), x, times, mode="shipped", clip=True)


def test_grids_of_k_diffusion_are_options_of_a_shipped_sampler():
    times, x, entry = SCHEDULES["uniform"](VP(), 8), normal(3, 6), SAMPLERS["k_diffusion_euler"]
    found = [
        entry(gaussian(VP()), x, times, mode="shipped", spacing=s) for s in ("karras", "exponential", "polyexponential")
    ]
    assert not torch.equal(found[0], found[1])
    torch.testing.assert_close(found[1], found[2], rtol=1e-4, atol=1e-4)  # one grid in float32, with a power of 1
    for options, says in [
        ({"spacing": "karras"}, "mode='shipped'"),
        ({"mode": "shipped", "spacing": "x"}, "got 'x'"),
        ({"order": 2}, "s_churn"),
    ]:
        with pytest.raises(ValueError, match=says):
            entry(gaussian(VP()), x, times, **options)


def test_an_absent_peer_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(k_diffusion_samplers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps k-diffusion"):
        k_diffusion_samplers.sampling.__wrapped__()


# where a peer differs, and which is right


def error(name, steps, **options):
    """RMS error of the flow on a Gaussian, strictly inside, after a graded start."""
    oracle = gaussian(VP())
    times = grade(SCHEDULES["karras"](VP(), steps, clean=False))
    x = oracle.flow(normal(8, 6), 1.0, times[0])
    return float(
        (SAMPLERS[name](oracle, x, times, **options) - oracle.flow(x, times[0], times[-1])).square().mean().sqrt()
    )


def test_diffusers_third_order_is_second():
    """Its D2 is the second divided difference, where the parabola's second derivative is twice that."""
    slope = {
        h: math.log2(error("dpmpp_3m", 160, half_curvature=h) / error("dpmpp_3m", 320, half_curvature=h))
        for h in (False, True)
    }
    assert slope[False] > 2.9
    assert slope[True] < 2.1  # which is diffusers' dpmpp_3m, by the parity above


def test_diffusers_midpoint_3s_is_another_method_of_the_same_order():
    """Its second stage is a midpoint step and not the paper's: others' coefficients, no error."""
    pair = Pair("diffusers_dpmpp_3s", {}, "dpmpp_3s", {})
    assert apart(pair, gaussian(VP()), SCHEDULES["karras"](VP(), 5)) > 1e-3
    assert math.log2(error(pair.peer, 80) / error(pair.peer, 160)) > 2.8


def spread_error(name, steps):
    """Of the output's variance on a Gaussian, by unit impulses, for states of float32, too."""
    oracle = gaussian(VP())
    times = SCHEDULES["karras"](VP(), steps, sigma_min=0.02, sigma_max=40.0, clean=False)
    first, last = (marginal_law(oracle, t) for t in (times[0], times[-1]))
    rows = torch.eye(steps + 2, dtype=torch.float64)[:, :, None].expand(-1, -1, 6)  # nothing, the start, each draw
    found = SAMPLERS[name](oracle, rows[:, 1], times, noise=lambda draw, like: rows[:, draw + 2])
    responses = (found[1:] - found[0]).square()
    variance = responses[0] * first.variance + responses[1:].sum(0)
    return float((variance / last.variance - 1).square().mean().sqrt())


def test_diffusers_3m_sde_is_of_first_order_and_worse_than_its_2m():
    """Its last coefficient has a sign wrong: ``(1 - e^-2h - 2h) / 4h^2 - 1/2`` tends to -1 with h, and not to 0.

    k-diffusion's is ``-((e^-2h - 1 + 2h) / 4h^2 - 1/2)``.
    """
    ratio = {
        name: spread_error(name, 80) / spread_error(name, 160)
        for name in ("k_diffusion_dpmpp_3m_sde", "diffusers_dpmpp_3m_sde")
    }
    assert ratio["k_diffusion_dpmpp_3m_sde"] > 3.5
    assert ratio["diffusers_dpmpp_3m_sde"] < 2.5
    assert spread_error("diffusers_dpmpp_3m_sde", 160) > 10 * spread_error("diffusers_dpmpp_2m_sde", 160)


def test_diffusers_unipc_bh1_returns_nan_at_its_default_end():
    """Its last step goes to sigma = 0, where ``B(h) = h`` is infinite and is multiplied by a residual of 0."""
    scheduler = diffusers.UniPCMultistepScheduler(solver_type="bh1")
    scheduler.set_timesteps(5)
    x = normal(2, 3, 4, 4)
    for t in scheduler.timesteps:
        before, x = x, scheduler.step(0 * x, t, x).prev_sample
    assert before.isfinite().all()
    assert x.isnan().all()
    times = SCHEDULES["karras"](VP(), 5)
    assert SAMPLERS["unipc_bh1"](gaussian(VP()), normal(3, 6), times).isfinite().all()


@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_3m_sde"])
def test_k_diffusions_multistep_sdes_cannot_take_one_step_to_the_data(name):
    """They read ``h`` after a denoising step, which has set none."""
    sample = getattr(k_diffusion_samplers.sampling(), f"sample_{name}")
    with pytest.raises(UnboundLocalError, match="'h'"):
        sample(lambda x, sigma: 0 * x, normal(2, 3), torch.tensor([1.0, 0.0]), noise_sampler=lambda *_: 0, disable=True)
    times = SCHEDULES["karras"](VP(), 1)
    assert SAMPLERS[name](gaussian(VP()), normal(3, 6), times).isfinite().all()


def test_diffusers_euler_adds_churn_that_the_model_never_sees():
    """``step`` lifts the state after the model was asked, so that the last lift stays in the sample (#8549)."""
    path = EDM()
    oracle = GaussianOracle(path, torch.zeros(6).double(), 0.0)  # of one datum, 0
    times, x = SCHEDULES["karras"](path, 10, sigma_min=0.1), 80 * normal(3, 6)
    options = {"s_churn": 5.0, "s_tmax": 50.0, "noise": PerSampleNoise(range(3))}
    for right in ("edm_euler", "k_diffusion_euler"):
        assert float(SAMPLERS[right](oracle, x, times, **options).abs().max()) < 1e-12
    left = float(SAMPLERS["diffusers_euler"](oracle, x, times, **options).std())
    assert left > 0.05  # about 0.1 sqrt(1.41^2 - 1)


def test_diffusers_ddim_falls_to_order_0_by_linspace():
    """Its previous timestep is ``t - 1000 // steps`` whatever the spacing (#12633): right by "leading" alone."""
    path = DiscreteVP(BETAS)
    oracle, x = gaussian(path), normal(64, 6)
    exact = oracle.flow(x, 999.0, 0.0)

    def off(spacing, steps):
        found = SAMPLERS["diffusers_ddim"](
            oracle, x, SCHEDULES["uniform"](path, steps), mode="shipped", timestep_spacing=spacing
        )
        return float((found - exact).square().mean().sqrt())

    assert off("leading", 40) / off("leading", 160) > 3
    assert off("linspace", 40) / off("linspace", 160) < 1.5
