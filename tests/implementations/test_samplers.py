"""Every sampler of the catalogue: its order on an exact flow, equivariance over paths, ends, noise, cost, errors."""

import itertools
import math

import pytest
import torch

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VE,
    VP,
    Cosine,
    CountingDenoiser,
    Denoiser,
    DiscreteVP,
    EmpiricalOracle,
    Network,
    Prediction,
    RectifiedFlow,
    TrigFlow,
)
from implementations.diffusion.grid import Grid
from implementations.diffusion.law import marginal_law, output_law, variance_error
from implementations.diffusion.noise import PerSampleNoise
from implementations.samplers import SAMPLERS
from implementations.schedules.spacing import grade
from tests.exact import CONTINUOUS, OWN, PATHS, VARIANTS, gaussian, label, normal, start

ASCENDING = {n for n in OWN if SAMPLERS[n].ascending}
ODE = [(n, o) for n, o in VARIANTS if not SAMPLERS[n].draws_noise(o) and not SAMPLERS[n].adaptive]
ORDERED = [(n, o) for n, o in ODE if SAMPLERS[n].theory(o) is not None]
REVERSIBLE = [v for v in ORDERED if v[0] not in ASCENDING]
FIXED = [v for v in VARIANTS if not SAMPLERS[v[0]].adaptive]
NOISY = [("ddim", {"eta": 0.5}), ("ddim", {"eta": 1.0}), ("ddpm", {"variance": "large"}), ("gddim", {"eta": 0.5})]
NOISY += [("seeds", {"eta": 0.5}), ("dpm_adaptive", {"eta": 1.0})]
NOISY += [(n, o) for n, o in VARIANTS if SAMPLERS[n].draws_noise(o)]
EQUIVARIANT = [(n, o) for n, o in FIXED + NOISY if o.get("coordinate", SAMPLERS[n].coordinate) != "t"]


every = pytest.mark.parametrize("name", OWN)
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=label)
every_path = pytest.mark.parametrize("path", CONTINUOUS, ids=label)
ode_variants = pytest.mark.parametrize("variant", ODE, ids=label)


def turned(name, times):
    """The times in the direction that the sampler takes."""
    return times.flip(0) if SAMPLERS[name].ascending else times


def karras(name, path, steps, **options):
    """Karras' grid as the sampler takes it: one from data begins inside the path, where every head has its eps."""
    return turned(name, SCHEDULES["karras"](path, steps, clean=not SAMPLERS[name].ascending, **options))


def rms_error(variant, path, steps, z):
    """The largest over the path: at its end alone, errors of early and late steps may cancel."""
    name, options = variant
    oracle = gaussian(path)
    times = grade(turned(name, SCHEDULES["karras"](path, steps, clean=False)))
    x = oracle.flow(start(path, path.t_max, z), path.t_max, times[0])
    errors = []

    def watch(i, t, found, prediction):
        if i % 8 == 0 or i == len(times) - 2:
            errors.append(float((found - oracle.flow(x, times[0], t)).square().mean().sqrt()))

    SAMPLERS[name](oracle, x, times, callback=watch, **options)
    return max(errors)


# the order


def on(variants, paths):
    """Each variant, in t on every path, where they differ; in the other coordinates equivariance covers the rest."""
    cases = [((n, o), p) for n, o in variants for p in (paths if (n, o) not in EQUIVARIANT else (VP(),))]
    return pytest.mark.parametrize(("variant", "path"), cases, ids=label)


@pytest.mark.unchecked
@on(ORDERED, CONTINUOUS)
def test_order_on_the_exact_flow(variant, path):
    name, options = variant
    theory = SAMPLERS[name].theory(options)
    ends = (80, 320) if theory < 4 else (160, 640)
    errors = [rms_error(variant, path, steps, normal(8, 6)) for steps in ends]
    slope = math.log2(errors[0] / errors[-1]) / 2
    tolerance = 0.1 if theory < 3 else 0.2
    assert slope > theory - tolerance, errors
    # in t a Gaussian's flow may cancel the leading error on a path, not on VP: a midpoint's on EDM shows order 3
    assert slope < theory + tolerance or not isinstance(path, VP), errors
    assert errors[-1] > 1e-11  # above rounding, where a slope means nothing


