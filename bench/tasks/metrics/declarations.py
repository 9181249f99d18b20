"""What each task of metrics takes and measures, in words and types, without torch: a plan is quick.

A record's hash holds the values of parameters and the source of the function that measures; what is declared here
changes no number.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bench.task import Measure, NameOf, TaskParameters, declare

_exact = partial(Measure, direction="higher", window=1e-9)
FIGURES = (
    "fd_fmnist", "fd_infinity", "kid_fmnist", "cmmd_fmnist", "energy_fmnist", "precision", "recall", "density",
    "coverage",
)  # fmt: skip


def _check_metric(name: str) -> str:
    """A name of a metric of features; raises ValueError on any other."""
    from metrics.catalogue import find_metric  # here, since of the tasks one alone names metrics

    try:
        metric = find_metric(name)
    except (LookupError, ImportError) as error:
        raise ValueError(str(error)) from None
    if metric.of != "images" or metric.takes != "features" or metric.extractor:
        on = (
            f"features of {metric.extractor}"
            if metric.extractor
            else metric.takes
            if metric.of == "images"
            else metric.of
        )
        raise ValueError(f"{name} is of {on}; a metric of any images' features is accepted")
    return name


def _check_figure(name: str) -> str:
    return name if name in FIGURES else _check_metric(name)


MetricName = Annotated[str, AfterValidator(_check_metric), NameOf("metrics")]
FigureName = Annotated[str, AfterValidator(_check_figure), NameOf("metrics")]


class BiasParameters(TaskParameters):
    """A figure of images whose bias is measured at ``n`` features per side, over so many ``draws``.

    ``noise`` is the level of noise on one side: 0 for real images on both. The figure is one of ``FIGURES``, or a
    metric of features.
    """

    figure: FigureName = Field(examples=["kid_fmnist"])
    n: int = Field(1000, ge=100, le=5000)
    noise: float = Field(0.0, ge=0, le=1)
    draws: int = Field(20, ge=2)


metric_bias = declare(
    "bench.tasks.metrics.bias:metric_bias",
    BiasParameters,
    entry="figure",
    catalogue="metrics",
    measures=[
        Measure(
            "value",
            "mean over draws, and a prediction interval of 95 % for a further one",
            direction="target",
        )
    ],
)


class CoverageParameters(TaskParameters):
    """A kind of confidence interval whose coverage is measured, on samples of one distribution, over so many trials.

    ``n``: samples per side, or images; ``d``: features. The last two laws are of detections; a difference of figures of
    detections is that of a detector of the law and of a strong one on the same images. One of ``fd`` or ``kid`` is that
    of two generated sets of the law against one real set, a gain that of a set in which half of the rows are real.
    """

    interval: Literal[
        "fd", "fd_debiased", "fd_infinity", "kid", "cmmd", "energy", "sliced_w2", "precision", "recall", "density",
        "coverage", "precision_k3", "recall_k3", "authenticity", "neighbour_ratio", "vendi", "is", "c2st", "fd_floor",
        "kid_floor", "precision_floor", "recall_floor", "share", "bits_per_dim", "median", "paired_ratio", "kendall",
        "spearman", "prediction", "AP", "AP50", "AP75", "AR100", "AP_difference", "AP50_difference", "AP75_difference",
        "AR100_difference", "fd_difference", "kid_difference", "fd_gain", "kid_gain",
    ] = Field(examples=["kid"])  # fmt: skip
    law: Literal["equal", "shifted", "skewed", "heavy", "sparse", "strong", "weak"] = "shifted"
    n: int = Field(100, ge=20)
    d: int = Field(8, ge=1)
    trials: int = Field(2000, ge=20)
    resamples: int = Field(50, ge=2)


coverage = declare(
    "bench.tasks.metrics.coverage:coverage",
    CoverageParameters,
    entry="interval",
    measures=[
        Measure("coverage", "share of trials whose interval holds what it is of", direction="target", window=0.02),
        Measure("of_laws", "share that holds the figure of the laws", direction="target", window=0.02, floor=0.01),
        Measure("target", "what the interval is of: the figure of the laws, or the mean at this n", direction="target"),
        Measure("mean", "of the figure over the trials", direction="target"),
        Measure("width", "mean width of the intervals", direction="target", window=0.02),
        Measure("told_apart", "share of differences whose interval leaves out 0", direction="target", window=0.02),
    ],
)


class DetectionParameters(TaskParameters):
    """A kind of error of detections, at a level from 0 to 1, on scenes of which ``scenes`` is the number.

    The seed of the scenes is that of the cell.
    """

    perturbation: Literal["jitter", "drop", "duplicate", "score_noise", "class_swap", "background"] = Field(
        examples=["jitter"]
    )
    level: float = Field(0.1, ge=0, le=1)
    scenes: int = Field(100, ge=1)


detection_ap = declare(
    "bench.tasks.metrics.detection:detection_ap",
    DetectionParameters,
    entry="perturbation",
    packages=("pycocotools",),
    measures=[
        _exact("AP", "mean over IoU .5:.05:.95 and classes"),
        _exact("AP50", "AP at IoU .5"),
        _exact("AP75", "AP at IoU .75"),
        _exact("APs", "AP of objects up to 32^2 pixels, -1 without any"),
        _exact("APm", "AP of objects from 32^2 to 96^2 pixels, -1 without any"),
        _exact("APl", "AP of objects from 96^2 pixels, -1 without any"),
        _exact("AR100", "recall of at most 100 detections per image and class"),
        Measure(
            "parity", "largest difference of a figure from pycocotools'", direction="target", window=0, floor=1e-12
        ),
    ],
)


class SensitivityParameters(TaskParameters):
    """A fault of images whose effect on every figure is measured, at a level from 0 to 1; ``n`` is per side."""

    disturbance: Literal["blur", "noise", "class_drop", "mode_drop", "memorised"] = Field(examples=["blur"])
    level: float = Field(0.5, ge=0, le=1)
    n: int = Field(2000, ge=100, le=3333)


metric_sensitivity = declare(
    "bench.tasks.metrics.sensitivity:metric_sensitivity",
    SensitivityParameters,
    entry="disturbance",
    measures=[
        Measure("fd_fmnist", "Frechet distance of Fashion-MNIST features"),
        Measure("kid_fmnist", "kernel distance of the same, over all pairs"),
        Measure("precision", "of prdc: k = 5, open balls", direction="higher"),
        Measure("recall", "of prdc: k = 5, open balls", direction="higher"),
        Measure("density", "of prdc: k = 5, open balls", direction="higher"),
        Measure("coverage", "of prdc: k = 5, open balls", direction="higher"),
        Measure("precision_k3", "of 1904.06991: k = 3, closed balls", direction="higher"),
        Measure("recall_k3", "of 1904.06991: k = 3, closed balls", direction="higher"),
        Measure("c_t", "data copying against held-out images, far below 0: copies", direction="target", floor=0.1),
        Measure("authenticity", "share farther from the reference than it is from itself", direction="higher"),
        Measure("memorised", "share three times nearer to one image of the reference than to a second"),
        Measure("vendi", "effective number of images in the set (cosine, of the features)", direction="target"),
    ],
)


class ResponseParameters(SensitivityParameters):
    """A metric of images, by name, whose response to a fault is measured, at a level from 0 to 1; ``n`` is per side."""

    metric: MetricName = Field(examples=["energy"])


metric_response = declare(
    "bench.tasks.metrics.response:metric_response",
    ResponseParameters,
    entry="metric",
    catalogue="metrics",
    measures=[Measure("value", "of faulty images against others; at level 0 its floor", direction="target")],
)


class SpeedParameters(TaskParameters):
    """A metric and other libraries' versions of it, ``entries``, which are timed on the same input.

    The last is the one that ratios are taken to. ``share`` makes the case smaller, for a trial.
    """

    entries: list[str] = Field(min_length=2, examples=[["fidmap", "prdc"]])
    contest: Literal["frechet", "frechet_mixed", "prdc", "coco"] = Field(examples=["prdc"])
    rounds: int = Field(5, ge=2)
    share: float = Field(1.0, gt=0, le=1)


metric_speed = declare(
    "bench.tasks.metrics.speed:metric_speed",
    SpeedParameters,
    kind="contest",
    entry="entries",
    packages=("prdc", "faster_coco_eval", "scikit-learn"),
    measures=[
        Measure("time", "median time of a call, and its range", unit="s", deterministic=False),
        Measure("ratio", "of medians to the last entry's, and the range of paired ratios", deterministic=False),
        # Both compute the same figure in float64, whose last digits depend on the processor: the window is absolute.
        Measure("difference", "largest from the last entry's result", direction="lower", window=0, floor=1e-6),
    ],
)
