"""Time grids: descending, within the path, laid out as they say, the same levels on every path, as published."""

import inspect
import itertools
import math

import numpy as np
import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VE,
    VP,
    Cosine,
    DiscreteVP,
    GaussianOracle,
    MixtureOracle,
    RectifiedFlow,
    SubVP,
    TrigFlow,
)
from implementations.diffusion.artifact import Artifact
from implementations.samplers import SAMPLERS
from implementations.schedules.gits import prepare
from implementations.schedules.zero_snr import rescale_betas

SD_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
PATHS = [
    VP(),
    Cosine(),
    SubVP(),
    VE(),
    EDM(),
    RectifiedFlow(),
    TrigFlow(),
    DiscreteVP(torch.linspace(1e-4, 0.02, 1000)),
]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
FIXED = [name for name in SCHEDULES if not SCHEDULES[name].prepare]
EDM_RANGE = [
    "karras",
    "log_snr",
    "exponential",
    "polyexponential",
    "kl_optimal",
    "beta_levels",
]  # .002 to 80 by default
WHOLE = ["cosine", "zero_snr", "sd3_shift", "dynamic_shift", "logit_normal", "linear_quadratic"]
TABLES = {"ays": 0.0291671582, "align_your_steps_gits": 0.029}  # the last level of each


@pytest.mark.parametrize("name", FIXED)
def test_steps_plus_one_descending_times_within_the_path(name):
    for path, steps in itertools.product(PATHS, (1, 2, 3, 10, 50)):
        times = SCHEDULES[name](path, steps)
        assert times.shape == (steps + 1,)
        assert times.dtype == torch.float64
        assert (times.diff() < 0).all()
        assert times[0] <= path.t_max
        if name in TABLES and isinstance(path, VE):  # its table ends above VE's least sigma, and VE has no 0
            assert float(path.ratio(times[-1])) == pytest.approx(TABLES[name], rel=1e-12)
        else:
            assert float(times[-1]) == pytest.approx(path.t_min, abs=1e-15)  # VE's own end is its least sigma


@every_path
def test_grids_are_equal_in_what_they_say(path):
    def equal(values):  # rounding of the inverse, over a span of about 10
        return float((values.diff() - values.diff().mean()).abs().max()) < 1e-11 * float(values.abs().max())

    def levels(name, **options):
        return path.ratio(SCHEDULES[name](path, 40, clean=False, sigma_min=0.02, sigma_max=40.0, **options))

    assert equal(SCHEDULES["uniform"](path, 40))
    assert equal((SCHEDULES["quadratic"](path, 40) - path.t_min).sqrt())
    assert equal((SCHEDULES["quadratic"](path, 40, power=3.0) - path.t_min) ** (1 / 3))
    assert equal(levels("log_snr").log())
    assert equal(levels("karras") ** (1 / 7))
    assert equal(levels("karras", rho=3.0) ** (1 / 3))
    assert equal((levels("polyexponential", rho=2.0) / 0.02).log().clamp(min=0).sqrt()[:-1])
    assert equal(levels("kl_optimal").atan())
    assert equal(levels("cosine", s=1e-9).atan())
    assert equal(Cosine().time(-levels("cosine").log()))
    assert equal(1 / (1 + 3 / levels("sd3_shift")))
    assert equal(1 / (1 + math.exp(0.5) / levels("dynamic_shift", tokens=256)))
    assert equal(torch.special.ndtr((levels("logit_normal", mean=1.0, std=2.0).log() - 1) / 2))


@pytest.mark.parametrize("name", EDM_RANGE + WHOLE)
def test_levels_are_the_same_on_every_path(name):
    bounds = {"sigma_min": 0.02, "sigma_max": 40.0, "clean": False}
    # the table of zero_snr is DiscreteVP's own there
    own = {"betas": SD_BETAS} if name == "zero_snr" else {}
    levels = [path.ratio(SCHEDULES[name](path, 20, **bounds, **own)) for path in PATHS]
    for other in levels[1:]:
        torch.testing.assert_close(other, levels[0], rtol=1e-12, atol=0)
    assert float(levels[0][0]) == pytest.approx(40.0, rel=1e-12)
    assert float(levels[0][-1]) == pytest.approx(0.02, rel=1e-12)


