"""The comparison of detectors on the same images, as tables and for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.evaluate.detection_report import IOU, as_json, describe_figure, one_line, show
from bench.evaluate.differences import HEADER, MEANING, conclude, show_difference, tell_difference
from bench.report.tables import Table

if TYPE_CHECKING:
    from metrics.detection.paired import DetectorComparison


@dataclass(frozen=True)
class DetectorReport:
    """The comparison of detectors on the same images, with the numbers of what was read of each."""

    comparison: DetectorComparison
    counts: dict[str, dict[str, int]]
    per_class: bool

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON: the figures and counts of each detector, and a list of differences with verdicts."""
        results = self.comparison.results
        parts: dict[str, Any] = {
            "detectors": {
                name: {"figures": result.figures, "counts": self.counts[name]} for name, result in results.items()
            },
            "images": self.comparison.images,
            "differences": [
                {"detector": pair[0], "against": pair[1], "figure": figure, **tell_difference(found, pair, "higher")}
                for pair, differences in self.comparison.figures.items()
                for figure, found in differences.items()
            ],
        }
        if self.per_class:
            for name, result in results.items():
                parts["detectors"][name]["per_class"] = result.per_class
            parts["classes"] = [
                {"detector": pair[0], "against": pair[1], "id": id, "name": self._name(id),
                 **tell_difference(found, pair, "higher")}
                for pair, differences in self.comparison.classes.items()
                for id, found in differences.items()
            ]  # fmt: skip
        return as_json(parts)

    def conclusions(self) -> list[str]:
        """A sentence for each pair on its difference in AP."""
        return [
            f"AP: {conclude(found['AP'], pair, 'higher')}" if "AP" in found else
            f"AP: {pair[0]} and {pair[1]} have no interval from so few images"
            for pair, found in self.comparison.figures.items()
        ]  # fmt: skip

    def table(self) -> str:
        """The whole report as markdown tables: the figures, their differences, and those of classes if asked for."""
        tables = [self._figures(), self._differences(), *([self._classes()] if self.per_class else [])]
        return "\n".join(table.render("md") for table in tables)

    def _figures(self) -> Table:
        results = self.comparison.results
        first = next(iter(results.values()))
        rows = [
            [figure, *(show(result.figures[figure]) for result in results.values()),
             describe_figure(figure, first.params)]
            for figure in first.figures
        ]  # fmt: skip
        notes = [
            f"{name}: " + ", ".join(f"{what.replace('_', ' ')}: {number}" for what, number in counts.items())
            for name, counts in self.counts.items()
        ]
        return Table("figures", "COCO's figures", ["figure", *results, "of"], rows, notes)

    def _differences(self) -> Table:
        from metrics.detection.paired import LEAST

        rows = [
            [pair[0], pair[1], figure, *show_difference(found, pair, "higher")]
            for pair, differences in self.comparison.figures.items()
            for figure, found in differences.items()
        ]
        notes = [
            *self.conclusions(),
            f"differences and 95 % intervals are of the same {self.comparison.images} images, by the jackknife over"
            f" them; figures with truths in fewer than {LEAST} images have none; {MEANING} of a figure, and not over"
            " figures: AP decides, the others explain",
        ]
        header = ["detector", "against", "figure", *HEADER]
        return Table("differences", "Differences on the same images", header, rows, notes)

    def _classes(self) -> Table:
        from metrics.detection.paired import LEAST

        results = self.comparison.results
        rows = [
            [self._name(id), pair[0], pair[1], *(show(results[name].per_class[id]) for name in pair),
             *show_difference(found, pair, "higher")]
            for pair, differences in self.comparison.classes.items()
            for id, found in differences.items()
        ]  # fmt: skip
        first = next(iter(results.values()))
        shown = next(iter(self.comparison.classes.values()))
        rare = [self._name(id) for id in first.per_class if id not in shown]
        notes = [f"{MEANING} and classes"]
        if rare:
            notes.append(f"classes with truths in fewer than {LEAST} images are left out: {', '.join(rare)}")
        header = ["class", "detector", "against", "its AP", "other AP", *HEADER]
        return Table("classes", "Differences in AP by class", header, rows, notes)

    def _name(self, id: Any) -> str:
        return one_line(next(iter(self.comparison.results.values())).names[id])


def threshold_of(report: DetectorReport) -> float:
    """The IoU threshold of single curves: .5, or the least of the thresholds where that is not among them."""
    thresholds = next(iter(report.comparison.results.values())).params.iou_thresholds
    return IOU if IOU in thresholds else thresholds[0]
