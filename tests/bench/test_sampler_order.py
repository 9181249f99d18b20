"""The order that the options make, on a mixture: strong against DOP853, weak along one Brownian path."""

import math

import pytest
import torch

import bench.tasks.samplers.order as order_task
from bench.task import Context
from bench.tasks.samplers.declarations import sampler_order
from bench.tasks.samplers.grids import make_path
from bench.tasks.samplers.order import has_settled
from bench.tasks.samplers.problems import gaussian, integrated_flow, two_gaussians
from implementations.samplers import SAMPLERS
from implementations.samplers.contract import sampler

pytestmark = pytest.mark.unchecked  # its ladders are long

LEVELS = {"sigma_min": 0.05, "sigma_max": 20.0, "oracle": "mixture"}

# what noise, a corrector, or a moment or node taken otherwise makes of the order
OPTIONS = [
    ("sa_solver", {"tau": 0.0, "order": 1}),
    ("sa_solver", {"tau": 0.0, "order": 2, "corrector_order": 3}),
    ("sa_solver", {"tau": 0.0, "order": 3, "corrector_order": 4}),
    ("sa_solver", {"tau": 0.0, "order": 3, "corrector_order": 1}),
    ("er_sde", {"scale": None, "order": 2}),
    ("er_sde", {"scale": None}),
    ("er_sde", {"scale": None, "divided": True}),
    ("seeds", {"eta": 0.0}),
    ("dpmpp_3m_sde", {"eta": 0.0}),
    ("dpmpp_3m_sde", {"eta": 0.0, "half_curvature": True}),
    ("dpm_solver_multistep", {"order": 3}),
    ("dpm_solver_3", {"r2": 0.6}),
    ("unipc_bh2", {"order": 3}),
    ("unic", {"predictor": "euler"}),
    ("gddim", {"order": 3}),
    ("dpm_solver_v3", {"corrector": "pseudo", "order": 1}),
    ("restart", {"intervals": ()}),
    ("flow_stochastic", {"fraction": 0.0}),
    ("bosh3", {"coordinate": "t"}),
]


@pytest.fixture(scope="module", autouse=True)
def _one_reference():
    """Every method starts at the same draws and goes to the same time: the flow there is integrated once."""
    known = {}

    def remembered(oracle, x, t_from, t_to):
        case = type(oracle), oracle.path, x.numpy().tobytes(), float(t_from), float(t_to)
        if case not in known:
            known[case] = integrated_flow(oracle, x, t_from, t_to)
        return known[case]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_task, "integrated_flow", remembered)
        yield


def measure(name, **settings):
    return sampler_order.run(sampler_order.parameters(sampler=name, **LEVELS, **settings), Context())


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_the_order_that_the_options_make_is_stated_and_reached(name, options):
    assert not SAMPLERS[name].draws_noise(options)
    found = measure(name, options=options, steps=[60, 120], samples=2)
    assert found["theory"] == SAMPLERS[name].theory(options)
    # two rungs: a next term of the error is still seen
    assert float(found["order"].value) == pytest.approx(found["theory"], abs=0.36)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_rule_and_the_table_agree_where_both_say_an_order(name):
    entry = SAMPLERS[name]
    if entry.source != "fidmap" or entry.package:
        return
    for order, stated in entry.orders.items():
        assert entry.theory({"order": order}) == stated
    if not entry.orders and entry.order is not None:
        assert entry.theory({}) == entry.order


def test_the_reference_is_the_exact_flow_where_that_is_known():
    path = make_path("vp")
    oracle, x = gaussian(path), torch.randn(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t_from, t_to = (path.time(-math.log(level)) for level in (20.0, 0.05))
    found = integrated_flow(oracle, x, t_from, t_to)
    assert float((found - oracle.flow(x, t_from, t_to)).abs().max()) < 1e-11
    mixture = two_gaussians(path)
    back = integrated_flow(mixture, integrated_flow(mixture, x[:, :2], t_from, t_to), t_to, t_from)
    assert float((back - x[:, :2]).abs().max()) < 1e-9  # the way up magnifies what is left by up to 400


@pytest.mark.parametrize("name", ["ddpm", "dpmpp_2m_sde"])
def test_weak_order_along_one_brownian_path(name):
    found = measure(name, steps=[20, 40], points=8)
    assert found["reached"]
    low, high = found["order"].interval
    assert low < found["theory"] + 0.15
    assert high - low < 0.9


@sampler
def narrow(problem):
    """Ancestral, with a tenth less noise: it converges, to another law."""
    return ancestral(problem, lambda k, like: 0.9 * problem.noise(k, like))


@sampler
def halved(problem):
    """The same noise in every two steps: of no order."""
    return ancestral(problem, lambda k, like: problem.noise(k - k % 2, like))


def ancestral(problem, noise):
    return SAMPLERS["ddpm"](problem.denoiser, problem.x, torch.stack(problem.times), noise=noise)


@pytest.mark.parametrize("function", [narrow, halved], ids=lambda f: f.__name__)
def test_a_sampler_that_converges_to_another_law_does_not_reach_its_order(function, monkeypatch):
    monkeypatch.setitem(vars(function), "order", 1)
    monkeypatch.setitem(vars(function), "stochastic", True)
    found = measure(f"{__name__}:{function.__name__}", steps=[20, 40], points=8)
    assert not found["reached"]


@pytest.mark.unchecked
def test_a_ladder_climbs_until_its_slope_has_settled():
    assert has_settled([8.0, 4.0, 2.0])
    assert has_settled([1.0, 8.0, 4.0, 2.1])
    assert not has_settled([8.0, 6.0, 3.0])  # slopes .42 and 1
    assert has_settled([1e-8, 1e-10, 1e-13])  # rounding ends it
    context, options = Context(), {"tau": 0.0, "order": 2}
    parameters = sampler_order.parameters(sampler="sa_solver", options=options, samples=2, **LEVELS)
    found = sampler_order.run(parameters, context)
    assert len(context.arrays["steps"]) > 3
    assert found["reached"]
