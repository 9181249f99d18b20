"""What an NMS makes of a detector's candidates as scenes get more crowded, and what it costs (``bench.data.crowds``).

All methods get the same candidates, so that differences come from the method alone. All detections that a method keeps
are counted: COCO's limit of 100 per image and class is lifted, since soft methods keep nearly all candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.data.crowds import Crowd, crowds
from bench.task import ContestMeasurements, Context, Measurements, Value
from bench.tasks.boxes.calls import call_nms, suppress
from bench.timing import clock_for, measure, median_interval, paired_ratio
from implementations.boxes.geometry import pairwise_iou
from metrics.detection.coco import evaluate_coco

if TYPE_CHECKING:
    from bench.tasks.boxes.declarations import NmsParameters, NmsSpeedParameters


def nms_quality(parameters: NmsParameters, context: Context) -> Measurements:
    """AP of the detections that an NMS keeps of a detector's candidates, on crowded scenes.

    Candidates are a simulated detector's, and all detections that a method keeps are counted.
    """
    crowd = crowds(parameters.boxes, parameters.images, parameters.classes, context.seed)
    kept = suppress(parameters.nms, _on(crowd, context.device), parameters.iou_threshold, parameters.options)
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


def nms_speed(parameters: NmsSpeedParameters, context: Context) -> ContestMeasurements:
    """Milliseconds per call of an NMS on the candidates of crowded scenes, and the ratio to the first method."""
    drawn = crowds(parameters.boxes, parameters.images, parameters.classes, context.seed)
    crowd = _on(drawn, context.device)
    for name in parameters.nms:
        suppress(name, crowd, parameters.iou_threshold, {})  # checks what it returns, which takes time
    functions = {name: lambda name=name: call_nms(name, crowd, parameters.iou_threshold, {}) for name in parameters.nms}
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
