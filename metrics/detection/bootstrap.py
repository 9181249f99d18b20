"""Intervals of COCO's figures over images, by the bootstrap and the jackknife, read off one matching.

AP of few images lies above that of many (its precision is the greatest at any higher recall), and the percentiles of
resamples, which are biased once more, cover it too seldom. So the bias that resamples show is taken off, and the
deviation is the jackknife's, which leaves out each image, or one of ``GROUPS`` groups of them, in turn:

    logit(value) - bias ± t(g - 1) s,    bias = mean of logit(resample) - logit(value),
    s² = (g - 1) / g sum over g groups of (logit(without) - their mean)² + variance of logit(resample) / resamples

On the scale of the logit figures near 0 or 1 have little skew, and bounds stay in between (Davison and Hinkley, 1997,
sec. 2.7 and 5.2). ``results/coverage`` has how often such an interval holds the figure of very many images.
"""

from __future__ import annotations

import numpy as np
import scipy.stats
from jaxtyping import Float, Int
from scipy.special import expit, logit

from metrics.detection.curves import curves, figures, recalls, walks
from metrics.detection.matching import Matching

GROUPS = 50  # of images at most, for the jackknife
# By number of images, the least and the greatest share of 2,000 intervals at .95 that held AP, AP50, AP75 or AR100, of
# either law of detections: results/coverage.
COVERAGE = {30: (0.936, 0.962), 50: (0.937, 0.959)}


def bootstrap_figures(
    matching: Matching, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Bounds of each figure (see ``CocoResult.intervals``); (-1, -1) without ground truth, or of one image.

    Raises ValueError on fewer than two resamples, a level outside (0, 1), and no images.
    """
    n = len(matching.images)
    if resamples < 2 or not 0 < level < 1 or n == 0:
        raise ValueError(
            f"resamples = {resamples}, level = {level}, {n} images: two resamples at least, a level in (0, 1) and one"
            " image at least are accepted"
        )
    rng = np.random.default_rng(seed)
    resampled = rng.multinomial(n, np.full(n, 1 / n), resamples)
    groups = min(n, GROUPS)
    without = (rng.permutation(n) % groups != np.arange(groups)[:, None]).astype(int)
    found = weighted_figures(matching, np.concatenate([np.ones((1, n), int), resampled, without]))
    return {
        name: _bounds(float(values[0]), values[1 : 1 + resamples], values[1 + resamples :], n, level)
        for name, values in found.items()
    }


def measured_coverage(images: int) -> tuple[int, float, float] | None:
    """A number of images that was tried, and how often intervals at .95 held their figures; None from 100 images on."""
    if images >= 100:
        return None
    n = max((n for n in COVERAGE if n <= images), default=min(COVERAGE))
    return n, *COVERAGE[n]


def weighted_figures(matching: Matching, weights: Int[np.ndarray, "resample image"]) -> dict[str, np.ndarray]:
    """Each figure under each row of weights, which say how often an image counts."""
    paths = walks(matching)
    rows = []
    for row in weights.astype(float):
        # Precision enters the figures at the last limit alone.
        precision = curves(paths[-1], row)[..., None]
        rows.append(figures(precision, np.stack([recalls(path, row) for path in paths], axis=-1), matching.params))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _bounds(
    value: float, resampled: Float[np.ndarray, " resample"], without: Float[np.ndarray, " group"], n: int, level: float
) -> tuple[float, float]:
    resampled, without = (values[values > -1] for values in (resampled, without))
    if value < 0 or min(len(resampled), len(without)) < 2:
        return -1.0, -1.0
    at, around, left = (logit((n * x + 0.5) / (n + 1)) for x in (value, resampled, without))  # finite at 0 and 1
    middle = 2 * at - around.mean()
    variance = (len(left) - 1) * left.var() + around.var(ddof=1) / len(around)  # the second: chance of the bias
    reach = scipy.stats.t.ppf((1 + level) / 2, len(left) - 1) * variance**0.5
    low, high = (((n + 1) * expit(end) - 0.5) / n for end in (middle - reach, middle + reach))
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))
