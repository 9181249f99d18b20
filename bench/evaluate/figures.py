"""The figures that ``fidmap evaluate images`` gives by name: a function of features, an interval, a floor."""

from __future__ import annotations

import difflib
import math
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Literal, NamedTuple

from torch import Tensor

from bench.errors import UsageError
from metrics.extractors.extractor import Extractor
from metrics.uncertainty import Estimate, Floor, bootstrap, extrapolated_floor

FLOOR_DRAWS = 20
LEVEL = 0.95
NORMAL = 1.959964  # standard errors of a normal at that level


class Field(NamedTuple):
    """A figure that a metric returns: its name, which way is better, and the bounds that intervals keep.

    ``interval_of``: "laws" where the interval covers the figure of the two laws, "n" where it is of the figure's mean
    over samples of these numbers, bias and all. ``power``: real against real approaches its limit as ``n^-power``.
    """

    name: str
    better: Literal["lower", "higher", "floor"]
    low: float = 0.0
    high: float = math.inf
    interval_of: Literal["laws", "n"] = "n"
    power: float = 0.5


@dataclass(frozen=True)
class Metric:
    """A name on the command line: a function of both sides, or of the generated one, and what it returns.

    ``fields`` has what the function returns ("" for a bare float). Where it returns ``low`` and ``high`` or, for an
    ``Estimate``, a standard error too, the first figure has its interval from them; otherwise it is resampled.
    """

    target: str
    summary: str
    fields: dict[str, Field]
    seeded: bool = False
    of: Literal["features", "logits"] = "features"
    sides: Literal["both", "generated"] = "both"
    resampled: bool = True  # False where that says nothing, or takes too long
    most: int | None = None  # rows a side; more are refused
    covariances: bool = False  # of halves: from 2 d + 2 rows of d features a side, and from 40
    extractor: str | None = None  # the only one that it is defined on

    def function(self, seed: int) -> Callable[..., dict[str, float]]:
        """``(real, generated) -> figures by field``."""
        found = pkgutil.resolve_name(self.target)
        options = {"seed": seed} if self.seeded else {}

        def call(real: Tensor, generated: Tensor) -> dict[str, float]:
            sides = (generated,) if self.sides == "generated" else (real, generated)
            result = found(*sides, **options)
            if not hasattr(result, "_asdict"):
                return {"": float(result)}
            figures = {key: float(value) for key, value in result._asdict().items()}
            if isinstance(result, Estimate) and math.isfinite(result.standard_error):
                reach = NORMAL * result.standard_error
                figures |= {"low": result.value - reach, "high": result.value + reach}
            return figures

        return call


METRICS = {
    "fd": Metric(
        "metrics.samples.frechet:frechet_distance_from_features", "Frechet distance, named after the extractor",
        {"": Field("fd", "lower", power=1.0)},
    ),
    "fd_debiased": Metric(
        "metrics.samples.extrapolation:debiased_frechet_distance",
        "Frechet distance of the laws, from 2 d + 2 images per side",
        {"value": Field("fd_debiased", "lower", -math.inf, interval_of="laws", power=1.0)}, seeded=True,
        resampled=False, covariances=True,
    ),
    "fd_infinity": Metric(
        "metrics.samples.extrapolation:fd_infinity",
        "Frechet distance extrapolated to infinitely many generated images",
        {"value": Field("fd_infinity", "lower", -math.inf, power=1.0)}, seeded=True,
    ),
    "kid": Metric(
        "metrics.samples.kernel:kid", "kernel distance, unbiased over all pairs, named after the extractor",
        {"value": Field("kid", "lower", -math.inf, interval_of="laws", power=1.0)},
    ),
    "cmmd": Metric(
        "metrics.samples.kernel:cmmd", "CMMD: Gaussian kernel of CLIP's features, times 1000",
        {"value": Field("cmmd", "lower", power=1.0)}, extractor="clip",
    ),
    "energy": Metric(
        "metrics.samples.energy:energy_distance", "energy distance, unbiased",
        {"value": Field("energy", "lower", -math.inf, interval_of="laws", power=1.0)},
    ),
    "prdc": Metric(
        "metrics.samples.balls:prdc", "precision, recall, density and coverage: k = 5, open balls",
        {"precision": Field("precision", "higher", 0, 1), "recall": Field("recall", "higher", 0, 1),
         "density": Field("density", "floor"), "coverage": Field("coverage", "higher", 0, 1)}, seeded=True,
    ),
    "precision_recall": Metric(
        "metrics.samples.balls:precision_recall", "improved precision and recall: k = 3, closed balls",
        {"precision": Field("precision_k3", "higher", 0, 1), "recall": Field("recall_k3", "higher", 0, 1)}, seeded=True,
    ),
    "sliced_w2": Metric(
        "metrics.samples.sliced:sliced_wasserstein", "sliced 2-Wasserstein distance, 512 directions",
        {"": Field("sliced_w2", "lower")}, seeded=True,
    ),
    "w2": Metric(
        "metrics.samples.transport:exact_wasserstein", "exact 2-Wasserstein distance, up to 4,096 a side",
        {"": Field("w2", "lower")}, resampled=False, most=4096,
    ),
    "c2st": Metric(
        "metrics.samples.two_sample:classifier_two_sample_test",
        "classifier two-sample test: 0.5 where the sides are alike",
        {"accuracy": Field("c2st_accuracy", "lower"), "p_value": Field("c2st_p_value", "higher")}, seeded=True,
        resampled=False,
    ),
    "is": Metric(
        "metrics.samples.inception:inception_score", "Inception score by the extractor's own classifier",
        {"score": Field("is", "higher", 1)}, of="logits", sides="generated",
    ),
    "vendi": Metric(
        "metrics.samples.vendi:vendi_score", "Vendi score of the generated images, cosine kernel",
        {"": Field("vendi", "higher", 1)}, sides="generated",
    ),
    "authenticity": Metric(
        "metrics.samples.memorisation:authenticity", "share of generated images that are no copies of REAL",
        {"": Field("authenticity", "higher", 0, 1)},
    ),
    "neighbour_ratio": Metric(
        "metrics.samples.memorisation:nearest_neighbour_ratio",
        "nearest distance to REAL over the second: 0 for copies",
        {"mean": Field("neighbour_ratio", "floor", 0, 1), "memorised": Field("memorised", "lower", 0, 1)},
    ),
}  # fmt: skip
DEFAULT = "fd,kid,prdc"
FID_NAMES = {  # by other extractors: fd_NAME, ...
    "fd": "fid",
    "fd_debiased": "fid_debiased",
    "fd_infinity": "fid_infinity",
    "kid": "kid",
}


