"""Langevin: its stationary variance in closed form, the papers' chains step by step, correctors on any predictor."""

import math

import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VE,
    VP,
    CountingDenoiser,
    DiscreteVP,
    GaussianOracle,
    RectifiedFlow,
    SubVP,
)
from implementations.diffusion.law import Law, marginal_law, output_law, variance_error
from implementations.diffusion.noise import PerSampleNoise
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

PATHS = [VP(), SubVP(), VE(), EDM(), RectifiedFlow(), DiscreteVP(torch.linspace(1e-4, 0.02, 1000))]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
PREDICTORS = {"reverse_diffusion": {}, "euler_maruyama": {}, "ddpm": {}}
pc, annealed = SAMPLERS["predictor_corrector"], SAMPLERS["annealed_langevin"]


def stationary(path, t, step):
    """``V / (1 - h sigma^2 / 2V)`` about alpha m (of x' = x - h sigma^2 (x - alpha m)/V + sqrt(2h) sigma z)."""
    law, sigma = marginal_law(gaussian(path), t), float(path.sigma(t))
    return Law(law.mean, law.variance / (1 - step * sigma**2 / (2 * law.variance)))


@every_path
@pytest.mark.parametrize("step", [0.2, 1.2])
def test_the_stationary_law_of_langevin(path, step):
    """Two times so close that the predictor's step is none, and updates until the start is forgotten."""
    t = float(path.time(torch.tensor(-math.log(0.7))))
    times = torch.tensor([t, t - 1e-10 * (path.t_max - path.t_min)], dtype=torch.float64)
    elsewhere = Law(torch.full((6,), 3.0).double(), torch.full((6,), 0.2).double())
    updates = math.ceil(40 / step)  # the slowest mode forgets by (1 - h sigma^2/V) an update, V at most 5 sigma^2
    for sampler, options in (
        (pc, {"step": step, "corrector_steps": updates}),
        (annealed, {"epsilon": 2 * step, "steps_per_level": updates}),
    ):
        law = output_law(sampler, gaussian(path), times, options, start=elsewhere)
        expected = stationary(path, t, step)
        torch.testing.assert_close(
            law.variance, expected.variance, rtol=1e-4, atol=0
        )  # the step of 1e-10, twice rooted
        torch.testing.assert_close(law.mean, expected.mean, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("predictor", ["reverse_diffusion", "euler_maruyama", "ancestral"])
def test_without_a_corrector_it_is_its_predictor(predictor):
    name = "ddpm" if predictor == "ancestral" else predictor
    for path in PATHS:
        times = SCHEDULES["karras"](path, 10)
        x = path.prior(normal(5, 6), float(times[0]))
        noise = PerSampleNoise(range(5))
        found = pc(gaussian(path), x, times, noise=noise, predictor=predictor, corrector_steps=0)
        expected = SAMPLERS[name](gaussian(path), x, times, noise=noise)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", [VE(), VP()], ids=lambda path: type(path).__name__)
def test_the_corrector_is_that_of_the_paper(path):
    """Alg. 4 and 5: ``eps = 2 alpha_i (r |z| / |g|)^2``, ``x + eps g + sqrt(2 eps) z``, and its draws are numbered."""
    times, draws = torch.tensor([0.5, 0.48], dtype=torch.float64), {k: normal(4, 6, seed=k) for k in range(3)}
    oracle, x = gaussian(path), normal(4, 6, seed=9)
    before = pc(oracle, x, times, corrector_steps=0, noise=lambda k, like: draws[k])
    alpha_i = float(path.alpha(0.5) / path.alpha(0.48)) ** 2  # 1 - beta_i, or 1
    for norms in ("sample", "batch"):
        found = pc(oracle, x, times, snr=0.2, corrector_steps=2, norms=norms, noise=lambda k, like: draws[k])
        expected = before
        for k in (1, 2):
            g, z = oracle.score(expected, 0.48), draws[k]
            lengths = [v.norm(dim=1, keepdim=True) for v in (z, g)]
            if norms == "batch":
                lengths = [length.mean() for length in lengths]
            eps = 2 * alpha_i * (0.2 * lengths[0] / lengths[1]) ** 2
            expected = expected + eps * g + (2 * eps) ** 0.5 * z
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_samples_own_norm_is_a_trap_in_few_dimensions():
    """Where |eps| may be near 0 the step has no bound: the variance of 2 modes is far off, that of 200 is not."""
    path, wrong = VP(), {}
    times = SCHEDULES["karras"](path, 20, clean=False, sigma_min=0.1, sigma_max=40.0)
    for d in (2, 200):
        oracle = GaussianOracle(path, torch.zeros(d, dtype=torch.float64), 0.3)
        truth = float(marginal_law(oracle, times[-1]).variance[0])
        for norms in ("sample", "batch"):
            found = pc(
                oracle, normal(1000, d), times, norms=norms, noise=lambda k, like: normal(*like.shape, seed=k + 1)
            )
            wrong[d, norms] = abs(float(found.square().mean()) / truth - 1)
    assert wrong[2, "sample"] > 5 * wrong[2, "batch"], wrong
    assert abs(wrong[200, "sample"] - wrong[200, "batch"]) < 0.05, wrong


def test_a_corrector_mends_its_predictors_law():
    for path in (VP(), VE(), RectifiedFlow()):
        times = SCHEDULES["karras"](path, 40, sigma_min=0.02, sigma_max=40.0, clean=False)
        errors = [
            variance_error(output_law(pc, gaussian(path), times, options), marginal_law(gaussian(path), times[-1]))
            for options in ({"corrector_steps": 0}, {"step": 0.1, "corrector_steps": 2})
        ]
        assert errors[1] < 0.8 * errors[0], (path, errors)


def test_annealing_is_that_of_the_paper():
    """1907.05600, alg. 1: ``a_i = epsilon sigma_i^2 / sigma_L^2``, ``x + a_i/2 score + sqrt(a_i) z``."""
    path, updates, epsilon = VE(), 3, 0.2
    times = SCHEDULES["log_snr"](path, 4, clean=False)
    draws = {k: normal(4, 6, seed=k) for k in range(4 * updates)}
    oracle, x = gaussian(path), normal(4, 6, seed=99) * 50
    found = annealed(oracle, x, times, epsilon=epsilon, steps_per_level=updates, noise=lambda k, like: draws[k])
    levels = [0] + [1] * updates + [2] * updates + [3] * updates + [4] * (updates - 1)
    least = float(path.sigma(times[-1]))
    for k, level in enumerate(levels):
        t = float(times[level])
        a = epsilon * least**2 * float(path.sigma(t)) ** 2 / least**2
        x = x + a / 2 * oracle.score(x, t) + math.sqrt(a) * draws[k]
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-10)


