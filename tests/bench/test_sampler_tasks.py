"""What the sampler tasks report: an exact sampler lies in the floor, budgets hold, seeds and roles are independent."""

import itertools
import re

import pytest
import torch
from pydantic import ValidationError

import bench.tasks.samplers.error as sampler_error_module
from bench.plan.cells import expand
from bench.plan.suite import find, read
from bench.task import Context
from bench.tasks.intervals import measure_floor
from bench.tasks.samplers import images, problems
from bench.tasks.samplers.declarations import (
    Budgeted,
    sampler_error,
    sampler_latency,
    sampler_ledger,
    sampler_order,
    sampler_overhead,
    sampler_quality,
    sampler_spectrum,
)
from bench.tasks.samplers.grids import make_path
from bench.tasks.samplers.order import ladder_grid
from bench.tasks.samplers.problems import gaussian, generator, solve
from implementations.catalogue import SAMPLERS, SCHEDULES

BUDGETED = [
    name for name, entry in SAMPLERS.items()
    if entry.source == "fidmap" and entry.family != "peer" and not (entry.ascending or entry.adaptive)
]  # fmt: skip

MINE = """
import torch
from implementations.diffusion.artifact import Artifact
from implementations.samplers.runge_kutta import heun

def exact(denoiser, x, times, **options):
    return getattr(denoiser, "denoiser", denoiser).flow(x, times[0], times[-1])  # counted, or as it is
exact.stages = 1

def twice(*arguments, **options):
    return heun(*arguments, **options)

def averaged(denoiser, x, times, **options):
    return x.mean(0, keepdim=True)

def learn(denoiser, x, times):
    return Artifact("learnt", {"middle": x.mean(0), "times": times}, 3)

def learnt(denoiser, x, times, artifact=None, **options):
    fine = artifact.of("learnt")["times"]
    assert len(fine) > 100 and torch.equal(fine[[0, -2, -1]], times[[0, -2, -1]])
    return heun(denoiser, x, times)
learnt.stages, learnt.prepare, learnt.finely = 2, "of_the_tests:learn", True
learnt.count = lambda touching, **_: sum(1 if end else 2 for end in touching)  # it knows that its last step costs one

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
    """Of 1,000 ranges of 20 normal draws, 95 % hold another; five standard errors are 3.5 %."""
    source = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn((), generator=source)

    held = 0
    for _ in range(1000):
        low, high = measure_floor(float, draw).interval
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


@pytest.mark.parametrize("sampler", BUDGETED)
def test_budgets_are_kept_and_used(sampler, monkeypatch):
    """No step more would be within the budget."""
    monkeypatch.setattr(problems, "FINE", 4)  # what a method learns does not matter here
    entry = SAMPLERS[sampler]
    for name, (schedule, options) in itertools.product(
        ("vp", "rectified_flow", "discrete_vp"), (("karras", {}), ("uniform", {}), ("log_snr", {"clean": False}))
    ):
        path = make_path(name)

        def cost(steps, path=path, schedule=schedule, options=options):
            return entry.evaluations(SCHEDULES[schedule](path, steps, **options), path=path)

        for nfe in (cost(1) or 1, 6 * entry.stages):
            parameters = Budgeted(sampler=sampler, schedule=schedule, schedule_options=options, nfe=nfe)
            found = solve(parameters, gaussian(path), 2, 0)
            more = cost(len(found.times))
            assert found.evaluations <= nfe
            assert more is None or nfe < more  # None: it stops when it has converged


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


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sampler": "ddim_inversion", "nfe": 5}, "from data to noise only"),
        ({"sampler": "dopri5", "nfe": 5}, "set its tolerance in options"),
        ({"sampler": "heun"}, "a budget of evaluations is needed"),
    ],
)
def test_who_has_a_budget(given, says):
    with pytest.raises(ValidationError, match=says):
        Budgeted(**given)


def test_what_is_learnt_beforehand_is_priced_and_named():
    values, measures = run(sampler_spectrum, sampler="of_the_tests:learnt", schedule="gits", nfe=7, spectrum="toy")
    assert values["evaluations"] == 7
    assert values["prepare_evaluations"] == 3 + 239  # GITS: Heun over 120 steps, the last of which costs one
    assert re.fullmatch(r"gits@[0-9a-f]{16}, learnt@[0-9a-f]{16}", measures["prepare_evaluations"].reference)
    assert "prepare_evaluations" not in run(sampler_spectrum, sampler="heun", nfe=7, spectrum="toy")[0]


# order


def test_a_ladder_is_as_fine_as_the_order_asks():
    for order, steps in ((2, [80, 160, 320]), (4, [160, 320, 640])):
        context = Context()
        values = sampler_order.run(sampler_order.parameters(sampler="lms", options={"order": order}), context)
        assert context.arrays["steps"].tolist() == steps
        assert values["reached"]
        assert abs(values["deviation"]) < 0.1


def test_what_ascends_is_measured_the_other_way():
    assert run(sampler_order, sampler="ddim_inversion")[0]["order"] == pytest.approx(1, abs=0.1)


def test_an_exact_method_has_no_slope():
    values, _ = run(sampler_order, sampler="of_the_tests:exact")
    assert set(values) == {"finest_error"}
    assert values["finest_error"] < 1e-12


def test_errors_of_a_method_that_chooses_its_steps_follow_the_tolerance():
    context = Context()
    values = sampler_order.run(sampler_order.parameters(sampler="dopri5"), context)
    assert 0.7 < values["follows"] < 1.3  # tolerance per step, steps that grow in number
    assert context.arrays["errors"].diff().max() < 0
    assert context.arrays["steps"].diff().min() > 0


@pytest.mark.parametrize("coordinate", ["sigma", "lambda", "angle", "t"])
def test_a_uniform_grid_is_one_of_the_coordinate(coordinate):
    path = make_path("vp")
    parameters = sampler_order.parameters(sampler="euler", options={"coordinate": coordinate}, grid="uniform")
    times = ladder_grid(SAMPLERS["euler"], path, parameters, 9)
    level = path.ratio(times)
    value = {"sigma": level, "lambda": level.log(), "angle": level.atan(), "t": times}[coordinate]
    torch.testing.assert_close(value.diff(), value.diff().mean().expand(9), rtol=1e-9, atol=0)
    assert level[[0, -1]].tolist() == pytest.approx([40, 0.02])


def test_fixed_weights_reach_their_order_on_equal_steps_alone():
    settings = {"sampler": "ipndm", "options": {"order": 3}}
    smooth, _ = run(sampler_order, **settings)
    equal, _ = run(sampler_order, grid="uniform", sigma_min=4.0, steps=[160, 320, 640], **settings)
    assert (smooth["theory"], equal["theory"]) == (2, 3)
    assert (smooth["order"], equal["order"]) == pytest.approx((2, 3), abs=0.2)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_noise_by_option_is_measured_weakly(eta):
    order, _ = run(sampler_order, sampler="ddim", options={"eta": eta}, steps=[160, 320, 640])
    assert order["order"] == pytest.approx(1, abs=0.1)
    error, _ = run(sampler_error, sampler="ddim", options={"eta": eta}, nfe=10, samples=100)
    assert "rms_error" not in error


# mixtures


def test_a_fine_solve_stands_for_the_exact_flow_of_a_mixture():
    """Its error at twice the steps is sixteen times less: the stated one is that of the coarser."""
    context = Context()
    settings = {"sampler": "heun", "options": {"coordinate": "angle"}, "oracle": "mixture", "samples": 100}
    fine = sampler_error.run(sampler_error.parameters(nfe=319, **settings), context)
    assert fine["reference_error"] < 1e-4
    assert fine["rms_error"].value < 1e-3
    assert fine["changed_basin"].value == 0
    paths, lines = context.arrays["trajectories"], context.arrays["flow_lines"]
    assert paths.shape == (24, 161, 2)
    torch.testing.assert_close(paths[:, 0], lines[:, 0])
    torch.testing.assert_close(paths[:, -1], lines[:, -1], atol=1e-2, rtol=0)


def test_paths_that_change_basin_are_told_apart(monkeypatch):
    """Through the centre of the circle, every sample ends in the opposite basin, without a distance in law."""
    real = sampler_error_module.solve

    def turned(parameters, oracle, n, seed, callback=None):
        solution = real(parameters, oracle, n, seed, callback)
        return solution._replace(samples=torch.cat([-solution.samples[: n // 4], solution.samples[n // 4 :]]))

    monkeypatch.setattr(sampler_error_module, "solve", turned)
    values, _ = run(sampler_error, sampler="dpmpp_2m", oracle="mixture", nfe=40, samples=400)
    assert values["changed_basin"] == 0.25
    assert values["rms_error"] > 0.4
    assert values["rms_in_basin"] < 0.02
    assert values["sliced_w2"] < 0.2


# laws


def test_a_spectrum_s_figures_are_those_of_its_modes():
    context = Context()
    values = sampler_spectrum.run(sampler_spectrum.parameters(sampler="dpmpp_2m", nfe=8), context)
    arrays = context.arrays
    assert {len(array) for array in arrays.values()} == {784}
    assert values["w2"].value == pytest.approx(float(arrays["w2"].norm()))
    assert values["kl"].value == pytest.approx(float(arrays["kl"].sum()))
    assert arrays["eigenvalue"].diff().max() <= 0
    exact, _ = run(sampler_spectrum, sampler="of_the_tests:exact", nfe=8)
    assert exact["w2"] < 1e-10  # of an exact W2 of 2.1
    assert exact["kl"] < 1e-10


@pytest.mark.parametrize("path", ["vp", "rectified_flow"])
def test_a_ledger_charges_what_is_not_exact(path):
    """An exact solver has no part; from alpha = 0 the prior is the marginal; at the clean end nothing is left."""
    settings = {"path": path, "spectrum": "toy", "nfe": 8, "samples": 500}
    exact, _ = run(sampler_ledger, sampler="of_the_tests:exact", **settings)
    assert exact["solver"] == 0
    assert exact["finite_n"] > 0.9 * exact["total"]
    whole = {"schedule": "uniform", "schedule_options": {}}
    clean, _ = run(sampler_ledger, sampler="dpmpp_2m", **settings | whole)
    assert clean["stop"] == 0
    assert (clean["prior"] == 0) == (path == "rectified_flow")
    early, _ = run(
        sampler_ledger, sampler="of_the_tests:exact", schedule_options={"sigma_min": 0.5, "clean": False}, **settings
    )
    assert early["stop"] > 0.5 * early["total"]
    # where one error is all there is, its part is the whole
    assert early["stop"] + early["finite_n"] == pytest.approx(early["total"], rel=0.2)


@pytest.mark.parametrize("oracle", ["empirical", "classes"])
def test_images_of_many_steps_lie_in_the_floor_and_of_few_do_not(oracle):
    settings = {"sampler": "dpmpp_2m", "oracle": oracle, "images": 400, "samples": 200}
    near, measures = run(sampler_quality, nfe=25, **settings)
    for figure in ("fd_fmnist", "precision", "recall"):
        low, high = measures[f"{figure}_floor"].interval
        assert low <= near[figure] <= high, figure
    far, _ = run(sampler_quality, nfe=3, **settings)
    assert far["fd_fmnist"] > 1.5 * measures["fd_fmnist_floor"].interval[1]


def test_images_keep_their_coordinates():
    """All but what the axes left out; the mixture has the classes' means."""
    axes = images.principal_axes()
    middle = images.mixture_pixels(axes.coordinates[:, : images.LEADING].mean(0)[None])
    torch.testing.assert_close(middle, images.pixels(10_000).double().mean(0, keepdim=True), rtol=0, atol=1e-6)
    kept = images.mixture_pixels(axes.coordinates[:50, : images.LEADING])
    lost = (kept - images.pixels(50)).square().mean()
    assert float(lost) < 0.05 * float(images.pixels(50).var())
    oracle = images.class_mixture(make_path("vp"))
    shoes = oracle.sample(2000, torch.Generator().manual_seed(0), condition=9)
    expected = axes.coordinates[axes.labels == 9, : images.LEADING]
    assert float((shoes.mean(0) - expected.mean(0)).norm()) < 5 * float(expected.var(0).sum() / 2000) ** 0.5


