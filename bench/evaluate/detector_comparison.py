"""``fidmap evaluate detections GT A B ...``: detectors on the same images, their differences and a verdict in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import UsageError
from bench.evaluate.detections import evaluate_files, parse_params
from bench.evaluate.detector_report import DetectorReport
from bench.evaluate.labels import label_sources


def compare(
    ground_truth: Path,
    detections: Sequence[Path],
    *,
    names: str | None = None,
    all_pairs: bool = False,
    per_class: bool = False,
    plots: Path | None = None,
    format: str = "auto",
    images: Path | None = None,
    max_detections: str = "1,10,100",
    iou_thresholds: str | None = None,
    area_ranges: str | None = None,
    class_agnostic: bool = False,
    tell: Callable[[str], None] = lambda note: None,
    progress: Callable[[str], None] = lambda step: None,
) -> DetectorReport:
    """Compare detectors by their files on the same images: all others with the first, or ``all_pairs``.

    ``names`` has the detectors' names with commas between, without it they come from the files; the other parameters,
    ``tell`` and ``progress`` are those of ``bench.evaluate.detections.evaluate``. ``plots`` is a folder for a plot of
    the precision-recall curves of all. Raises UsageError that names the file or the option at fault.
    """
    from metrics.detection.paired import compare_results

    labels = label_sources(detections, names)
    params = parse_params(iou_thresholds, area_ranges, max_detections)
    told: set[str] = set()

    def tell_once(note: str) -> None:  # notes on the truths come with each detector
        if note not in told:
            tell(note)
        told.add(note)

    results, counts = {}, {}
    for name, file in zip(labels, detections, strict=True):
        results[name], counts[name] = evaluate_files(
            ground_truth, file, params, format=format, images=images, class_agnostic=class_agnostic, tell=tell_once,
            progress=progress,
        )  # fmt: skip
    progress(f"comparing {len(results)} detectors")
    try:
        comparison = compare_results(results, all_pairs)
    except ValueError as error:
        raise UsageError(str(error)) from None
    report = DetectorReport(comparison, counts, per_class)
    if plots:
        from bench.evaluate.detection_plots import draw_comparison

        if drawn := draw_comparison(report, plots):
            progress(f"wrote {drawn}")
    return report