@pytest.mark.parametrize("name", EDM_RANGE + WHOLE)
def test_clean_ends_at_zero_after_the_same_levels(name):
    for path in (EDM(), RectifiedFlow(), Cosine()):
        clean, inside = (SCHEDULES[name](path, 10 + c, sigma_min=0.002, clean=bool(c)) for c in (1, 0))
        torch.testing.assert_close(clean[:-1], inside, rtol=0, atol=0)
        assert float(path.sigma(clean[-1])) == 0
        assert float(path.ratio(inside[-1])) == pytest.approx(0.002, rel=1e-12)


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_path_is_from_end_to_end(name):
    for path in PATHS:
        assert SCHEDULES[name](path, 7)[[0, -1]].tolist() == [path.t_max, path.t_min]


def test_defaults_yield_to_the_path():
    ve = VE(sigma_min=0.03, sigma_max=20.0)
    assert SCHEDULES["karras"](ve, 5)[[0, -1]].tolist() == pytest.approx([ve.t_max, ve.t_min], abs=1e-15)
    assert float(SCHEDULES["karras"](EDM(sigma_max=10.0), 5)[0]) == pytest.approx(10.0, rel=1e-14)


OPTIONS = {
    "uniform": {"start": 0.9, "end": 0.1},
    "quadratic": {"start": 0.9, "end": 0.1, "power": 3.0},
    "beta": {"start": 0.9, "end": 0.1, "a": 0.5, "b": 0.7},
    "karras": {"rho": 3.0},
    "log_snr": {},
    "exponential": {},
    "polyexponential": {"rho": 2.0},
    "cosine": {"s": 0.1},
    "zero_snr": {"betas": torch.linspace(1e-4, 0.02, 1000)},
    "kl_optimal": {},
    "beta_levels": {"a": 0.5, "b": 0.7},
    "ays": {"table": "sdxl", "clean": False, "keep_last": True},
    "align_your_steps_gits": {"table": "sdxl", "clean": False, "keep_last": False},
    "sd3_shift": {"shift": 2.0},
    "dynamic_shift": {"tokens": 1024, "base_tokens": 128, "max_tokens": 8192, "base_shift": 0.4, "max_shift": 1.0},
    "logit_normal": {"mean": 0.5, "std": 0.7},
    "linear_quadratic": {"threshold": 0.1, "linear_steps": 2},
    "leading": {"train_steps": 500, "offset": 1, "clean": False},
    "trailing": {"train_steps": 512, "clean": False},
    "linspace": {"train_steps": 512, "clean": False},
    "simple": {"train_steps": 512, "clean": False},
    "sgm_uniform": {"train_steps": 512, "clean": False},
    "normal": {"train_steps": 512, "clean": False},
    "ddim_uniform": {"train_steps": 512, "clean": False},
    "turbo": {"train_steps": 512, "clean": False},
}


@pytest.mark.parametrize("name", FIXED)
def test_every_option_does_something(name):
    path, base = Cosine(), {}
    options = dict(OPTIONS[name])
    if name in EDM_RANGE + WHOLE:
        base = {"sigma_min": 0.01}
        options |= {"sigma_min": 0.02, "sigma_max": 40.0, "clean": False}
    if name == "dynamic_shift":
        base["tokens"] = 2048  # at base_tokens and at max_tokens, the other's shift has no weight
    grid = SCHEDULES[name](path, 7, **base)
    assert {"path", "steps", *options} == set(inspect.signature(SCHEDULES[name].resolve()).parameters)
    for option, value in options.items():
        other = SCHEDULES[name](path, 7, **(base | {option: value}))
        assert float((other - grid).abs().max()) > 1e-4, option


# published values


def test_timesteps_are_those_of_diffusers():
    """DDIMScheduler of diffusers 0.42 over 1,000 timesteps."""
    published = {
        "linspace": {1: [0], 3: [999, 500, 0], 7: [999, 832, 666, 500, 333, 166, 0]},
        "leading": {1: [0], 3: [666, 333, 0], 7: [852, 710, 568, 426, 284, 142, 0]},
        "trailing": {1: [999], 3: [999, 666, 332], 7: [999, 856, 713, 570, 428, 285, 142]},
    }
    table, fraction = DiscreteVP(SD_BETAS), RectifiedFlow()
    for name, grids in published.items():
        for steps, timesteps in grids.items():
            assert SCHEDULES[name](table, steps).tolist() == [*timesteps, -1]
            shares = [(k + 1) / 1000 for k in timesteps]
            assert SCHEDULES[name](fraction, steps).tolist() == pytest.approx([*shares, 0], abs=1e-15)
    assert SCHEDULES["leading"](table, 3, offset=1).tolist() == [667, 334, 1, -1]
    assert SCHEDULES["simple"](table, 3).tolist() == [999, 666, 333, -1]
    assert SCHEDULES["sgm_uniform"](table, 3).tolist() == [999, 666, 333, -1]
    assert SCHEDULES["sgm_uniform"](table, 4).tolist() == [999, 749.25, 499.5, 249.75, -1]
    for name in published:  # all timesteps there are
        assert SCHEDULES[name](table, 1000).tolist() == list(range(999, -2, -1))


