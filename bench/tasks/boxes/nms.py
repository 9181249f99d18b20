"""What an NMS makes of a detector's candidates as scenes get more crowded, and what it costs (``bench.data.crowds``).

All methods get the same candidates, so that differences come from the method alone. All detections that a method keeps
are counted: COCO's limit of 100 per image and class is lifted, since soft methods keep nearly all candidates.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bench.data.crowds import Crowd, crowds
from bench.task import ContestMeasurements, Context, Measure, Measurements, NmsName, TaskParameters, Value, task
from bench.timing import clock_for, measure, median_interval, paired_ratio
from implementations.boxes.geometry import pairwise_iou
from implementations.boxes.nms import Kept
from implementations.catalogue import NMS
from metrics.detection.coco import evaluate_coco


class Parameters(TaskParameters):
    """An NMS with its options, measured on crowded scenes: ``images`` images with ``boxes`` candidates each.

    There are ten candidates per object.
    """

    nms: NmsName
    boxes: int = Field(100, ge=1)
    images: int = Field(20, ge=1)
    classes: int = Field(10, ge=1)
    iou_threshold: float = Field(0.5, ge=0, le=1)
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _options_are_known(self) -> Parameters:
        try:
            _suppress(self.nms, crowds(1, 1), self.iou_threshold, self.options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"options of {self.nms}: {error}") from None
        return self


class SpeedParameters(TaskParameters):
    """NMS methods that are timed on the same candidates of crowded scenes; ratios are to the first method."""

    nms: list[NmsName] = Field(min_length=1)
    boxes: int = Field(1000, ge=1)
    images: int = Field(1, ge=1)
    classes: int = Field(80, ge=1)
    iou_threshold: float = Field(0.5, ge=0, le=1)
    max_seconds: float = Field(10.0, gt=0)


def _figure(name: str, summary: str) -> Measure:
    return Measure(name, summary, direction="higher", window=1e-3)


@task(
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
def nms_quality(parameters: Parameters, context: Context) -> Measurements:
    """AP of the detections that an NMS keeps of a detector's candidates, on crowded scenes.

    Candidates are a simulated detector's, and all detections that a method keeps are counted.
    """
    crowd = crowds(parameters.boxes, parameters.images, parameters.classes, context.seed)
    kept = _suppress(parameters.nms, _on(crowd, context.device), parameters.iou_threshold, parameters.options)
    indices, scores, boxes = (column.cpu() for column in kept)
    image, label = crowd.image[indices], crowd.labels[indices]
    found = {"image": image, "label": label, "box": boxes, "score": scores}
    for name, column in found.items():
        context.keep(name, column)
    result = evaluate_coco(crowd.truth, _entries(**found), max_detections=(1, 10, parameters.boxes + 10))
    figures = {name: Value(result.figures[name], n=parameters.images) for name in ("AP", "AP50", "AP75")}
    return figures | {
        "recall": Value(result.figures[f"AR{parameters.boxes + 10}"], n=parameters.images),
        "kept": Value(len(indices) / parameters.images, n=parameters.images),
        "crowding": Value(_crowding(crowd), n=len(crowd.truth["annotations"])),
    }


@task(
    kind="contest",
    entry="nms",
    catalogue="nms",
    measures=[
        Measure("time", "median time per call", unit="ms", deterministic=False),
        Measure("ratio", "median of the paired ratios to the time of the first method", deterministic=False),
    ],
)
def nms_speed(parameters: SpeedParameters, context: Context) -> ContestMeasurements:
    """Milliseconds per call of an NMS on the candidates of crowded scenes, and the ratio to the first method."""
    drawn = crowds(parameters.boxes, parameters.images, parameters.classes, context.seed)
    crowd = _on(drawn, context.device)
    functions = {
        name: lambda name=name: _suppress(name, crowd, parameters.iou_threshold, {}) for name in parameters.nms
    }
    timings = measure(functions, clock=clock_for(context.device), seed=context.seed, max_seconds=parameters.max_seconds)
    first = timings[parameters.nms[0]]
    measures: dict[str, Measurements] = {}
    for name, timing in timings.items():
        context.keep(f"seconds.{name}", torch.tensor(timing.samples, dtype=torch.float64))
        context.timing[name] = timing.summary()
        low, high = median_interval(timing.samples, seed=context.seed)
        ratio, interval = paired_ratio(timing.samples, first.samples, seed=context.seed)
        n = len(timing.samples)
        measures[name] = {
            "time": Value(timing.median * 1e3, (low * 1e3, high * 1e3), n=n),
            "ratio": Value(ratio, interval, n=n),
        }
    return measures


def _suppress(name: str, crowd: Crowd, iou_threshold: float, options: dict[str, Any]) -> Kept:
    """Call an NMS on all images at once, with the further columns that it needs."""
    entry = NMS[name]
    columns = {column: getattr(crowd, column) for column in entry.columns}
    return entry(
        crowd.boxes, crowd.scores, crowd.labels, iou_threshold=iou_threshold, image=crowd.image, **columns, **options
    )


def _on(crowd: Crowd, device: str) -> Crowd:
    return crowd._replace(**{n: v.to(device) for n, v in crowd._asdict().items() if isinstance(v, Tensor)})


def _entries(image: Tensor, label: Tensor, box: Tensor, score: Tensor) -> list[dict[str, Any]]:
    """The detections as in a COCO result file."""
    xywh = torch.cat([box[:, :2], (box[:, 2:] - box[:, :2]).clamp(min=0)], 1)
    columns = (image, label + 1, xywh, score)
    keys = ("image_id", "category_id", "bbox", "score")
    return [dict(zip(keys, row, strict=True)) for row in zip(*(each.tolist() for each in columns), strict=True)]


def _crowding(crowd: Crowd) -> float:
    """Mean over the objects of the largest IoU with another object of the same class."""
    truth = crowd.truth["annotations"]
    box = torch.tensor([entry["bbox"] for entry in truth], dtype=torch.float64)
    box[:, 2:] += box[:, :2]
    category, image = (torch.tensor([entry[key] for entry in truth]) for key in ("category_id", "image_id"))
    nearest = []
    for number in image.unique():
        own = image == number
        alike = (category[own, None] == category[own]).fill_diagonal_(False)
        nearest.append((pairwise_iou(box[own], box[own]) * alike).amax(1))
    return torch.cat(nearest).mean().item()
