"""Every metric by name, importable without torch: what ``fidmap list metrics`` shows is what the commands run.

- *images*: a function of the features of two sets of images, by ``fidmap evaluate images --metrics NAME``;
- *detections*: a figure of detections against their truths, by ``fidmap evaluate detections`` and an option;
- *arrays*: a function for Python alone, since two sets of images do not hold its input (likelihoods, labels, ...).
"""

from __future__ import annotations

import difflib
import inspect
import math
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from metrics.installed import find_installed

GROUP = "fidmap.metrics"


class Quantity(NamedTuple):
    """A number that a metric of images returns: its name, which way is better, and the range that it never leaves.

    ``interval_of``: "laws" where its interval covers the value of the two distributions, "n" where it covers the mean
    of the value over samples of these sizes, with its bias. ``power``: the value of real against real images approaches
    its limit as ``n^-power``.
    """

    name: str
    better: Literal["lower", "higher", "floor"]
    low: float = 0.0
    high: float = math.inf
    interval_of: Literal["laws", "n"] = "n"
    power: float = 0.5


@dataclass(frozen=True)
class Metric:
    """An entry of the catalogue of metrics: its name and function (``module:function``), and what is known of it.

    Nothing is imported for it. The fields from ``quantities`` on are of metrics of images. ``quantities`` names what
    the function returns, by the field of its result ("" for a bare float). Where the result has ``low`` and ``high``,
    or is an ``Estimate`` with its standard error, the first quantity has its interval from them; all others have it by
    resampling.
    """

    name: str
    target: str
    summary: str
    of: Literal["images", "detections", "arrays"] = "arrays"
    option: str = ""  # of ``fidmap evaluate detections``, without which the figure is not shown
    others: tuple[str, ...] = ()  # other names that ``--metrics`` accepts
    quantities: Mapping[str, Quantity] = field(default_factory=dict, hash=False)
    seeded: bool = False
    takes: Literal["features", "logits"] = "features"
    sides: Literal["both", "generated"] = "both"
    resampled: bool = True  # False where resampling says nothing or takes too long
    most: int | None = None  # the number of rows per side above which it is refused
    covariances: bool = False  # of halves of the rows: needs 2 d + 2 rows of d features per side, and at least 40
    extractor: str | None = None  # the only one that it is defined on
    own: bool = False  # a function of the user's
    shared: str = ""  # module:function of both sides; it searches once, and gives a function of subsets of their rows

    def resolve(self) -> Any:
        """Import the function."""
        return pkgutil.resolve_name(self.target)


def _of_images(name: str, target: str, summary: str, quantities: Mapping[str, Quantity], **options: Any) -> Metric:
    return Metric(name, f"metrics.samples.{target}", summary, "images", quantities=quantities, **options)


def _of_detections(name: str, target: str, summary: str, option: str = "") -> Metric:
    return Metric(name, f"metrics.detection.{target}", summary, "detections", option)


def _unbiased(name: str) -> Quantity:
    """A squared distance whose estimate is unbiased, so that it may lie below 0."""
    return Quantity(name, "lower", -math.inf, interval_of="laws", power=1.0)