def test_karras_levels_are_those_of_the_paper():
    """2206.00364, eq. 5, term by term, as the sigma of its own path."""
    n = 18
    expected = [(80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(n)]
    torch.testing.assert_close(
        SCHEDULES["karras"](EDM(), n), torch.tensor([*expected, 0.0]).double(), rtol=1e-6, atol=0
    )


def test_shift_is_that_of_sd3_and_its_end_shifted_twice():
    path, u = RectifiedFlow(), torch.linspace(1, 0, 11).double()
    torch.testing.assert_close(SCHEDULES["sd3_shift"](path, 10), 3 * u / (1 + 2 * u), rtol=1e-7, atol=1e-15)
    once = 3 * 0.001 / (1 + 2 * 0.001)
    twice = 3 * once / (1 + 2 * once)
    assert (round(once, 5), round(twice, 5)) == (0.00299, 0.00893)
    # sd3.5: shifted time at the equal steps from 1 to the end shifted once, then 0
    expected = torch.linspace(1, once, 28).double()
    expected = torch.cat([3 * expected / (1 + 2 * expected), torch.zeros(1)])
    found = SCHEDULES["sd3_shift"](path, 28, sigma_min=twice / (1 - twice))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-15)


def test_dynamic_shift_is_that_of_flux():
    """mu = .5 at 256 tokens, 1.15 at 4096, .63 at 1024; ``e^mu / (e^mu + 1/t - 1)``."""
    for tokens, mu in ((256, 0.5), (1024, 0.63), (4096, 1.15)):
        t = SCHEDULES["uniform"](RectifiedFlow(), 4)
        expected = math.exp(mu) / (math.exp(mu) + 1 / t - 1)
        torch.testing.assert_close(SCHEDULES["dynamic_shift"](RectifiedFlow(), 4, tokens=tokens), expected)


def test_linear_quadratic_is_that_of_mochi():
    """The first half of 50 steps are those of 1,000 equal ones, and the parabola goes on with their slope."""
    times = SCHEDULES["linear_quadratic"](RectifiedFlow(), 50)
    torch.testing.assert_close(1 - times[:26], torch.arange(26).double() / 1000, rtol=0, atol=1e-14)
    second = times.diff().diff()[25:]
    torch.testing.assert_close(second, second[0].expand(24), rtol=1e-10, atol=1e-12)
    assert float(times[25] - times[26]) == pytest.approx(0.001 - float(second[0]) / 2, rel=1e-10)


def test_align_your_steps_tables_are_their_timesteps():
    """The levels published for Stable Diffusion, at the timesteps published beside them, within rounding."""
    for table, timesteps in {
        "sd15": [999, 850, 736, 645, 545, 455, 343, 233, 124, 24],
        "sdxl": [999, 845, 730, 587, 443, 310, 193, 116, 53, 13],
    }.items():
        times = SCHEDULES["ays"](DiscreteVP(SD_BETAS), 10, table=table)
        assert np.abs(times[:-1].numpy() - timesteps).max() < 1
    path = EDM(sigma_max=700.0)
    every_other = SCHEDULES["ays"](path, 20, table="svd", clean=False)[::2]
    torch.testing.assert_close(every_other, SCHEDULES["ays"](path, 10, table="svd", clean=False), rtol=1e-12, atol=0)


def test_beta_quantiles():
    """Beta(1, 1) is uniform; Beta(1/2, 1/2) is the arcsine law, equal steps of an angle."""
    path = TrigFlow()
    torch.testing.assert_close(SCHEDULES["beta"](path, 9, a=1.0, b=1.0), SCHEDULES["uniform"](path, 9))
    angles = torch.linspace(math.pi / 2, 0, 10).double()
    found = SCHEDULES["beta"](RectifiedFlow(), 9, a=0.5, b=0.5)
    torch.testing.assert_close(found, angles.sin() ** 2, rtol=1e-6, atol=1e-12)


