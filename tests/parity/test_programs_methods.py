"""Samplers and schedules that come from programs: against k-diffusion, and against their formulas in plain numbers."""

import math

import diffusers
import numpy as np
import pytest
import scipy.integrate
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, CountingDenoiser, DiscreteVP
from implementations.diffusion.law import marginal_law, output_law, variance_error
from implementations.peers.k_diffusion_samplers import sampling
from implementations.samplers import SAMPLERS
from implementations.samplers.ancestral_steps import aim_below
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import FORMS, History
from tests.exact import draws, gaussian, normal, run

SD_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
PATH = EDM()  # where the state is x/alpha and the level sigma/alpha
ORACLE = gaussian(PATH)


def levels(steps, schedule="karras", **options):
    """A grid of EDM, whose times are levels."""
    return SCHEDULES[schedule](PATH, steps, **{"sigma_min": 0.1, "sigma_max": 20.0, "clean": False} | options)


def x0(x, level):
    return ORACLE(x, torch.tensor(float(level), dtype=torch.float64)).x0


def slope(errors):
    return math.log2(errors[-2] / errors[-1])


# dpm_fast


@pytest.mark.parametrize("n", [2, 4, 5, 6, 7, 8, 9, 20])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_dpm_fast_is_k_diffusions(n, eta):
    """n evaluations, equal steps of the log-SNR; both draw once per step."""
    steps = n // 3 + 1
    times, x, asked = levels(steps, "log_snr"), 20 * normal(3, 6), iter(range(100))
    theirs = sampling().sample_dpm_fast(
        lambda y, sigma: x0(y, sigma[0]), x, 0.1, 20.0, n, disable=True, eta=eta,
        noise_sampler=lambda *_: draws(next(asked), x),
    )  # fmt: skip
    counting = CountingDenoiser(ORACLE)
    ours = SAMPLERS["dpm_fast"](counting, x, times, noise=draws, remainder=n % 3, eta=eta)
    assert counting.calls == n
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # k-diffusion's ends are float32


def test_dpm_fast_ends_by_the_order_that_it_states():
    """Its last step alone is long here, so that its order shows: 1 has an error of h^2, and 2 one of h^3."""
    for remainder, local in ((0, 2), (1, 2), (2, 3)):
        errors = []
        for h in (0.08, 0.04):
            times = torch.tensor([1.0, 1.0 - 1e-5, 1.0 - 2e-5, (1.0 - 2e-5) * math.exp(-h)], dtype=torch.float64)
            x = normal(5, 6)
            found = SAMPLERS["dpm_fast"](ORACLE, x, times, remainder=remainder)
            errors.append(float((found - ORACLE.flow(x, times[0], times[-1])).norm()))
        assert slope(errors) == pytest.approx(local, abs=0.1)


# heunpp2


def test_heunpp2_in_plain_numbers():
    times, x = levels(6), 20 * normal(3, 6)
    found = SAMPLERS["heunpp2"](ORACLE, x, times)
    s = times.tolist()
    for i in range(6):
        h, d = s[i + 1] - s[i], (x - x0(x, s[i])) / s[i]
        if i == 5:
            x = x + h * d
            continue
        one = x + h * d
        d1 = (one - x0(one, s[i + 1])) / s[i + 1]
        if i == 4:
            w1, w2, d2 = s[i + 1] / (2 * s[0]), 0.0, 0.0
        else:
            two = one + (s[i + 2] - s[i + 1]) * d1
            d2 = (two - x0(two, s[i + 2])) / s[i + 2]
            w1, w2 = s[i + 1] / (3 * s[0]), s[i + 2] / (3 * s[0])
        x = x + h * ((1 - w1 - w2) * d + w1 * d1 + w2 * d2)
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


# res_multistep_ancestral


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_res_multistep_ancestral_in_plain_numbers(eta):
    """The step's integral by quadrature, of the line that passes the latest x0 now and the one before ``went`` ago."""
    times, x, went, before = levels(6), 20 * normal(3, 6), None, None
    found = SAMPLERS["res_multistep_ancestral"](ORACLE, x, times, eta=eta, noise=draws)
    s = times.tolist()
    for i in range(6):
        up = eta * s[i + 1] * math.sqrt(1 - (s[i + 1] / s[i]) ** 2)
        down = math.sqrt(s[i + 1] ** 2 - up**2)
        way, latest = math.log(s[i] / down), x0(x, s[i])
        mass = -math.expm1(-way)
        first, _ = scipy.integrate.quad(lambda u, way=way: math.exp(u - way) * u, 0, way)
        line = mass * latest if before is None else mass * latest + first / went * (latest - before)
        x = down / s[i] * x + line + up * draws(i, x)
        went, before = way, latest
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-10)