def test_latency_is_that_of_the_model_and_the_sampler():
    values, measures = run(
        sampler_latency,
        sampler="dpmpp_2m",
        oracle="classes",
        images=400,
        samples=100,
        nfe=6,
        model_ms=10.0,
        max_seconds=0.2,
    )
    assert values["latency"] == pytest.approx(6 * 10 + values["overhead"])
    assert 0 < values["overhead"] < 60
    low, high = measures["overhead"].interval
    assert low <= values["overhead"] <= high


SUITE = read(find("samplers"))
OVERHEAD = [block for block in SUITE.block if block.task == "sampler_overhead"]  # the others have 2,200 cells
CONTESTS = list(expand(SUITE.model_copy(update={"block": OVERHEAD, "table": [], "plot": []})))


@pytest.mark.unchecked
@pytest.mark.parametrize("cell", CONTESTS, ids=lambda cell: cell.identity.entry)
def test_every_contest_of_the_suite_runs(cell):
    """On a small state, briefly: each peer has the call that is timed, and takes what its contest hands over."""
    small = cell.identity.parameters | {"shape": [1, 1, 4, 4], "steps": 3, "max_seconds": 0.02}
    measures = sampler_overhead.run(sampler_overhead.parameters(**small), Context())
    assert all(measures[name]["ratio"].value > 0 for name in cell.identity.entries)


def test_overhead_is_a_ratio_to_the_first():
    context = Context()
    parameters = sampler_overhead.parameters(samplers=["euler", "dpmpp_2m"], shape=[2, 3, 8, 8], max_seconds=0.5)
    measures = sampler_overhead.run(parameters, context)
    assert measures["euler"]["ratio"].value == 1
    low, high = measures["dpmpp_2m"]["ratio"].interval
    assert 0 < low <= measures["dpmpp_2m"]["ratio"].value <= high
    assert set(context.arrays) == {"seconds.euler", "seconds.dpmpp_2m"}
    assert all(len(samples) >= 20 for samples in context.arrays.values())
