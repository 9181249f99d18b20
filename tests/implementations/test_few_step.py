"""Few-step samplers: exact laws by an exact flow map, their limits, a plain network's map, diffusers' LCM and TCD."""

import math

import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VE,
    VP,
    AverageVelocity,
    Cosine,
    CountingDenoiser,
    Denoiser,
    DiscreteVP,
    GaussianOracle,
    MixtureOracle,
    Prediction,
    RectifiedFlow,
    SubVP,
    TrigFlow,
)
from implementations.diffusion.law import marginal_law, output_law
from implementations.diffusion.noise import PerSampleNoise
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

NAMES = ("consistency", "lcm", "tcd", "flow_map")
PATHS = [VP(), Cosine(), SubVP(), VE(), EDM(), RectifiedFlow(), TrigFlow()]
TABLE = DiscreteVP(torch.linspace(1e-4, 0.02, 1000))


class Plain(GaussianOracle):
    """One that has learnt no flow map."""

    flow_map = Denoiser.flow_map


@pytest.mark.parametrize("path", [*PATHS, TABLE], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize(
    ("name", "options"), [("consistency", {}), ("flow_map", {}), *(("tcd", {"gamma": g}) for g in (0.0, 0.3, 0.7, 1.0))]
)
def test_with_the_exact_map_every_number_of_steps_gives_the_exact_law(path, name, options):
    """From the noisiest time, alpha = 0 included, to the clean end and to a time before it."""
    oracle = gaussian(path)
    for steps in (1, 2, 5):
        whole = SCHEDULES["uniform"](path, steps + 1)
        for times in (whole, whole[:-1]):
            law, truth = output_law(SAMPLERS[name], oracle, times, options), marginal_law(oracle, times[-1])
            torch.testing.assert_close(law.mean, truth.mean, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(law.variance, truth.variance, rtol=1e-10, atol=1e-10)


def test_lcm_with_the_exact_map_is_as_exact_as_its_boundary_weights():
    """c_skip is 1e-5 at the 16th timestep of 1000: so far is its law from the truth."""
    oracle, times = gaussian(VP()), SCHEDULES["uniform"](VP(), 5)
    law, truth = output_law(SAMPLERS["lcm"], oracle, times), marginal_law(oracle, times[-1])
    apart = float((law.variance / truth.variance - 1).abs().max())
    assert 1e-10 < apart < 1e-4


def test_lcm_with_no_weight_on_x_is_consistency():
    oracle, times, x = gaussian(VP()), SCHEDULES["uniform"](VP(), 5), normal(4, 6)
    noise = PerSampleNoise(range(len(x)))
    found = SAMPLERS["lcm"](oracle, x, times, noise=noise, data_std=0.0)
    expected = SAMPLERS["consistency"](oracle, x, times, noise=noise)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def test_tcd_goes_from_flow_map_to_consistency():
    for path in PATHS:
        oracle, x = gaussian(path), normal(4, 6)
        whole = SCHEDULES["uniform"](path, 6)
        for times in (whole, whole[:-1]):
            for gamma, name in ((0.0, "flow_map"), (1.0, "consistency")):
                noise = PerSampleNoise(range(len(x)))
                found = SAMPLERS["tcd"](oracle, x, times, noise=noise, gamma=gamma)
                expected = SAMPLERS[name](oracle, x, times, noise=noise)
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_flow_map_is_the_flow_up_and_down():
    for path in PATHS:
        oracle, times = gaussian(path), SCHEDULES["uniform"](path, 5)
        for t in (times, times.flip(0)):
            x = normal(4, 6)
            found = SAMPLERS["flow_map"](oracle, x, t)
            torch.testing.assert_close(found, oracle.flow(x, t[0], t[-1]), rtol=1e-12, atol=1e-12)


def test_without_a_map_of_its_own_a_denoiser_takes_ddims_step():
    for path in (VP(), RectifiedFlow(), TABLE):
        plain, x = gaussian(path, kind=Plain), normal(4, 6)
        times = SCHEDULES["uniform"](path, 6)
        reference = SAMPLERS["euler"](plain, x, times, coordinate="sigma")
        for name, options in (("flow_map", {}), ("tcd", {"gamma": 0.0})):
            found = SAMPLERS[name](plain, x, times, **options)
            torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-12)


def test_a_map_of_ones_own_and_the_common_one_agree_where_they_are_one():
    """The common map is folded into the step; behind a wrapper it is asked like any other."""
    for path in (VP(), RectifiedFlow(), EDM()):
        plain, x, noise = gaussian(path, kind=Plain), normal(4, 6), PerSampleNoise(range(4), "steps")
        for times in (SCHEDULES["uniform"](path, 5), SCHEDULES["uniform"](path, 6)[:-1]):
            for name in NAMES:
                found = SAMPLERS[name](plain, x, times, noise=noise)
                asked = SAMPLERS[name](CountingDenoiser(plain), x, times, noise=noise)
                torch.testing.assert_close(found, asked, rtol=1e-12, atol=1e-12)


def test_the_data_predicted_are_no_consistency_model():
    """Their variance is what noise leaves of it, l^2 / (l + r^2) at the last jump, whatever the number of steps."""
    oracle = gaussian(EDM(), kind=Plain)
    spectrum = torch.linspace(0.05, 2, 6).double()
    for steps in (2, 8, 32):
        times = torch.cat([torch.linspace(80, 1, steps).double(), torch.zeros(1, dtype=torch.float64)])
        law = output_law(SAMPLERS["consistency"], oracle, times)
        before = output_law(SAMPLERS["consistency"], oracle, torch.cat([times[:-2], times[-1:]]))
        expected = (spectrum / (spectrum + 1)) ** 2 * (before.variance + 1)
        torch.testing.assert_close(law.variance, expected, rtol=1e-10, atol=1e-10)
        assert bool((law.variance < 0.8 * spectrum).all())


def test_the_last_time_of_the_grid_is_the_papers_epsilon():
    """Multistep consistency by hand on EDM: noise of sqrt(t^2 - epsilon^2)."""
    oracle, x, noise = gaussian(EDM()), normal(3, 6), PerSampleNoise([7, 8, 9], "steps")
    times = torch.tensor([10.0, 2.0, 0.5, 0.1], dtype=torch.float64)
    state = oracle.flow(x, 10.0, 0.1)
    for k, t in enumerate((2.0, 0.5)):
        state = oracle.flow(state + math.sqrt(t**2 - 0.1**2) * noise(k, x), t, 0.1)
    found = SAMPLERS["consistency"](oracle, x, times, noise=noise)
    torch.testing.assert_close(found, state, rtol=1e-12, atol=1e-12)


def test_flow_maps_are_counted_and_cost_one_a_step():
    for name in NAMES:
        for denoiser in (gaussian(VP()), gaussian(VP(), kind=Plain)):
            counting = CountingDenoiser(CountingDenoiser(denoiser))
            times = SCHEDULES["uniform"](VP(), 7)
            SAMPLERS[name](counting, normal(2, 6), times)
            assert counting.calls == counting.denoiser.calls == SAMPLERS[name].evaluations(times) == 7


def test_a_gaussians_map_is_its_flow_and_a_mixtures_is_not():
    oracle, x = gaussian(VP()), normal(4, 6)
    assert torch.equal(oracle.flow_map(x, 0.7, 0.2), oracle.flow(x, 0.7, 0.2))
    assert torch.equal(CountingDenoiser(oracle).flow_map(x, 0.7, 0.2), oracle.flow(x, 0.7, 0.2))
    with pytest.raises(ValueError, match="no labels"):
        oracle.flow_map(x, 0.7, 0.2, condition=1)
    mixture = MixtureOracle(VP(), normal(2, 6), torch.ones(2).double(), [0.5, 0.5])
    prediction = mixture(x, 0.7)
    step = prediction.combine(float(VP().alpha(0.2)), float(VP().sigma(0.2)))
    torch.testing.assert_close(mixture.flow_map(x, 0.7, 0.2), step, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("path", [VP(), EDM(), RectifiedFlow(), TrigFlow()], ids=lambda path: type(path).__name__)
def test_an_average_velocity_is_a_flow_map(path):
    """MeanFlow's network, were it exact: whole in one jump, and its own velocity where both times are one."""
    oracle, seen = gaussian(path), []

    def module(x, t, s, condition):
        seen.append((t.shape, s.shape, condition))
        t, s = float(t[0]), float(s[0])
        return oracle(x, t).velocity if t == s else (x - oracle.flow(x, t, s)) / (t - s)

    network, x = AverageVelocity(path, module), normal(4, 6)
    times = SCHEDULES["uniform"](path, 4, end=0.1 * path.t_max)
    for name in ("flow_map", "consistency"):
        noise = PerSampleNoise(range(len(x)))
        found = SAMPLERS[name](network, x, times, noise=noise, condition=3)
        expected = SAMPLERS[name](oracle, x, times, noise=noise)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    velocity = network(x, times[1], 3).velocity
    torch.testing.assert_close(velocity, oracle(x, times[1]).velocity, rtol=1e-12, atol=1e-12)
    assert set(seen) == {((4,), (4,), 3)}


def test_an_average_velocity_of_low_precision_moves_a_state_of_float32():
    network = AverageVelocity(RectifiedFlow(), lambda x, t, s: x, dtype=torch.bfloat16)
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32)):
        found = network.flow_map(torch.ones(2, 3, dtype=dtype), 0.75, 0.5)
        assert found.dtype == expected
        assert torch.equal(found, torch.full((2, 3), 0.75))