def test_res_multistep_ancestral_without_noise_is_res_multistep():
    for path in (VP(), EDM()):
        left, right = run("res_multistep_ancestral", path, eta=0.0), run("res_multistep", path)
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_the_value_before_stands_as_far_behind_as_the_step_before_went_down():
    """Placed where it was predicted, which the multistep method of the paper means, it makes the weak order 1."""

    @sampler
    def where_predicted(problem: Problem):
        history = History(2)

        def step(i, x, prediction):
            here, there = problem.points[i], problem.points[i + 1]
            down, up = aim_below(here, there, 1.0)
            values = history.push(i, here.log_snr, prediction.x0)
            return FORMS["data"].integrate(here, down, x, values).add_(problem.noise(i, x), alpha=up)

        return problem.solve(step)

    for method, order in ((where_predicted, 1), (SAMPLERS["res_multistep_ancestral"], 2)):
        biases = []
        for steps in (320, 640):
            times = levels(steps, sigma_min=0.02, sigma_max=40.0)
            biases.append(variance_error(output_law(method, ORACLE, times, {}), marginal_law(ORACLE, times[-1])))
        assert slope(biases) == pytest.approx(order, abs=0.1)


# exp_heun_2_x0_sde


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_exp_heun_sde_in_plain_numbers(eta):
    times, x = levels(5), 20 * normal(3, 6)
    found = SAMPLERS["exp_heun_2_x0_sde"](ORACLE, x, times, eta=eta, s_noise=0.9, noise=draws)
    s, rate = times.tolist(), 1 + eta
    for i in range(5):
        h = math.log(s[i] / s[i + 1])
        noise = 0.9 * s[i + 1] * math.sqrt(-math.expm1(-2 * eta * h)) * draws(i, x)
        kept, mass = math.exp(-rate * h) * x + noise, -math.expm1(-rate * h)
        end, _ = scipy.integrate.quad(lambda u, h=h: rate * math.exp(rate * (u - h)) * u / h, 0, h)
        start = x0(x, s[i])
        x = kept + (mass - end) * start + end * x0(kept + mass * start, s[i + 1])
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-10)


def test_exp_heun_sde_without_noise_is_exp_heun():
    for path in (VP(), EDM()):
        left, right = run("exp_heun_2_x0_sde", path, eta=0.0), run("exp_heun", path)
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-12)


# sa_solver_pece


def test_sa_solver_pece_in_plain_numbers():
    """Predictor of 1, corrector of 2 values; what was corrected is asked again, also before the step to sigma = 0."""
    tau, times, x = 0.8, levels(5, clean=True), 20 * normal(3, 6)
    counting = CountingDenoiser(ORACLE)
    found = SAMPLERS["sa_solver_pece"](counting, x, times, noise=draws, order=1, corrector_order=2, tau=tau)
    assert counting.calls == 9 == SAMPLERS["sa_solver_pece"].evaluations(times, path=PATH)
    rate, s, data = 1 + tau**2, times.tolist(), x0(x, 20.0)
    for i in range(4):
        h = math.log(s[i] / s[i + 1])
        noise = s[i + 1] * math.sqrt(-math.expm1(-2 * tau**2 * h)) * draws(i, x)
        kept, mass = math.exp(-rate * h) * x + noise, -math.expm1(-rate * h)
        end, _ = scipy.integrate.quad(lambda u, h=h: rate * math.exp(rate * (u - h)) * u / h, 0, h)
        predicted = x0(kept + mass * data, s[i + 1])
        x = kept + (mass - end) * data + end * predicted
        data = x0(x, s[i + 1])
    torch.testing.assert_close(found, data, rtol=1e-10, atol=1e-10)


def test_pece_differs_and_needs_a_corrector():
    assert not torch.allclose(run("sa_solver_pece"), run("sa_solver"), rtol=1e-6)
    with pytest.raises(ValueError, match="pece must have a corrector, got corrector_order 0"):
        run("sa_solver_pece", corrector_order=0)


