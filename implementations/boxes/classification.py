"""Losses of class scores that go with boxes: focal loss and its descendants, on logits, one value per element.

All share one contract. ``reduction`` is ``none``, ``mean`` (0 for no elements), ``sum``, or ``positives``, the papers'
normalisation: the sum over the number of targets above 0, at least 1. Everything is computed from log-sigmoids, so that
small losses keep their digits, and value and gradient are finite for logits up to 1e30 in magnitude. NaN gives NaN in
its own element only. Half precision is computed in float32 and returned as float32; otherwise the result has the dtype
of the logits. Wrong shapes, dtypes and options raise ValueError. ``validate=True`` also raises it on logits that are
not finite and on targets out of range, naming the element; it synchronises with the device.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from implementations.boxes.checks import check_tensor, number, reduce

Reduction = Literal["none", "mean", "sum", "positives"]


def focal(
    logits: Float[Tensor, "*n"],
    targets: Shaped[Tensor, "*n"],
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "none",
    *,
    validate: bool = False,
) -> Float[Tensor, "*m"]:
    """Cross-entropy with less weight on easy elements, ``-alpha_t (1 - p_t)^gamma log p_t`` (1708.02002, eq. 5).

    ``p_t`` is the predicted probability of the label, the sigmoid of the logit for a positive; ``alpha_t`` is alpha for
    a positive and 1 - alpha for a negative; ``alpha=None`` leaves it out. Labels are 0 or 1 in any real dtype. A label
    y in between is the probability of class 1: the losses of the two labels are averaged with weights y and 1 - y.
    There is one loss per element unless it is reduced.
    """
    logits, targets = _prepare(logits, targets, "real", validate)
    _check_option("gamma", gamma)
    if alpha is not None and not 0 <= number("alpha", alpha) <= 1:
        raise ValueError(f"alpha is {alpha}; accepted is 0 to 1, or None for no balance")
    on, off = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
    # A power of the sigmoid would have the gradient 0 times infinity where it underflows and gamma is below 1.
    positive, negative = -(gamma * log_not_p).exp() * log_p, -(gamma * log_p).exp() * log_not_p
    return reduce(on * targets * positive + off * (1 - targets) * negative, reduction, targets > 0)


def quality_focal(
    logits: Float[Tensor, "*n"],
    targets: Float[Tensor, "*n"],
    *,
    beta: float = 2.0,
    reduction: Reduction = "none",
    validate: bool = False,
) -> Float[Tensor, "*m"]:
    """Focal loss on a quality y in [0, 1], ``-|y - p|^beta ((1 - y) log(1 - p) + y log p)`` (2006.04388, eq. 2).

    p is the sigmoid of the logit. The target y is the IoU of the box at the class of a positive, and 0 elsewhere: see
    ``iacs_targets``. There is one loss per element unless it is reduced.
    """
    return generalised_focal(logits, targets, beta=beta, reduction=reduction, validate=validate)


def generalised_focal(
    logits: Float[Tensor, "*n"],
    targets: Float[Tensor, "*n"],
    *,
    labels: tuple[float, float] = (0.0, 1.0),
    beta: float = 2.0,
    reduction: Reduction = "none",
    validate: bool = False,
) -> Float[Tensor, "*m"]:
    """Generalised focal loss of a target y between two labels l < r, on the logit of the right one.

    ``-|y - (l p_l + r p_r)|^beta ((r - y) log p_l + (y - l) log p_r)``, one loss per element. l and r are the left and
    right label, and the logit is that of the right one: ``p_r = sigmoid(logit) = 1 - p_l``. The loss is least where the
    expected label is y, at ``p_l = (r - y) / (r - l)`` (2006.04388, eq. 7). Positives are the targets above the left
    label.
    """
    left, right = labels
    if not (math.isfinite(left) and math.isfinite(right) and left < right):
        raise ValueError(f"labels are {labels}; accepted are two finite numbers, the smaller first")
    logits, targets = _prepare(logits, targets, "floating", validate, left, right)
    if beta != 0:
        _check_option("beta", beta, 1.0, "0, or at least 1: in between, the gradient has a pole where y is met")
    to_left, to_right = targets - left, right - targets
    # y minus the expected label, as two terms, so that no digits cancel where the target is a label.
    miss = to_left * torch.sigmoid(-logits) - to_right * torch.sigmoid(logits)
    entropy = -(to_right * logsigmoid(-logits) + to_left * logsigmoid(logits))
    return reduce(miss.abs() ** beta * entropy, reduction, to_left > 0)


def distribution_focal(
    logits: Float[Tensor, "*n bins"],
    targets: Float[Tensor, "*n"],
    *,
    reduction: Literal["none", "mean", "sum"] = "none",
    validate: bool = False,
) -> Float[Tensor, "*m"]:
    """Distribution focal loss: cross-entropy of a softmax over the bins 0, 1, ... with a distance y between two bins.

    ``-((r - y) log p_l + (y - l) log p_r)``, one loss per row of bins. l and r are the bins on either side of y. The
    loss is least where p interpolates y linearly between them (2006.04388, eq. 6). Distances are in bins; one beyond
    the last bin counts as the last, one below 0 as 0. A row of bins is one element.
    """
    _check_tensors(logits, targets)
    if logits.ndim < 1 or logits.shape[-1] < 2:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; accepted is (..., bins) with at least 2 bins")
    bins = logits.shape[-1]
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}; accepted is {tuple(logits.shape[:-1])}, "
            f"that of logits {tuple(logits.shape)} without the bins"
        )
    logits, targets = _cast(logits, targets, "floating")
    if validate:
        _check_values("logits", logits, -math.inf, math.inf)
        _check_values("targets", targets, 0.0, float(bins - 1))
    bin_at = torch.arange(bins, dtype=logits.dtype, device=logits.device)
    distance = (targets.clamp(0, bins - 1)[..., None] - bin_at).abs()
    share = (1 - distance).clamp(min=0)  # r - y at bin l, y - l at bin r, 0 elsewhere
    return reduce(-(share * log_softmax(logits, -1)).sum(-1), reduction)


def varifocal(
    logits: Float[Tensor, "*n"],
    targets: Float[Tensor, "*n"],
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
    detach_weight: bool = False,
    reduction: Reduction = "none",
    validate: bool = False,
) -> Float[Tensor, "*m"]:
    """Cross-entropy on a quality q in [0, 1]: ``q BCE(p, q)`` where q > 0, and ``alpha p^gamma BCE(p, 0)`` elsewhere.

    p is the sigmoid of the logit, and q, the target, is the IoU of the box at the class of a positive, 0 elsewhere
    (``iacs_targets``). Unlike focal loss, it reduces the weight of easy negatives only (2008.13367, eq. 2). Their
    weight ``p^gamma`` has a gradient in the authors' code; ``detach_weight`` makes it a constant, as RT-DETR does.
    There is one loss per element unless it is reduced.
    """
    logits, targets = _prepare(logits, targets, "floating", validate)
    _check_option("alpha", alpha)
    _check_option("gamma", gamma)
    log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
    weight = alpha * (gamma * (log_p.detach() if detach_weight else log_p)).exp()
    positive = -targets * (targets * log_p + (1 - targets) * log_not_p)
    # "<= 0" and not "not > 0": a NaN among the targets must not become a negative.
    return reduce(torch.where(targets <= 0, -weight * log_not_p, positive), reduction, targets > 0)


def iacs_targets(
    labels: Int[Tensor, " n"], ious: Float[Tensor, " n"], classes: int, *, validate: bool = False
) -> Float[Tensor, "n {classes}"]:
    """The targets of varifocal and quality focal loss: the IoU at the class of each positive, 0 elsewhere.

    One row per box and one column per class (IoU-aware classification scores, 2008.13367, sec. 3.1). ``labels`` has the
    class of each box, -1 for the background, and ``ious`` the IoU of the box with its truth, which is a constant to
    autograd. Raises ValueError on wrong shapes and dtypes, and with ``validate=True`` also on IoUs outside [0, 1] and
    on labels outside -1 to classes - 1, which otherwise count as background.
    """
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype} {tuple(labels.shape)}; accepted are integers, (n,)")
    if ious.shape != labels.shape or not ious.is_floating_point():
        raise ValueError(
            f"ious are {ious.dtype} {tuple(ious.shape)}; accepted is floating point, {tuple(labels.shape)} like labels"
        )
    if classes < 1:
        raise ValueError(f"classes is {classes}; accepted is at least 1")
    if validate:
        _check_values("labels", labels, -1.0, float(classes - 1))
        _check_values("ious", torch.where(labels < 0, 0, ious), 0.0, 1.0)
    is_class: Bool[Tensor, "n c"] = labels[:, None] == torch.arange(classes, device=labels.device)
    return torch.where(is_class, ious.detach()[:, None], 0)


def _prepare(
    logits: Tensor, targets: Tensor, accepted: str, validate: bool, low: float = 0.0, high: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Check logits and targets of one shape, and cast both to the dtype of the computation."""
    _check_tensors(logits, targets)
    if logits.shape != targets.shape:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}; accepted is that of logits, {tuple(logits.shape)}"
        )
    logits, targets = _cast(logits, targets, accepted)
    if validate:
        _check_values("logits", logits, -math.inf, math.inf)
        _check_values("targets", targets, low, high)
    return logits, targets


