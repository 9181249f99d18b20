"""``fidmap evaluate detections``: COCO's figures of two files or folders, and on demand what lies behind them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import UsageError
from bench.evaluate.detection_files import read_sides
from bench.tables import Table

if TYPE_CHECKING:
    from metrics.assignment import Assignment
    from metrics.coco import CocoResult
    from metrics.confusion import ConfusionMatrix
    from metrics.detection_calibration import CalibrationResult
    from metrics.operating_point import BestF1
    from metrics.tide import TideResult

IOU = 0.5  # of all that is not COCO's own
WIDEST = 25  # classes of a confusion matrix that is printed whole

_SIZES = {"s": "up to 32² pixels", "m": "32² to 96² pixels", "l": "from 96² pixels"}


@dataclass(frozen=True)
class Evaluation:
    """What was asked for, as tables and as one object; a part that was not is None."""

    coco: CocoResult
    counts: dict[str, int]
    per_class: bool
    assignment: Assignment | None = None  # None with masks, and then what follows is too
    best: BestF1 | None = None
    at_score: dict[str, float] | None = None
    tide: TideResult | None = None
    confusion: ConfusionMatrix | None = None
    calibration: CalibrationResult | None = None
    intervals: dict[str, tuple[float, float]] | None = None

    def name(self, category: Any) -> str:
        """What a category is called, on one line and without what ends a table's cell."""
        return " ".join(self.coco.names[category].split()).replace("|", "\\|")

    def as_dict(self) -> dict[str, Any]:
        """The twelve figures under their names, and each part under a key of its own; None for NaN."""
        parts: dict[str, Any] = {
            "per_threshold": {f"{iou:g}": ap for iou, ap in self.coco.per_threshold.items()},
            "max_detections": list(self.coco.max_detections),
            "counts": self.counts,
        }
        if self.intervals:
            parts["intervals"] = self.intervals
        if self.best:
            parts["best_f1"] = asdict(self.best.overall)
        if self.at_score:
            parts["at_score"] = self.at_score
        if self.per_class:
            parts["per_class"] = [self._class(category) for category in self.coco.per_class]
        if self.tide:
            parts["tide"] = {"AP": self.tide.ap, "iou": self.tide.iou_threshold, "numbers": self.tide.counts}
            parts["tide"] |= {"costs": self.tide.costs, "costs_per_class": self.tide.per_class}
        if self.confusion:
            parts["confusion"] = {
                "score_threshold": self.confusion.score_threshold,
                "iou": self.confusion.iou_threshold,
                "labels": [*map(self.name, self.confusion.categories), "background"],
                "counts": self.confusion.counts.tolist(),
                "absorbed_by_crowds": self.confusion.absorbed,
            }
        if self.calibration:
            curve = self.calibration.curve
            parts["calibration"] = {
                "ece": self.calibration.ece,
                "laece": self.calibration.laece,
                "iou": IOU,
                "bins": {key: column.tolist() for key, column in asdict(curve).items()},
                "per_class": {
                    category: {"ece": of.ece, "laece": of.laece, "detections": int(of.count.sum())}
                    for category, of in self.calibration.per_class.items()
                },
            }
        return _plain(self.coco.figures | parts)

    def table(self) -> str:
        """All of it as markdown."""
        tables = [self._figures()]
        tables += [self._classes()] if self.per_class else []
        tables += [self._tide()] if self.tide else []
        tables += [self._confusion()] if self.confusion else []
        tables += [self._calibration()] if self.calibration else []
        return "\n".join(table.render("md") for table in tables)

    def _figures(self) -> Table:
        rows = [[name, _show(value), self._meaning(name)] for name, value in self.coco.figures.items()]
        header = ["figure", "value", "of"]
        if self.intervals:
            header.insert(2, "95 % interval")
            for row in rows:
                row.insert(2, " to ".join(map(_show, self.intervals[row[0]])))
        notes = [", ".join(f"{what.replace('_', ' ')}: {number}" for what, number in self.counts.items())]
        if self.best and self.best.overall.f1 > 0:
            notes.append(f"Best F1 at IoU {IOU:g}: {_point(asdict(self.best.overall))}")
        if self.at_score:
            notes.append(f"At IoU {IOU:g} and {_point(self.at_score)}")
        return Table("figures", "COCO's figures", header, rows, notes)

    def _meaning(self, name: str) -> str:
        what = "precision" if name.startswith("AP") else "recall"
        rest = name[2:]
        if rest in _SIZES:
            return f"{what}, {_SIZES[rest]}"
        if what == "recall":
            return f"{what}, at most {rest} detections of an image and class"
        return f"{what} at IoU .{rest}" if rest else "precision, mean over IoU .5 to .95 and classes"

    def _class(self, category: Any) -> dict[str, Any]:
        row: dict[str, Any] = {"id": category, "name": self.name(category), "AP": self.coco.per_class[category]}
        for iou in (0.5, 0.75):
            row[f"AP{100 * iou:.0f}"] = float(self.coco.curve(category, iou).mean())
        if self.best and self.assignment:
            k = self.assignment.categories.index(category)
            row["truths"] = int(self.assignment.positives[k])
            row["detections"] = int((self.assignment.found.category == k).sum())
            row["best_f1"] = asdict(self.best.per_class[category])
        return row

    def _classes(self) -> Table:
        rows = []
        for category in self.coco.per_class:
            row = self._class(category)
            row |= row.pop("best_f1", {})
            rows.append({key: _show(value) if isinstance(value, float) else str(value) for key, value in row.items()})
        notes = [f"threshold, f1, precision and recall: at the class's best F1 at IoU {IOU:g}"] if self.best else []
        return Table(
            "per_class", "By class", list(rows[0]) if rows else [], [list(row.values()) for row in rows], notes
        )

    def _tide(self) -> Table:
        assert self.tide
        rows = [[name, str(self.tide.counts.get(name, "-")), _show(cost)] for name, cost in self.tide.costs.items()]
        notes = [
            f"AP at IoU {IOU:g} is {_show(self.tide.ap)}; a cost is what it gains if that error alone is mended.",
            "false positives, false negatives: if every wrong detection, every truth not found went.",
        ]
        return Table("tide", "Errors by TIDE", ["error", "number", "costs AP"], rows, notes)

    def _confusion(self) -> Table:
        assert self.confusion
        counts, labels = self.confusion.counts, [*map(self.name, self.confusion.categories), "background"]
        threshold = self.confusion.score_threshold
        kept = f"detections scored {threshold:.4g} or more" if math.isfinite(threshold) else "all detections"
        notes = [f"At IoU {IOU:g}, of {kept}."]
        if self.confusion.absorbed:
            notes.append(f"Detections that lie in crowds and are left out: {self.confusion.absorbed}.")
        if len(labels) - 1 <= WIDEST:
            rows = [[label, *map(str, row)] for label, row in zip(labels, counts.tolist(), strict=True)]
            return Table("confusion", "Confusion: rows are truths, columns detections", ["", *labels], rows, notes)
        between = counts[:-1, :-1].copy()
        np.fill_diagonal(between, 0)
        largest = [divmod(int(at), len(between)) for at in np.argsort(-between, axis=None, kind="stable")[:WIDEST]]
        rows = [[labels[i], labels[j], str(between[i, j])] for i, j in largest if between[i, j]]
        notes.append(f"Right: {counts.trace()}, of another class: {between.sum()}, not found: {counts[:, -1].sum()}, "
                     f"nothing there: {counts[-1].sum()}. All {len(labels) - 1} classes are in --json.")  # fmt: skip
        title = f"Confusion: the {len(rows)} most frequent between classes"
        return Table("confusion", title, ["truth", "taken for", "number"], rows, notes)

    def _calibration(self) -> Table:
        assert self.calibration
        curve = self.calibration.curve
        rows = [
            [f"{low:.2f} to {high:.2f}", str(count), _show(confidence), _show(precision), _show(quality)]
            for low, high, count, confidence, precision, quality in zip(
                curve.edges[:-1], curve.edges[1:], curve.count, curve.confidence, curve.precision, curve.quality,
                strict=True,
            )
            if count
        ]  # fmt: skip
        header = ["score", "detections", "mean score", "precision", "precision x IoU"]
        notes = [
            f"D-ECE {_show(self.calibration.ece)}, LaECE (mean over classes) {_show(self.calibration.laece)}; "
            f"right means IoU {IOU:g} or more."
        ]
        return Table("calibration", "Calibration", header, rows, notes)


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
    score_threshold: float | None = None,
    resamples: int = 0,
    tell: Callable[[str], None] = lambda note: None,
    progress: Callable[[str], None] = lambda step: None,
) -> Evaluation:
    """Evaluate detections against a ground truth; ``plots``: a folder for pictures of all parts.

    ``tell`` hears of what was left out or is odd. Raises UsageError that names the file and the field where one
    cannot be read, or the option where it does not go with another.
    """
    from metrics.coco import evaluate_coco

    limits = _limits(max_detections)
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
    truth, found = read_sides(ground_truth, detections, format, images, progress)
    backend: Any = "fidmap" if iou_type == "bbox" else "faster_coco_eval"
    progress(f"evaluating {len(found)} detections")
    try:
        coco = evaluate_coco(
            truth, found, iou_type="bbox" if iou_type == "bbox" else "segm", max_detections=limits, backend=backend
        )
    except ValueError as error:
        file = detections if str(error).startswith("detections") else ground_truth
        raise UsageError(f"{file}: {error}") from None
    except (RuntimeError, TypeError) as error:  # how the libraries speak of masks
        if iou_type == "bbox":
            raise
        why, accepted = str(error).splitlines()[0], "polygons or RLE of a truth and RLE of a detection are accepted"
        raise UsageError(f"{ground_truth}, {detections}: a bad segmentation ({why}); {accepted}") from None
    counts = _count(coco, truth, found)
    _tell_what_is_odd(coco, counts, ground_truth, detections, tell)
    if coco.matching is None:
        return Evaluation(coco, counts, per_class)

    from metrics.assignment import assign_boxes
    from metrics.operating_point import best_f1

    matching = coco.matching
    assignment = assign_boxes(matching.truth, matching.found, matching.categories, IOU, limits[-1])
    best = best_f1(assignment)
    at_score = None
    if score_threshold is not None:
        at_score = {"threshold": score_threshold, **coco.at_score(score_threshold, IOU)}
    result = Evaluation(
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


def _tide(assignment: Assignment) -> TideResult:
    from metrics.tide import tide

    return tide(assignment)


def _confusion(assignment: Assignment, best: BestF1, threshold: float | None) -> ConfusionMatrix:
    """At the best F1 unless a threshold is given; of all detections where none is right."""
    from metrics.confusion import confusion

    if threshold is None:
        threshold = best.overall.threshold if best.overall.f1 > 0 else -math.inf
    return confusion(assignment, threshold)


def _calibration(assignment: Assignment, file: Path) -> CalibrationResult:
    from metrics.detection_calibration import calibration

    try:
        return calibration(assignment)
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from None


def _limits(text: str) -> tuple[int, ...]:
    try:
        limits = tuple(sorted(int(part) for part in text.split(",")))
    except ValueError:
        limits = ()
    if len(set(limits)) != 3 or len(limits) != 3 or limits[0] < 1:
        raise UsageError(f"--max-detections {text!r}: expected three different positive numbers, as 1,10,100")
    return limits


def _count(coco: CocoResult, truth: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, int]:
    crowds = sum(bool(entry.get("iscrowd", 0)) for entry in truth["annotations"])
    counts = {
        "images": len(truth["images"]),
        "truths": len(truth["annotations"]) - crowds,
        "crowds": crowds,
        "detections": len(found),
        "unlisted_category": coco.left_out,
        "annotation_id_0": coco.id_zero,
    }
    if coco.matching:
        counts["beyond_max_detections"] = len(found) - coco.left_out - len(coco.matching.found.score)
    return counts


def _tell_what_is_odd(
    coco: CocoResult, counts: dict[str, int], ground_truth: Path, detections: Path, tell: Callable[[str], None]
) -> None:
    if coco.left_out:
        tell(f"{detections}: left out {coco.left_out} detections of categories that {ground_truth} does not list")
    if beyond := counts.get("beyond_max_detections", 0):
        tell(f"{detections}: left out {beyond} detections beyond {coco.max_detections[-1]} of an image and class")
    if coco.id_zero:
        tell(f"{ground_truth}: annotations with the id 0: {coco.id_zero}; they count as any other here, "
             "while pycocotools takes what matches them for unmatched")  # fmt: skip
    if not counts["detections"]:
        tell(f"{detections}: no detections")
    if not counts["truths"]:
        tell(f"{ground_truth}: no truths but crowds, so that every figure is -1")


def _point(point: dict[str, float]) -> str:
    """An operating point in words."""
    rest = ", ".join(f"{name} {_show(point[name])}" for name in ("f1", "precision", "recall"))
    return f"score {point['threshold']:.4g}: {rest}"


def _show(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
