"""Confidence intervals of COCO's figures over images, by the bootstrap and the jackknife, read off one matching.

AP of few images is larger than that of many (its precision is the greatest at any higher recall). Resamples are biased
once more, so that their percentiles cover the AP of many images too seldom. So the bias that the resamples show is
subtracted, and the deviation is that of the jackknife, which leaves out each image, or each of ``GROUPS`` groups of
images, in turn:

    logit(value) - bias ± t(g - 1) s,    bias = mean of logit(resample) - logit(value),
    s² = (g - 1) / g sum over g groups of (logit(without) - their mean)² + variance of logit(resample) / resamples

On the logit scale figures near 0 or 1 have little skew, and the bounds stay in between (Davison and Hinkley, 1997, sec.
2.7 and 5.2). ``results/coverage`` has how often such an interval contains the figure of very many images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit, stdtrit

from metrics.detection.curves import average, sum_recall, trace_precision, walk_limits
from metrics.detection.matching import Matching

GROUPS = 50  # of images at most, for the jackknife
# By number of images, the least and the greatest share of 2,000 intervals at .95 that contained AP, AP50, AP75 or
# AR100, over both laws of detections: results/coverage.
COVERAGE = {30: (0.936, 0.962), 50: (0.937, 0.959)}


def bootstrap_figures(
    matching: Matching, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Confidence interval (low, high) of each of COCO's figures over images, by a bias-corrected bootstrap.

    It is of the figures that very many such images would give (``CocoResult.intervals``); (-1, -1) without ground
    truth, and of one image. Raises ValueError on fewer than two resamples, a level outside (0, 1), and no images.
    """
    n = len(matching.images)
    if resamples < 2 or not 0 < level < 1 or n == 0:
        raise ValueError(
            f"resamples = {resamples}, level = {level}, {n} images: two resamples at least, a level in (0, 1) and one"
            " image at least are accepted"
        )
    rng = np.random.default_rng(seed)
    resampled = rng.multinomial(n, np.full(n, 1 / n), resamples)
    without = leave_groups_out(n, rng)
    found = weighted_figures(matching, np.concatenate([np.ones((1, n), int), resampled, without]))
    return {
        name: _bounds(float(values[0]), values[1 : 1 + resamples], values[1 + resamples :], n, level)
        for name, values in found.items()
    }


def measured_coverage(images: int) -> tuple[int, float, float] | None:
    """How often 95 % intervals of COCO's figures contained the figure, in trials with about as few images.

    It gives the number of images that was tried, and the least and the greatest share of 2,000 intervals over AP, AP50,
    AP75 and AR100; None from 100 images on.
    """
    if images >= 100:
        return None
    n = max((n for n in COVERAGE if n <= images), default=min(COVERAGE))
    return n, *COVERAGE[n]


def weighted_figures(matching: Matching, weights: Int[np.ndarray, "resample image"]) -> dict[str, np.ndarray]:
    """COCO's figures by name, one value per row of ``weights``, which say how often each image counts.

    A row is a resample of the images, as in a bootstrap.
    """
    rows = [average(precision, recall, matching.params) for precision, recall in trace_weighted(matching, weights)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def trace_weighted(
    matching: Matching, weights: Int[np.ndarray, "resample image"]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Precision and recall as of ``trace_curves`` per row of ``weights``, which say how often each image counts.

    Precision is at the greatest number of detections alone, as figures use no other.
    """
    paths = walk_limits(matching)
    for row in weights.astype(float):
        yield trace_precision(paths[-1], row)[..., None], np.stack([sum_recall(path, row) for path in paths], axis=-1)


def leave_groups_out(images: int, rng: np.random.Generator) -> Int[np.ndarray, "group image"]:
    """Weights of images, 0 or 1, that leave out each image, or each of ``GROUPS`` random groups of images, in turn."""
    groups = min(images, GROUPS)
    return (rng.permutation(images) % groups != np.arange(groups)[:, None]).astype(int)


def _bounds(
    value: float, resampled: Float[np.ndarray, " resample"], without: Float[np.ndarray, " group"], n: int, level: float
) -> tuple[float, float]:
    resampled, without = (values[values > -1] for values in (resampled, without))
    if value < 0 or min(len(resampled), len(without)) < 2:
        return -1.0, -1.0
    at, around, left = (logit((n * x + 0.5) / (n + 1)) for x in (value, resampled, without))  # finite at 0 and 1
    middle = 2 * at - around.mean()
    variance = (len(left) - 1) * left.var() + around.var(ddof=1) / len(around)  # the second: of the estimated bias
    reach = stdtrit(len(left) - 1, (1 + level) / 2) * variance**0.5
    low, high = (((n + 1) * expit(end) - 0.5) / n for end in (middle - reach, middle + reach))
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))
