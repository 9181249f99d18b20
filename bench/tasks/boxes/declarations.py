"""What each task of box losses and NMS takes and measures, in words and types, without torch: a plan is quick.

A record's hash holds the values of parameters and the source of the function that measures; what is declared here
changes no number.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from bench.task import Direction, LossName, Measure, NmsName, TaskParameters, declare
from implementations.catalogue import LOSSES, NMS
from implementations.catalogue.entry import Entry

CORRELATIONS = ("spearman", "kendall")
RANKINGS: dict[str, tuple[str, Direction]] = {
    "": ("1 - IoU of the same pair", "higher"),
    "final_": ("1 - IoU after its regression", "target"),
}
PAIRS = {"overlapping": "pairs that overlap at the start", "all": "all pairs"}
FIELDS = ("position", "size", "pairs")
SHARES = {
    "zero": "share of points without a gradient",
    "uphill": "share of points from which a step along the negative gradient raises the loss",
    "away": "share of points from which it raises |dx| + |dy| + |dw| + |dh|",
    "worse": "share of points from which it lowers the IoU",
}
PROPERTIES = {  # by the name of the claim in bench.tasks.boxes.claims
    "non_negative": "0 <= L",
    "zero_iff_equal": "L is 0 for equal boxes and above 0 for all others",
    "minimum_unique": "no other box has a loss as low as the target's own",
    "symmetric": "L(a, b) = L(b, a)",
    "triangle": "L(a, b) <= L(a, c) + L(c, b)",
    "scale_invariant": "a pair has the same loss when scaled by 2^-10 to 2^10",
    "bounded": "|L| is at most 20 for boxes up to a million sides apart or of sides up to a million times different",
    "gradient_apart": "boxes that are at most three sides apart have a gradient",
    "falls_on_path": "L never rises as x, y, w, h move straight to the target's",
    "falls_to_centre": "L never rises as the centre moves straight to the target's",
    "finite": "value and gradient are finite for boxes that are without extent, inverted, equal or huge",
    "sees_size": "concentric boxes of equal ratio and different size have a penalty beside 1 - IoU",
    "sees_ratio": "concentric boxes of equal area and different ratio have a penalty beside 1 - IoU",
    "enlarging_costs": "L does not fall as a box, apart and no smaller than its target, is enlarged about its centre",
    "no_growth_apart": "descent does not enlarge a box that is apart and no smaller than its target",
}
WINDOW = 0.03  # of the figures of iou_choice


def _takes_defaults(entry: Entry, options: dict[str, Any]) -> bool:
    """Whether there is nothing to try: fidmap's own methods take their defaults, which their tests call."""
    return not options and entry.source == "fidmap"


class LossParameters(TaskParameters):
    """A box loss with options of its own, which tasks of losses have as parameters."""

    loss: LossName = Field(examples=["ciou"])
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _options_are_known(self) -> LossParameters:
        if not _takes_defaults(LOSSES[self.loss], self.options):
            from bench.tasks.boxes.calls import try_loss

            try_loss(self.loss, self.options)
        return self


class AgreementParameters(LossParameters):
    """A box loss whose ranking of boxes is compared with that of IoU, on ``pairs`` random pairs.

    Four in ten of the pairs overlap; their descent has ``iterations`` updates.
    """

    pairs: int = Field(800, ge=50)
    iterations: int = Field(100, ge=10)
    resamples: int = Field(200, ge=20)


iou_agreement = declare(
    "bench.tasks.boxes.agreement:iou_agreement",
    AgreementParameters,
    entry="loss",
    catalogue="losses",
    measures=[
        Measure(f"{when}{name}_{where}", f"with {what}, {of}", unit="1", direction=direction, window=0.01, floor=1e-3)
        for when, (what, direction) in RANKINGS.items()
        for where, of in PAIRS.items()
        for name in CORRELATIONS
    ],
)


class ChoiceParameters(LossParameters):
    """A box loss in a situation, measured on ``pairs`` of boxes; half as many others choose its learning rate."""

    situation: Literal["apart", "poor", "nested", "equal_ratio", "fine", "mixed", "noisy"] = Field(examples=["apart"])
    pairs: int = Field(300, ge=20)
    iterations: int = Field(200, ge=10)


iou_choice = declare(
    "bench.tasks.boxes.choice:iou_choice",
    ChoiceParameters,
    entry="loss",
    catalogue="losses",
    measures=[
        Measure("iou_start", "mean IoU at the start", unit="1", direction="target", window=1e-6),
        Measure("iou_final", "mean IoU after the last iteration", unit="1", direction="higher", window=WINDOW),
        Measure("to_75", "mean iterations to IoU .75; all iterations for a box that does not reach it", window=WINDOW),
        Measure("to_95", "the same to IoU .95", window=WINDOW),
        Measure("rate", "learning rate, chosen on other pairs", direction="target", window=0),
        Measure("at_edge", "whether the best rate is at an end of the widest grid", "yes/no", "target", window=0),
    ],
)


