"""Arguments of samplers, paths and schedules: what is accepted, and one line that names what is not."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VE,
    VP,
    Cosine,
    DiscreteVP,
    EmpiricalOracle,
    GaussianOracle,
    Network,
    RectifiedFlow,
    SubVP,
    TrigFlow,
)
from implementations.diffusion.checks import as_tensor, check_integer
from implementations.samplers import SAMPLERS
from tests.exact import normal

pytestmark = pytest.mark.unchecked

TABLE = DiscreteVP(torch.linspace(1e-4, 0.02, 1000))
PATHS = [VP(), Cosine(), SubVP(), VE(), EDM(), RectifiedFlow(), TrigFlow(), TABLE]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)


def gaussian(path):
    return GaussianOracle(path, torch.zeros(6).double(), 1.0)


# a start at the level of the first time


@every_path
def test_a_start_has_the_level_of_the_first_time_of_every_schedule(path):
    """Unit data come back with unit deviation along the exact flow; from t_max of EDM, ays makes it 5.5."""
    for name in ("uniform", "karras", "log_snr", "ays", "beta", "quadratic", "sd3_shift", "cosine"):
        times = SCHEDULES[name](path, 12)
        x = path.prior(normal(2000, 6), times[0])
        found = gaussian(path).flow(x, times[0], times[-1])
        end = math.hypot(float(path.alpha(times[-1])), float(path.sigma(times[-1])))
        # a start without the data's share of its variance is narrower by 3 % at sigma/alpha = 4; draws add 1 %
        assert float(found.std()) == pytest.approx(end, rel=0.05), name


def test_a_start_without_its_time_is_refused():
    with pytest.raises(TypeError, match="'t'"):
        EDM().prior(normal(2, 6))
    assert torch.equal(EDM().prior(normal(2, 6), torch.tensor(14.6)), normal(2, 6) * float(torch.tensor(14.6)))


# times


@every_path
@pytest.mark.parametrize("share", [-2.0, -0.01, 1.01, 3.0, math.inf, math.nan])
def test_a_time_outside_the_path_is_named_wherever_it_is_given(path, share):
    t, inside = path.t_min + share * (path.t_max - path.t_min), 0.5 * (path.t_min + path.t_max)
    oracle, x = gaussian(path), normal(2, 6)
    network = Network(path, lambda x, t: x, head="eps")
    data = EmpiricalOracle(path, normal(5, 6))
    calls = [
        lambda: oracle(x, t),
        lambda: oracle(x, torch.tensor([inside, t], dtype=torch.float64)),
        lambda: network(x, t),
        lambda: data(x, t),
        lambda: oracle.log_density(x, t),
        lambda: oracle.flow(x, t, inside),
        lambda: oracle.flow(x, inside, t),
        lambda: path.prior(x, t),
        lambda: SAMPLERS["ddim"](oracle, x, [inside, t]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"must lie in .* got"):
            call()


@every_path
def test_ends_as_float32_has_them_are_inside(path):
    x = normal(2, 6)
    for end in (path.t_min, path.t_max):
        path.prior(x, torch.tensor(end, dtype=torch.float32))
        Network(path, lambda x, t: x, head="eps")(x, np.float32(end))


def test_times_of_any_array_are_the_same():
    oracle, x = gaussian(VP()), normal(2, 6)
    times = SCHEDULES["karras"](VP(), 5)
    wanted = SAMPLERS["heun"](oracle, x, times)
    rising = times.flip(0).numpy()
    arrays = [
        times.numpy(),
        rising[::-1],
        np.stack([rising, rising], 1)[::-1, 0],
        times.numpy().astype(">f8"),
        times.numpy().astype(np.longdouble),
        times.tolist(),
        tuple(times.tolist()),
        list(times),
    ]
    for array in arrays:
        assert torch.equal(SAMPLERS["heun"](oracle, x, array), wanted)
        assert SAMPLERS["heun"].evaluations(array, path=VP()) == 9
    falling = np.linspace(0.02, 1e-4, 50)
    assert DiscreteVP(falling[::-1]).betas.tolist() == falling[::-1].tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.sampled_from(["<f8", ">f8", ">f4", "<i8", ">i2"]))
def test_arrays_of_any_order_keep_their_values(values, kind):
    array = np.array(values).clip(-3e4, 3e4).astype(kind)
    for given_ in (array, array[::-1], array[::2], np.stack([array, array], 1)[:, 0]):
        assert as_tensor(given_).tolist() == given_.tolist()


# whole numbers


@pytest.mark.parametrize("name", [n for n in SCHEDULES if not SCHEDULES[n].prepare])
def test_steps_are_whole_numbers_of_any_type(name):
    wanted = SCHEDULES[name](TABLE, 10)
    for steps in (np.int64(10), np.int32(10), np.uint8(10)):
        assert torch.equal(SCHEDULES[name](TABLE, steps), wanted)
    for steps in (0, -1, 10.0, np.float64(10), "10", None, True, [10]):
        with pytest.raises(ValueError, match="steps must be an integer of at least 1, got"):
            SCHEDULES[name](TABLE, steps)


@pytest.mark.parametrize(
    ("name", "option", "options"),
    [
        ("lms", "order", {}),
        ("sa_solver", "order", {}),
        ("sa_solver", "corrector_order", {}),
        ("er_sde", "order", {}),
        ("unipc_bh2", "order", {}),
        ("picard", "window", {}),
        ("picard", "sweeps", {}),
        ("predictor_corrector", "corrector_steps", {}),
        ("annealed_langevin", "steps_per_level", {}),
        ("dopri5", "max_evaluations", {}),
        ("ddim_inversion", "iterations", {}),
    ],
)
def test_counts_are_whole_numbers_of_any_type(name, option, options):
    x, times = normal(2, 6), torch.tensor([0.6, 0.5, 0.4], dtype=torch.float64)
    times = times.flip(0) if SAMPLERS[name].ascending else times
    count = 1000 if option == "max_evaluations" else 2
    for value in (1.5, 2.0, "2", True, math.nan, -1, [2]):
        with pytest.raises(ValueError, match=f"{option} must be an? (integer|number)"):
            SAMPLERS[name](gaussian(VP()), x, times, **{option: value})
    SAMPLERS[name](gaussian(VP()), x, times, **{option: np.int64(count)})


@given(
    value=st.one_of(st.floats(), st.text(), st.booleans(), st.none(), st.integers(max_value=2), st.complex_numbers())
)
def test_what_is_no_count_is_refused(value):
    with pytest.raises(ValueError, match="n must be an integer of at least 3, got"):
        check_integer("n", value, 3)


# betas


def bars(n, last=0.02):
    return torch.cumprod(1 - torch.linspace(1e-4, last, n, dtype=torch.float64), 0)


@pytest.mark.parametrize(
    "table",
    [
        *(f(bars(n, last)) for n, last in ((1000, 0.02), (1000, 0.012), (200, 0.1), (50, 0.3), (4000, 0.005))
          for f in (lambda a: a, torch.sqrt)),
        *(1 - torch.linspace(1e-4, last, n, dtype=torch.float64) for n, last in ((1000, 0.02), (100, 0.2), (20, 0.4))),
        torch.full((1000,), 0.98, dtype=torch.float64),
        torch.sin(torch.linspace(1.55, 0.05, 500, dtype=torch.float64)) ** 2,
        torch.cos(torch.linspace(0.01, 1.5, 300, dtype=torch.float64)),
        1 - bars(1000),
    ],
    ids=range(17),
)  # fmt: skip
def test_alphas_and_their_products_are_no_betas(table):
    with pytest.raises(ValueError, match=r"betas are wanted.* look like alphas or cumulative products"):
        DiscreteVP(table)


def test_tables_in_use_are_betas():
    cosine = torch.cos((torch.arange(1001) / 1000 + 0.008) / 1.008 * math.pi / 2).double() ** 2
    scaled = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    sigmoid = torch.sigmoid(torch.linspace(-6, 6, 1000).double()) * (0.02 - 1e-4) + 1e-4
    for betas in (
        torch.linspace(1e-4, 0.02, 1000),
        scaled,
        sigmoid,
        (1 - cosine[1:] / cosine[:-1]).clamp(max=0.999),
        torch.full((1000,), 0.01),
        1 / torch.arange(1000, 1, -1).double(),  # DDPM's jsd
        torch.cat([scaled[:-1], torch.ones(1).double()]),
        [0.2, 0.1, 0.05],
    ):
        assert float(DiscreteVP(betas).alpha(0)) > 0.8


# what is handed over in another's place


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"denoiser": torch.nn.Linear(6, 6)}, "denoiser must have a path .* Network.* got Linear"),
        ({"denoiser": None}, "denoiser must have a path .* got NoneType"),
        ({"denoiser": VP()}, "denoiser must have a path .* got VP"),
        ({"x": np.zeros((2, 6))}, "x must be a tensor, a batch of samples, got ndarray"),
        ({"x": [[0.0] * 6]}, "x must be a tensor, a batch of samples, got list"),
        ({"x": torch.zeros(2, 6).long()}, "floating point"),
        ({"times": torch.zeros(2, 6)}, "times must be a vector of at least 2"),
        ({"callback": 3}, "callback must be a function"),
        ({"eta": "1"}, "eta must be a number, got '1'"),
        ({"s_noise": "all"}, "s_noise must be a number, got 'all'"),
        ({"eta": math.nan}, "eta must lie in"),
    ],
)
def test_what_is_given_in_anothers_place_is_named(change, says):
    call = {"denoiser": gaussian(VP()), "x": normal(2, 6), "times": torch.tensor([0.5, 0.1])} | change
    denoiser, x, times = (call.pop(name) for name in ("denoiser", "x", "times"))
    with pytest.raises(ValueError, match=says):
        SAMPLERS["ddim"](denoiser, x, times, **call)


def test_noise_that_is_not_finite_is_among_the_causes():
    with pytest.raises(FloatingPointError, match="the denoiser or the noise was NaN or infinite"):
        SAMPLERS["ddpm"](gaussian(VP()), normal(2, 6), torch.tensor([0.5, 0.1]), noise=lambda _, like: like * math.nan)
