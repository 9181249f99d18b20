"""``fidmap evaluate detections --protocol voc``: PASCAL VOC's average precision for the user's files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.evaluate.detection_report import as_json, one_line, show
from bench.evaluate.detections import read_sides, tell_what_is_empty
from bench.report.tables import Table

if TYPE_CHECKING:
    from metrics.detection.voc import VocResult

IOU = 0.5


@dataclass(frozen=True)
class VocReport:
    """The evaluation of detections by PASCAL VOC's rules, with both averages: over all points and over 11 recalls."""

    all_points: VocResult
    eleven_points: VocResult
    counts: dict[str, int]
    truths: dict[Any, int]  # category id -> number of positives
    per_class: bool

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON: mAP over all points and over 11 recalls, counts, and perhaps classes; NaN is None."""
        parts = {"protocol": "voc", "mAP": self.all_points.map, "mAP11": self.eleven_points.map, "iou": IOU}
        parts |= {"counts": self.counts}
        return as_json(parts | ({"per_class": self._classes()} if self.per_class else {}))

    def table(self) -> str:
        """The whole report as markdown tables: the figures and, if asked for, a row per class."""
        rows = [
            [
                "mAP",
                show(self.all_points.map),
                "area under the curve of precision (from VOC2010 on), mean of classes",
            ],
            ["mAP11", show(self.eleven_points.map), "mean of precision at 11 recalls (to VOC2009), mean of classes"],
        ]
        notes = [", ".join(f"{what.replace('_', ' ')}: {number}" for what, number in self.counts.items())]
        notes.append(f"At IoU {IOU:g}; difficult truths and crowds neither count nor make a detection false.")
        tables = [Table("figures", "VOC's figures", ["figure", "value", "of"], rows, notes)]
        if self.per_class and (classes := self._classes()):
            body = [[show(v) if isinstance(v, float) else str(v) for v in row.values()] for row in classes]
            tables.append(Table("per_class", "By class", list(classes[0]), body, []))
        return "\n".join(table.render("md") for table in tables)

    def _classes(self) -> list[dict[str, Any]]:
        return [
            {
                "id": category, "name": one_line(self.all_points.names[category]), "AP": value,
                "AP11": self.eleven_points.per_class[category], "truths": self.truths[category],
            }
            for category, value in self.all_points.per_class.items()
        ]  # fmt: skip


def evaluate(
    ground_truth: Path,
    detections: Path,
    *,
    per_class: bool = False,
    format: str = "auto",
    images: Path | None = None,
    tell: Callable[[str], None] = lambda note: None,
    progress: Callable[[str], None] = lambda step: None,
) -> VocReport:
    """Evaluate detections against a ground truth by PASCAL VOC's rules, at IoU .5.

    Parameters and errors are those of ``bench.evaluate.detections.evaluate``.
    """
    from metrics.detection.voc import average_voc, match_voc

    inputs = read_sides(ground_truth, detections, "bbox", format, images, tell, progress)
    progress(f"evaluating {len(inputs.detections.score)} detections")
    matching = match_voc(inputs, iou=IOU)
    counts = {
        "images": len(inputs.images),
        "truths": int(matching.positives.sum()),
        "difficult": int((matching.difficult & ~inputs.truths.crowd).sum()),
        "crowds": int(inputs.truths.crowd.sum()),
        "detections": len(inputs.detections.score) + inputs.left_out,
        "unlisted_category": inputs.left_out,
    }
    tell_what_is_empty(counts, ground_truth, detections, tell)
    truths = dict(zip(inputs.categories, matching.positives.tolist(), strict=True))
    return VocReport(average_voc(matching, "all"), average_voc(matching, "11"), counts, truths, per_class)
