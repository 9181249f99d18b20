"""Boxes that descend a loss towards their targets, each on its own: the engine of the published simulations.

Boxes are (x, y, w, h) and stored by column, so that a compiler fuses loss, gradient and update into one pass over
memory: compiled, one update of 1,715,000 cases takes a hundredth of a second instead of a quarter. Without a compiler
the same step runs eagerly, in chunks that stay in the processor's cache. No result depends on the chunk.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.geometry import BoxPair, measure_columns, overlap_ratio
from implementations.boxes.losses.contract import formula_of

EPS = 1e-7
ROWS = {
    "compiled": 343 * 1024,
    "eager": 343 * 64,
}  # rows per chunk: threads share the first, the second fits in a cache
_COMPILER = {"compile_threads": 1}  # two small kernels need no pool of processes
Engine = Literal["auto", "compiled", "eager"]
Columns = tuple[Tensor, ...]


class Regression(NamedTuple):
    """The result of boxes descending a loss: each case in the end, and totals over the cases on the way.

    ``error`` is the L1 distance over x, y, w, h after the last update; curves have one value per iteration.
    """

    boxes: Float[Tensor, "n 4"]  # after the last update
    error: Float[Tensor, " n"]  # L1 over x, y, w, h after the last update
    iou: Float[Tensor, " n"]  # after the last update
    error_curve: Float[Tensor, " iterations"]  # total over the cases after each update
    iou_curve: Float[Tensor, " iterations+1"]  # mean over the cases before each update, and after the last
    seconds: float  # time of all updates, without compilation
    engine: str  # compiled or eager


class Rule(Protocol):
    """A rule by which boxes move against the gradient of a loss, such as the DIoU paper's or Adam's.

    ``start`` makes a state of (x, y, w, h), of which the first four columns are differentiated, ``boxes`` reads the
    boxes off it, and ``update`` moves it.
    """

    def start(self, boxes: Columns) -> Columns: ...

    def boxes(self, state: Columns) -> Columns: ...

    def numbers(self, iteration: int) -> Sequence[float]:
        """The numbers that an update takes from its iteration, such as the learning rate."""

    def update(self, state: Columns, gradient: Columns, iou: Tensor, numbers: Columns) -> Columns: ...


class Descent(NamedTuple):
    """The DIoU paper's descent, ``B += eta (2 - IoU) (-grad L)`` on (x, y, w, h), one eta per iteration (1911.08287).

    ``rates`` are the etas.
    """

    rates: Sequence[float]

    def start(self, boxes: Columns) -> Columns:
        return boxes

    def boxes(self, state: Columns) -> Columns:
        return state

    def numbers(self, iteration: int) -> Sequence[float]:
        return (self.rates[iteration],)

    def update(self, state: Columns, gradient: Columns, iou: Tensor, numbers: Columns) -> Columns:
        step = numbers[0] * (2 - iou)
        return tuple(side - step * slope for side, slope in zip(state, gradient, strict=True))


class Adam(NamedTuple):
    """Adam as the rule by which boxes move, on the corners (x1, y1, x2, y2) of a loss that is the mean over ``cases``.

    The learning rate is ``rate``, and the betas are .9 and .999 (1412.6980). The mean matters: it makes gradients small
    compared with Adam's epsilon of 1e-8.
    """

    cases: int
    rate: float = 0.01

    def start(self, boxes: Columns) -> Columns:
        return (*corners(boxes), *(torch.zeros_like(boxes[0]) for _ in range(8)))

    def boxes(self, state: Columns) -> Columns:
        x1, y1, x2, y2 = state[:4]
        return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1

    def numbers(self, iteration: int) -> Sequence[float]:
        return self.rate / (1 - 0.9 ** (iteration + 1)), 1 / (1 - 0.999 ** (iteration + 1))

    def update(self, state: Columns, gradient: Columns, iou: Tensor, numbers: Columns) -> Columns:
        rate, whole = numbers
        slopes = [slope / self.cases for slope in gradient]
        first = [0.9 * m + 0.1 * g for m, g in zip(state[4:8], slopes, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(state[8:], slopes, strict=True)]
        moved = [
            side - rate * m / ((v * whole).sqrt() + 1e-8) for side, m, v in zip(state[:4], first, second, strict=True)
        ]
        return (*moved, *first, *second)


def regress(
    loss: Callable[..., Tensor],
    boxes: Float[Tensor, "n 4"],
    targets: Float[Tensor, "n 4"],
    rule: Rule,
    iterations: int,
    *,
    options: dict[str, Any] | None = None,
    engine: Engine = "auto",
    chunk: int | None = None,
    progress: Callable[[int], None] = lambda iteration: None,
) -> Regression:
    """Move each box towards its target by descending one loss, each pair on its own, for so many iterations.

    WIoU's mean of ``1 - IoU`` is that of all cases at each iteration. It computes in the dtype of ``boxes`` (x, y, w,
    h) and totals in float64. ``auto`` compiles from 100,000 cases on, if there is a compiler and the loss is one of
    fidmap's formulas; ``compiled`` raises RuntimeError where that is not so.
    """
    options = dict(options or {})
    formula = formula_of(loss)
    n = len(boxes)
    chosen = _choose(engine, n, compilable=formula is not None)
    rows = _multiple(min(chunk or ROWS[chosen], n))
    shared = formula is not None and "state" in inspect.signature(formula).parameters and "state" not in options
    step, overlap = _step(loss, rule, options, shared), _overlap
    if chosen == "compiled":
        torch.compiler.reset()  # each loss compiles the same function again, and torch keeps only a few versions
        step, overlap = (torch.compile(each, dynamic=False, options=_COMPILER) for each in (step, overlap))
    else:
        step = functools.partial(step, eager=True)
    states = [rule.start(part) for part in _chunks(boxes, rows)]
    goals = _chunks(targets, rows)
    lengths = [min(rows, n - start) for start in range(0, n, rows)]
    mean = boxes.new_zeros(())

    def means() -> float:
        """Mean IoU of all cases at this point."""
        parts = (overlap(rule.boxes(s), goal)[:k] for s, goal, k in zip(states, goals, lengths, strict=True))
        return math.fsum(part.double().sum().item() for part in parts) / n

    if chosen == "compiled":
        step(states[0], goals[0], mean, [mean.clone() for _ in rule.numbers(0)])
        overlap(rule.boxes(states[0]), goals[0])
    began = time.perf_counter()
    error_curve, iou_curve = [], []
    for iteration in range(iterations):
        numbers = [boxes.new_tensor(number) for number in rule.numbers(iteration)]
        if shared:
            mean = boxes.new_tensor(1 - means())
        error_parts, iou_parts = [], []
        for i, (goal, k) in enumerate(zip(goals, lengths, strict=True)):
            states[i], error, iou = step(states[i], goal, mean, numbers)
            error_parts.append(error[:k].double().sum().item())
            iou_parts.append(iou[:k].double().sum().item())
        error_curve.append(math.fsum(error_parts))
        iou_curve.append(math.fsum(iou_parts) / n)
        progress(iteration)
    iou_curve.append(means())
    seconds = time.perf_counter() - began
    ends = [rule.boxes(state) for state in states]
    iou = torch.cat([_overlap(end, goal)[:k] for end, goal, k in zip(ends, goals, lengths, strict=True)])
    error = torch.cat([_error(end, goal)[:k] for end, goal, k in zip(ends, goals, lengths, strict=True)])
    final = torch.stack([torch.cat(side)[:n] for side in zip(*ends, strict=True)]).T
    errors, ious = (torch.tensor(curve, dtype=torch.float64) for curve in (error_curve, iou_curve))
    return Regression(final, error.double(), iou.double(), errors, ious, seconds, chosen)


def corners(boxes: Columns) -> Columns:
    """Turn boxes from centre and sides (x, y, w, h) into corners (x1, y1, x2, y2), as columns."""
    x, y, w, h = boxes
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


@functools.cache
def can_compile() -> bool:
    """Whether torch.compile works on this machine, so that a regression can be compiled."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(64))
    except Exception as error:  # no compiler, a broken one, or an unsupported platform
        logging.getLogger(__name__).info("eager, since torch.compile failed: %s", error)
        return False
    return True


