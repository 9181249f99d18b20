"""Classifier two-sample test (1610.06545): can a classifier tell real from generated samples that it has not seen?"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binomtest
from torch import Tensor

from metrics.checks import check_sides, takes_arrays

WIDTH = 1000  # of a hidden layer, at most
EPOCHS = 1000  # at most
BATCH = 200


class C2STResult(NamedTuple):
    """A classifier two-sample test: the share of ``tested`` samples that are classified correctly, and its p-value.

    Equal distributions give one half on average, at any n. ``low`` and ``high`` are Wilson's interval; the p-value is
    against chance.
    """

    accuracy: float
    low: float
    high: float
    p_value: float
    tested: int


@takes_arrays("x", "y")
def classifier_two_sample_test(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    classifier: str = "mlp",
    folds: int | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> C2STResult:
    """Classifier two-sample test: how well a classifier tells real from generated samples that it has not seen.

    The accuracy is on held-out samples, equally many of both sides; the larger one is subsampled (1610.06545).

    - ``mlp`` is sbibm's (2101.04653): two hidden layers of 10 d (at most 1,000) ReLU, Adam at 1e-3, batches of 200,
      until the training loss has improved by less than 1e-4 in each of 10 epochs.
    - ``logistic`` is logistic regression with the penalty |w|^2 / 2. It sees differences of means alone.
    - ``nearest`` is the label of the nearest neighbour. It falls below one half where generated samples are copies of
      the real samples that it was trained on.

    Features are standardised by the training part of both sides. Without ``folds`` half of each side is for training
    and half for testing (sec. 3): under the null hypothesis the hits spread at most as binomial ones (Hoeffding, 1956),
    so that the one-sided p-value is valid. With folds each sample is tested by a classifier of the others (sbibm: 5):
    all n count, but the hits of two folds are dependent, so that the interval is too narrow; the p-value is twice the
    mean of the p-values of the folds, valid under any dependence (Rueschendorf, 1982). One seed gives the same result
    on one machine. Raises ValueError on other shapes, values that are not finite, an unknown classifier, folds outside
    [2, n], a level outside (0, 1) and fewer than 2 samples per side.
    """
    check_sides(x, y)
    if classifier not in CLASSIFIERS:
        raise ValueError(f"classifier is {classifier!r}; {', '.join(map(repr, CLASSIFIERS))} are accepted")
    n = min(len(x), len(y))
    if n < 2 or (folds is not None and not 2 <= folds <= n) or not 0 < level < 1:
        raise ValueError(
            f"there are {n} samples per side, folds is {folds} and level is {level}; at least 2 samples, folds from "
            "2 to their number and a level between 0 and 1 are accepted"
        )
    generator = torch.Generator().manual_seed(seed)
    x, y = (z[torch.randperm(len(z), generator=generator)[:n].to(z.device)].double() for z in (x, y))
    tests = [slice(n // 2)] if folds is None else [slice(i * n // folds, (i + 1) * n // folds) for i in range(folds)]
    hits, tested, p_values = 0, 0, []
    for part in tests:
        trained = torch.ones(n, dtype=torch.bool, device=x.device)
        trained[part] = False
        right = _right(x[trained], y[trained], x[part], y[part], classifier, generator)
        count = int(right.sum())
        hits, tested = hits + count, tested + len(right)
        p_values.append(float(binomtest(count, len(right), alternative="greater").pvalue))
    p_value = p_values[0] if folds is None else min(1.0, 2 * sum(p_values) / len(p_values))
    interval = binomtest(hits, tested).proportion_ci(level, method="wilson")
    return C2STResult(hits / tested, float(interval.low), float(interval.high), p_value, tested)


def _right(
    x: Float64[Tensor, "n d"],
    y: Float64[Tensor, "n d"],
    x_test: Float64[Tensor, "t d"],
    y_test: Float64[Tensor, "t d"],
    classifier: str,
    generator: torch.Generator,
) -> Bool[Tensor, " t2"]:
    """Which of the test samples, x before y, a classifier trained on x and y classifies correctly."""
    features, test = torch.cat([x, y]), torch.cat([x_test, y_test])
    scale, mean = torch.std_mean(features, 0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)  # a constant feature carries no information
    labels, truth = (torch.arange(2 * len(z), device=z.device) >= len(z) for z in (x, x_test))
    return CLASSIFIERS[classifier]((features - mean) / scale, labels, (test - mean) / scale, generator) == truth


def _logistic(
    features: Float64[Tensor, "n d"], labels: Bool[Tensor, " n"], test: Float64[Tensor, "t d"], _: torch.Generator
) -> Bool[Tensor, " t"]:
    weights = fit_logistic(features, labels)
    return test @ weights[:-1] + weights[-1] > 0


def fit_logistic(features: Float64[Tensor, "n d"], labels: Bool[Tensor, " n"]) -> Float64[Tensor, " d1"]:
    """Logistic regression: weights w and intercept b, in one vector, with a penalty on w.

    They minimise ``sum log(1 + exp(-s (w'x + b))) + |w|^2 / 2``, s = ±1 the side.
    """
    a, side = features.cpu().numpy(), np.where(labels.cpu().numpy(), 1.0, -1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        w, margin = weights[:-1], side * (a @ weights[:-1] + weights[-1])
        pull = -side * expit(-margin)
        return np.logaddexp(0, -margin).sum() + w @ w / 2, np.append(a.T @ pull + w, pull.sum())

    found = minimize(
        loss,
        np.zeros(a.shape[1] + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-8},
    )
    return torch.from_numpy(found.x).to(features)


def _nearest(
    features: Float64[Tensor, "n d"], labels: Bool[Tensor, " n"], test: Float64[Tensor, "t d"], _: torch.Generator
) -> Bool[Tensor, " t"]:
    # By differences, so that a copy has the distance 0.
    exact = "donot_use_mm_for_euclid_dist"
    nearest: list[Int64[Tensor, " r"]] = [
        torch.cdist(rows, features, compute_mode=exact).argmin(1) for rows in test.split(1024)
    ]
    return labels[torch.cat(nearest)]


@torch.inference_mode(False)  # it needs gradients, even where the caller has turned them off
@torch.enable_grad()
def _mlp(
    features: Float64[Tensor, "n d"],
    labels: Bool[Tensor, " n"],
    test: Float64[Tensor, "t d"],
    generator: torch.Generator,
) -> Bool[Tensor, " t"]:
    """Which test samples an MLP takes for the positive side, trained in float32 with scikit-learn's defaults.

    These are Glorot's weights, L2 of 1e-4 / batch, and its stopping rule.
    """
    width, device = min(10 * features.shape[1], WIDTH), features.device
    sizes = [features.shape[1], width, width, 1]
    weights = [_glorot(rows, columns, generator).to(device) for rows, columns in itertools.pairwise(sizes)]
    biases = [torch.zeros(columns, device=device, requires_grad=True) for columns in sizes[1:]]
    weights = [weight.requires_grad_() for weight in weights]

    def logits(a: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            a = torch.addmm(bias, a.relu() if i else a, weight)
        return a[:, 0]

    a, target, n = features.float(), labels.float(), len(features)
    decay = [{"params": weights, "weight_decay": 1e-4 / min(BATCH, n)}, {"params": biases}]
    optimiser, best, stalled = torch.optim.Adam(decay, lr=1e-3), float("inf"), 0
    for _ in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(n, generator=generator).to(device).split(BATCH):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits(a[rows]), target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows) / n
        stalled = stalled + 1 if total > best - 1e-4 else 0
        best = min(best, total)
        if stalled > 10:
            break
    with torch.no_grad():
        return torch.cat([logits(rows.float()) for rows in test.split(8192)]) > 0


def _glorot(rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows columns"]:
    bound = (6 / (rows + columns)) ** 0.5
    return (2 * torch.rand(rows, columns, generator=generator) - 1) * bound


CLASSIFIERS = {"mlp": _mlp, "logistic": _logistic, "nearest": _nearest}
