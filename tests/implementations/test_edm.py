"""EDM's samplers with churn: without it they are the plain ones; with it, Algorithm 2 number by number, and its law."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VE, VP, Cosine, RectifiedFlow, TrigFlow
from implementations.diffusion.law import marginal_law, output_law
from implementations.diffusion.noise import PerSampleNoise
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

PAIRS = [("edm_euler", "euler"), ("edm_heun", "heun")]
methods = pytest.mark.parametrize("name", ["edm_euler", "edm_heun"])


@pytest.mark.parametrize(("name", "plain"), PAIRS)
def test_without_churn_it_is_the_plain_method(name, plain):
    for path in (VP(), Cosine(), VE(), EDM(), RectifiedFlow(), TrigFlow()):
        for times in (
            SCHEDULES["karras"](path, 8),
            SCHEDULES["uniform"](path, 8),
            SCHEDULES["uniform"](path, 8).flip(0),
        ):
            x = path.prior(normal(4, 6), float(times[0])) if times[0] > times[1] else normal(4, 6)
            found = SAMPLERS[name](gaussian(path), x, times, s_churn=0.0)
            expected = SAMPLERS[plain](gaussian(path), x, times)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@methods
def test_algorithm_2(name):
    """Written out on the EDM path, where u = t; the first level is not exceeded, and [s_tmin, s_tmax] is closed."""
    oracle, noise = gaussian(EDM()), PerSampleNoise(range(4), "steps")
    times = SCHEDULES["karras"](EDM(), 8)
    options = {"s_churn": 2.0, "s_tmin": float(times[6]), "s_tmax": float(times[1]), "s_noise": 1.1}
    first = x = 80 * normal(4, 6)
    for i, (here, there) in enumerate(zip(times.tolist(), times[1:].tolist(), strict=False)):
        gamma = min(2.0 / 8, math.sqrt(2) - 1) if times[6] <= here <= times[1] else 0.0
        lifted = here + gamma * here
        x = x + math.sqrt(lifted**2 - here**2) * 1.1 * noise(i, x)
        slope = (x - oracle(x, lifted).x0) / lifted
        end = x + (there - lifted) * slope
        if name == "edm_heun" and there > 0:
            end = x + (there - lifted) / 2 * (slope + (end - oracle(end, there).x0) / there)
        x = end
    assert times[0] > times[1] * 1.25  # so that the cap at the first level is not met
    torch.testing.assert_close(SAMPLERS[name](oracle, first, times, noise=noise, **options), x, rtol=1e-12, atol=1e-13)


@methods
def test_the_model_is_asked_for_no_level_above_the_first(name):
    for path in (VP(), VE(), EDM()):
        asked, oracle = [], gaussian(path)

        class Watched(type(oracle)):
            def __call__(self, x, t, condition=None, asked=asked):
                asked.append(float(t))
                return super().__call__(x, t, condition)

        oracle.__class__ = Watched
        times = SCHEDULES["log_snr"](path, 40)  # steps small enough for a lift to pass the level before
        SAMPLERS[name](oracle, path.prior(normal(2, 6), float(times[0])), times, s_churn=100.0)
        assert max(asked) == float(times[0])
        assert not set(asked) <= set(times.tolist())


@methods
def test_every_option_does_something(name):
    path, x = VP(), normal(3, 6)
    times = SCHEDULES["karras"](path, 10)

    def sampled(**options):
        return SAMPLERS[name](gaussian(path), x, times, noise=PerSampleNoise(range(3)), **({"s_churn": 3.0} | options))

    base = sampled()
    for options in ({"s_churn": 2.0}, {"s_tmin": 1.0}, {"s_tmax": 1.0}, {"s_noise": 1.01}):
        assert float((sampled(**options) - base).abs().max()) > 1e-4, options
    # gamma stops at sqrt 2 - 1
    assert torch.equal(sampled(s_churn=5.0), sampled(s_churn=50.0))
    assert torch.equal(sampled(s_tmin=200.0), sampled(s_churn=0.0))


@methods
def test_sampled_moments_are_the_laboratorys(name):
    """Mean and variance of n = 20,000 draws, within five standard errors."""
    path, n = VP(), 20_000
    times, options = SCHEDULES["karras"](path, 8), {"s_churn": 4.0, "s_noise": 1.05}
    oracle = gaussian(path)
    law = output_law(SAMPLERS[name], oracle, times, options)
    start, generator = marginal_law(oracle, times[0]), torch.Generator().manual_seed(0)
    x = start.mean + start.variance.sqrt() * normal(n, 6, seed=1)

    def noise(draw, like):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    found = SAMPLERS[name](oracle, x, times, noise=noise, **options)
    assert bool(((found.mean(0) - law.mean).abs() < 5 * (law.variance / n).sqrt()).all())
    assert bool(((found.var(0) / law.variance - 1).abs() < 5 * math.sqrt(2 / n)).all())


@methods
def test_churn_forgets_the_start(name):
    """With noise the response to the start falls below the probability flow's."""
    path = EDM()
    times = SCHEDULES["karras"](path, 40, clean=False)
    responses = []
    for s_churn in (0.0, 5.0, 20.0):
        outputs = [
            SAMPLERS[name](
                gaussian(path), x * torch.ones(1, 6).double(), times, s_churn=s_churn, noise=lambda _, like: 0 * like
            )
            for x in (0.0, 80.0)
        ]
        responses.append(float((outputs[1] - outputs[0]).norm()))
    assert responses == sorted(responses, reverse=True), responses


@pytest.mark.unchecked
@methods
def test_wrong_options_are_named(name):
    for options, says in [
        ({"s_churn": -1.0}, "s_churn must be at least 0 and finite, got -1"),
        ({"s_churn": math.inf}, "s_churn must .* got inf"),
        ({"s_tmin": 2.0, "s_tmax": 1.0}, r"s_tmin must lie in \[0, s_tmax\], got s_tmin 2.0 and s_tmax 1.0"),
        ({"s_noise": math.nan}, "s_noise must .* got nan"),
    ]:
        with pytest.raises(ValueError, match=says):
            SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), **options)
