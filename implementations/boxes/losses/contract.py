"""The contract of every box loss: ``loss(pred, target, **options) -> (n,)`` on ``xyxy`` boxes, one value per row.

``reduction`` is ``none``, ``mean`` (0 for no boxes) or ``sum``. It and ``eps`` may also be passed by position, as in
torchvision's losses. A negative side counts as 0. Value and gradient are finite for every finite input; NaN gives NaN
in its own row and changes no other. ``eps`` is relative: a denominator is at least ``eps`` (squared, where it is an
area) in units of the enclosing box's longer side, so it changes no value unless the boxes are ``1/eps`` times longer
than wide.

In the formulas, w, h are the sides of the prediction and wg, hg those of the target; dx, dy is the offset between the
centres and rho their distance; cw, ch, c and C are the sides, the diagonal and the area of the enclosing box; U is the
area of the union.

The gradient with respect to any coordinate is at most ``8 / eps`` over the enclosing box's longer side wherever at
least one of the two boxes has sides of ``eps`` or more in units of it; the other may be a line or a point. ``-ln IoU``
and powers under 1 also divide by an IoU that is kept at ``eps`` or above, and are bounded by ``8 / eps^2``. The losses
that depend on scale (L1, smooth L1, NWD, MPDIoU with an image size) have no such denominator. Half precision is
computed in float32 and returned as float32; a gradient beyond the range of float16 is clamped to 65504, its largest
number.

Values that are not tensors, wrong shapes or dtypes and unknown values of options raise ValueError; unknown options
raise TypeError. ``validate=True`` also raises ValueError on boxes that are inverted or not finite, naming the row; it
synchronises with the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import check_boxes, check_options, check_values, positive, reduce
from implementations.boxes.geometry import measure_pairs
from implementations.boxes.named import Named
from implementations.catalogue.entry import Entry

Formula = Callable[..., Tensor]  # (pair, eps, **options) -> one loss per pair
Reduction = Literal["none", "mean", "sum"]


class BoxLoss(Named):
    """A box loss, called as ``loss(pred, target, reduction="none", eps=1e-7, **options)`` on ``xyxy`` boxes (n, 4).

    It is made by decorating a formula over measured pairs of boxes; the keywords of the formula are the options of the
    loss. There is one loss per row unless it is reduced. ``loss.formula(pair, eps, **options)`` is the loss of pairs
    that are measured already: of boxes whose coordinates lie in columns, or of every box with every other
    (``pairwise``).
    """

    def __init__(self, formula: Formula):
        super().__init__(formula)
        self.formula = formula

    def __call__(
        self,
        pred: Float[Tensor, "n 4"],
        target: Float[Tensor, "n 4"],
        reduction: Reduction = "none",
        eps: float = 1e-7,
        *,
        validate: bool = False,
        **options: Any,
    ) -> Float[Tensor, "*n"]:
        """The loss of each ``xyxy`` box of ``pred`` with that of the same row of ``target``, reduced as asked."""
        self.check(pred, target, eps, validate, options)
        if len(pred) != len(target):
            raise ValueError(f"{len(pred)} pred boxes and {len(target)} target boxes; accepted is one target per pred")
        return reduce(self.formula(measure_pairs(pred, target), eps, **options), reduction)

    def check(self, pred: Tensor, target: Tensor, eps: float, validate: bool, options: dict[str, Any]) -> None:
        """Raise ValueError on boxes or an eps that the loss cannot take, and TypeError on an unknown option.

        ``validate`` also refuses boxes that are inverted or not finite, which synchronises with the device.
        """
        for which, boxes in (("pred", pred), ("target", target)):
            check_boxes(which, boxes)
            if validate:
                check_values(which, boxes)
        positive(eps=eps)
        check_options(self.__name__, options, [option.name for option in self.options])


def pairwise(
    loss: Callable[..., Tensor],
    pred: Float[Tensor, "n 4"],
    target: Float[Tensor, "m 4"],
    *,
    eps: float = 1e-7,
    validate: bool = False,
    **options: Any,
) -> Float[Tensor, "n m"]:
    """The loss of every box of ``pred`` with every box of ``target``, as matching needs it; boxes are ``xyxy``.

    ``loss`` is an entry of LOSSES or its function. Raises ValueError as the loss does, and TypeError for a loss that is
    not made of a formula over pairs, such as another library's.
    """
    own = loss.resolve() if isinstance(loss, Entry) else loss
    if not isinstance(own, BoxLoss):
        raise TypeError(f"{getattr(loss, 'name', loss)!r} takes boxes row by row; accepted are fidmap's own losses")
    own.check(pred, target, eps, validate, options)
    return own.formula(measure_pairs(pred[:, None], target[None]), eps, **options)


def formula_of(loss: Callable[..., Tensor]) -> Formula | None:
    """The formula over measured pairs behind a box loss, which is a function or an entry of LOSSES.

    It is None for a loss of another library, which has none.
    """
    loss = loss.resolve() if isinstance(loss, Entry) else loss
    return loss.formula if isinstance(loss, BoxLoss) else None
