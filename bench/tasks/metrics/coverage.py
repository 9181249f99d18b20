"""How often an interval contains what it is of: seeded trials on distributions whose figures are known.

An interval of the figure of the distributions is compared with that figure, which is exact, or for detections that of
60,000 images; an interval of the figure at this n, with the mean over all trials. The distributions
(``bench.data.laws``) were not chosen to suit an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from bench.data.laws import DetectionLaw, FeatureLaw
from bench.task import Context, Measurements, Value
from bench.tasks.intervals import correlate, measure_floor
from bench.timing import median_interval, paired_ratio
from metrics.detection.coco import evaluate_coco
from metrics.detection.paired import compare_detections
from metrics.samples.accuracy import share
from metrics.samples.balls import prdc, precision_recall
from metrics.samples.energy import energy_distance
from metrics.samples.extrapolation import debiased_frechet_distance, fd_infinity
from metrics.samples.frechet import frechet_distance_from_features
from metrics.samples.inception import inception_score
from metrics.samples.kernel import cmmd, kid
from metrics.samples.likelihood import bits_per_dim
from metrics.samples.memorisation import authenticity, nearest_neighbour_ratio
from metrics.samples.paired import compare_samples
from metrics.samples.sliced import sliced_wasserstein
from metrics.samples.two_sample import classifier_two_sample_test
from metrics.samples.vendi import vendi_score
from metrics.uncertainty import NORMAL, Estimate, bootstrap, extrapolated_floor, split_figures

if TYPE_CHECKING:
    from bench.tasks.metrics.declarations import CoverageParameters

IMAGES = 20_000  # three times as many give the figures of a distribution of detections


class Trial(NamedTuple):
    """What one simulated sample gives for the figure under study (FD, AP, ...): its value and its 95 % interval."""

    value: float
    low: float
    high: float


def coverage(parameters: CoverageParameters, context: Context) -> Measurements:
    """Measure how often a 95 % interval contains the value that it is an interval of.

    It counts over seeded trials, on distributions for which that value is known.
    """
    group = next(group for group in GROUPS if parameters.interval in group.names)
    settings = parameters.model_copy(update={"interval": group.names[0]})
    found = trials(settings, context.seed)[parameters.interval]
    context.keep("trials", torch.from_numpy(found))
    value, low, high = found.T
    laws = group.laws(parameters) if group.laws else None
    target = laws if laws is not None and not group.at_n else float(value.mean())
    measures: dict[str, float | Value] = {
        "coverage": _share((low <= target) & (target <= high)),
        "target": target,
        "mean": float(value.mean()),
        "width": float((high - low).mean()),
    }
    if group.further:  # a prediction: the value itself is to lie within
        measures |= {"coverage": _share((low <= value) & (value <= high)), "target": float(((low + high) / 2).mean())}
    elif laws is not None:
        measures["of_laws"] = _share((low <= laws) & (laws <= high))
    if group.compares:
        measures["told_apart"] = _share((high < 0) | (low > 0))
    return measures


@lru_cache(maxsize=2)
def trials(parameters: CoverageParameters, seed: int) -> dict[str, np.ndarray]:
    """Value, low and high of the interval in each trial, by figure.

    The figures of one group come from the same draws.
    """
    group = next(group for group in GROUPS if parameters.interval in group.names)
    results: dict[str, list[Trial]] = {name: [] for name in group.names}
    for trial in range(parameters.trials):
        for name, interval in group.trial(parameters, int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])):
            results[name].append(interval)
    return {name: np.array(intervals, dtype=float) for name, intervals in results.items()}


def _share(hits: np.ndarray) -> Value:
    ends = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    return Value(float(hits.mean()), (float(ends.low), float(ends.high)), n=len(hits))


class Group(NamedTuple):
    """Figures whose intervals one trial gives together, and what their intervals are of.

    ``laws`` gives the figure of the distributions, where it is known; ``at_n``: the interval is of the mean at this n;
    ``further``: it is a prediction interval, of one further value; ``compares``: of a difference of two methods.
    """

    names: tuple[str, ...]
    trial: Callable[[CoverageParameters, int], Iterator[tuple[str, Trial]]]
    laws: Callable[[CoverageParameters], float | None] | None = None
    at_n: bool = False
    further: bool = False
    compares: bool = False


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _sides(parameters: CoverageParameters, seed: int) -> tuple[Tensor, Tensor]:
    law: Any = parameters.law
    return FeatureLaw(law, parameters.d).draw(parameters.n, parameters.n, _generator(seed))


def _resample(
    of: Callable[[Tensor, Tensor], Mapping[str, float]],
    names: tuple[str, ...],
    parameters: CoverageParameters,
    seed: int,
) -> Iterator[tuple[str, Trial]]:
    """Figures with intervals by halves, as in ``fidmap evaluate``."""
    sides = _sides(parameters, seed)
    whole = of(*sides)
    for name, value in split_figures(of, names):
        yield name, Trial(whole[name], *bootstrap(value, *sides, resamples=parameters.resamples, seed=seed))


def _halves(*names: str, of: Callable[..., Mapping[str, float]], laws: Any = None) -> Group:
    return Group(names, lambda parameters, seed: _resample(of, names, parameters, seed), laws, at_n=True)


def _take_interval(name: str, of: Callable[[Tensor, Tensor], Any], **options: Any) -> Group:
    """A figure of a function that returns its own interval, or a standard error."""

    def trial(parameters: CoverageParameters, seed: int) -> Iterator[tuple[str, Trial]]:
        found = of(*_sides(parameters, seed))
        if isinstance(found, Estimate):
            reach = NORMAL * found.standard_error
            found = Trial(found.value, found.value - reach, found.value + reach)
        yield name, Trial(found[0], found.low, found.high)

    return Group((name,), trial, **options)


def _measure_floors(*names: str, of: Callable[[Tensor, Tensor], Mapping[str, float]], power: float) -> Group:
    """Figures of new rows of the distribution of the reference, and their floors from the reference alone."""

    def trial(parameters: CoverageParameters, seed: int) -> Iterator[tuple[str, Trial]]:
        law: Any = parameters.law
        n = parameters.n
        rows = FeatureLaw(law, parameters.d).draw(2 * n, 1, _generator(seed)).real
        fresh = of(rows[:n], rows[n:])
        for name, value in split_figures(of, names):
            found = extrapolated_floor(value, rows[:n], n, power=power, seed=seed)
            yield f"{name}_floor", Trial(fresh[name], found.low, found.high)

    return Group(tuple(f"{name}_floor" for name in names), trial, further=True)


def _numbers(name: str, of: Callable[[np.ndarray, int], tuple[float, float, float]], laws: float) -> Group:
    """A figure of n standard normal numbers."""

    def trial(parameters: CoverageParameters, seed: int) -> Iterator[tuple[str, Trial]]:
        yield name, Trial(*of(np.random.default_rng(seed).standard_normal((2, parameters.n)), seed))

    return Group((name,), trial, lambda parameters: laws)


def _share_of(normals: np.ndarray, seed: int) -> tuple[float, float, float]:
    found = share(int((normals[0] > -1.2815516).sum()), normals.shape[1])
    return found.value, found.low, found.high


def _bits(normals: np.ndarray, seed: int) -> tuple[float, float, float]:
    found = bits_per_dim(torch.from_numpy(-np.exp(normals[0])), 1)
    return found.value, found.low, found.high


def _median(normals: np.ndarray, seed: int) -> tuple[float, float, float]:
    samples = np.exp(normals[0])
    return float(np.median(samples)), *median_interval(samples.tolist(), seed=seed, resamples=500)


def _ratio(normals: np.ndarray, seed: int) -> tuple[float, float, float]:
    value, ends = paired_ratio(np.exp(normals[0]).tolist(), np.exp(normals.sum(0)).tolist(), seed=seed, resamples=500)
    return value, *ends


def _rank(name: str, normals: np.ndarray, seed: int) -> tuple[float, float, float]:
    """A rank correlation of normals whose correlation is one half."""
    x, y = normals
    found = correlate(name, x, 0.5 * x + math.sqrt(0.75) * y, resamples=100, seed=seed)
    assert found is not None
    assert found.interval is not None
    return found.value, *found.interval


def _predict(parameters: CoverageParameters, seed: int) -> Iterator[tuple[str, Trial]]:
    """The prediction of one more chi-squared number (eight degrees of freedom, as of squared distances) from ``n``."""
    draws = np.random.default_rng(seed).chisquare(8, parameters.n + 1)
    values = iter(draws[1:].tolist())
    found = measure_floor(lambda drawn: next(values), lambda: torch.empty(0), sets=parameters.n)
    assert found.interval is not None
    yield "prediction", Trial(float(draws[0]), *found.interval)


AVERAGES = ("AP", "AP50", "AP75", "AR100")


def _measure_averages(parameters: CoverageParameters, seed: int) -> Iterator[tuple[str, Trial]]:
    law: Any = parameters.law
    scenes = DetectionLaw(law).draw(parameters.n, np.random.default_rng(seed))
    result = evaluate_coco(*scenes, area_ranges={})
    intervals = result.intervals(parameters.resamples, seed=seed)
    for name in AVERAGES:
        yield name, Trial(result.figures[name], *intervals[name])


def _compare_detectors(parameters: CoverageParameters, seed: int) -> Iterator[tuple[str, Trial]]:
    """A detector of the law against a strong one, on the same images."""
    law: Any = parameters.law
    strong, other = DetectionLaw("strong").draw_pair(law, parameters.n, np.random.default_rng(seed))
    found = compare_detections(
        strong.truths, {"strong": strong.detections, "other": other.detections}, seed=seed, area_ranges={}
    )
    for name in AVERAGES:
        difference = found.figures["other", "strong"][name]
        yield f"{name}_difference", Trial(difference.mean, *difference.interval)


def _compare_sets(better: bool, parameters: CoverageParameters, seed: int) -> Iterator[tuple[str, Trial]]:
    """Two generated sets against one real one; half of the rows of a ``better`` second set are real."""
    law: Any = parameters.law
    n, generator = parameters.n, _generator(seed)
    sample = FeatureLaw(law, parameters.d).draw(2 * n, 2 * n, generator)
    (real, others), (first, second) = sample.real.split(n), sample.generated.split(n)
    if better:
        second = torch.where(torch.rand(n, 1, generator=generator) < 0.5, others, second)
    for name, function in (("fd", frechet_distance_from_features), ("kid", kid)):
        found = compare_samples(function, real, {"first": first, "second": second}, seed=seed)["second", "first"]
        yield f"{name}_{'gain' if better else 'difference'}", Trial(found.mean, *found.interval)


def _difference(parameters: CoverageParameters) -> float:
    name = parameters.interval.removesuffix("_difference")
    return _averages(parameters.law)[name] - _averages("strong")[name]


@lru_cache(maxsize=2)
def _averages(law: Any) -> dict[str, float]:
    parts = [
        evaluate_coco(*DetectionLaw(law).draw(IMAGES, np.random.default_rng([7, i])), area_ranges={}) for i in range(3)
    ]
    return {name: float(np.mean([part.figures[name] for part in parts])) for name in AVERAGES}


def _exact(parameters: CoverageParameters) -> float:
    law: Any = parameters.law
    return FeatureLaw(law, parameters.d).distance()


GROUPS = [
    _halves("fd", of=lambda x, y: {"fd": frechet_distance_from_features(x, y)}, laws=_exact),
    _halves("fd_infinity", of=lambda x, y: {"fd_infinity": fd_infinity(x, y).value}, laws=_exact),
    _take_interval("fd_debiased", debiased_frechet_distance, laws=_exact),
    _take_interval("kid", kid),
    _take_interval("cmmd", partial(cmmd, sigma=4.0), at_n=True),
    _take_interval("energy", energy_distance),
    _halves("sliced_w2", of=lambda x, y: {"sliced_w2": sliced_wasserstein(x, y, projections=32)}),
    _halves("precision", "recall", "density", "coverage", of=lambda x, y: prdc(x, y)._asdict()),
    _halves(
        "precision_k3", "recall_k3",
        of=lambda x, y: {f"{name}_k3": value for name, value in precision_recall(x, y)._asdict().items()},
    ),
    _halves("authenticity", of=lambda x, y: {"authenticity": authenticity(x, y)}),
    _halves("neighbour_ratio", of=lambda x, y: {"neighbour_ratio": nearest_neighbour_ratio(x, y).mean}),
    _halves("vendi", of=lambda x, y: {"vendi": vendi_score(y)}),
    _take_interval("is", lambda x, y: inception_score(2 * y), at_n=True),
    _take_interval("c2st", partial(classifier_two_sample_test, classifier="logistic"), laws=lambda parameters: 0.5),
    _measure_floors("fd", of=lambda x, y: {"fd": frechet_distance_from_features(x, y)}, power=1.0),
    _measure_floors("kid", of=lambda x, y: {"kid": kid(x, y).value}, power=1.0),
    _measure_floors("precision", "recall", of=lambda x, y: prdc(x, y)._asdict(), power=0.5),
    _numbers("share", _share_of, 0.9),
    _numbers("bits_per_dim", _bits, math.exp(0.5) / math.log(2)),
    _numbers("median", _median, 1.0),
    _numbers("paired_ratio", _ratio, 1.0),
    _numbers("kendall", partial(_rank, "kendall"), 1 / 3),
    _numbers("spearman", partial(_rank, "spearman"), 6 / math.pi * math.asin(0.25)),
    Group(("prediction",), _predict, further=True),
    Group(AVERAGES, _measure_averages, lambda parameters: _averages(parameters.law)[parameters.interval]),
    Group(("fd_difference", "kid_difference"), partial(_compare_sets, False), lambda parameters: 0.0, compares=True),
    Group(("fd_gain", "kid_gain"), partial(_compare_sets, True), at_n=True, compares=True),
    Group(tuple(f"{name}_difference" for name in AVERAGES), _compare_detectors, _difference, compares=True),
]  # fmt: skip
