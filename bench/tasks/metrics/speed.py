"""The time of metrics beside that of other libraries on the same input, called in turn in one process.

- ``frechet``: the distance of two statistics of 2,048 features whose variances fall as 1/k; ``frechet_mixed``: that of
  normal features mixed by square normal matrices, whose covariances have full rank but are ill-conditioned. The peer is
  the formula with ``scipy.linalg.sqrtm``.
- ``prdc``: precision, recall, density and coverage of 10,000 x 512 features. The peer is the package ``prdc``.
- ``coco``: the 12 figures of 5,000 images, 36,781 boxes and 500,000 detections of 80 classes, from tensors. The peer is
  faster-coco-eval on its own objects.
"""

from __future__ import annotations

import contextlib
import functools
import io
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench.data.detections_at_scale import detections_at_scale
from bench.task import ContestMeasurements, Context, Measurements, Value
from bench.timing import clock_for, measure
from metrics import FeatureStatistics, evaluate_coco, frechet_distance
from metrics.detection.library import evaluate_by_library
from metrics.samples.balls import prdc

if TYPE_CHECKING:
    from bench.tasks.metrics.declarations import SpeedParameters


def metric_speed(parameters: SpeedParameters, context: Context) -> ContestMeasurements:
    """Seconds of a metric and of a peer on the same input, and the largest difference of their results."""
    functions = _CONTESTS[parameters.contest](parameters.share, context.seed)
    if unknown := [name for name in parameters.entries if name not in functions]:
        raise ValueError(f"{unknown[0]!r} takes no part in {parameters.contest}; there are {', '.join(functions)}")
    functions = {name: functions[name] for name in parameters.entries}
    results = {name: np.asarray(function(), dtype=float) for name, function in functions.items()}
    timings = measure(functions, clock=clock_for("cpu"), seed=context.seed, rounds=parameters.rounds, max_seconds=0.0)
    last = parameters.entries[-1]
    measures: dict[str, Measurements] = {}
    for name, timing in timings.items():
        context.keep(f"seconds.{name}", torch.tensor(timing.samples, dtype=torch.float64))
        context.timing[name] = timing.summary()
        n, pairs = len(timing.samples), [a / b for a, b in zip(timing.samples, timings[last].samples, strict=True)]
        median = statistics.median(timing.samples)
        measures[name] = {
            "time": Value(median, (min(timing.samples), max(timing.samples)), n=n),
            "ratio": Value(median / statistics.median(timings[last].samples), (min(pairs), max(pairs)), n=n),
            "difference": float(np.abs(results[name] - results[last]).max()),
        }
    return measures


def _frechet(share: float, seed: int, *, mixed: bool = False) -> dict[str, Callable[[], Any]]:
    d = max(8, int(2048 * share))
    generator = torch.Generator().manual_seed(seed)

    def side() -> FeatureStatistics:
        normal = torch.randn(5 * d, d, generator=generator, dtype=torch.float64)
        if mixed:
            return FeatureStatistics.from_features(normal @ torch.randn(d, d, generator=generator).double())
        turn = torch.linalg.qr(torch.randn(d, d, generator=generator).double()).Q
        return FeatureStatistics.from_features(normal / torch.arange(1, d + 1).double().sqrt() @ turn)

    a, b = side(), side()

    def by_square_root() -> float:
        from scipy.linalg import sqrtm

        root = sqrtm(a.covariance.numpy() @ b.covariance.numpy()).real
        apart = float((a.mean - b.mean).square().sum())
        return apart + float(a.covariance.trace() + b.covariance.trace()) - 2 * float(np.trace(root))

    return {"fidmap": lambda: frechet_distance(a, b), "scipy_sqrtm": by_square_root}


def _prdc(share: float, seed: int) -> dict[str, Callable[[], Any]]:
    n = max(50, int(10_000 * share))
    generator = torch.Generator().manual_seed(seed)
    real = torch.randn(n, 512, generator=generator)
    fake = 0.95 * torch.randn(n, 512, generator=generator) + 0.05
    arrays = real.numpy(), fake.numpy()

    def peer() -> list[float]:
        from prdc import compute_prdc

        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            found = compute_prdc(*arrays, nearest_k=5)
        return [found[name] for name in ("precision", "recall", "density", "coverage")]

    return {"fidmap": lambda: list(prdc(real, fake)), "prdc": peer}


def _coco(share: float, seed: int) -> dict[str, Callable[[], Any]]:
    images, truths, found = (max(1, int(size * share)) for size in (5000, 36_781, 500_000))
    case = detections_at_scale(images, truths, found, seed=seed)
    targets, outputs, truth, entries = case.targets, case.outputs, case.coco, case.entries

    def fidmap() -> list[float]:
        return list(evaluate_coco(targets, outputs).figures.values())

    def peer() -> list[float]:
        precision, recall = evaluate_by_library("faster_coco_eval", truth, entries)
        return _figures(precision, recall)

    return {"fidmap": fidmap, "faster_coco_eval": peer}


def _figures(precision: np.ndarray, recall: np.ndarray) -> list[float]:
    """COCO's twelve, in the order of ``CocoResult.figures``."""
    parts = [precision[..., 0, -1], precision[0, ..., 0, -1], precision[5, ..., 0, -1]]
    parts += [precision[..., area, -1] for area in (1, 2, 3)]
    parts += [recall[..., 0, limit] for limit in range(3)] + [recall[..., area, -1] for area in (1, 2, 3)]
    return [float(part[part > -1].mean()) if (part > -1).any() else -1.0 for part in parts]


_CONTESTS: dict[str, Callable[[float, int], dict[str, Callable[[], Any]]]] = {
    "frechet": _frechet,
    "frechet_mixed": functools.partial(_frechet, mixed=True),
    "prdc": _prdc,
    "coco": _coco,
}