def _choose(engine: Engine, n: int, *, compilable: bool) -> str:
    if engine == "compiled" and not (compilable and can_compile()):
        raise RuntimeError("the loss cannot be compiled here: it needs a C++ compiler, and one of fidmap's own losses")
    if engine == "auto":
        return "compiled" if n >= 100_000 and compilable and can_compile() else "eager"
    return engine


def _multiple(rows: int) -> int:
    """Round up to a multiple of 64: vector code handles such a number of rows without a remainder.

    A remainder would be handled by other functions, with another atan among them, and rows would depend on their chunk.
    """
    return rows + -rows % 64


def _chunks(boxes: Float[Tensor, "n 4"], rows: int) -> list[Columns]:
    """Columns of ``rows`` rows each; the last chunk is filled up with copies of its last row."""
    parts = []
    for part in boxes.split(rows):
        filled = part if len(part) == rows else torch.cat([part, part[-1:].expand(rows - len(part), 4)])
        parts.append(tuple(side.contiguous() for side in filled.unbind(1)))
    return parts


def _overlap(boxes: Columns, targets: Columns) -> Tensor:
    return overlap_ratio(_measure(boxes, targets), EPS)


def _error(boxes: Columns, targets: Columns) -> Tensor:
    """L1 distance over x, y, w, h."""
    return sum(((a - b).abs() for a, b in zip(boxes[1:], targets[1:], strict=True)), (boxes[0] - targets[0]).abs())


def _measure(boxes: Columns, targets: Columns) -> BoxPair:
    return measure_columns(corners(boxes), corners(targets))


def _step(loss: Callable[..., Tensor], rule: Rule, options: dict[str, Any], shared: bool) -> Callable[..., Any]:
    """Make the update of a chunk: ``(state, targets, mean, numbers) -> (state, error after it, IoU before it)``."""
    formula = formula_of(loss)

    def total(moving: Columns, state: Columns, targets: Columns, mean: Tensor) -> tuple[Tensor, Tensor]:
        boxes = rule.boxes((*moving, *state[4:]))
        pair = _measure(boxes, targets)
        if formula is None:
            value = loss(torch.stack(corners(boxes), 1), torch.stack(corners(targets), 1), **options)
        else:
            value = formula(pair, EPS, **options, **({"state": mean} if shared else {}))
        return value.sum(), overlap_ratio(pair, EPS)

    def step(
        state: Columns, targets: Columns, mean: Tensor, numbers: Columns, eager: bool = False
    ) -> tuple[Columns, Tensor, Tensor]:
        if eager:
            moving = tuple(side.detach().requires_grad_() for side in state[:4])
            value, iou = total(moving, state, targets, mean)
            gradient = torch.autograd.grad(value, moving)
        else:
            gradient, iou = torch.func.grad(total, has_aux=True)(state[:4], state, targets, mean)
        with torch.no_grad():
            state = rule.update(state, gradient, iou.detach(), numbers)
        return state, _error(rule.boxes(state), targets), iou.detach()

    return step
