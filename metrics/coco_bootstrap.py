"""Intervals of COCO's figures by the bootstrap over images, read off one matching."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from metrics.coco_curves import curves, figures, recalls, walks
from metrics.matching import Matching


def bootstrap_figures(
    matching: Matching, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bounds of each figure (see ``CocoResult.intervals``); (-1, -1) for one that no resample gives.

    Raises ValueError on fewer than one resample, a level outside (0, 1), and no images.
    """
    n = len(matching.images)
    if resamples < 1 or not 0 < level < 1 or n == 0:
        raise ValueError(
            f"resamples = {resamples}, level = {level}, {n} images: one resample at least, a level in (0, 1) and one"
            " image at least are accepted"
        )
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    return {name: _bounds(values, level) for name, values in weighted_figures(matching, weights).items()}


def weighted_figures(matching: Matching, weights: Int[np.ndarray, "resample image"]) -> dict[str, np.ndarray]:
    """Each figure under each row of weights, which say how often an image counts."""
    paths = walks(matching)
    rows = []
    for row in weights.astype(float):
        # Precision enters the figures at the last limit alone.
        precision = curves(paths[-1], row)[..., None]
        rows.append(figures(precision, np.stack([recalls(path, row) for path in paths], axis=-1), matching.params))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _bounds(values: np.ndarray, level: float) -> tuple[float, float]:
    values = values[values > -1]
    if not len(values):
        return -1.0, -1.0
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