def test_annealing_ends_in_the_data_predicted():
    for path in (VE(), VP()):
        oracle, x, noise = gaussian(path), path.prior(normal(4, 6), path.t_max), PerSampleNoise(range(4))
        inside = SCHEDULES["log_snr"](path, 6, clean=False)
        state = annealed(oracle, x, inside, noise=noise)
        found = annealed(oracle, x, inside, noise=noise, denoise=True)
        torch.testing.assert_close(found, oracle(state, inside[-1]).x0 * path.alpha(inside[-1]))
    # a clean end does so by itself: the same state, carried on to 0
    clean = torch.cat([inside, torch.zeros(1)])
    expected = oracle(state, inside[-1]).x0
    for options in ({}, {"denoise": True}):
        found = annealed(oracle, x, clean, noise=noise, **options)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_annealing_over_many_levels_draws_the_data():
    """What remains is the last level's bias, and what noise of the levels above the narrow modes have not forgotten."""
    path = EDM()
    times = SCHEDULES["log_snr"](path, 40, sigma_min=0.05, sigma_max=20.0, clean=False)
    errors = []
    for updates in (1, 5, 20):
        law = output_law(annealed, gaussian(path), times, {"steps_per_level": updates, "epsilon": 0.3})
        errors.append(variance_error(law, marginal_law(gaussian(path), times[-1])))
    assert errors[0] > 2 * errors[1] > 4 * errors[2], errors


def test_evaluations_with_every_option():
    path = RectifiedFlow()
    for times in (SCHEDULES["uniform"](path, 5), SCHEDULES["karras"](path, 5, clean=False)):
        for name, options in (
            ("predictor_corrector", {"corrector_steps": 3}),
            ("predictor_corrector", {"corrector_steps": 0}),
            ("annealed_langevin", {"steps_per_level": 2}),
            ("annealed_langevin", {"steps_per_level": 1, "denoise": True}),
        ):
            counting = CountingDenoiser(gaussian(path))
            SAMPLERS[name](counting, normal(2, 6), times, **options)
            assert counting.calls == SAMPLERS[name].evaluations(times, path=path, **options), (name, options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("predictor_corrector", {"predictor": "euler_maruyama"}),
        ("predictor_corrector", {"predictor": "ancestral"}),
        ("predictor_corrector", {"corrector_steps": 2}),
        ("predictor_corrector", {"snr": 0.1}),
        ("predictor_corrector", {"norms": "batch"}),
        ("predictor_corrector", {"step": 0.1}),
        ("annealed_langevin", {"epsilon": 0.1}),
        ("annealed_langevin", {"steps_per_level": 4}),
        ("annealed_langevin", {"denoise": True}),
    ],
)
def test_every_option_does_something(name, options):
    path = VP()
    times, x = SCHEDULES["karras"](path, 8, clean=False, sigma_min=0.1), normal(4, 6)
    noise = PerSampleNoise(range(4))
    base = SAMPLERS[name](gaussian(path), x, times, noise=noise)
    apart = SAMPLERS[name](gaussian(path), x, times, noise=noise, **options) - base
    assert float(apart.abs().max()) > 1e-3


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("predictor_corrector", {"predictor": "heun"}, "predictor must be one of reverse_diffusion"),
        ("predictor_corrector", {"corrector_steps": -1}, "corrector_steps"),
        ("predictor_corrector", {"corrector_steps": 1.5}, "corrector_steps"),
        ("predictor_corrector", {"snr": 0.0}, "snr"),
        ("predictor_corrector", {"norms": "max"}, "norms must be sample or batch"),
        ("predictor_corrector", {"step": 2.0}, r"step must lie in \(0, 2\)"),
        ("predictor_corrector", {"step": 0.0}, "step"),
        ("annealed_langevin", {"epsilon": 4.0}, "epsilon"),
        ("annealed_langevin", {"epsilon": math.nan}, "epsilon"),
        ("annealed_langevin", {"steps_per_level": 0}, "steps_per_level must be an integer of at least 1"),
    ],
)
def test_wrong_options_are_named(name, options, says):
    with pytest.raises(ValueError, match=says):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), **options)