def _check_tensors(logits: Tensor, targets: Tensor) -> None:
    for name, values in (("logits", logits), ("targets", targets)):
        check_tensor(name, values)


def _cast(logits: Tensor, targets: Tensor, accepted: str) -> tuple[Tensor, Tensor]:
    if not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype}; accepted is a floating-point dtype: call logits.float()")
    if targets.is_complex() or (accepted == "floating" and not targets.is_floating_point()):
        raise ValueError(f"targets are {targets.dtype}; accepted is a {accepted} dtype: call targets.float()")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype), targets.to(dtype)


def _check_values(name: str, values: Tensor, low: float, high: float) -> None:
    """Raise ValueError naming the first value that is not finite or outside [low, high]; synchronises the device."""
    good = (values >= low) & (values <= high)
    if values.is_floating_point():
        good &= values.isfinite()
    if not good.all():
        index = (~good).nonzero()[0].tolist()
        bounds = f"{low:g} to {high:g}" if math.isfinite(high) else "finite"
        raise ValueError(f"{name}{index if index else ''} is {values[tuple(index)].item()}; accepted is {bounds}")


def _check_option(name: str, value: float, least: float = 0.0, accepted: str = "a finite number of at least 0") -> None:
    if not least <= number(name, value) < math.inf:
        raise ValueError(f"{name} is {value}; accepted is {accepted}")
