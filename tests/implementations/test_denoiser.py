"""Predictions: every view from every head, the ends, dtypes; networks and counting."""

import itertools
import types

import pytest
import torch

from implementations.diffusion import (
    EDM,
    VE,
    VP,
    Cosine,
    CountingDenoiser,
    DiscreteVP,
    GaussianOracle,
    Network,
    Prediction,
    RectifiedFlow,
    SubVP,
    TrigFlow,
)

HEADS = ("x0", "eps", "v", "velocity", "score")
PATHS = [
    VP(),
    Cosine(),
    SubVP(),
    VE(),
    EDM(),
    RectifiedFlow(),
    TrigFlow(),
    DiscreteVP([0.01 * k for k in range(1, 40)]),
]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)


def truth(path, t, n=3):
    """x and its five views from a known x0 and eps."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, n, 4, 5, generator=generator, dtype=torch.float64)
    t = torch.as_tensor(t, dtype=torch.float64)
    a, s, da, ds = (f(t).reshape(-1, 1, 1) for f in (path.alpha, path.sigma, path.d_alpha, path.d_sigma))
    return a * x0 + s * eps, {
        "x0": x0,
        "eps": eps,
        "v": a * eps - s * x0,
        "velocity": da * x0 + ds * eps,
        "score": -eps / s,
    }


@every_path
def test_every_view_from_every_head(path):
    levels = torch.tensor([-2.5, -0.3, 1.0, 3.0], dtype=torch.float64)
    times = path.time(levels[levels < float(path.log_snr(path.t_min))])
    for t in (*times, times[:3]):  # scalars, and one value a sample
        x, views = truth(path, t)
        for head, view in itertools.product(HEADS, HEADS):
            found = getattr(Prediction(path, x, t, **{head: views[head]}), view)
            # 1e-10 of the largest entry: x0 from eps at lambda = -2.5 amplifies rounding twelve times
            error = (found - views[view]).abs().max() / views[view].abs().max()
            assert float(error) < 1e-10, (head, view, t)


@every_path
def test_at_the_ends_a_view_is_right_or_an_error_that_says_why(path):
    for t in (path.t_min, path.t_max):
        x, views = truth(path, t)
        there = [head for head in HEADS if views[head].isfinite().all()]  # nobody could give the others here
        for head, view in itertools.product(there, HEADS):
            try:
                value = getattr(Prediction(path, x, t, **{head: views[head]}), view)
            except ValueError as error:
                assert f"{view} from {head} does not exist at t = " in str(error)  # noqa: PT017
                assert "there" in str(error)  # noqa: PT017
            else:
                assert value.isfinite().all()
                torch.testing.assert_close(value, views[view], rtol=1e-9, atol=1e-9)


def test_what_cannot_be_known_raises():
    x = torch.zeros(2, 3)
    for path, t, given, view, why in [
        (RectifiedFlow(), 1.0, "eps", "x0", "alpha = 0"),
        (TrigFlow(), TrigFlow().t_max, "score", "x0", "alpha = 0"),
        (EDM(), 0.0, "x0", "eps", "sigma = 0"),
        (RectifiedFlow(), 0.0, "eps", "score", "sigma = 0"),
        (VP(), 0.0, "eps", "velocity", "infinite"),
    ]:
        with pytest.raises(ValueError, match=why):
            getattr(Prediction(path, x, t, **{given: x}), view)


def test_what_can_be_known_at_an_end_is_given():
    x = torch.ones(2, 3)
    assert torch.equal(Prediction(EDM(), x, 0.0, eps=5 * x).x0, x)
    assert torch.equal(Prediction(EDM(), x, 0.0, score=5 * x).x0, x)  # Tweedie: x + sigma^2 score
    assert torch.equal(Prediction(RectifiedFlow(), x, 1.0, x0=3 * x).eps, x)
    assert torch.equal(Prediction(RectifiedFlow(), x, 1.0, velocity=3 * x).x0, -2 * x)
    assert torch.equal(Prediction(RectifiedFlow(), x, 1.0, eps=3 * x).score, -3 * x)


def test_given_views_are_kept_apart():
    """CFG++: x0 guided, eps not; every other view is made of these two."""
    path, t = VP(), 0.4
    x, x0, eps = torch.randn(3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    prediction = Prediction(path, x, t, x0=x0, eps=eps)
    a, s = path.alpha(t), path.sigma(t)
    assert prediction.x0 is x0
    assert prediction.eps is eps
    torch.testing.assert_close(prediction.v, a * eps - s * x0, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(prediction.score, -eps / s, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(prediction.combine(0.3, 0.7), 0.3 * x0 + 0.7 * eps, rtol=1e-14, atol=1e-15)


def test_low_precision_is_lifted_before_arithmetic():
    """At sigma = 0.002, eps by way of a bfloat16 x0 is all rounding; from its own head it is exact."""
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))
    head = torch.randn(2, 8, generator=torch.Generator().manual_seed(3)).bfloat16()
    prediction = Prediction(EDM(), x, 0.002, eps=head)
    assert prediction.eps.dtype == prediction.x0.dtype == torch.float32
    assert torch.equal(prediction.eps, head.float())
    torch.testing.assert_close(prediction.x0, x - 0.002 * head.float(), rtol=1e-6, atol=1e-7)  # float32 rounding
    assert Prediction(EDM(), x.double(), 1.0, eps=head).x0.dtype == torch.float64
    assert Prediction(EDM(), x.bfloat16(), 1.0, eps=head).x0.dtype == torch.float32


@pytest.mark.unchecked
def test_malformed_predictions_are_named():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="at least one of x0"):
        Prediction(EDM(), x, 1.0)
    with pytest.raises(ValueError, match=r"eps has shape \(2, 4\)"):
        Prediction(EDM(), x, 1.0, eps=torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        Prediction(EDM(), x, torch.ones(3), eps=x)
    with pytest.raises(ValueError, match="epsilon"):
        Network(EDM(), lambda x, t: x, head="epsilon")


class Recorder(torch.nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones((), dtype=dtype))

    def forward(self, x, t, condition=None):
        self.seen = x.dtype, t.dtype, t.tolist(), condition
        return x * self.weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_network_casts_and_passes_times_that_bfloat16_has_not(dtype):
    module = Recorder(dtype)
    network = Network(DiscreteVP(torch.linspace(1e-4, 0.02, 1000)), module, head="v")
    prediction = network(torch.ones(2, 3), torch.tensor(997.0, dtype=torch.float64))
    assert module.seen == (dtype, torch.promote_types(dtype, torch.float32), [997.0, 997.0], None)
    assert prediction.v.dtype == torch.promote_types(dtype, torch.float32)
    network(torch.ones(2, 3), torch.tensor([1.0, 2.0]), condition="a cat")
    assert module.seen[2:] == ([1.0, 2.0], "a cat")
    scaled = Network(RectifiedFlow(), module, head="velocity", time=lambda t: 1000 * t)
    scaled(torch.ones(2, 3), 0.5)
    assert module.seen[2] == [500.0, 500.0]


def test_a_network_has_no_time_before_its_first():
    """[-1, 0) of a table is the last clean step: an inversion starts there, and networks count from 0."""
    module, path = Recorder(torch.float32), DiscreteVP(torch.linspace(1e-4, 0.02, 1000))
    network = Network(path, module)
    for t, seen in [(-1.0, [0.0, 0.0]), (-0.25, [0.0, 0.0]), (torch.tensor([-1.0, 3.5]), [0.0, 3.5])]:
        prediction = network(torch.ones(2, 3), t)
        assert module.seen[2] == seen
        assert torch.equal(prediction.t, torch.as_tensor(t, dtype=torch.float64))  # the path's own stays
    Network(path, module, time=lambda t: t)(torch.ones(2, 3), -1.0)
    assert module.seen[2] == [-1.0, -1.0]


def test_counting_counts_calls():
    counting = CountingDenoiser(GaussianOracle(EDM(), torch.zeros(3), 1.0))
    assert counting.calls == 0
    for _ in range(3):
        counting(torch.zeros(5, 3), 1.0)
    assert counting.calls == 3
    assert isinstance(counting.path, EDM)


class _Output(dict):
    """As diffusers' outputs: a mapping whose entries are attributes."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize(
    "wrap",
    [lambda y: y, lambda y: types.SimpleNamespace(sample=y), lambda y: (y,), lambda y: (y, "more"), lambda y: [y],
     lambda y: _Output(sample=y), lambda y: {"sample": y}],
)  # fmt: skip
def test_a_module_may_return_its_tensor_in_an_object_or_a_tuple(wrap):
    x = torch.randn(3, 2, dtype=torch.float64)
    found = Network(VP(), lambda x, t: wrap(2 * x + t[:, None]), head="eps")(x, 0.5)
    torch.testing.assert_close(found.eps, 2 * x + VP().network_time(torch.tensor(0.5)))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "answer", [None, 1.0, (), (None,), {"logits": torch.zeros(2)}, types.SimpleNamespace(sample=3)]
)
def test_a_module_that_returns_no_tensor_is_named(answer):
    with pytest.raises(TypeError, match=f"returned {type(answer).__name__}; a tensor, an object"):
        Network(VP(), lambda x, t: answer, head="eps")(torch.zeros(2, 2), 0.5).eps  # noqa: B018