@pytest.mark.unchecked
@on([(n, o) for n, o in NOISY if SAMPLERS[n].affine and SAMPLERS[n].theory(o) is not None], [VP(), RectifiedFlow()])
def test_weak_order_of_the_variance_on_a_gaussian(variant, path):
    name, options = variant
    oracle, biases = gaussian(path), []
    # fine ones, since terms of two orders may be of opposite signs; a whole order more is a leading term that all but
    # cancels here, as SA-Solver's of order 2 does until 1000 steps
    for steps in (160, 320):
        times = SCHEDULES["karras"](path, steps, sigma_min=0.02, sigma_max=40.0, clean=False)
        law = output_law(SAMPLERS[name], oracle, times, options)
        biases.append(variance_error(law, marginal_law(oracle, times[-1])))
    excess = math.log2(biases[0] / biases[1]) - SAMPLERS[name].theory(options)
    assert abs(excess) < 0.15 or excess > 1, biases


# identities


@every_path
def test_first_order_methods_are_one(path):
    """DDIM without noise, Euler in sigma and Euler in lambda are the same step (2010.02502, sec. 4.3)."""
    oracle, times = gaussian(path), SCHEDULES["karras"](path, 20)
    x = start(path, times[0], normal(5, 6))
    reference = SAMPLERS["ddim"](oracle, x, times, eta=0.0)
    for coordinate in ("sigma", "lambda"):
        found = SAMPLERS["euler"](oracle, x, times, coordinate=coordinate)
        torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-12)


@every_path
def test_ddim_with_all_noise_is_ddpm(path):
    oracle, times = gaussian(path), SCHEDULES["karras"](path, 20)
    x = start(path, times[0], normal(5, 6))
    noise = PerSampleNoise(range(5))
    left = SAMPLERS["ddim"](oracle, x, times, noise=noise, eta=1.0)
    torch.testing.assert_close(left, SAMPLERS["ddpm"](oracle, x, times, noise=noise), rtol=1e-13, atol=1e-13)


def test_ddpm_variances_are_those_of_the_table():
    """On DDPM's own table of betas: large is beta, small is beta (1 - abar_prev) / (1 - abar)."""
    betas = torch.linspace(1e-3, 0.3, 30, dtype=torch.float64)
    path, bars = DiscreteVP(betas), (1 - betas).cumprod(0)

    def scale(variance, k):
        times = torch.tensor([float(k), k - 1.0])
        outputs = [
            SAMPLERS["ddpm"](
                gaussian(path), normal(1, 6), times, variance=variance, noise=lambda _, like, z=z: z + 0 * like
            )
            for z in (0.0, 1.0)
        ]
        return float((outputs[1] - outputs[0]).mean())

    for k in (1, 7, 29):
        assert scale("large", k) ** 2 == pytest.approx(float(betas[k]), rel=1e-10)
        small = betas[k] * (1 - bars[k - 1]) / (1 - bars[k])
        assert scale("small", k) ** 2 == pytest.approx(float(small), rel=1e-10)


@pytest.mark.parametrize("variant", EQUIVARIANT, ids=label)
def test_equivariance(variant):
    """One log-SNR grid gives the same samples on every path, rescaled: the proof of "every path"."""
    name, options = variant
    for clean in (False, True):
        z, results = normal(4, 6), []
        for path in CONTINUOUS:
            if clean and isinstance(path, VE):
                continue  # it has no clean end
            times = turned(name, SCHEDULES["karras"](path, 12, sigma_min=0.01, sigma_max=50.0, clean=clean))
            x, noise = start(path, times[0], z), PerSampleNoise(range(4))
            found = SAMPLERS[name](gaussian(path), x, times, noise=noise, **options)
            results.append(found / float(path.alpha(times[-1])))
        for found in results[1:]:
            assert float((found - results[0]).abs().max() / results[0].abs().max()) < 1e-12, clean


# ends, steps, dtypes


