"""The figures of ``fidmap evaluate images``: metrics chosen by name, each value with an interval and a floor."""

from __future__ import annotations

import difflib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.catalogue import is_code, kinds
from bench.environment import import_from_here
from bench.errors import UsageError
from bench.tasks.metrics.calls import bind, read_result
from metrics.catalogue import METRICS, Metric, find_metric
from metrics.extractors.extractor import Extractor
from metrics.floors import Floor, tell_from_floor
from metrics.uncertainty import bootstrap, extrapolated_floor, split_figures

FLOOR_DRAWS = 20
LEVEL = 0.95
SHARED = 1000  # rows per side from which one search for all resamples pays
OF_IMAGES = {name: metric for name, metric in METRICS.items() if metric.of == "images"}
DEFAULT = "fd,kid,prdc"
FID_NAMES = {  # names with Inception's published weights; with another extractor: fd_EXTRACTOR, ...
    "fd": "fid",
    "fd_debiased": "fid_debiased",
    "fd_infinity": "fid_infinity",
    "kid": "kid",
}


@dataclass(frozen=True)
class Figure:
    """A figure of generated images with its 95 % interval and its floor, the value that real images reach.

    The floor is taken at ``floor_n`` real images on the two sides, the numbers from which ``value`` comes.
    """

    name: str
    value: float
    better: str  # "lower", "higher", or "floor": best where it equals the floor
    interval: tuple[float, float] | None = None
    interval_of: str = "n"  # what it covers: the mean at this "n", or the value for the distributions, "laws"
    floor: Floor | None = None
    floor_n: tuple[int, int] | None = None

    @property
    def against_floor(self) -> str | None:
        """Whether the value is told apart from the floor, in words; None without a floor."""
        return tell_from_floor(self.value, self.floor, self.interval) if self.floor else None

    def as_dict(self) -> dict[str, Any]:
        """The figure for JSON: a floor is an object with its ends and numbers of images; what is missing is null."""
        found = asdict(self)
        n = found.pop("floor_n")
        found["floor"] = {**self.floor._asdict(), "n": n} if self.floor else None
        return found | {"against_floor": self.against_floor}


def choose(names: str) -> dict[str, Metric]:
    """The metrics of images that a text names, with commas between, or ``all`` (of fidmap); raises UsageError.

    A name is of the table, of an outside package's entry point, or MODULE:FUNCTION, which is imported.
    """
    if names == "all":
        return dict(OF_IMAGES)
    others = {other: metric.name for metric in OF_IMAGES.values() for other in metric.others}
    known = [name for name, entry in kinds()["metrics"].items() if entry.of == "images"]
    found = {}
    for name in filter(None, map(str.strip, names.split(","))):
        own = others.get(name, name)
        if own not in known and not is_code(own):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"--metrics: no metric {name!r}; {hint}there are {', '.join(known)}")
        import_from_here()
        try:
            found[own] = find_metric(own)
        except (ImportError, ValueError) as error:
            raise UsageError(f"--metrics: {error}") from None
    if not found:
        raise UsageError(f"--metrics is empty; there are {', '.join(known)}")
    return found


def explain_refusal(metric: Metric, extractor: Extractor | None, real: Tensor, generated: Tensor) -> str | None:
    """The reason why a metric cannot be computed from these features of an extractor, or None if it can."""
    name = metric.name
    base = extractor.base if extractor else "unknown"
    smallest, largest = sorted((len(real), len(generated)))
    if metric.extractor not in (None, base):
        return f"{name} is defined on {metric.extractor}; the extractor is {base}"
    if metric.takes == "logits" and (extractor is None or extractor.head is None):
        return f"{name} needs a classifier; the extractor {base} is none"
    if metric.most and largest > metric.most:
        return f"{name} takes at most {metric.most} images per side; there are {largest}"
    least = max(2 * real.shape[1] + 2, 40)
    if metric.covariances and smallest < least:
        return f"{name} takes at least {least} images per side for {real.shape[1]} features; there are {smallest}"
    return None