_ENTRIES = [
    _of_images(
        "fd", "frechet:frechet_distance_from_features", "Frechet distance, named after the extractor",
        {"": Quantity("fd", "lower", power=1.0)}, others=("frechet_distance",),
    ),
    _of_images(
        "fd_debiased", "extrapolation:debiased_frechet_distance",
        "Frechet distance of the distributions, from 2 d + 2 images per side",
        {"value": _unbiased("fd_debiased")},
        seeded=True, resampled=False, covariances=True, others=("debiased_frechet_distance",),
    ),
    _of_images(
        "fd_infinity", "extrapolation:fd_infinity", "Frechet distance extrapolated to infinitely many generated images",
        {"value": Quantity("fd_infinity", "lower", -math.inf, power=1.0)}, seeded=True,
    ),
    _of_images(
        "kid", "kernel:kid", "kernel distance, unbiased over all pairs, named after the extractor",
        {"value": _unbiased("kid")},
    ),
    _of_images(
        "cmmd", "kernel:cmmd", "CMMD: Gaussian kernel of CLIP's features, times 1000",
        {"value": Quantity("cmmd", "lower", power=1.0)}, extractor="clip",
    ),
    _of_images(
        "energy", "energy:energy_distance", "energy distance, unbiased",
        {"value": _unbiased("energy")}, others=("energy_distance",),
    ),
    _of_images(
        "prdc", "balls:prdc", "precision, recall, density and coverage: k = 5, open balls",
        {"precision": Quantity("precision", "higher", 0, 1), "recall": Quantity("recall", "higher", 0, 1),
         "density": Quantity("density", "floor"), "coverage": Quantity("coverage", "higher", 0, 1)}, seeded=True,
        shared="metrics.samples.subsets:share_prdc",
    ),
    _of_images(
        "precision_recall", "balls:precision_recall", "improved precision and recall: k = 3, closed balls",
        {"precision": Quantity("precision_k3", "higher", 0, 1), "recall": Quantity("recall_k3", "higher", 0, 1)},
        seeded=True, shared="metrics.samples.subsets:share_precision_recall",
    ),
    _of_images(
        "sliced_w2", "sliced:sliced_wasserstein", "sliced 2-Wasserstein distance, 512 directions",
        {"": Quantity("sliced_w2", "lower")}, seeded=True, others=("sliced_wasserstein",),
    ),
    _of_images(
        "w2", "transport:exact_wasserstein", "exact 2-Wasserstein distance, up to 4,096 images per side",
        {"": Quantity("w2", "lower")}, resampled=False, most=4096, others=("exact_wasserstein",),
    ),
    _of_images(
        "c2st", "two_sample:classifier_two_sample_test",
        "classifier two-sample test: 0.5 where the sides are alike",
        {"accuracy": Quantity("c2st_accuracy", "lower"), "p_value": Quantity("c2st_p_value", "higher")},
        seeded=True, resampled=False,
    ),
    _of_images(
        "is", "inception:inception_score", "Inception score by the extractor's own classifier",
        {"score": Quantity("is", "higher", 1)}, takes="logits", sides="generated", others=("inception_score",),
    ),
    _of_images(
        "vendi", "vendi:vendi_score", "Vendi score of the generated images, cosine kernel",
        {"": Quantity("vendi", "higher", 1)}, sides="generated", others=("vendi_score",),
    ),
    _of_images(
        "authenticity", "memorisation:authenticity", "share of generated images that are no copies of REAL",
        {"": Quantity("authenticity", "higher", 0, 1)},
    ),
    _of_images(
        "neighbour_ratio", "memorisation:nearest_neighbour_ratio",
        "nearest distance to REAL over the second: 0 for copies",
        {"mean": Quantity("neighbour_ratio", "floor", 0, 1), "memorised": Quantity("memorised", "lower", 0, 1)},
        others=("nearest_neighbour_ratio",),
    ),
    _of_detections("coco_ap", "coco:evaluate_coco", "COCO's twelve figures: AP, AP50, AP75, APs, APm, APl, AR1, ..., ARl"),
    _of_detections("best_f1", "operating_point:find_best_f1", "score thresholds of the best F1, overall and per class"),
    _of_detections("voc_ap", "voc:evaluate_voc", "VOC's average precision, all-point and 11-point", "--protocol voc"),
    _of_detections("tide", "tide:evaluate_tide", "TIDE's six types of error and what each costs in AP", "--tide"),
    _of_detections("detection_calibration", "calibration:evaluate_calibration", "D-ECE and LaECE", "--calibration"),
    _of_detections("confusion_matrix", "confusion:confusion_matrix", "which class is taken for which", "--confusion"),
    Metric("kid_subsets", "metrics.samples.kernel:kid_subsets", "kernel distance over random subsets: mean and deviation"),
    Metric("density_coverage", "metrics.samples.balls:density_coverage", "density and coverage of prdc alone"),
    Metric("vendi_scores", "metrics.samples.vendi:vendi_scores", "Vendi scores of both sets, and their ratio"),
    Metric(
        "sliced_wasserstein_of_sketches", "metrics.samples.sketch:sliced_wasserstein_of_sketches",
        "sliced 2-Wasserstein distance of streams at constant memory, with its bound",
    ),
    Metric(
        "spatial_statistics", "metrics.samples.spatial:spatial_statistics",
        "statistics of feature maps, for a spatial Frechet distance (sFID)",
    ),
    Metric("data_copying", "metrics.samples.memorisation:data_copying", "data-copying test C_T, against held-out images"),
    Metric(
        "conditional_accuracy", "metrics.samples.accuracy:conditional_accuracy",
        "share of samples that a classifier takes for their condition",
    ),
    Metric("bits_per_dim", "metrics.samples.likelihood:bits_per_dim", "bits per dimension from log-likelihoods in nats"),
    Metric("fit_order", "metrics.order:fit_order", "order of accuracy from errors over a ladder of step counts"),
]  # fmt: skip
METRICS = {entry.name: entry for entry in _ENTRIES}


def find_metric(name: str) -> Metric:
    """The metric of a name: of this table, of an outside package's entry point, or ``module:function``.

    A function of the user's is a metric of images, ``(real, generated) -> number`` on features (n, d) and (m, d), or a
    named tuple of ``value``, ``low`` and ``high``. It may take a ``seed``, and may state as attributes what ``Metric``
    and ``Quantity`` hold: ``better`` (lower without), ``low``, ``high``, ``sides``, ``resampled``. Raises LookupError
    on an unknown name, ImportError where the function cannot be loaded, and ValueError on what it states wrongly.
    """
    if name in METRICS:
        return METRICS[name]
    installed = find_installed(GROUP, METRICS)
    if name not in installed and ":" not in name:
        known = [*METRICS, *installed]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise LookupError(f"no metric named {name!r}; {hint}")
    target = installed.get(name, name)
    try:
        function = pkgutil.resolve_name(target)
    except (Exception, SystemExit) as error:  # the user's own code
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise ImportError(f"cannot load {name!r}: {reason}") from error
    return _make_own(name, target, function)


def _make_own(name: str, target: str, function: Any) -> Metric:
    if not callable(function):
        raise ValueError(f"{name} is {type(function).__name__}; a function (real, generated) of features is accepted")
    for stated, accepted in (("better", ("lower", "higher", "floor")), ("sides", ("both", "generated"))):
        if (given := getattr(function, stated, accepted[0])) not in accepted:
            raise ValueError(f"{name}.{stated} is {given!r}; {', '.join(accepted)} are accepted")
    quantity = Quantity(
        name, getattr(function, "better", "lower"), getattr(function, "low", -math.inf),
        getattr(function, "high", math.inf),
    )  # fmt: skip
    try:
        seeded = "seed" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function without a signature
        seeded = False
    return Metric(
        name, target, (inspect.getdoc(function) or "").partition("\n")[0], "images", quantities={"value": quantity},
        seeded=seeded, sides=getattr(function, "sides", "both"), resampled=getattr(function, "resampled", True), own=True,
    )  # fmt: skip
