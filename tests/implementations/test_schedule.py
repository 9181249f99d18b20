"""Time grids: descending, within the path, laid out as they say, the same levels on every path."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VE, VP, Cosine, DiscreteVP, RectifiedFlow, SubVP, TrigFlow

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


@every_path
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
def test_steps_plus_one_descending_times_within_the_path(name, path, steps):
    times = SCHEDULES[name](path, steps)
    assert times.shape == (steps + 1,)
    assert times.dtype == torch.float64
    assert (times.diff() < 0).all()
    assert times[0] <= path.t_max
    assert float(times[-1]) == pytest.approx(path.t_min, abs=1e-15)  # VE's own end is its least sigma


@every_path
def test_grids_are_equal_in_what_they_say(path):
    def equal(values):  # rounding of the inverse, over a span of about 10
        return float((values.diff() - values.diff().mean()).abs().max()) < 1e-11 * float(values.abs().max())

    assert equal(SCHEDULES["uniform"](path, 40))
    assert equal(path.log_snr(SCHEDULES["log_snr"](path, 40, clean=False)))
    assert equal(path.ratio(SCHEDULES["karras"](path, 40, clean=False)) ** (1 / 7))
    assert equal(path.ratio(SCHEDULES["karras"](path, 40, rho=3.0, clean=False)) ** (1 / 3))


@pytest.mark.parametrize("name", ["karras", "log_snr"])
def test_levels_are_the_same_on_every_path(name):
    bounds = {"sigma_min": 0.02, "sigma_max": 40.0, "clean": False}
    levels = [path.ratio(SCHEDULES[name](path, 20, **bounds)) for path in PATHS]
    for other in levels[1:]:
        torch.testing.assert_close(other, levels[0], rtol=1e-12, atol=0)
    assert float(levels[0][0]) == pytest.approx(40.0, rel=1e-12)
    assert float(levels[0][-1]) == pytest.approx(0.02, rel=1e-12)


@pytest.mark.parametrize("path", [EDM(), RectifiedFlow(), Cosine()], ids=lambda path: type(path).__name__)
def test_clean_ends_at_zero_after_the_same_levels(path):
    clean, inside = SCHEDULES["karras"](path, 11), SCHEDULES["karras"](path, 10, clean=False)
    torch.testing.assert_close(clean[:-1], inside, rtol=0, atol=0)
    assert float(path.sigma(clean[-1])) == 0
    assert float(path.ratio(inside[-1])) == pytest.approx(0.002, rel=1e-12)


def test_defaults_yield_to_the_path():
    ve = VE(sigma_min=0.03, sigma_max=20.0)
    assert SCHEDULES["karras"](ve, 5)[[0, -1]].tolist() == pytest.approx([ve.t_max, ve.t_min], abs=1e-15)
    assert float(SCHEDULES["karras"](EDM(sigma_max=10.0), 5)[0]) == pytest.approx(10.0, rel=1e-14)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "path", "steps", "options", "says"),
    [
        ("uniform", VP(), 0, {}, "steps"),
        ("karras", VP(), -1, {}, "steps"),
        ("log_snr", VP(), 2.5, {}, "steps"),
        ("uniform", VP(), 5, {"start": 2.0}, "start"),
        ("uniform", VP(), 5, {"start": 0.2, "end": 0.4}, "end"),
        ("uniform", VP(), 5, {"start": math.nan}, "start"),
        ("karras", EDM(), 5, {"sigma_max": 100.0}, "sigma_max"),
        ("karras", VE(), 5, {"sigma_min": 1e-4}, "sigma_min"),
        ("karras", EDM(), 5, {"sigma_min": 1.0, "sigma_max": 0.5}, "sigma_min < sigma_max"),
        ("karras", EDM(), 5, {"rho": 0.0}, "rho"),
        ("log_snr", EDM(), 5, {"sigma_min": 0.0}, "sigma_min"),
        ("log_snr", EDM(), 5, {"sigma_max": math.nan}, "nan"),
    ],
)
def test_wrong_options_are_named(name, path, steps, options, says):
    with pytest.raises(ValueError, match=says):
        SCHEDULES[name](path, steps, **options)