def test_the_condition_reaches_the_map():
    class Conditional(GaussianOracle):
        def flow_map(self, x, t, s, condition=None):
            assert condition == "a cat"
            return self.flow(x, t, s)

    for name in NAMES:
        SAMPLERS[name](gaussian(VP(), kind=Conditional), normal(2, 6), SCHEDULES["uniform"](VP(), 3), condition="a cat")


def test_the_callback_sees_the_data_by_which_ddim_would_land_there():
    oracle, times, seen = gaussian(VP()), SCHEDULES["uniform"](VP(), 4), []
    SAMPLERS["flow_map"](oracle, normal(3, 6), times, callback=lambda i, t, x, p: seen.append((t, x, p)))
    for t, x, prediction in seen:
        again = Prediction(VP(), prediction.x, prediction.t, x0=prediction.x0)
        landed = again.combine(float(VP().alpha(t)), float(VP().sigma(t)))
        torch.testing.assert_close(landed, x, rtol=1e-12, atol=1e-12)


def test_sampled_moments_are_those_of_the_law():
    oracle, n = gaussian(RectifiedFlow()), 20000
    x = normal(n, 6, seed=3)  # at alpha = 0
    for name in ("consistency", "tcd"):
        times = SCHEDULES["uniform"](RectifiedFlow(), 3)
        noise = torch.Generator().manual_seed(4)
        found = SAMPLERS[name](
            oracle, x, times, noise=lambda k, like, g=noise: torch.randn(like.shape, generator=g, dtype=like.dtype)
        )
        truth = marginal_law(oracle, 0.0)
        assert float(((found.mean(0) - truth.mean) / truth.variance.sqrt()).abs().max()) < 4.5 / math.sqrt(n)
        assert float((found.var(0) / truth.variance - 1).abs().max()) < 4.5 * math.sqrt(2 / n)


