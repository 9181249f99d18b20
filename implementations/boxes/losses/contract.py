"""The contract of every box loss, ``loss(pred, target, **options) -> (n,)`` on ``xyxy`` boxes, row by row.

``reduction`` is ``none``, ``mean`` (0 for no boxes) or ``sum``; it and ``eps`` may also be given by position, as
torchvision's losses take them. A negative side counts as 0. Value and gradient are
finite for every finite input; NaN gives NaN in its own row and changes no other. ``eps`` is relative: a denominator
is held at ``eps`` (squared, where it is an area) in units of the enclosing box's longer side, so it moves no value
unless the boxes are ``1/eps`` times longer than wide.

The gradient with respect to any coordinate is at most ``8 / eps`` over the enclosing box's longer side wherever one of
the two boxes has sides of at least ``eps`` in units of it; the other may be a line or a point. ``-ln IoU`` and powers
under 1 divide by an IoU that is held at ``eps`` as well: theirs is at most ``8 / eps^2``. The losses that know scale
(L1, smooth L1, NWD, MPDIoU of an image) have no such denominator. Half precision computes in and returns float32; a
gradient beyond the range of float16 stops at 65504, its largest number.

What is not a tensor, wrong shapes and dtypes and unknown values of options raise ValueError, unknown options TypeError;
``validate=True`` also raises ValueError on boxes that are inverted or not finite, naming the row, and has to wait for
the device to do so.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import check_boxes, check_options, check_values, positive, reduce
from implementations.boxes.geometry import measure

Formula = Callable[..., Tensor]  # (pair, eps, **options) -> a loss a pair
Reduction = Literal["none", "mean", "sum"]


@runtime_checkable
class BoxLoss(Protocol):
    """A loss under the module's contract, and the formula that it is made of."""

    __name__: str
    formula: Formula

    def __call__(self, pred: Tensor, target: Tensor, **options: Any) -> Tensor:
        """The loss of each pair, reduced as asked."""


def box_loss(formula: Formula) -> BoxLoss:
    """Make a loss under the module's contract of a formula over the lengths of a pair; its keywords are the options.

    The formula stays at hand as ``loss.formula``, for pairs measured elsewhere: of boxes by the column, or of every box
    with every other (``pairwise``).
    """

    def loss(
        pred: Float[Tensor, "n 4"],
        target: Float[Tensor, "n 4"],
        reduction: Reduction = "none",
        eps: float = 1e-7,
        *,
        validate: bool = False,
        **options: Any,
    ) -> Float[Tensor, "*n"]:
        _check(formula, pred, target, eps, validate, options)
        if len(pred) != len(target):
            raise ValueError(f"{len(pred)} pred boxes and {len(target)} target boxes; accepted is one target a pred")
        return reduce(formula(measure(pred, target), eps, **options), reduction)

    signature = inspect.signature(loss)
    fixed = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    functools.update_wrapper(loss, formula)
    made: Any = loss
    del made.__wrapped__  # the signature is the contract's, not the formula's
    made.__signature__ = signature.replace(parameters=[*fixed, *_keywords(formula)])
    made.formula = formula
    return made


def pairwise(
    loss: Callable[..., Tensor],
    pred: Float[Tensor, "n 4"],
    target: Float[Tensor, "m 4"],
    *,
    eps: float = 1e-7,
    validate: bool = False,
    **options: Any,
) -> Float[Tensor, "n m"]:
    """A loss of every ``pred`` with every ``target``, as matching and assignment need it: entry or function of LOSSES.

    Raises ValueError as the loss does, and TypeError for a loss that is not made of a formula over pairs.
    """
    formula = formula_of(loss)
    if formula is None:
        raise TypeError(f"{getattr(loss, 'name', loss)!r} takes boxes row by row; accepted are fidmap's own losses")
    _check(formula, pred, target, eps, validate, options)
    return formula(measure(pred[:, None], target[None]), eps, **options)


def formula_of(loss: Callable[..., Tensor]) -> Formula | None:
    """The formula behind a loss, given as a function or an entry of LOSSES; None where there is none (a peer's)."""
    function = loss.resolve() if hasattr(loss, "resolve") else loss
    return getattr(function, "formula", None)


@functools.cache
def _keywords(formula: Formula) -> list[inspect.Parameter]:
    """The formula's options."""
    return [p for p in inspect.signature(formula).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _check(formula: Formula, pred: Tensor, target: Tensor, eps: float, validate: bool, options: dict[str, Any]) -> None:
    """Raise ValueError on wrong boxes or eps, and TypeError on an option that the formula does not have."""
    for which, boxes in (("pred", pred), ("target", target)):
        check_boxes(which, boxes)
        if validate:
            check_values(which, boxes)
    positive(eps=eps)
    check_options(formula.__name__, options, [keyword.name for keyword in _keywords(formula)])