@pytest.mark.parametrize("name", ["dpm_fast", "res_multistep_ancestral", "exp_heun_2_x0_sde"])
def test_wrong_options_are_named(name):
    for option, value in (("eta", -0.1), ("s_noise", math.nan)):
        with pytest.raises(ValueError, match=f"{option} must"):
            run(name, **{option: value})
    with pytest.raises(ValueError, match="remainder must"):
        run("dpm_fast", remainder=3)
    base = run(name, eta=1.0)
    assert not torch.allclose(run(name, eta=1.0, s_noise=0.9), base, rtol=1e-6)
    assert not torch.allclose(run(name, eta=0.5), base, rtol=1e-6)


# schedules


def ratios(name, steps, path=None, **options):
    path = path or DiscreteVP(SD_BETAS)
    return path.ratio(SCHEDULES[name](path, steps, **options))


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 30])
def test_normal_is_k_diffusions_grid_of_a_model_of_timesteps(steps):
    """Levels between two timesteps are interpolated in their logarithm."""
    alphas = (1 - SD_BETAS).cumprod(0)
    table = ((1 - alphas) / alphas).sqrt().log().numpy()
    expected = np.exp(np.interp(np.linspace(999, 0, steps), np.arange(1000), table))
    torch.testing.assert_close(ratios("normal", steps)[:-1], torch.from_numpy(expected), rtol=1e-10, atol=0)
    assert float(ratios("normal", steps)[-1]) == 0


def test_ddim_uniform_has_as_many_steps_as_asked_for():
    """ComfyUI walks from timestep 1 in strides of N // steps to the end of the table, however many that makes."""
    path, more = DiscreteVP(SD_BETAS), []
    for steps in (1, 3, 7, 10, 20, 30, 50, 300):
        walked = list(range(1, 1000, 1000 // steps))
        times = SCHEDULES["ddim_uniform"](path, steps).tolist()
        assert times == [*walked[:steps][::-1], -1]
        more += [steps] if len(walked) > steps else []
    assert more == [7, 30, 300]
    with pytest.raises(ValueError, match="steps must be such that"):
        SCHEDULES["ddim_uniform"](path, 1000)


def test_turbo_counts_down_from_the_last_timestep():
    for steps in (1, 4, 10, 50):
        expected = [round((k + 1) * 1000 / steps) - 1 for k in range(steps)][::-1]
        assert SCHEDULES["turbo"](DiscreteVP(SD_BETAS), steps).tolist() == [*expected, -1]


def test_kl_optimal_is_the_papers_grid():
    """t_i = tan((1 - i/n) arctan t_max + i/n arctan t_min)."""
    low, high, i = math.atan(0.03), math.atan(14.6), torch.arange(11).double() / 10
    expected = torch.tan((1 - i) * high + i * low)
    found = ratios("kl_optimal", 10, EDM(), sigma_min=0.03, sigma_max=14.6, clean=False)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    ending = ratios("kl_optimal", 11, EDM(), sigma_min=0.03, sigma_max=14.6)
    torch.testing.assert_close(ending[:-1], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["ays", "align_your_steps_gits"])
def test_tables_keep_their_last_level(name):
    """In AUTOMATIC1111 n steps are n levels of the table, and then 0."""
    kept = ratios(name, 11, keep_last=True)
    assert len(kept) == 12
    assert float(kept[-1]) == 0
    assert float(kept[-2]) == pytest.approx(0.029, rel=0.01)
    inside = ratios(name, 10, EDM(), clean=False)
    assert float(kept[0]) == pytest.approx(14.6146, rel=1e-5)  # the top of the table of betas, to three decimals 14.615
    torch.testing.assert_close(kept[1:-1], inside[1:], rtol=1e-10, atol=0)
    few = ratios(name, 6, keep_last=True)
    torch.testing.assert_close(few[1:-1], inside[2::2], rtol=1e-10, atol=0)
    replaced = ratios(name, 10, keep_last=False)
    torch.testing.assert_close(replaced[1:-1], inside[1:-1], rtol=1e-10, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("steps", [2, 10, 40])
def test_beta_levels_are_those_of_diffusers(steps):
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, use_beta_sigmas=True
    )
    scheduler.set_timesteps(steps)
    bounds = {"sigma_max": float(scheduler.sigmas[0]), "sigma_min": float(scheduler.sigmas[-2])}
    found = ratios("beta_levels", steps, EDM(), **bounds)
    torch.testing.assert_close(found, scheduler.sigmas.double(), rtol=1e-5, atol=1e-6)