@every_variant
def test_from_end_to_end_finite_at_the_stated_cost(variant):
    """Uniform times touch every end there is: alpha = 0 where the path has it, sigma = 0; karras' touch none.

    Each number of steps meets both on paths that end at alpha = 0 and on others.
    """
    name, options = variant
    entry = SAMPLERS[name]
    options = options | ({"rtol": 1e-2, "atol": 1e-2} if entry.adaptive else {})
    for turn, path in enumerate(PATHS):
        for steps, which in zip((1, 2, 3, 10), (0, 1, 0, 1), strict=True):
            schedule, given = (("uniform", {}), ("karras", {"clean": False}))[(which + turn) % 2]
            times = turned(name, SCHEDULES[schedule](path, steps, **given))
            counting = CountingDenoiser(gaussian(path))
            found = entry(counting, path.prior(normal(3, 6), float(times[0])), times, **options)
            assert found.isfinite().all(), (path, steps, schedule)
            assert found.shape == (3, 6)
            assert entry.evaluations(times, path=path, **options) in (counting.calls, None), (path, steps, schedule)


def test_the_cost_is_stated_but_where_a_sampler_stops_when_it_has_converged():
    times = SCHEDULES["karras"](VP(), 4, clean=False)
    unknown = {n for n, o in VARIANTS if SAMPLERS[n].evaluations(times, path=VP(), **o) is None}
    assert unknown == {n for n in OWN if SAMPLERS[n].adaptive} | {"picard"}


@pytest.mark.parametrize(
    "variant", [v for v in VARIANTS if v[0] not in ASCENDING and not SAMPLERS[v[0]].maps], ids=label
)
def test_one_step_over_the_whole_path_predicts_the_mean(variant):
    """x' = 1 x0 + 0 eps, and at alpha = 0 nothing is known but the mean."""
    name, options = variant
    for path in (RectifiedFlow(), TrigFlow(), Cosine()):
        oracle, times = gaussian(path), SCHEDULES["uniform"](path, 1)
        found = SAMPLERS[name](oracle, normal(3, 6), times, **options)
        torch.testing.assert_close(found, oracle.mean.expand(3, 6), rtol=1e-14, atol=1e-14)


@every
def test_networks_of_any_precision_and_head(name):
    times, heads = karras(name, VP(), 4, sigma_min=0.1, sigma_max=2.0), ("eps", "x0", "v", "velocity", "score")
    for dtype, head in itertools.product((torch.bfloat16, torch.float32, torch.float64), heads):
        module = torch.nn.Linear(6, 6).to(dtype)
        network = Network(VP(), lambda x, t, module=module: module(x), head=head, dtype=dtype)
        found = SAMPLERS[name](network, normal(3, 6).to(dtype), times)
        assert found.dtype == torch.promote_types(dtype, torch.float32)
        assert found.isfinite().all(), head


@every
def test_pure(name):
    path, x = EDM(), normal(3, 6)
    times = turned(name, SCHEDULES["karras"](path, 5))
    x_before, times_before = x.clone(), times.clone()
    noise = PerSampleNoise(range(3))
    first = SAMPLERS[name](gaussian(path), x, times, noise=noise)
    assert torch.equal(first, SAMPLERS[name](gaussian(path), x, times, noise=noise))
    assert torch.equal(x, x_before)
    assert torch.equal(times, times_before)


@every
def test_callback_and_condition(name):
    seen, path = [], EDM()
    times = karras(name, path, 4)

    class Conditional(Denoiser):
        def __init__(self):
            self.path = path

        def __call__(self, x, t, condition=None):
            assert condition == "a cat"
            assert t.ndim == 0 or t.shape == x.shape[:1]
            assert t.dtype == torch.float64
            return Prediction(path, x, t, x0=torch.zeros_like(x))

    found = SAMPLERS[name](
        Conditional(),
        normal(3, 6),
        times,
        condition="a cat",
        callback=lambda i, t, x, p: seen.append((i, float(t), x, p)),
    )
    assert [i for i, *_ in seen] == [0, 1, 2, 3]
    assert [t for _, t, *_ in seen] == times[1:].tolist()
    assert torch.equal(seen[-1][2], found)
    asked, before = torch.tensor([float(p.t) for *_, p in seen], dtype=torch.float64), times[:-1]
    # churn lifts the state before the model sees it
    assert torch.equal(asked, before) or (SAMPLERS[name].draws_noise({}) and bool((asked >= before).all()))


# noise


@pytest.mark.parametrize("shape", [(), (3,), (2, 4, 4)])
def test_noise_is_the_same_in_any_batch(shape):
    like = torch.empty(512, *shape, dtype=torch.float64)
    whole = PerSampleNoise(range(512))
    for draw in (0, 1, 1000):
        together = whole(draw, like)
        for i in (0, 1, 37, 511):
            assert torch.equal(PerSampleNoise([i])(draw, like[:1])[0], together[i])
        assert torch.equal(whole(draw, like.float()), together.float())
    assert not torch.equal(whole(0, like), whole(1, like))


