"""The report of ``fidmap evaluate detections``, as markdown tables and as one JSON object."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.tables import Table
from metrics.detection.params import AREAS, IOU_THRESHOLDS, CocoParams

if TYPE_CHECKING:
    from metrics.detection.assignment import Assignment
    from metrics.detection.calibration import CalibrationResult
    from metrics.detection.coco import CocoResult
    from metrics.detection.confusion import ConfusionMatrix
    from metrics.detection.operating_point import BestF1
    from metrics.detection.tide import TideResult

IOU = 0.5  # threshold of F1, TIDE, confusion and calibration, where it is among the thresholds
WIDEST = 25  # the most classes for which the confusion matrix is printed whole

_SIZES = {"s": "up to 32² pixels", "m": "32² to 96² pixels", "l": "from 96² pixels"}


@dataclass(frozen=True)
class DetectionReport:
    """The evaluation of detections: COCO's figures, and the further parts that were asked for; others are None."""

    coco: CocoResult
    counts: dict[str, int]
    per_class: bool
    assignment: Assignment | None = None  # None for masks, for which the parts that follow are None too
    best: BestF1 | None = None
    at_score: dict[str, float] | None = None
    tide: TideResult | None = None
    confusion: ConfusionMatrix | None = None
    calibration: CalibrationResult | None = None
    intervals: dict[str, tuple[float, float]] | None = None

    @property
    def iou(self) -> float:
        """The IoU threshold at which F1, TIDE, the confusion matrix and calibration are taken."""
        return self.assignment.iou_threshold if self.assignment else self.coco.params.iou_thresholds[0]

    def name(self, category: Any) -> str:
        """The name of the category with the id ``category``, in one line."""
        return one_line(self.coco.names[category])

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON: figures by name, and each part under its own key; NaN and infinities become None."""
        parts: dict[str, Any] = {
            "per_threshold": {f"{iou:g}": ap for iou, ap in self.coco.per_threshold.items()},
            "max_detections": list(self.coco.max_detections),
            "area_ranges": dict(zip(self.coco.params.area_names, self.coco.params.area_ranges, strict=True)),
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
                "ignored": self.confusion.ignored,
            }
        if self.calibration:
            curve = self.calibration.curve
            parts["calibration"] = {
                "ece": self.calibration.ece,
                "laece": self.calibration.laece,
                "iou": self.iou,
                "bins": {key: column.tolist() for key, column in asdict(curve).items()},
                "per_class": {
                    category: {"ece": of.ece, "laece": of.laece, "detections": int(of.count.sum())}
                    for category, of in self.calibration.per_class.items()
                },
            }
        return as_json(self.coco.figures | parts)

    def table(self) -> str:
        """The whole report as markdown tables: the figures, then each part that was asked for."""
        tables = [self._figures()]
        tables += [self._classes()] if self.per_class else []
        tables += [self._tide()] if self.tide else []
        tables += [self._confusion()] if self.confusion else []
        tables += [self._calibration()] if self.calibration else []
        return "\n".join(table.render("md") for table in tables)

    def _figures(self) -> Table:
        rows = [
            [name, show(value), describe_figure(name, self.coco.params)] for name, value in self.coco.figures.items()
        ]
        header = ["figure", "value", "of"]
        if self.intervals:
            header.insert(2, "95 % interval")
            for row in rows:
                row.insert(2, " to ".join(map(show, self.intervals[row[0]])))
        notes = [", ".join(f"{what.replace('_', ' ')}: {number}" for what, number in self.counts.items())]
        if self.intervals and self.coco.matching:
            notes.append(describe_intervals(len(self.coco.matching.images)))
        if self.best and self.best.overall.f1 > 0:
            notes.append(f"Best F1 at IoU {self.iou:g}: {_point(asdict(self.best.overall))}")
        if self.at_score:
            notes.append(f"At IoU {self.iou:g} and {_point(self.at_score)}")
        return Table("figures", "COCO's figures", header, rows, notes)

    def _class(self, category: Any) -> dict[str, Any]:
        row: dict[str, Any] = {"id": category, "name": self.name(category), "AP": self.coco.per_class[category]}
        for iou in sorted({0.5, 0.75} & set(self.coco.per_threshold)):
            row[f"AP{100 * iou:.0f}"] = float(self.coco.curve(category, iou).mean())
        if self.best and self.assignment:
            k = self.assignment.categories.index(category)
            row["truths"] = int(self.assignment.positives[k])
            row["detections"] = int((self.assignment.detections.category == k).sum())
            row["best_f1"] = asdict(self.best.per_class[category])
        return row

    def _classes(self) -> Table:
        rows = []
        for category in self.coco.per_class:
            row = self._class(category)
            row |= row.pop("best_f1", {})
            rows.append({key: show(value) if isinstance(value, float) else str(value) for key, value in row.items()})
        notes = (
            [f"threshold, f1, precision and recall: at the class's best F1 at IoU {self.iou:g}"] if self.best else []
        )
        return Table(
            "per_class", "By class", list(rows[0]) if rows else [], [list(row.values()) for row in rows], notes
        )

    def _tide(self) -> Table:
        assert self.tide
        rows = [[name, str(self.tide.counts.get(name, "-")), show(cost)] for name, cost in self.tide.costs.items()]
        notes = [
            f"AP at IoU {self.iou:g} is {show(self.tide.ap)}; a cost is what it gains if that error alone is mended.",
            "false positives, false negatives: if every wrong detection, every truth not found went.",
        ]
        return Table("tide", "Errors by TIDE", ["error", "number", "costs AP"], rows, notes)

    def _confusion(self) -> Table:
        assert self.confusion
        counts, labels = self.confusion.counts, [*map(self.name, self.confusion.categories), "background"]
        threshold = self.confusion.score_threshold
        kept = f"detections scored {threshold:.4g} or more" if math.isfinite(threshold) else "all detections"
        notes = [f"At IoU {self.iou:g}, of {kept}."]
        if self.confusion.ignored:
            notes.append(f"Detections that are ignored, in crowds or out of all area ranges: {self.confusion.ignored}.")
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
            [f"{low:.2f} to {high:.2f}", str(count), show(confidence), show(precision), show(quality)]
            for low, high, count, confidence, precision, quality in zip(
                curve.edges[:-1], curve.edges[1:], curve.count, curve.confidence, curve.precision, curve.quality,
                strict=True,
            )
            if count
        ]  # fmt: skip
        header = ["score", "detections", "mean score", "precision", "precision x IoU"]
        notes = [
            f"D-ECE {show(self.calibration.ece)}, LaECE (mean over classes) {show(self.calibration.laece)}; "
            f"right means IoU {self.iou:g} or more."
        ]
        return Table("calibration", "Calibration", header, rows, notes)


def describe_figure(name: str, params: CocoParams) -> str:
    """What one of COCO's figures is of, in words: precision or recall, and at which IoU, sizes or numbers."""
    what = "precision" if name.startswith("AP") else "recall"
    rest = name[2:]
    if rest in params.area_names:
        low, high = params.area_ranges[params.area_names.index(rest)]
        size = _SIZES[rest] if AREAS.get(rest) == (low, high) else f"area of {low:g} to {high:g} pixels"
        return f"{what}, {size}"
    if what == "recall":
        return f"{what}, at most {rest} detections per image and class"
    if rest:
        return f"{what} at IoU .{rest}"
    if params.iou_thresholds == IOU_THRESHOLDS:
        return "precision, mean over IoU .5 to .95 and classes"
    return f"precision, mean over IoU {', '.join(f'{iou:g}' for iou in params.iou_thresholds)} and classes"


def describe_intervals(images: int) -> str:
    """A note on the intervals of figures from ``images`` images: what they cover, and how often in simulations."""
    from metrics.detection.bootstrap import measured_coverage

    said = f"95 % intervals are of the figures that very many such images would give, from these {images}"
    found = measured_coverage(images)
    if found is None:
        return said
    n, low, high = found
    share = f"{low:.0%} to {high:.0%}" if low < high else f"{low:.0%}"
    return f"{said}; in simulations {share} of intervals from {n} images held them{', of fewer less' * (images < n)}"


def _point(point: dict[str, float]) -> str:
    """An operating point as text: score threshold, F1, precision and recall."""
    rest = ", ".join(f"{name} {show(point[name])}" for name in ("f1", "precision", "recall"))
    return f"score {point['threshold']:.4g}: {rest}"


def one_line(name: str) -> str:
    """A name with each run of white space, line breaks among them, replaced by one space."""
    return " ".join(name.split())


def show(value: float) -> str:
    """Format a figure of detections as text with four decimals, NaN as a dash."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def as_json(value: Any) -> Any:
    """A value, with all that it contains, for strict JSON: keys become texts, NaN and infinities None."""
    if isinstance(value, dict):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
