"""``fidmap evaluate detections``: COCO's figures for the user's files and, on demand, what explains them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.evaluate.detection_report import IOU, DetectionReport

if TYPE_CHECKING:
    from metrics.detection.assignment import Assignment
    from metrics.detection.calibration import CalibrationResult
    from metrics.detection.coco import CocoResult
    from metrics.detection.confusion import ConfusionMatrix
    from metrics.detection.inputs import Inputs
    from metrics.detection.operating_point import BestF1
    from metrics.detection.tide import TideResult


def evaluate(
    ground_truth: Path,
    detections: Path,
    *,
    per_class: bool = False,
    tide: bool = False,
    confusion: bool = False,
    calibration: bool = False,
    plots: Path | None = None,
    format: str = "auto",
    images: Path | None = None,
    iou_type: str = "bbox",
    max_detections: str = "1,10,100",
    iou_thresholds: str | None = None,
    area_ranges: str | None = None,
    class_agnostic: bool = False,
    score_threshold: float | None = None,
    resamples: int = 0,
    tell: Callable[[str], None] = lambda note: None,
    progress: Callable[[str], None] = lambda step: None,
) -> DetectionReport:
    """Evaluate detections against a ground truth by COCO's rules.

    ``iou_thresholds``, ``area_ranges`` and ``max_detections`` are texts, as on the command line. F1, TIDE, confusion
    and calibration are taken at IoU .5 or, if that is not among the thresholds, at the smallest of them; they use the
    matching from which the figures are computed. ``plots`` is a folder for plots of all parts. ``tell`` is called with
    each note on what was left out or is unusual, ``progress`` with each step. Raises UsageError that names the file and
    field that cannot be read, or the option that does not go with another.
    """
    params = parse_params(iou_thresholds, area_ranges, max_detections)
    if score_threshold is not None and math.isnan(score_threshold):
        raise UsageError("--score-threshold nan: expected a number")
    if iou_type not in ("bbox", "segm"):
        raise UsageError(f"--iou-type {iou_type!r}: expected bbox, segm")
    if iou_type == "segm":
        need_boxes = {
            "--tide": tide, "--confusion": confusion, "--calibration": calibration, "--plots": plots,
            "--score-threshold": score_threshold is not None, "--resamples": resamples,
        }  # fmt: skip
        for option in [option for option, given in need_boxes.items() if given]:
            raise UsageError(f"{option} needs boxes; --iou-type segm gives the figures and --per-class")
    coco, counts = evaluate_files(
        ground_truth, detections, params, iou_type=iou_type, format=format, images=images,
        class_agnostic=class_agnostic, tell=tell, progress=progress,
    )  # fmt: skip
    if coco.matching is None:
        return DetectionReport(coco, counts, per_class)

    from metrics.detection.assignment import select_threshold
    from metrics.detection.operating_point import maximise_f1

    thresholds = coco.params.iou_thresholds
    iou = IOU if IOU in thresholds else thresholds[0]
    assignment = select_threshold(coco.matching, iou)
    best = maximise_f1(assignment)
    at_score = None
    if score_threshold is not None:
        at_score = {"threshold": score_threshold, **coco.at_score(score_threshold, iou)}
    result = DetectionReport(
        coco, counts, per_class, assignment, best, at_score,
        _tide(assignment) if tide or plots else None,
        _confusion(assignment, best, score_threshold) if confusion or plots else None,
        _calibration(assignment, detections) if calibration or plots else None,
        coco.intervals(resamples) if resamples else None,
    )  # fmt: skip
    if plots:
        from bench.evaluate.detection_plots import draw

        for file in draw(result, plots):
            progress(f"wrote {file}")
        result = replace(
            result, tide=result.tide if tide else None, confusion=result.confusion if confusion else None,
            calibration=result.calibration if calibration else None,
        )  # fmt: skip
    return result


def evaluate_files(
    ground_truth: Path,
    detections: Path,
    params: dict[str, Any],
    *,
    iou_type: str = "bbox",
    format: str,
    images: Path | None,
    class_agnostic: bool,
    tell: Callable[[str], None],
    progress: Callable[[str], None],
) -> tuple[CocoResult, dict[str, int]]:
    """COCO's result for one file or folder of detections, and the numbers of what was read and left out.

    ``params`` are those of ``parse_params``, the others those of ``evaluate``, which says what is raised.
    """
    from metrics.detection.coco import evaluate_coco

    inputs = read_sides(
        ground_truth, detections, iou_type, format, images, tell, progress, class_agnostic=class_agnostic
    )
    backend: Any = "fidmap" if iou_type == "bbox" else "faster_coco_eval"
    progress(f"evaluating {len(inputs.detections.score)} detections")
    coco = evaluate_coco(
        inputs, None, iou_type="bbox" if iou_type == "bbox" else "segm", backend=backend, class_agnostic=class_agnostic,
        **params,
    )  # fmt: skip
    counts = _count(coco, inputs)
    _tell_what_is_unusual(coco, inputs, counts, ground_truth, detections, tell)
    return coco, counts


def read_sides(
    ground_truth: Path,
    detections: Path,
    iou_type: str,
    format: str,
    images: Path | None,
    tell: Callable[[str], None],
    progress: Callable[[str], None],
    *,
    class_agnostic: bool = False,
) -> Inputs:
    """Read and check the ground truth and the detections.

    Parameters are those of ``evaluate``. Raises UsageError that names the file and the field that cannot be read.
    """
    from metrics.detection.inputs import FORMATS, read_inputs

    if format not in FORMATS:
        raise UsageError(f"--format {format!r}: expected {', '.join(FORMATS)}")
    progress(f"reading {ground_truth} and {detections}")
    try:
        return read_inputs(
            ground_truth, detections, iou_type, format=format, images=images, tell=tell, class_agnostic=class_agnostic
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _tide(assignment: Assignment) -> TideResult:
    from metrics.detection.tide import classify_errors

    return classify_errors(assignment)


def _confusion(assignment: Assignment, best: BestF1, threshold: float | None) -> ConfusionMatrix:
    """The confusion matrix of detections scored at ``threshold`` or more, which defaults to that of the best F1.

    Where no detection is right, all of them count.
    """
    from metrics.detection.confusion import count_confusions

    if threshold is None:
        threshold = best.overall.threshold if best.overall.f1 > 0 else -math.inf
    return count_confusions(assignment, threshold)


def _calibration(assignment: Assignment, file: Path) -> CalibrationResult:
    from metrics.detection.calibration import measure_calibration

    try:
        return measure_calibration(assignment)
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from None


def parse_params(iou_thresholds: str | None, area_ranges: str | None, max_detections: str) -> dict[str, Any]:
    """Parse the options of ``evaluate_coco``, each checked alone, so that an error names the option that is wrong."""
    from metrics.detection.params import make_params

    params: dict[str, Any] = {}
    for option, text, parse in (
        ("max_detections", max_detections, lambda text: [int(part) for part in text.split(",")]),
        ("iou_thresholds", iou_thresholds, lambda text: [float(part) for part in text.split(",")]),
        ("area_ranges", area_ranges, _ranges),
    ):
        if text is None:
            continue
        try:
            params[option] = parse(text)
            make_params(**{option: params[option]})
        except ValueError as error:
            example = {"max_detections": "1,10,100", "iou_thresholds": ".5,.75"}.get(option, "tiny:0:256,rest:256:inf")
            raise UsageError(f"--{option.replace('_', '-')} {text!r}: {error}; expected as {example}") from None
    return params


def _ranges(text: str) -> dict[str, tuple[float, float]]:
    ranges: dict[str, tuple[float, float]] = {}
    for part in text.split(","):
        name, *bounds = part.split(":")
        if name in ranges or len(bounds) != 2:
            raise ValueError(f"{name!r} is named twice" if name in ranges else f"{part!r} is no name and two numbers")
        low, high = bounds
        ranges[name] = (float(low), float(high))
    return ranges


def _count(coco: CocoResult, inputs: Inputs) -> dict[str, int]:
    crowds = int(inputs.truths.crowd.sum())
    beyond = 0 if coco.matching is None else int((coco.matching.unused[0] & ~inputs.truths.crowd).sum())
    detections = len(inputs.detections.score) + inputs.left_out
    counts = {
        "images": len(inputs.images),
        "truths": len(inputs.truths.crowd) - crowds - beyond,
        "crowds": crowds,
        "area_out_of_range": beyond,
        "detections": detections,
        "unlisted_category": coco.left_out,
        "annotation_id_0": coco.id_zero,
    }
    if coco.matching:
        counts["beyond_max_detections"] = detections - coco.left_out - len(coco.matching.detections.score)
    return counts


def _tell_what_is_unusual(
    coco: CocoResult,
    inputs: Inputs,
    counts: dict[str, int],
    ground_truth: Path,
    detections: Path,
    tell: Callable[[str], None],
) -> None:
    if difficult := int(inputs.truths.difficult.sum()):
        tell(f"{ground_truth}: truths marked as difficult: {difficult}; they count as any other under COCO's rules")
    if beyond := counts["area_out_of_range"]:
        tell(f"{ground_truth}: truths whose area is below 0 or above 1e10: {beyond}; COCO's rules ignore them")
    if coco.left_out:
        tell(f"{detections}: left out {coco.left_out} detections of categories that {ground_truth} does not list")
    if beyond := counts.get("beyond_max_detections", 0):
        tell(f"{detections}: left out {beyond} detections beyond {coco.max_detections[-1]} per image and class")
    if coco.id_zero:
        tell(f"{ground_truth}: annotations with the id 0: {coco.id_zero}; they count as any other here, "
             "while pycocotools takes what matches them for unmatched")  # fmt: skip
    tell_what_is_empty(counts, ground_truth, detections, tell)


def tell_what_is_empty(
    counts: dict[str, int], ground_truth: Path, detections: Path, tell: Callable[[str], None]
) -> None:
    """Note by ``tell`` that there are no detections, or no truths that count; every figure is then 0 or -1."""
    if not counts["detections"]:
        tell(f"{detections}: no detections")
    if not counts["truths"]:
        tell(f"{ground_truth}: no truths that count, so that no figure has a value")