def test_noise_is_standard_normal_and_independent():
    noise, like = PerSampleNoise(range(64)), torch.empty(64, 500, dtype=torch.float64)
    draws = torch.stack([noise(k, like) for k in range(4)])
    n = draws.numel()
    assert abs(float(draws.mean())) < 5 / math.sqrt(n)  # five standard errors
    assert abs(float(draws.var()) - 1) < 5 * math.sqrt(2 / n)
    correlations = torch.corrcoef(draws.reshape(4 * 64, 500))
    largest = float((correlations - torch.eye(256)).abs().max())
    assert largest < 6 / math.sqrt(500)  # of 33,000 pairs


@pytest.mark.parametrize("length", [1, 4, 500])
def test_draws_do_not_overlap(length):
    """Counters that follow one another give draw k+1 as draw k, four numbers later, for each seed."""
    noise, like = PerSampleNoise(range(16)), torch.empty(16, length, dtype=torch.float64)
    draws = [set(noise(k, like).flatten().tolist()) for k in range(20)]
    assert len(set.union(*draws)) == 20 * 16 * length  # float64 normals: none comes twice by chance


def test_wrong_noise_is_named():
    with pytest.raises(ValueError, match="2 seeds were given for a batch of 3"):
        PerSampleNoise([1, 2])(0, torch.empty(3, 4))
    with pytest.raises(ValueError, match="negative"):
        PerSampleNoise([1, -2])


@pytest.mark.parametrize("variant", [*VARIANTS, *NOISY], ids=label)
def test_samples_do_not_depend_on_the_batch(variant):
    name, options = variant
    path, x = VP(), normal(64, 6)
    times = turned(name, SCHEDULES["karras"](path, 10))
    together = SAMPLERS[name](gaussian(path), x, times, noise=PerSampleNoise(range(64)), **options)
    for i in (0, 17, 63):
        alone = SAMPLERS[name](gaussian(path), x[i : i + 1], times, noise=PerSampleNoise([i]), **options)
        # sums over a batch of another size differ in their last bits
        torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-12)


@every
def test_batched_float32_samples_are_the_same_but_for_changes_of_basin(name):
    """Rounding may send a path to another datum where it starts on the border of two; nowhere else does it show."""
    data = normal(40, 6, seed=1)
    oracle, times = EmpiricalOracle(VP(), data), karras(name, VP(), 10)
    x = normal(512, 6).float()
    together = SAMPLERS[name](oracle, x, times, noise=PerSampleNoise(range(512)))
    assert together.dtype == torch.float32
    picked = range(0, 512, 32)
    alone = torch.cat([SAMPLERS[name](oracle, x[i : i + 1], times, noise=PerSampleNoise([i])) for i in picked])
    apart = (alone - together[::32]).norm(dim=1) > 1e-4 * alone.norm(dim=1)
    basins = [torch.cdist(found.double(), data).argmin(1) for found in (alone, together[::32])]
    changed = basins[0] != basins[1]
    assert bool((changed | ~apart).all())
    assert int(changed.sum()) <= 1  # of 16


@every_path
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_times_of_low_precision_meet_the_ends_exactly(path, dtype):
    """float32's pi/2 lies beyond pi/2, float16's before it: at neither is alpha 0."""
    times = torch.linspace(path.t_max, path.t_min, 5, dtype=dtype)
    exact = times.double()
    exact[0], exact[-1] = path.t_max, path.t_min
    ulp_beyond = times.clone()
    ulp_beyond[0] = torch.nextafter(torch.tensor(path.t_max, dtype=dtype), torch.tensor(math.inf, dtype=dtype))
    for given in (times, ulp_beyond):
        assert Grid(path, given).points == Grid(path, exact).points


# inversion


