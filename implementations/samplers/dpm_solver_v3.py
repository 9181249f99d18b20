"""DPM-Solver-v3: an exponential integrator whose linear part and source are learnt from the model (2310.13268).

With ``y = x/alpha`` and any l(lambda), the flow is ``dy/dlambda = -l y - f``, ``f = (sigma eps - l x) / alpha``; with
any s and b, ``g = e^(-int s) f - int e^(-int s) b`` is constant where ``f' = s f + b``. A step is exact but for g:

    ``y' = e^(-L) (y - int e^(L + S) (g + B) dlambda)``

with L, S and B the integrals of l, s and ``e^(-S) b`` from the start of the step. l = 1, s = b = 0 makes
it DPM-Solver++ and l = 0, s = -1, b = 0 DPM-Solver. The statistics of the model make g vary the least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor

from implementations.diffusion.artifact import Artifact
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import FormName, check_order, find_form, weights
from implementations.samplers.model_statistics import Constant, Integrals, Model, Table, Value


def _order(*, order: int, pseudo: bool, corrector: str, lower_order_final: bool, **_: Any) -> int:
    if corrector == "pseudo":
        return 2
    return min(order, 2) if pseudo or lower_order_final else order


@sampler(order_of=_order)
def dpm_solver_v3(
    problem: Problem,
    *,
    artifact: Artifact | None = None,
    prediction: FormName = "data",
    order: int = 3,
    pseudo: bool = False,
    corrector: Literal["none", "same", "pseudo"] = "none",
    corrected_above: float = 0.0,
    lower_order_final: bool = False,
) -> Images:
    """DPM-Solver-v3 of order 1 to 3: a multistep exponential integrator whose form is learnt from the model.

    With the statistics l, s and b that ``prepare`` found, the flow of ``f = (sigma eps - l x) / alpha`` is near ``f' =
    s f + b``; a step integrates this exactly, and what is left, g, by the polynomial through its last values
    (2310.13268). Without an ``artifact`` it is the exponential multistep solver on ``prediction``. ``pseudo`` takes
    divided differences for the derivatives of g, which is of order 2 at most. The ``corrector`` costs no evaluation:
    ``same`` takes as many predictions as the predictor did, the next one included, so that it starts at two and keeps
    the order; ``pseudo`` takes one more and divided differences, of order 2. It is used at noise levels sigma/alpha
    above ``corrected_above`` (3.41 is the authors' half, t > 1/2 on ``VP``). ``lower_order_final`` looks back no
    further than there are steps left. Raises ValueError on options that are none of these, on an artifact of another
    method or shape of sample, and on times beyond its log-SNRs.
    """
    check_order(order, 3)
    if corrector not in ("none", "same", "pseudo"):
        raise ValueError(f"corrector must be none, same or pseudo, got {corrector!r}")
    if not corrected_above >= 0:
        raise ValueError(f"corrected_above must be a noise level of at least 0, got {corrected_above}")
    form = find_form(prediction)
    constant = Constant(1.0, 0.0) if form.view == "x0" else Constant(0.0, -1.0)
    model: Model = constant if artifact is None else Table(artifact, problem.x)
    rule = _weigh_differences if pseudo else weights
    corrector_rule = _weigh_differences if corrector == "pseudo" else weights
    before: dict[int, _LastStep] = {}

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        f = model.quantity(prediction, here)
        last, nodes = before.pop(i - 1, None), list[Node]()
        if last is not None:
            start, *others = last.nodes
            known = [start, Node(here.log_snr, f, 1 / last.over.growth, last.over.shift), *others]
            count = 0 if corrector == "none" else last.used + (corrector == "pseudo")
            if count > 1 and here.ratio > corrected_above:
                x = _integrate(last.here, here, last.x, known[:count], last.over, corrector_rule)
            nodes = [node.rebase(last.over) for node in last.nodes]
        nodes = [Node(here.log_snr, f, 1.0, 0.0), *nodes[: order - 1]]
        used = min(len(nodes), len(problem) - i) if lower_order_final else len(nodes)
        over = model.integrate(here.log_snr, there.log_snr, order + 1)
        before[i] = _LastStep(here, x, nodes, used, over)
        return _integrate(here, there, x, nodes[:used], over, rule)

    return problem.solve(step)


class Node(NamedTuple):
    """A prediction of DPM-Solver-v3 as one step uses it: its log-SNR, and the source ``g = share f - shift`` there.

    ``f = (sigma eps - l x) / alpha`` with the learnt l; the step takes a polynomial through the g of several nodes.
    """

    log_snr: float
    f: Images
    share: Value
    shift: Value

    def rebase(self, over: Integrals) -> Node:
        """Give the same prediction as the next step uses it, which starts at the end of the step of ``over``."""
        return Node(self.log_snr, self.f, over.growth * self.share, over.growth * (self.shift - over.shift))


class _LastStep(NamedTuple):
    here: Point
    x: Images  # as corrected
    nodes: list[Node]
    used: int  # nodes that the predictor used
    over: Integrals


def _integrate(
    here: Point, there: Point, x: Images, nodes: Sequence[Node], over: Integrals, rule: Callable[..., list[Any]]
) -> Images:
    h = there.log_snr - here.log_snr
    shares = rule([(node.log_snr - here.log_snr) / h for node in nodes], over.moments[: len(nodes)])
    total = x * _like(over.decay * (there.alpha / here.alpha), x)
    for share, node in zip(shares, nodes, strict=True):
        weight = _like(share * node.share * -there.alpha, x)
        if isinstance(weight, Tensor):
            total.addcmul_(node.f, weight)
        else:
            total.add_(node.f, alpha=weight)
    rest = sum(share * node.shift for share, node in zip(shares, nodes, strict=True)) - over.source
    return total.add_(_like(rest * there.alpha, x)) if isinstance(rest, Tensor) else total


def _weigh_differences(nodes: Sequence[float], moments: Sequence[Any]) -> list[Any]:
    """Weights of ``sum_k m_k g[u_0, ..., u_k]``: divided differences for the Taylor coefficients at the first node."""
    total: list[Any] = [0.0] * len(nodes)
    for k, moment in enumerate(moments):
        for j in range(k + 1):
            others = math.prod(nodes[j] - nodes[i] for i in range(k + 1) if i != j)
            total[j] = total[j] + moment / others
    return total


def _like(value: Value, x: Images) -> Value:
    return value.to(x.dtype) if isinstance(value, Tensor) else value
