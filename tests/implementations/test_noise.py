"""The noise of a call: fresh, repeated by torch.manual_seed, of each sample's own stream, never a start's."""

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implementations.diffusion import SCHEDULES, VP, Denoiser, GaussianOracle, Prediction
from implementations.diffusion.chains import Chain
from implementations.diffusion.noise import STREAMS, PerSampleNoise, noise_of
from implementations.diffusion.sde import diffuse
from implementations.samplers import SAMPLERS
from implementations.samplers.contract import sampler
from implementations.samplers.likelihood import dequantise

OWN = [name for name, entry in SAMPLERS.items() if entry.source == "fidmap" and entry.family != "peer"]
STOCHASTIC = [name for name in OWN if SAMPLERS[name].draws_noise({})]
PEERS = ["diffusers_ddpm", "k_diffusion_dpmpp_2m_sde"]


class Nothing(Denoiser):
    """Data that are all 0."""

    path = VP()

    def __call__(self, x, t, condition=None):
        return Prediction(self.path, x, t, x0=torch.zeros_like(x))


def run(name, x, denoiser=None, steps=4, **options):
    denoiser = denoiser or Nothing()
    times = SCHEDULES["karras"](denoiser.path, steps, clean=False)
    times = times.flip(0) if SAMPLERS[name].ascending else times
    with torch.no_grad():
        return SAMPLERS[name](denoiser, x, times, **options)


def state():
    return torch.get_rng_state(), str(np.random.get_state())


@pytest.mark.parametrize("name", [*STOCHASTIC, *PEERS])
def test_a_second_call_has_new_noise_and_manual_seed_repeats_a_call(name):
    if SAMPLERS[name].package:
        pytest.importorskip(SAMPLERS[name].package.replace("-", "_"))
    torch.manual_seed(5)
    x = torch.zeros(3, 400, dtype=torch.float64)
    first, second = run(name, x), run(name, x)
    # cosines of independent normals in 400 dimensions have a deviation of 1/20
    assert float(torch.cosine_similarity(first, second).abs().max()) < 0.25
    torch.manual_seed(5)
    assert torch.equal(run(name, x), first)
    given_twice = [run(name, x, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*given_twice)
    assert not torch.equal(given_twice[0], first)


@pytest.mark.parametrize("name", OWN)
def test_every_sampler_takes_noise_and_generator_and_only_noise_touches_the_global_generator(name):
    parameters = inspect.signature(SAMPLERS[name].resolve()).parameters
    assert all(parameters[n].default is None for n in ("condition", "noise", "generator", "callback"))
    oracle = GaussianOracle(VP(), torch.zeros(4).double(), 0.5)
    x, loose = torch.ones(2, 4, dtype=torch.float64), {"rtol": 0.5} if SAMPLERS[name].adaptive else {}
    for given_ in ({"noise": PerSampleNoise(range(2))}, {"generator": torch.Generator().manual_seed(1)}, {}):
        before = state()
        run(name, x, oracle, **given_, **loose)
        after = state()
        kept = torch.equal(before[0], after[0]) and before[1] == after[1]
        assert kept == bool(given_ or not SAMPLERS[name].draws_noise({})), given_
    with pytest.raises(ValueError, match="noise and generator exclude each other"):
        run(name, x, oracle, noise=PerSampleNoise(range(2)), generator=torch.Generator())


def test_two_steps_from_a_start_of_the_same_class_have_the_right_variance():
    """Euler-Maruyama, two steps: with the start as its first noise the variance is a fortieth of the right one."""
    n, path = 4096, VP()
    oracle, times = GaussianOracle(path, torch.zeros(1).double(), 1.0), torch.tensor([0.5, 0.4, 0.3]).double()
    x = PerSampleNoise(range(n))(0, torch.empty(n, 1, dtype=torch.float64))
    expected = float(x.var())
    for i in range(2):
        f, g = float(path.drift(times[i])), float(path.diffusion(times[i]))
        expected = (1 - 0.1 * (f + g**2)) ** 2 * expected + 0.1 * g**2  # of unit variance the score is -x
    for options in ({}, {"noise": PerSampleNoise(range(n))}):
        found = SAMPLERS["euler_maruyama"](oracle, x, times, **options)
        assert float(found.var()) == pytest.approx(expected, rel=5 * math.sqrt(2 / n))  # five standard errors


def test_streams_of_the_same_seeds_share_no_number():
    like = torch.empty(8, 50, dtype=torch.float64)
    drawn = [PerSampleNoise(range(8), stream)(draw, like) for stream in STREAMS for draw in range(3)]
    values = torch.stack(drawn).flatten().tolist()
    assert len(set(values)) == len(values)  # float64 normals: none comes twice by chance


def test_who_takes_noise_draws_from_a_stream_of_its_own():
    noise, x = PerSampleNoise(range(3)), torch.zeros(3, 5, dtype=torch.float64)
    start, forward = noise(0, x), noise.of("forward")(0, x)
    assert not torch.equal(start, forward)
    chain = Chain(torch.zeros(1).double(), torch.ones(1).double())
    assert torch.equal(chain.run(x, noise=noise), forward)
    times = torch.tensor([0.1, 0.2], dtype=torch.float64)
    assert torch.allclose(diffuse(VP(), x, times, noise=noise), forward * VP().diffusion(0.1) * 0.1**0.5)
    levels = torch.zeros(3, 5, dtype=torch.uint8)
    uniform = torch.special.ndtr(noise.of("levels")(0, levels.float()).double()).float()
    assert torch.equal(dequantise(levels, scale=1.0, offset=0.0, noise=noise), uniform)
    assert not torch.equal(dequantise(levels), dequantise(levels))  # fresh, too


def test_a_generator_per_sample_makes_noise_that_does_not_depend_on_the_batch():
    def generators():
        return [torch.Generator().manual_seed(seed) for seed in (3, 1, 4)]

    x = torch.zeros(3, 7, dtype=torch.float64)
    together = run("ddpm", x, generator=generators())
    for i in range(3):
        assert torch.equal(run("ddpm", x[i : i + 1], generator=generators()[i : i + 1])[0], together[i])
    with pytest.raises(ValueError, match="3 generators were given for a batch of 2"):
        run("ddpm", x[:2], generator=generators())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), n=st.integers(1, 6), draw=st.integers(0, 2**40))