def count_calls(metric: Metric, resamples: int) -> int:
    """The most calls of a metric that ``measure`` makes with ``resamples`` resamples, for the progress bar."""
    return 1 + (resamples + 1 + 2 * FLOOR_DRAWS if resamples and metric.resampled else 0)


def measure(
    metric: Metric, real: Tensor, generated: Tensor, *, seed: int, resamples: int, advance: Callable[[], None]
) -> tuple[list[Figure], list[str]]:
    """Compute the figures of a metric from features (n, d), and notes on intervals or floors that are missing.

    Intervals and floors come from ``resamples`` bootstrap resamples; with 0 there are none, except intervals that the
    metric gives itself. ``advance`` is called per evaluation. Raises UsageError where the metric refuses the features.
    """
    name, function, sides = metric.name, bind(metric, seed), (real, generated)
    if resamples and metric.shared and min(len(real), len(generated)) >= SHARED:
        function, sides = share(metric, real, generated)

    def call(*sides: Tensor) -> dict[str, float]:
        advance()
        return function(*sides)

    try:
        values = call(*sides)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    n = len(generated)
    intervals: dict[str, Any] = {}
    floors: dict[str, Any] = {}
    missing = []
    first = next(iter(metric.quantities))
    if "low" in values:
        intervals = {first: (values["low"], values["high"])}
    if resamples and metric.resampled:
        resample = partial(bootstrap, resamples=resamples, seed=seed, level=LEVEL)
        try:
            if not intervals:
                parts = split_figures(call, metric.quantities)
                intervals = {key: resample(value, *sides) for key, value in parts}
        except ValueError as error:
            missing.append(f"{name}: no interval, halves of the sides are too small ({error})")
        try:
            floors = draw_floors(metric, call, sides[0], n, seed)
        except ValueError as error:
            missing.append(f"{name}: no floor at {n} images against {len(real)} real ones: {error}")
    figures = []
    for key, quantity in metric.quantities.items():
        interval, floor = intervals.get(key), floors.get(key)
        if interval and not math.isnan(interval[0]):
            interval = (float(max(interval[0], quantity.low)), float(min(interval[1], quantity.high)))
        sizes = (n, len(real)) if floor else None
        figures.append(
            Figure(quantity.name, values[key], quantity.better, interval, quantity.interval_of, floor, sizes)
        )
    return figures, missing


def share(
    metric: Metric, real: Tensor, generated: Tensor
) -> tuple[Callable[[Tensor, Tensor], dict[str, float]], tuple[Tensor, Tensor]]:
    """A metric as a function of the numbers of rows, from one search for all subsets, and the numbers of both sides.

    Where the search would keep too much, the function and the sides are those of the features.
    """
    try:
        found = pkgutil.resolve_name(metric.shared)(real, generated)
    except ValueError:
        return bind(metric, seed=0), (real, generated)
    rows = torch.arange(len(real) + len(generated), device=real.device)
    return lambda a, b: read_result(metric, found(a, b)), (rows[: len(real)], rows[len(real) :])


def draw_floors(
    metric: Metric, call: Callable[[Tensor, Tensor], dict[str, float]], real: Tensor, n: int, seed: int
) -> dict[str, Floor]:
    """The floors of a metric's figures at n images against all real ones, by field, within the range of each figure.

    Raises ValueError where they cannot be extrapolated from so few real images.
    """
    first, floors = next(iter(metric.quantities.values())), {}
    for key, value in split_figures(call, metric.quantities):
        quantity = metric.quantities[key]
        floor = extrapolated_floor(value, real, n, power=first.power, draws=FLOOR_DRAWS, seed=seed, level=LEVEL)
        # Extrapolation may leave the range of the figure.
        floors[key] = Floor(*(float(min(max(end, quantity.low), quantity.high)) for end in floor))
    return floors
