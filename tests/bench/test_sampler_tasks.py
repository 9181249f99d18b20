"""What the sampler tasks report: an exact sampler lies in the floor, budgets hold, seeds and roles are independent."""

import pytest
import torch

from bench.task import Context
from bench.tasks.problems import Budgeted, floor_of, gaussian, generator, make_path, solve
from bench.tasks.sampler_error import sampler_error
from bench.tasks.sampler_order import sampler_order
from bench.tasks.sampler_overhead import sampler_overhead
from bench.tasks.sampler_quality import sampler_quality
from implementations.catalogue import PATHS, SAMPLERS, SCHEDULES

BUDGETED = [
    name for name, entry in SAMPLERS.items()
    if entry.source == "fidmap" and entry.family != "peer" and not (entry.ascending or entry.adaptive)
]  # fmt: skip

MINE = """
from implementations.samplers import SAMPLERS
from implementations.samplers.runge_kutta import heun

def exact(denoiser, x, times, **options):
    return denoiser.denoiser.flow(x, times[0], times[-1])
exact.stages = 1

def twice(*arguments, **options):
    return heun(*arguments, **options)

def averaged(denoiser, x, times, **options):
    return x.mean(0, keepdim=True)

def lost(denoiser, x, times, **options):
    return x * float("nan")
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    (tmp_path / "of_the_tests.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)


def run(task, seed=0, **parameters):
    measures = task.run(task.parameters(**parameters), Context(seed))
    return {name: getattr(value, "value", value) for name, value in measures.items()}, measures


@pytest.mark.parametrize("schedule_options", [{}, {"clean": False, "sigma_min": 0.3}])
def test_the_exact_flow_has_no_error_and_lies_in_the_floor(schedule_options):
    inside = []
    for seed in range(12):
        values, measures = run(
            sampler_error, seed, sampler="of_the_tests:exact", nfe=5, samples=300, schedule_options=schedule_options
        )
        assert values["rms_error"] < 1e-12
        low, high = measures["sliced_w2_floor"].interval
        inside.append(low <= values["sliced_w2"] <= high)
    assert sum(inside) >= 9  # of 12 at 95 %: fewer than 9 in 1 of 10,000 runs


def test_a_floor_s_range_is_a_prediction_interval():
    """Of 1,000 ranges of 8 normal draws, 95 % hold a ninth; five standard errors are 3.5 %."""
    source = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn((), generator=source)

    held = 0
    for _ in range(1000):
        low, high = floor_of(float, draw).interval
        held += low <= float(draw()) <= high
    assert abs(held / 1000 - 0.95) < 0.035


def test_start_noise_truth_and_directions_are_streams_of_their_own():
    roles, seeds = ("start", "noise", "truth", "directions"), (0, 1, 2**32 - 1)
    first = {float(torch.rand((), generator=generator(seed, role)).double()) for role in roles for seed in seeds}
    assert len(first) == len(roles) * len(seeds)


def test_noise_differs_between_seeds():
    """From sigma 80 the output is nearly a function of the noise: with the same noise the correlation is .9997."""
    parameters, oracle = Budgeted(sampler="ddpm", nfe=20), gaussian(make_path("vp"))
    outputs = [solve(parameters, oracle, 500, seed).samples[:, -1] for seed in (0, 1)]
    assert abs(float(torch.corrcoef(torch.stack(outputs))[0, 1])) < 5 / 500**0.5
    again = solve(parameters, oracle, 500, 1).samples[:, -1]
    assert torch.equal(again, outputs[1])


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("sampler", BUDGETED)
def test_budgets_are_kept_and_used(path, sampler):
    """No step more would be within the budget."""
    oracle, entry = gaussian(make_path(path)), SAMPLERS[sampler]
    for schedule, options in (("karras", {}), ("uniform", {}), ("log_snr", {"clean": False})):

        def cost(steps, schedule=schedule, options=options):
            return entry.evaluations(SCHEDULES[schedule](oracle.path, steps, **options), path=oracle.path)

        for nfe in (cost(1), 5 * entry.stages, 10 * entry.stages):
            found = solve(
                Budgeted(sampler=sampler, path=path, schedule=schedule, schedule_options=options, nfe=nfe), oracle, 2, 0
            )
            assert found.evaluations <= nfe < cost(len(found.times))


@pytest.mark.parametrize(
    ("sampler", "error", "says"),
    [
        ("twice", ValueError, "9 evaluations, allowed are 5"),
        ("averaged", ValueError, r"shape \(1, 16\)"),
        ("lost", FloatingPointError, "not finite"),
    ],
)
def test_what_a_sampler_may_not_do(sampler, error, says):
    with pytest.raises(error, match=says):
        run(sampler_error, sampler=f"of_the_tests:{sampler}", nfe=5, samples=10)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_noise_by_option_is_measured_weakly(eta):
    order, _ = run(sampler_order, sampler="ddim", options={"eta": eta}, steps=[160, 320, 640])
    assert order["order"] == pytest.approx(1, abs=0.1)
    error, _ = run(sampler_error, sampler="ddim", options={"eta": eta}, nfe=10, samples=100)
    assert "rms_error" not in error


def test_images_of_many_steps_lie_in_the_floor_and_of_few_do_not():
    near, measures = run(sampler_quality, sampler="dpmpp_2m", nfe=25, images=400, samples=200)
    low, high = measures["fd_fmnist_floor"].interval
    assert low <= near["fd_fmnist"] <= high
    far, _ = run(sampler_quality, sampler="dpmpp_2m", nfe=3, images=400, samples=200)
    assert far["fd_fmnist"] > 2 * high


def test_overhead_is_a_ratio_to_the_first():
    context = Context()
    parameters = sampler_overhead.parameters(samplers=["euler", "dpmpp_2m"], shape=[2, 3, 8, 8], max_seconds=0.5)
    measures = sampler_overhead.run(parameters, context)
    assert measures["ratio:euler"].value == 1
    low, high = measures["ratio:dpmpp_2m"].interval
    assert 0 < low <= measures["ratio:dpmpp_2m"].value <= high
    assert set(context.arrays) == {"seconds.euler", "seconds.dpmpp_2m"}
    assert all(len(samples) >= 20 for samples in context.arrays.values())
