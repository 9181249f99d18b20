"""Values with intervals that tasks of several families measure: floors of exact draws, and rank correlations."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import scipy.stats
from jaxtyping import Float
from torch import Tensor

from bench.task import Value
from metrics.uncertainty import prediction_interval

SETS = 20  # sets of exact draws per floor; with fewer, Student's interval is wider than the differences to decide
CORRELATIONS = {"spearman": scipy.stats.spearmanr, "kendall": scipy.stats.kendalltau}


def measure_floor(distance: Callable[[Tensor], float], draw: Callable[[], Tensor], sets: int = SETS) -> Value:
    """The floor of a distance: its mean over ``sets`` sets of exact draws, which a perfect sampler reaches.

    The interval is Student's prediction interval (``metrics.uncertainty.prediction_interval``), in which a further set
    lies with probability 95 %; ``n`` is the number of sets.
    """
    found = prediction_interval([distance(draw()) for _ in range(sets)])
    return Value(found.mean, (found.low, found.high), n=sets)


def correlate(
    name: str, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], *, resamples: int, seed: int
) -> Value | None:
    """A rank correlation of x and y (Spearman's rho or Kendall's tau-b) with its 95 % bootstrap interval.

    None where all values of x or all values of y are equal.
    """
    if (x == x[0]).all() or (y == y[0]).all():
        return None
    rng = np.random.default_rng(seed)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)  # a resample may lack all but one value
        for _ in range(resamples):
            rows = rng.integers(len(x), size=len(x))
            found.append(CORRELATIONS[name](x[rows], y[rows]).statistic)
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Value(float(CORRELATIONS[name](x, y).statistic), (float(low), float(high)), n=len(x))