def test_drawn_noise_is_a_pure_function_of_the_generators_state(seed, n, draw):
    like = torch.empty(n, 3, dtype=torch.float64)
    first, second = (noise_of(None, torch.Generator().manual_seed(seed), "steps")(draw, like) for _ in range(2))
    assert torch.equal(first, second)
    assert len(set(first.flatten().tolist())) == 3 * n
    assert not torch.isin(first, PerSampleNoise(range(n))(draw, like)).any()


# what is no noise


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"noise": torch.zeros(2, 4)},
            r"noise must be a function noise\(draw, like\).* got a tensor of shape \(2, 4\)",
        ),
        ({"noise": torch.zeros(1)}, r"noise must be a function .* got a tensor of shape \(1,\)"),
        ({"noise": np.zeros((2, 4))}, "noise must be a function"),
        ({"noise": 3}, "noise must be a function .* got 3"),
        ({"noise": [PerSampleNoise([0])]}, "noise must be a function"),
        ({"noise": torch.Generator()}, "a torch.Generator is given as generator="),
        ({"noise": lambda draw, like: torch.zeros(4)}, r"noise must give draws of .* \(2, 4\), got shape \(4,\)"),
        ({"noise": lambda draw, like: torch.zeros(1, 4)}, r"got shape \(1, 4\)"),
        ({"noise": lambda draw, like: 0.0}, "got float"),
        ({"noise": PerSampleNoise([0])}, "1 seeds were given for a batch of 2"),
        ({"generator": 3}, "generator must be a torch.Generator, or a list of them, one per sample, got 3"),
        ({"generator": [1, 2]}, "generator must be a torch.Generator"),
        ({"generator": np.random.default_rng()}, "generator must be a torch.Generator"),
    ],
)
def test_what_is_no_noise_is_named(options, says):
    for name in ("ddpm", "dpmpp_2m_sde", "edm_heun", "sa_solver"):
        with pytest.raises(ValueError, match=says):
            run(name, torch.ones(2, 4, dtype=torch.float64), **options)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "seeds",
    [[0.7], [1.0], [-1], [0, -5], "12", b"12", 7, None, [None], ["3"], [True], [np.bool_(False)], [math.nan], [2**128],
     [1j], np.array([0.5]), torch.tensor([0.5, 2.0]), torch.tensor([True]), [[1]], [np.float64(3)]],
    ids=repr,
)  # fmt: skip
def test_seeds_that_are_no_integers_are_refused(seeds):
    with pytest.raises(ValueError, match="seeds must be"):
        PerSampleNoise(seeds)


@pytest.mark.unchecked
def test_seeds_of_any_integer_type_are_taken():
    like = torch.empty(2, 3)
    wanted = PerSampleNoise([3, 4])(1, like)
    for seeds in (range(3, 5), np.arange(3, 5), torch.arange(3, 5), (np.int64(3), np.uint8(4))):
        assert torch.equal(PerSampleNoise(seeds)(1, like), wanted)
    for draw in (-1, 1.5):
        with pytest.raises(ValueError, match="draw must be an integer of at least 0"):
            PerSampleNoise([3, 4])(draw, like)


def test_a_sampler_of_ones_own_takes_the_same():
    @sampler
    def ancestral(problem):
        x = problem.x
        for i, (here, there) in enumerate(itertools.pairwise(problem.points)):
            fresh = -math.expm1(2 * (here.log_snr - there.log_snr))
            mean = problem.ask(x, here).combine(there.alpha, there.sigma * (1 - fresh) ** 0.5)
            x = mean + there.sigma * fresh**0.5 * problem.noise(i, x)
        return x

    x, times = torch.ones(2, 4, dtype=torch.float64), SCHEDULES["karras"](VP(), 4, clean=False)
    options = {"noise": PerSampleNoise([5, 6])}
    torch.testing.assert_close(ancestral(Nothing(), x, times, **options), run("ddpm", x, steps=4, **options))
    assert not torch.equal(ancestral(Nothing(), x, times), ancestral(Nothing(), x, times))
