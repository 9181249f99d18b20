"""The best combination of solver and schedule in each library at a budget, on the ten classes of Fashion-MNIST.

Combinations are chosen on one set of seeds and compared on another: if they were chosen and judged on the same seeds,
the side with more combinations would win by luck. Other libraries take part as shipped, with each spacing that they
have, and on schedules of ours, whose levels they are given.
"""

from __future__ import annotations

import math
import statistics
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.stats
import torch

from bench.task import ContestMeasurements, Context, Value
from bench.tasks.samplers.declarations import Budgeted
from bench.tasks.samplers.grids import make_path
from bench.tasks.samplers.images import EXTRACTOR, class_mixture, features, mixture_pixels
from bench.tasks.samplers.problems import generator, solve
from implementations.catalogue import SAMPLERS
from implementations.diffusion.oracle import MixtureOracle
from metrics import FeatureStatistics, frechet_distance
from metrics.paired import differences_from

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import ChoiceParameters

OWN = "fidmap"
SPACINGS: dict[str, list[dict[str, Any]]] = {  # the options of spacing that another library has as shipped
    "diffusers": [
        {},
        *({"timestep_spacing": spacing} for spacing in ("leading", "trailing")),
        *({f"use_{name}": True} for name in ("karras_sigmas", "exponential_sigmas", "beta_sigmas", "lu_lambdas")),
    ],
    "k-diffusion": [{"spacing": name} for name in ("karras", "exponential", "polyexponential")],
}


class Combination(NamedTuple):
    """A solver on a schedule, with its options: what a library may choose at a budget."""

    sampler: str
    schedule: str
    options: dict[str, Any]

    def __str__(self) -> str:
        options = [f"{name}={value}" for name, value in self.options.items() if name != "mode"]
        return " ".join([self.sampler, "as shipped" if "mode" in self.options else self.schedule, *options])


def sampler_choice(parameters: ChoiceParameters, context: Context) -> ContestMeasurements:
    """The best combination of each side, the paired differences, and which of them are ties.

    A combination is a solver on a schedule, a side is a library, and the figure is fd_fmnist to the classes of
    Fashion-MNIST. The intervals hold simultaneously in 95 % of repetitions. A tie is a difference that a paired t test,
    with Holm's correction at 5 % over all sides, does not find significant.
    """
    chosen = {side: choose_best(parameters, side, context) for side in parameters.sides}
    seeds = range(first := 1000 * (context.seed + 1) + 500, first + parameters.judging)
    judged = {
        side: [measure_distance(parameters, pair, seed, context.device) for seed in seeds]
        for side, pair in chosen.items()
    }
    first_side, *others = parameters.sides
    compared = differences_from(np.array(judged[first_side]), {side: np.array(judged[side]) for side in others})
    measures: dict[str, dict[str, float | Value]] = {}
    for side, values in judged.items():
        pair = str(chosen[side])
        about: dict[str, Any] = {"n": parameters.judging, "extractor": EXTRACTOR, "reference": pair}
        own = measures[side] = {}
        own["fd_fmnist"] = Value(*_mean(values), **about)
        if side in compared:
            difference = compared[side]
            own["difference"] = Value(difference.mean, difference.interval, **about)
            own["tie"] = float(difference.p_value > 0.05)
            own["detectable"] = Value(difference.detectable, n=parameters.judging)
    return measures


def choose_best(parameters: ChoiceParameters, side: str, context: Context) -> Combination:
    """The combination of least mean distance: all are tried on the first choosing seed, the finalists on every one."""
    first, *rest = (1000 * (context.seed + 1) + k for k in range(parameters.choosing))
    found = [(measure_distance(parameters, pair, first, context.device), pair) for pair in combine(parameters, side)]
    finalists = sorted(found, key=lambda each: each[0])[: parameters.finalists]
    means = [
        (distance + sum(measure_distance(parameters, pair, seed, context.device) for seed in rest), pair)
        for distance, pair in finalists
    ]
    return min(means, key=lambda each: each[0])[1]


def combine(parameters: ChoiceParameters, side: str) -> list[Combination]:
    """What a side may choose from; raises ValueError where that is nothing."""
    names = parameters.ours if side == OWN else [n for n in parameters.theirs if SAMPLERS[n].package == side]
    if not names:
        raise ValueError(f"sides: {side} has no sampler among {', '.join(parameters.theirs)}")
    pairs = [Combination(name, schedule, {}) for name in names for schedule in parameters.schedules]
    shipped = [{"mode": "shipped"} | spacing for spacing in SPACINGS.get(side, [])]
    return pairs + [Combination(name, "uniform", options) for name in names for options in shipped]


def measure_distance(parameters: ChoiceParameters, pair: Combination, seed: int, device: str) -> float:
    """fd_fmnist of the samples to the law of the classes.

    Infinite where the run fails or the spacing does not exist.
    """
    budgeted = Budgeted(
        sampler=pair.sampler, schedule=pair.schedule, options=pair.options, path="discrete_vp", nfe=parameters.nfe
    )
    try:
        found = solve(budgeted, _oracle(device), parameters.samples, seed).samples
    except (ValueError, FloatingPointError):
        return math.inf
    drawn = features(mixture_pixels(found.cpu()))
    return frechet_distance(FeatureStatistics.from_features(drawn, extractor=EXTRACTOR), _truth())


def _mean(values: list[float]) -> tuple[float, tuple[float, float]]:
    """The mean, with its 95 % interval by Student's t."""
    mean = statistics.fmean(values)
    reach = scipy.stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, (float(mean - reach), float(mean + reach))


@lru_cache(maxsize=1)
def _oracle(device: str) -> MixtureOracle:
    return class_mixture(make_path("discrete_vp"), device)


@lru_cache(maxsize=1)
def _truth() -> FeatureStatistics:
    """The statistics of 10,000 exact draws."""
    draws = _oracle("cpu").sample(10_000, generator(0, "truth"))
    parts = [features(mixture_pixels(part)) for part in draws.split(2000)]
    return FeatureStatistics.from_features(torch.cat(parts), extractor=EXTRACTOR)