@pytest.mark.unchecked
@on(REVERSIBLE, [VP(), RectifiedFlow()])
def test_there_and_back_falls_with_the_order(variant, path):
    name, options = variant
    oracle, errors = gaussian(path), []
    for steps in (80, 320):
        times = SCHEDULES["karras"](path, steps, sigma_min=0.05, sigma_max=20.0, clean=False)
        x = oracle.flow(start(path, times[0], normal(5, 6)), times[0], times[-1])
        up = SAMPLERS[name](oracle, x, grade(times.flip(0)), **options)
        errors.append(float((SAMPLERS[name](oracle, up, grade(times), **options) - x).norm()))
    # at least the order: errors of the two ways may cancel, as a trapezoid's do
    theory = SAMPLERS[name].theory(options)
    assert math.log2(errors[0] / errors[-1]) / 2 > theory - (0.1 if theory < 3 else 0.2), errors


@ode_variants
def test_inversion_from_the_clean_end_is_finite(variant):
    name, options = variant
    for path in (VP(), EDM(), RectifiedFlow(), TrigFlow()):
        oracle = gaussian(path)
        found = SAMPLERS[name](oracle, oracle.sample(4), SCHEDULES["karras"](path, 10).flip(0), **options)
        assert found.isfinite().all()


# errors


@pytest.mark.unchecked
@every
def test_wrong_times_are_named(name):
    for times, says in [
        ([1.0], "at least 2"),
        ([], "at least 2"),
        ([[1.0, 0.5]], "at least 2"),
        ([1.0, 0.2, 0.5], "strictly monotone"),
        ([1.0, 0.5, 0.5, 0.1], "strictly monotone"),
        ([1.0, math.nan, 0.1], "nan"),
        ([1.5, 0.5], r"\[0.0, 1.0\] .* got 1.5"),
        ([0.5, -0.1], "got -0.1"),
    ]:
        with pytest.raises(ValueError, match=says):
            SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor(times, dtype=torch.float64))


@pytest.mark.unchecked
@every
def test_wrong_states_are_named(name):
    times = turned(name, SCHEDULES["karras"](VP(), 4))
    for x, says in [
        (normal(0, 6), "at least one"),
        (normal(2, 6) * math.nan, "first step"),
        (torch.ones(2, 6).long(), "floating"),
    ]:
        with pytest.raises(ValueError, match=says):
            SAMPLERS[name](gaussian(VP()), x, times)


@every
def test_a_denoiser_that_returns_nan_is_named_with_its_step(name):
    class Breaks(Denoiser):
        def __init__(self):
            self.path, self.oracle = VP(), gaussian(VP())

        def __call__(self, x, t, condition=None):
            prediction = self.oracle(x, t)
            broken = (torch.as_tensor(t) < 0.4).expand(len(x))[:, None]
            return Prediction(self.path, x, t, x0=torch.where(broken, math.nan, prediction.x0))

    times = torch.tensor([1.0, 0.8, 0.5, 0.3, 0.1], dtype=torch.float64)
    # a method with stages after the first meets it a step earlier, one that ascends at once, one that looks ahead two
    step = "1" if name in ASCENDING else "2" if name == "heunpp2" else "[34]"
    with pytest.raises(FloatingPointError, match=f"not finite after step {step} of 4"):
        SAMPLERS[name](Breaks(), normal(2, 6), turned(name, times))


@pytest.mark.parametrize("variant", NOISY, ids=label)
def test_noise_has_no_inverse(variant):
    name, options = variant
    with pytest.raises(ValueError, match="ascending"):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.1, 0.5]), **options)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("euler", {"coordinate": "time"}),
        ("heun", {"coordinate": "x"}),
        ("ddim", {"eta": 1.5}),
        ("ddpm", {"variance": "mid"}),
    ],
)
def test_wrong_options_are_named(name, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
        SAMPLERS[name](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), **options)


def test_heuns_weight_in_lambda_is_continuous_where_its_series_takes_over():
    from implementations.diffusion.grid import Point
    from implementations.samplers.runge_kutta import COORDINATES

    def weight(h):
        here, there = (
            Point(0.0, 1 / math.hypot(1, math.exp(-level)), 1 / math.hypot(1, math.exp(level)), level)
            for level in (0.0, h)
        )
        return COORDINATES["lambda"].step(here, there)[2]

    for h in (0.02, -0.02):
        # at 0.02 the closed form has lost four digits of sixteen and the series' next term is 1e-13
        assert weight(h * (1 - 1e-9)) == pytest.approx(weight(h * (1 + 1e-9)), abs=1e-10)
    assert weight(20.0) == pytest.approx(1 / (1 - math.exp(-20)) - 1 / 20, rel=1e-14)