@dataclass(frozen=True)
class Figure:
    """A measured figure: its interval at 95 % and of what that is, and what real data give at the same numbers.

    ``floor_n``: how many real images the floor is of, and against how many others: the numbers of the two sides.
    """

    name: str
    value: float
    better: str
    interval: tuple[float, float] | None = None
    interval_of: str = "n"
    floor: Floor | None = None
    floor_n: tuple[int, int] | None = None


def chosen(names: str) -> dict[str, Metric]:
    """The metrics of a list by commas; raises UsageError on a name that is none."""
    if names == "all":
        return dict(METRICS)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"--metrics: no metric {name!r}; {hint}there are {', '.join(METRICS)}")
    if not wanted:
        raise UsageError(f"--metrics is empty; there are {', '.join(METRICS)}")
    return {name: METRICS[name] for name in wanted}


def refusal(name: str, metric: Metric, extractor: Extractor | None, real: Tensor, generated: Tensor) -> str | None:
    """Why a metric cannot be had of an extractor's features of the two sides, or None."""
    base = extractor.base if extractor else "unknown"
    smallest, largest = sorted((len(real), len(generated)))
    if metric.extractor not in (None, base):
        return f"{name} is defined on {metric.extractor}; the extractor is {base}"
    if metric.of == "logits" and (extractor is None or extractor.head is None):
        return f"{name} needs a classifier; the extractor {base} is none"
    if metric.most and largest > metric.most:
        return f"{name} takes at most {metric.most} images a side; there are {largest}"
    least = max(2 * real.shape[1] + 2, 40)
    if metric.covariances and smallest < least:
        return f"{name} takes at least {least} images a side for {real.shape[1]} features; there are {smallest}"
    return None


def steps_of(metric: Metric, resamples: int) -> int:
    """How often ``measure`` calls the function at most, for the progress bar."""
    return 1 + (resamples + 1 + 2 * FLOOR_DRAWS if resamples and metric.resampled else 0)


def measure(
    name: str,
    metric: Metric,
    real: Tensor,
    generated: Tensor,
    *,
    seed: int,
    resamples: int,
    advance: Callable[[], None],
) -> tuple[list[Figure], list[str]]:
    """The figures of a metric, and why an interval or a floor is absent; neither is there without resamples.

    Raises UsageError where the metric refuses the features.
    """
    function = metric.function(seed)

    def call(*sides: Tensor) -> dict[str, float]:
        advance()
        return function(*sides)

    try:
        found = call(real, generated)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    n = len(generated)
    intervals: dict[str, Any] = {}
    floors: dict[str, Any] = {}
    absent = []
    if "low" in found:
        intervals = {next(iter(metric.fields)): (found["low"], found["high"])}
    if resamples and metric.resampled:
        resample = partial(bootstrap, resamples=resamples, seed=seed, level=LEVEL)
        try:
            intervals = intervals or _each(metric, call, lambda value: resample(value, real, generated))
        except ValueError as error:
            absent.append(f"{name}: no interval, halves of the sides are too small ({error})")
        try:
            power = next(iter(metric.fields.values())).power
            floors = _each(
                metric, call,
                lambda value: extrapolated_floor(
                    value, real, n, power=power, draws=FLOOR_DRAWS, seed=seed, level=LEVEL
                ),
            )  # fmt: skip
        except ValueError as error:
            absent.append(f"{name}: no floor at {n} images against {len(real)} real ones: {error}")
    figures = []
    for key, kept in metric.fields.items():
        interval, floor = intervals.get(key), floors.get(key)
        if interval and not math.isnan(interval[0]):
            interval = (max(interval[0], kept.low), min(interval[1], kept.high))
        if floor:  # a mean within the bounds that the figure keeps
            floor = Floor(*(min(max(end, kept.low), kept.high) for end in floor))
        sizes = (n, len(real)) if floor else None
        figures.append(Figure(kept.name, found[key], kept.better, interval, kept.interval_of, floor, sizes))
    return figures, absent


def _each(
    metric: Metric, call: Callable[..., dict[str, float]], resample: Callable[[Callable[..., float]], Any]
) -> dict[str, Any]:
    """``resample`` of every field's value; one seed draws the same rows for each, which are measured once."""
    measured: list[dict[str, float]] = []
    results = {}
    for key in metric.fields:
        draws = count()

        def value(*sides: Tensor, key: str = key, draws: Iterator[int] = draws) -> float:
            if (k := next(draws)) == len(measured):
                measured.append(call(*sides))
            return measured[k][key]

        results[key] = resample(value)
    return results