def test_zero_terminal_snr():
    """The last alpha is 0, the first unchanged, the rest by an affine map of sqrt(alpha_bar) (2305.08891, alg. 1)."""
    before = (1 - SD_BETAS).cumprod(0).sqrt()
    after = (1 - rescale_betas(SD_BETAS)).cumprod(0).sqrt()
    assert float(after[-1]) == 0
    assert float(after[0]) == pytest.approx(float(before[0]), rel=1e-12)
    torch.testing.assert_close(after.diff() / before.diff(), (after.diff() / before.diff())[:1].expand(999))
    # the grid: alpha of the rescaled table at the trailing timesteps
    path = TrigFlow()
    times = SCHEDULES["zero_snr"](path, 10)
    alphas = after[[999, 899, 799, 699, 599, 499, 399, 299, 199, 99]]
    torch.testing.assert_close(path.alpha(times[:-1]), alphas, rtol=1e-10, atol=1e-12)
    rescaled = DiscreteVP(rescale_betas(SD_BETAS))
    torch.testing.assert_close(
        SCHEDULES["zero_snr"](rescaled, 10), SCHEDULES["trailing"](rescaled, 10), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(rescale_betas(rescaled.betas), rescaled.betas)
    own = SCHEDULES["zero_snr"](DiscreteVP(SD_BETAS), 10, sigma_max=14.0, sigma_min=0.1)
    torch.testing.assert_close(
        own, SCHEDULES["zero_snr"](DiscreteVP(SD_BETAS), 10, sigma_max=14.0, sigma_min=0.1, betas=SD_BETAS)
    )


# a grid that is learnt


def mixture(path):
    means = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]]).double()
    return MixtureOracle(path, means, torch.full((3,), 0.01).double(), [0.5, 0.3, 0.2])


def learnt(path, steps=30):
    times = SCHEDULES["karras"](path, steps, sigma_max=40.0, sigma_min=0.01)
    noise = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = noise * math.hypot(float(path.alpha(times[0])), float(path.sigma(times[0])))
    return prepare(mixture(path), x, times), times, x


def test_gits_is_the_cheapest_way_of_all():
    artifact, times, _ = learnt(EDM(), steps=9)
    cost = artifact.tensors["cost"]
    for steps, gamma in itertools.product((1, 2, 3, 5, 9), (0.8, 1.15)):
        ways = [(0, *inner, 9) for inner in itertools.combinations(range(1, 9), steps - 1)]
        price = [sum(gamma**k * float(cost[i, j]) for k, (i, j) in enumerate(itertools.pairwise(way))) for way in ways]
        best = times[list(ways[int(np.argmin(price))])]
        found = SCHEDULES["gits"](EDM(), steps, artifact=artifact, gamma=gamma)
        torch.testing.assert_close(found, best, rtol=1e-12, atol=0)
        torch.testing.assert_close(SCHEDULES["optimal"](EDM(), steps, artifact=artifact, gamma=gamma), found)


def test_gits_costs_are_eulers_distances():
    path = RectifiedFlow()
    artifact, times, x = learnt(path, steps=6)
    assert artifact.evaluations == SAMPLERS["heun"].evaluations(times, path=path) == 11
    for i, j in ((0, 1), (0, 4), (2, 5), (3, 6)):
        teacher = [SAMPLERS["heun"](mixture(path), x, times[: k + 1]) if k else x for k in (i, j)]
        euler = SAMPLERS["euler"](mixture(path), teacher[0], times[[i, j]])
        distance = float(((euler - teacher[1]) / path.alpha(times[j])).norm(dim=1).mean())
        assert float(artifact.tensors["cost"][i, j]) == pytest.approx(distance, rel=1e-10)


def test_gits_is_the_same_on_every_path():
    expected = EDM().ratio(SCHEDULES["gits"](EDM(), 6, artifact=learnt(EDM())[0]))
    for path in PATHS:
        if not isinstance(path, VE):  # it has no clean end
            found = SCHEDULES["gits"](path, 6, artifact=learnt(path)[0])
            torch.testing.assert_close(path.ratio(found), expected, rtol=1e-12, atol=0)


def test_gits_is_better_than_its_teachers_grid():
    path = EDM()
    artifact, times, x = learnt(path)
    exact = SAMPLERS["heun"](mixture(path), x, times)

    def error(grid):
        return float((SAMPLERS["euler"](mixture(path), x, grid) - exact).norm(dim=1).mean())

    karras = SCHEDULES["karras"](path, 6, sigma_max=40.0, sigma_min=0.01)
    assert error(SCHEDULES["gits"](path, 6, artifact=artifact)) < 0.8 * error(karras)