def test_every_option_does_something():
    oracle, times, x = gaussian(VP()), torch.tensor([0.5, 0.2, 0.02, 0.0], dtype=torch.float64), normal(4, 6)
    for name, options in (("tcd", {"gamma": 0.5}), ("lcm", {"data_std": 2.0}), ("lcm", {"timestep_scaling": 1.0})):
        noise = PerSampleNoise(range(4))
        apart = SAMPLERS[name](oracle, x, times, noise=noise, **options) - SAMPLERS[name](oracle, x, times, noise=noise)
        assert float(apart.abs().max()) > 1e-6


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("tcd", "gamma", 1.5),
        ("tcd", "gamma", -0.1),
        ("lcm", "data_std", -1.0),
        ("lcm", "data_std", math.inf),
        ("lcm", "timestep_scaling", 0.0),
        ("lcm", "timestep_scaling", math.nan),
    ],
)
def test_wrong_options_are_named(name, option, value):
    with pytest.raises(ValueError, match=f"{option} must .* got {value}"):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), **{option: value})


# diffusers


def draws(scheduler, denoiser, x, noise, **options):
    """Its loop on given noise: it draws by torch's global generator, once a step but the last."""
    for k, t in enumerate(scheduler.timesteps):
        with pytest.MonkeyPatch.context() as patch:
            module = f"{type(scheduler).__module__}.randn_tensor"
            patch.setattr(module, lambda shape, k=k, x=x, **_: noise(k, x))
            x = scheduler.step(denoiser(x, t.double()).eps, t, x, **options).prev_sample
    return x


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 50])
def test_lcm_is_that_of_diffusers(steps):
    scheduler = pytest.importorskip("diffusers").LCMScheduler(clip_sample=False)
    scheduler.set_timesteps(steps)
    path = DiscreteVP(scheduler.betas.double())
    plain, x, noise = gaussian(path, kind=Plain), normal(4, 6), PerSampleNoise(range(4), "steps")
    theirs = draws(scheduler, plain, x, noise)
    times = torch.cat([scheduler.timesteps.double(), torch.tensor([-1.0], dtype=torch.float64)])
    # its table of alpha-bar is a float32 product of up to 1000 factors
    torch.testing.assert_close(SAMPLERS["lcm"](plain, x, times, noise=noise), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_tcd_is_that_of_diffusers(gamma):
    """On timesteps of which (1 - gamma) is whole, since it takes the floor; its last is 0, where we go on to clean."""
    scheduler = pytest.importorskip("diffusers").TCDScheduler(clip_sample=False)
    scheduler.set_timesteps(timesteps=[999, 759, 499, 259])
    scheduler.timesteps = torch.tensor([900, 600, 350, 100])
    path = DiscreteVP(scheduler.betas.double())
    plain, x, noise = gaussian(path, kind=Plain), normal(4, 6), PerSampleNoise(range(4), "steps")
    theirs = draws(scheduler, plain, x, noise, eta=gamma)
    times = torch.cat([scheduler.timesteps.double(), torch.tensor([0.0], dtype=torch.float64)])
    ours = SAMPLERS["tcd"](plain, x, times, noise=noise, gamma=gamma)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
