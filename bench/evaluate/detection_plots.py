"""Plots of a report on detections: precision over recall, confusion matrix, TIDE's errors, reliability diagram."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.files import write_atomic
from bench.report.facets import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.evaluate.detection_report import DetectionReport
    from bench.evaluate.detector_report import DetectorReport
    from metrics.detection.calibration import CalibrationResult
    from metrics.detection.confusion import ConfusionMatrix

NAMED = 2 * len(COLOURS)  # classes with a named line: each colour, solid and dashed
WRITTEN = 15  # the most classes for which cells of the confusion matrix show their counts
SAID = 3  # the most verdicts in a title
LABELLED = 45  # the most classes for which the confusion matrix labels each


def draw(result: DetectionReport, folder: Path) -> list[Path]:
    """Write the plots of a report that have something to show into ``folder`` as PNG, and return the files."""
    figures: dict[str, Figure] = {}
    if result.counts["truths"]:
        figures["precision_recall.png"] = precision_recall(result)
        figures["precision_recall_by_class.png"] = precision_recall_by_class(result)
        if result.tide:
            figures["tide.png"] = result.tide.plot()
    if result.confusion and result.confusion.counts.any():
        figures["confusion.png"] = confusion(result.confusion, result.coco.names)
    if result.calibration and result.calibration.curve.count.any():
        figures["reliability.png"] = reliability(result.calibration, result.iou)
    return [_write(figure, folder / name) for name, figure in figures.items()]


def draw_comparison(report: DetectorReport, folder: Path) -> Path | None:
    """Write the precision-recall curves of compared detectors as one PNG into ``folder``; None without truths."""
    if min(result.figures["AP"] for result in report.comparison.results.values()) < 0:
        return None
    return _write(compare_precision_recall(report), folder / "precision_recall.png")


def _write(figure: Figure, file: Path) -> Path:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=130, metadata={"Software": None})
    write_atomic(file, target.getvalue())
    return file


def compare_precision_recall(report: DetectorReport) -> Figure:
    """Plot precision over recall of compared detectors: left at one IoU, right the mean over all IoU thresholds.

    The title says the verdicts on AP.
    """
    from bench.evaluate.detector_report import threshold_of
    from bench.evaluate.differences import phrase
    from metrics.detection.curves import RECALLS

    figure = _figure(11, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    iou, results = threshold_of(report), report.comparison.results
    for index, (name, result) in enumerate(results.items()):
        style: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)], "linestyle": "-" if index < len(COLOURS) else "--",
            "linewidth": 1.6,
        }  # fmt: skip
        every = np.mean([result.curve(iou=threshold) for threshold in result.params.iou_thresholds], axis=0)
        for axes, curve in ((left, result.curve(iou=iou)), (right, every)):
            axes.plot(RECALLS, curve, label=f"{_short(name)}  ({curve.mean():.3f})", **style)
    for axes, title in ((left, f"Mean over classes at IoU {iou:g}"), (right, "Mean over classes and IoU thresholds")):
        _legend(axes, "detector (AP)")
        axes.set_title(title, fontsize=11)
        _unit_square(axes, "recall")
    left.set_ylabel("precision")
    said = [phrase(found["AP"], pair, "higher") for pair, found in report.comparison.figures.items() if "AP" in found]
    more = [f"{len(said) - SAID} more pairs"] if len(said) > SAID else []
    figure.suptitle("By AP, " + "; ".join([*said[:SAID], *more]), fontsize=11)
    return figure


def precision_recall(result: DetectionReport) -> Figure:
    """Plot precision over recall: left, the mean over classes at each IoU; right, each class at one IoU.

    The classes with the most truths have named curves, the others are grey. Equal curves are one line.
    """
    from metrics.detection.curves import RECALLS

    figure = _figure(11, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for name, iou, shade in _group_thresholds(result, [None]):
        curve, ap = result.coco.curve(iou=iou), result.coco.per_threshold[iou]
        if ap >= 0:
            left.plot(RECALLS, curve, color=shade, label=f"{name}  ({ap:.3f})", linewidth=1.5)
    _legend(left, "IoU (AP)")
    left.set_title("Mean over classes", fontsize=11)

    curves = {name: result.coco.curve(name, result.iou) for name in result.coco.per_class}
    curves = {name: curve for name, curve in curves.items() if curve[0] >= 0}
    ranked = sorted(curves, key=lambda name: -_truths(result, name))
    for name in ranked[NAMED:]:
        right.plot(RECALLS, curves[name], color="#BBBBBB", linewidth=0.7)
    equal: dict[bytes, list[Any]] = {}
    for name in ranked[:NAMED]:
        equal.setdefault(curves[name].tobytes(), []).append(name)
    for index, names in enumerate(equal.values()):
        curve, words = curves[names[0]], "\n= ".join(_short(result.coco.names[name]) for name in names)
        right.plot(
            RECALLS, curve, color=COLOURS[index % len(COLOURS)], linestyle="-" if index < len(COLOURS) else "--",
            linewidth=1.4, label=f"{words}  ({curve.mean():.3f})",
        )  # fmt: skip
    _legend(right, f"class (AP{100 * result.iou:.0f})")
    rest = f", {len(ranked) - NAMED} more in grey" if len(ranked) > NAMED else ""
    right.set_title(f"Each class at IoU {result.iou:g}{rest}", fontsize=11)
    for axes in (left, right):
        _unit_square(axes, "recall")
    left.set_ylabel("precision")
    means = {result.coco.names[name]: float(curve.mean()) for name, curve in curves.items()}
    figure.suptitle(f"AP {result.coco.figures['AP']:.3f}{_say_ends(means, f'AP{100 * result.iou:.0f}')}", fontsize=11)
    return figure


def precision_recall_by_class(result: DetectionReport) -> Figure:
    """Plot precision over recall for each class in a panel of its own, with one curve per IoU threshold."""
    from metrics.detection.curves import RECALLS

    names = [name for name, ap in result.coco.per_class.items() if ap >= 0]
    columns = min(len(names), max(5, math.ceil(math.sqrt(1.2 * len(names)))))
    rows = math.ceil(len(names) / columns)
    figure = _figure(2.3 * columns + 1.0, 2.2 * rows + 0.5)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    groups = _group_thresholds(result, names)
    for axes, name in zip(grid.flat, names, strict=False):
        for said, iou, shade in groups:
            axes.plot(RECALLS, result.coco.curve(name, iou), color=shade, linewidth=1.1, label=said)
        axes.set_title(f"{_short(result.coco.names[name])}  {result.coco.per_class[name]:.3f}", fontsize=9)
        _unit_square(axes)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", title="IoU", frameon=False, fontsize=8)
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    means = {result.coco.names[name]: result.coco.per_class[name] for name in names}
    figure.suptitle(f"Precision over recall, by class (AP){_say_ends(means, 'AP')}", fontsize=11)
    figure.get_layout_engine().set(wspace=0.05)  # the last tick of a panel keeps apart from the first of the next
    return figure


def confusion(matrix: ConfusionMatrix, names: Mapping[Any, str]) -> Figure:
    """Plot a confusion matrix, truths by row and detections by column, each with a last one for the background.

    Shades are shares of the row, numbers are counts. ``names`` gives the names of the categories.
    """
    counts = matrix.counts
    labels = [*(_short(names[category]) for category in matrix.categories), "background"]
    n = len(labels)
    side = float(np.clip(0.5 * n + 2.2, 4.5, 14))
    figure = _figure(side + 1.2, side)
    axes = figure.subplots()
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if n - 1 <= WRITTEN:
        for i, j in np.argwhere(counts > 0):
            colour = "white" if share[i, j] > 0.6 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=8)
    step = max(1, math.ceil((n - 1) / LABELLED))
    at = [*range(0, n - 1, step), n - 1]
    size = 9 if n <= 25 else 7
    axes.set_xticks(at, [labels[i] for i in at], rotation=90 if n > 12 else 45, ha="center" if n > 12 else "right",
                    rotation_mode="default" if n > 12 else "anchor", fontsize=size)  # fmt: skip
    axes.set_yticks(at, [labels[i] for i in at], fontsize=size)
    for line in (axes.axhline, axes.axvline):
        line(n - 1.5, color="grey", linewidth=0.8)
    axes.set_xlabel("class of the detection")
    axes.set_ylabel("class of the truth")
    kept = f"scores from {matrix.score_threshold:.3g}" if math.isfinite(matrix.score_threshold) else "all scores"
    said = _say_confusion(counts, labels)
    axes.set_title("\n".join(filter(None, [said, f"Confusion at IoU {matrix.iou_threshold:g}, {kept}"])), fontsize=11)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the row")
    return figure


def _say_confusion(counts: np.ndarray, labels: list[str]) -> str:
    """Which class is most often taken for which other; empty where none is."""
    wrong = counts[:-1, :-1] * ~np.eye(len(labels) - 1, dtype=bool)
    if not wrong.any():
        return ""
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    return f"Most often taken for another class: {labels[i]} for {labels[j]} ({wrong[i, j]})"


def reliability(calibration: CalibrationResult, iou: float) -> Figure:
    """Plot a reliability diagram: precision, and precision times IoU, by score; below, the number of detections.

    ``iou`` is the threshold at which a detection is right, for the title.
    """
    curve = calibration.curve
    figure = _figure(5.6, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = np.diff(curve.edges)
    some = curve.count > 0
    left = curve.edges[:-1][some]
    upper.bar(
        left, curve.precision[some], width[some], align="edge", color=COLOURS[5], edgecolor="white", label="precision"
    )
    upper.plot(
        curve.confidence[some], curve.quality[some], "o", color=COLOURS[1], markersize=4, label="precision x IoU"
    )
    upper.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="score = precision")
    excess = float(np.average(curve.confidence[some] - curve.precision[some], weights=curve.count[some]))
    wrong = f"too {'high' if excess > 0 else 'low'} by {abs(excess):.3f}"
    says = f"Scores are {wrong if abs(excess) >= 5e-4 else 'right'} on average"
    errors = f"D-ECE {calibration.ece:.3f}, LaECE {calibration.laece:.3f} at IoU {iou:g}"
    upper.set_title(f"{says}\n{errors}", fontsize=11)
    upper.legend(frameon=False, fontsize=9, loc="upper left")
    upper.set_ylabel("precision (share of 1)")
    upper.set_ylim(0, 1.02)
    lower.bar(left, curve.count[some], width[some], align="edge", color="grey", edgecolor="white")
    lower.set_ylabel("detections")
    lower.set_xlabel("score")
    lower.set_xlim(0, 1)
    if curve.count.max() > 20 * np.median(curve.count[some]):
        lower.set_yscale("log")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _group_thresholds(result: DetectionReport, names: Sequence[Any]) -> list[tuple[str, float, Any]]:
    """IoU thresholds in words with one of them and a colour; neighbours whose curves are equal for all names are one.

    A name is a category, or None for the mean over them.
    """
    groups: list[list[float]] = []
    for iou in result.coco.per_threshold:
        if groups and all(
            np.array_equal(result.coco.curve(name, groups[-1][0]), result.coco.curve(name, iou)) for name in names
        ):
            groups[-1].append(iou)
        else:
            groups.append([iou])
    words = [f"{own[0]:g}" if len(own) == 1 else f"{own[0]:g} to {own[-1]:g}" for own in groups]
    return [(word, own[0], shade) for word, own, shade in zip(words, groups, _shades(len(groups)), strict=True)]


def _say_ends(means: Mapping[str, float], figure: str) -> str:
    """Which class has the highest figure and which the lowest; empty where all are equal."""
    if len(set(means.values())) < 2:
        return ""
    ranked = sorted(means, key=lambda name: means[name])
    worst, best = ranked[0], ranked[-1]
    return (
        f"; {figure} is highest for {_short(best)} ({means[best]:.3f}), lowest for {_short(worst)} ({means[worst]:.3f})"
    )


def _shades(n: int) -> Sequence[Any]:
    """``n`` colours from light to dark for growing IoU thresholds, which differ in greyscale too."""
    from matplotlib import colormaps

    return [colormaps["cividis_r"](0.15 + 0.85 * (i + 1) / n) for i in range(n)]


def _unit_square(axes: Axes, xlabel: str = "") -> None:
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(xlabel)
    axes.grid(True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes, title: str) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(
            title=title, fontsize=8, title_fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
        )


def _truths(result: DetectionReport, category: Any) -> int:
    assert result.assignment
    return int(result.assignment.positives[result.assignment.categories.index(category)])


def _short(name: str) -> str:
    """A class's name as a label: shortened, and with escaped dollar signs, which would begin a formula."""
    return (name if len(name) <= 20 else f"{name[:11]}…{name[-8:]}").replace("$", r"\$")