def test_gits_says_what_it_needs():
    artifact, *_ = learnt(EDM(), steps=5)
    for options, steps, says in [
        ({}, 3, "artifact=prepare"),
        ({"artifact": Artifact("dpm_solver_v3", {}, 0)}, 3, "got one of dpm_solver_v3"),
        ({"artifact": artifact}, 6, "at most the 5"),
        ({"artifact": artifact, "gamma": 0.0}, 3, "gamma"),
    ]:
        with pytest.raises(ValueError, match=says):
            SCHEDULES["gits"](EDM(), steps, **options)
    with pytest.raises(ValueError, match="within VE"):
        SCHEDULES["gits"](VE(), 3, artifact=artifact)
    with pytest.raises(ValueError, match="inverse"):
        prepare(GaussianOracle(EDM(), torch.zeros(2), 1.0), torch.zeros(1, 2), torch.tensor([0.1, 1.0]))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "path", "steps", "options", "says"),
    [
        ("uniform", VP(), 0, {}, "steps"),
        ("karras", VP(), -1, {}, "steps"),
        ("log_snr", VP(), 2.5, {}, "steps"),
        ("beta", VP(), 0, {}, "steps"),
        ("ays", VP(), 0, {}, "steps"),
        ("trailing", VP(), 0, {}, "steps"),
        ("uniform", VP(), 5, {"start": 2.0}, "start"),
        ("uniform", VP(), 5, {"start": 0.2, "end": 0.4}, "end"),
        ("uniform", VP(), 5, {"start": math.nan}, "start"),
        ("quadratic", VP(), 5, {"power": 0.0}, "power"),
        ("beta", VP(), 5, {"a": 0.0}, "a must"),
        ("beta", VP(), 5, {"b": math.inf}, "b must"),
        ("karras", EDM(), 5, {"sigma_max": 100.0}, "sigma_max"),
        ("karras", VE(), 5, {"sigma_min": 1e-4}, "sigma_min"),
        ("karras", EDM(), 5, {"sigma_min": 1.0, "sigma_max": 0.5}, "sigma_min < sigma_max"),
        ("karras", EDM(), 5, {"rho": 0.0}, "rho"),
        ("karras", RectifiedFlow(), 5, {"sigma_max": math.inf}, "finite"),
        ("log_snr", EDM(), 5, {"sigma_min": 0.0}, "sigma_min"),
        ("log_snr", EDM(), 5, {"sigma_max": math.nan}, "nan"),
        ("polyexponential", EDM(), 5, {"rho": -1.0}, "rho"),
        ("cosine", EDM(), 5, {"s": 0.0}, "s must"),
        ("sd3_shift", RectifiedFlow(), 5, {"shift": 0.0}, "shift"),
        ("sd3_shift", RectifiedFlow(), 5, {"sigma_min": -1.0}, "sigma_min"),
        ("dynamic_shift", RectifiedFlow(), 5, {"tokens": 0}, "tokens"),
        ("dynamic_shift", RectifiedFlow(), 5, {"max_tokens": 256}, "max_tokens"),
        ("logit_normal", RectifiedFlow(), 5, {"std": 0.0}, "std"),
        ("linear_quadratic", RectifiedFlow(), 5, {"threshold": 1.0}, "threshold"),
        ("linear_quadratic", RectifiedFlow(), 5, {"linear_steps": 5}, "linear_steps must lie in 1 to 4"),
        ("linear_quadratic", RectifiedFlow(), 200, {"linear_steps": 1}, "too few"),
        ("zero_snr", VP(), 5, {"betas": [0.1]}, "betas"),
        ("zero_snr", VP(), 5, {"betas": [0.1, 1.5]}, "betas"),
        ("ays", VP(), 5, {"table": "sd3"}, "table must be one of sd15"),
        ("ays", EDM(), 5, {"table": "svd"}, "spans 0 to 80; got 0 and 700"),
        ("leading", VP(), 5, {"offset": 300}, "offset must lie in 0 to 199"),
        ("leading", VP(), 5, {"offset": -1}, "offset"),
        ("trailing", VP(), 5, {"train_steps": 4}, "5 timesteps, and train_steps is 4"),
        ("karras", VP(), 5, {"rho": 1e-9}, "told apart"),
    ],
)
def test_wrong_options_are_named(name, path, steps, options, says):
    with pytest.raises(ValueError, match=says):
        SCHEDULES[name](path, steps, **options)
