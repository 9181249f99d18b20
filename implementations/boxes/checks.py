"""Checks of arguments that box losses, class losses and NMS share, and the reduction of losses."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor


def check_tensor(name: str, value: Any) -> None:
    """Raise ValueError unless the argument ``name`` is a tensor; the message says how to make one of it."""
    if not isinstance(value, Tensor):
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        how = "from_numpy" if kind == "numpy.ndarray" else "as_tensor"
        hint = "" if value is None else f": pass torch.{how}({name})"
        raise ValueError(f"{name} is of type {kind}; accepted is a torch.Tensor{hint}")


def number(name: str, value: Any) -> float:
    """Give the argument ``name`` as a float; raises ValueError unless it is a real number.

    Python's and NumPy's numbers and tensors without axes are accepted.
    """
    if isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex():
        return float(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} is {value!r}; accepted is a number")
    return float(value)


def check_boxes(name: str, boxes: Tensor) -> None:
    """Raise ValueError unless the boxes, the argument ``name``, are a floating-point tensor of shape (n, 4)."""
    check_tensor(name, boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"{name} has shape {tuple(boxes.shape)}; accepted is (n, 4), one box per row as x1, y1, x2, y2"
        )
    if not boxes.is_floating_point():
        raise ValueError(f"{name} is {boxes.dtype}; accepted is a floating-point dtype: call {name}.float()")


def check_values(name: str, boxes: Float[Tensor, "n 4"]) -> None:
    """Raise ValueError naming the first of the ``xyxy`` boxes that is not finite or has a negative side.

    This synchronises with the device.
    """
    bad: Bool[Tensor, " n"] = ~boxes.isfinite().all(-1) | (boxes[:, 2:] < boxes[:, :2]).any(-1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(f"{name}[{row}] is {boxes[row].tolist()}; accepted is finite x1 <= x2, y1 <= y2")


def choose(option: str, value: Any, accepted: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value``, given for the option called ``option``, is one of those accepted."""
    if value not in accepted:
        raise ValueError(f"{option} is {value!r}; accepted are {', '.join(map(repr, accepted))}")


def positive(**numbers: float) -> None:
    """Raise ValueError, naming the option, unless each of the options, passed by keyword, is positive."""
    for option, value in numbers.items():
        if not number(option, value) > 0:
            raise ValueError(f"{option} is {value}; accepted is a positive number")


def at_least_zero(**numbers: float) -> None:
    """Raise ValueError, naming the option, unless each of the options, passed by keyword, is 0 or more."""
    for option, value in numbers.items():
        if not number(option, value) >= 0:
            raise ValueError(f"{option} is {value}; accepted is a number of at least 0")


def check_options(name: str, options: Iterable[str], accepted: list[str]) -> None:
    """Raise TypeError unless the loss or NMS called ``name`` has each of the keywords ``options``.

    The message lists those ``accepted``.
    """
    if unknown := [option for option in options if option not in accepted]:
        known = f"its options are {', '.join(accepted)}" if accepted else "it has none of its own"
        raise TypeError(f"{name} has no option {', '.join(map(repr, unknown))}; {known}")


def reduce(loss: Float[Tensor, "*n"], reduction: str, positives: Bool[Tensor, "*n"] | None = None) -> Tensor:
    """Reduce the losses of n elements: ``none``, ``sum``, ``mean`` (over n), or ``positives`` (over the positives).

    ``none`` returns the n losses as they are. The mean of no elements is 0. ``positives`` divides the sum by the number
    of positives, at least 1, and is accepted only where the caller passes that mask. Raises ValueError on another
    reduction.
    """
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.sum() / max(1, loss.numel())
    if reduction == "positives" and positives is not None:
        return loss.sum() / positives.sum().clamp(min=1)  # the count stays on the device, so that nothing synchronises
    also = "" if positives is None else ", 'positives'"
    raise ValueError(f"reduction is {reduction!r}; accepted are 'none', 'mean', 'sum'{also}")