class GradientParameters(LossParameters):
    """A box loss whose gradient is measured on grids of ``points`` by ``points`` boxes around a target of side 1.

    ``width``, ``height`` and ``reach`` belong to the field ``position``, in sides of the target.
    """

    points: int = Field(40, ge=4)
    reach: float = Field(3.0, gt=0)
    width: float = Field(2.0, gt=0)
    height: float = Field(1.5, gt=0)


iou_gradient = declare(
    "bench.tasks.boxes.gradient:iou_gradient",
    GradientParameters,
    entry="loss",
    catalogue="losses",
    measures=[
        measure
        for field in FIELDS
        for measure in (
            *(
                # Between machines, a point of the grid may fall on the other side of a threshold.
                Measure(f"{field}_{name}", summary, unit="1", direction="target", window=0, floor=1e-3)
                for name, summary in SHARES.items()
            ),
            Measure(
                f"{field}_spike", "largest norm of the gradient over the median norm", direction="target", window=0.01
            ),
        )
    ],
)


class NmsParameters(TaskParameters):
    """An NMS with its options, measured on crowded scenes: ``images`` images with ``boxes`` candidates each.

    There are ten candidates per object.
    """

    nms: NmsName = Field(examples=["hard"])
    boxes: int = Field(100, ge=1)
    images: int = Field(20, ge=1)
    classes: int = Field(10, ge=1)
    iou_threshold: float = Field(0.5, ge=0, le=1)
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _options_are_known(self) -> NmsParameters:
        if not _takes_defaults(NMS[self.nms], self.options):
            from bench.tasks.boxes.calls import try_nms

            try_nms(self.nms, self.iou_threshold, self.options)
        return self


class NmsSpeedParameters(TaskParameters):
    """NMS methods that are timed on the same candidates of crowded scenes; ratios are to the first method."""

    nms: list[NmsName] = Field(min_length=1, examples=[["hard", "torchvision_nms"]])
    boxes: int = Field(1000, ge=1)
    images: int = Field(1, ge=1)
    classes: int = Field(80, ge=1)
    iou_threshold: float = Field(0.5, ge=0, le=1)
    max_seconds: float = Field(10.0, gt=0)


def _figure(name: str, summary: str) -> Measure:
    return Measure(name, summary, direction="higher", window=1e-3)


nms_quality = declare(
    "bench.tasks.boxes.nms:nms_quality",
    NmsParameters,
    entry="nms",
    catalogue="nms",
    measures=[
        _figure("AP", "mean over IoU .5:.05:.95 and classes"),
        _figure("AP50", "AP at IoU .5"),
        _figure("AP75", "AP at IoU .75"),
        _figure("recall", "mean over IoU .5:.05:.95 and classes"),
        Measure("kept", "detections per image", direction="target", window=1e-3),
        Measure("crowding", "mean over objects of the largest IoU with another of their class", direction="target"),
    ],
)


nms_speed = declare(
    "bench.tasks.boxes.nms:nms_speed",
    NmsSpeedParameters,
    kind="contest",
    entry="nms",
    catalogue="nms",
    measures=[
        Measure("time", "median time per call", unit="ms", deterministic=False),
        Measure("ratio", "median of the paired ratios to the time of the first method", deterministic=False),
    ],
)


class PropertiesParameters(LossParameters):
    """A box loss whose properties are searched for counter-examples: ``cases`` per property.

    The search ascends from the ``starts`` worst of them.
    """

    cases: int = Field(20_000, ge=100)
    starts: int = Field(96, ge=2)


iou_properties = declare(
    "bench.tasks.boxes.properties:iou_properties",
    PropertiesParameters,
    entry="loss",
    catalogue="losses",
    measures=[
        measure
        for name, summary in PROPERTIES.items()
        for measure in (
            Measure(name, summary, unit="yes/no", direction="target", window=0, floor=0),
            # The case at which the search ends depends on the last bits of a machine's arithmetic.
            Measure(f"{name}_violation", "by how much the worst case breaks it", direction="target", window=0.1),
        )
    ],
)


class RegressionParameters(LossParameters):
    """A box loss in a published simulation of regression, ``protocol``, at ``points`` of its points.

    Totals are scaled up to all of its cases. ``iterations`` defaults to the protocol's.
    """

    protocol: Literal["diou", "wiou", "wiou_near", "piou"] = "diou"
    points: int = Field(200, ge=1)
    iterations: int | None = Field(None, ge=10)
    engine: Literal["auto", "compiled", "eager"] = "auto"


iou_regression = declare(
    "bench.tasks.boxes.regression:iou_regression",
    RegressionParameters,
    entry="loss",
    catalogue="losses",
    packages=("torchvision",),
    measures=[
        Measure("error_decay", "total L1 error after 8/10 of the iterations (160 of 200)", unit="length", window=0.005),
        Measure("error_final", "total L1 error after the last iteration", unit="length", window=0.005),
        Measure("error_sum", "total L1 error summed over iterations", unit="length", window=0.005),
        Measure("iou_final", "mean IoU after the last iteration", unit="1", direction="higher", window=0.005),
        Measure("seconds", "time of all iterations, once compiled", unit="s", deterministic=False),
    ],
)
