"""TIDE: how much AP each type of error costs a detector.

    result = evaluate_tide("instances.json", "detections.json")
    print(result.summarise())
    result.plot().savefig("tide.png")

A detection that is neither right nor ignored (``metrics.detection.assignment``) has one error. Let ``s`` be its
greatest IoU with a truth of its class, ``o`` with one of another class, ``t`` the IoU threshold (.5) and ``b`` that of
the background (.1). The error is the first of these that holds:

- ``localisation``: b <= s < t
- ``classification``: o >= t
- ``duplicate``: s >= t, where a better detection has the truth
- ``background``: s, o <= b
- ``both``: all others

``missed`` counts the truths that no detection takes and that no localisation or classification error would take if it
were mended. The cost of a type is what AP gains if the errors of that type alone are mended:

- localisation, classification: of the errors that point to one free truth, the one with the highest score becomes right
  (with the class of the truth) and the others are removed, as are those that point to a truth that is taken.
- duplicate, background, both: the detections are removed.
- missed: the truths are removed. A category of which neither truth nor detection is left has an AP of 1.

The costs do not add up to 1 - AP. ``false positives`` is what AP gains if every detection that is not right is removed,
``false negatives`` if every truth that no detection takes is removed; both may exceed the costs of all types together.
AP and costs leave out categories without truths, as COCO does; the counts include the errors of their detections.
Paper: Bolya et al., arXiv 2008.08115.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.detection.assignment import Assignment, assign_detections, average_precision
from metrics.detection.overlaps import overlap_blocks, write_most_overlapped
from metrics.detection.tide_errors import EVERY, TYPES, Evidence, Missed, Ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TideResult:
    """TIDE's analysis of a detector: AP at one IoU, and the count and the cost in AP of each type of error.

    ``per_class`` has the costs by category. ``error`` is the type of each detection's error, and ``missed`` marks the
    truths that nothing finds.
    """

    ap: float
    iou_threshold: float
    counts: dict[str, int]  # of the six types
    costs: dict[str, float]  # of the six types and of the two oracles; means over categories
    per_class: dict[Any, dict[str, float]]  # category id -> costs; NaN without a truth
    assignment: Assignment = field(repr=False)
    error: Int[np.ndarray, " detection"] = field(repr=False)  # position in ``TYPES``, -1: none
    missed: Bool[np.ndarray, " truth"] = field(repr=False)

    def summarise(self) -> str:
        """Write AP, and the count and cost of each type of error, as a markdown table."""
        rows = [f"| {name} | {self.counts.get(name, '')} | {cost:.4f} |" for name, cost in self.costs.items()]
        head = f"AP at IoU {self.iou_threshold:g}: {self.ap:.4f}"
        return "\n".join([head, "", "| error | number | costs AP |", "|---|---:|---:|", *rows])

    def plot(self) -> Figure:
        """Draw the costs in AP as bars: six types of error, then the oracles of false positives and false negatives."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        names = list(self.costs)[::-1]
        colours = ["#0072B2" if name in self.counts else "#E69F00" for name in names]
        bars = axes.barh(names, [self.costs[name] for name in names], color=colours)
        labels = [
            f"{self.costs[name]:.3f}" + (f"  ({self.counts[name]})" if name in self.counts else "") for name in names
        ]
        axes.bar_label(bars, labels, padding=3, fontsize=9)
        axes.set_xlim(min(0, *self.costs.values()), 1.25 * max(1e-3, *self.costs.values()))
        axes.axhline(1.5, color="grey", linewidth=0.8, linestyle=":")
        axes.set_xlabel(f"AP gained at IoU {self.iou_threshold:g} if it alone is mended (number of errors)")
        worst = max(self.counts, key=lambda name: self.costs[name])
        said = (
            f"Of the errors, {worst} costs most: {self.costs[worst]:.3f}"
            if self.costs[worst] > 0
            else "No error costs AP"
        )
        axes.set_title(f"{said}, AP is {self.ap:.3f}", fontsize=11)
        axes.set_ylabel("type of error")
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def evaluate_tide(
    ground_truth: Any,
    detections: Any,
    *,
    iou_threshold: float = 0.5,
    background_threshold: float = 0.1,
    max_detections: int = 100,
) -> TideResult:
    """TIDE (2008.08115): how much AP each type of error costs a detector, as AP gained if those errors are mended.

    The types are localisation, classification, duplicate, background, both, and missed truths. An error of localisation
    has an IoU from ``background_threshold`` to ``iou_threshold`` with a truth of its class. Input and errors are those
    of ``evaluate_coco``; ``max_detections`` is per image and class. Raises ValueError unless 0 < background < iou <= 1.
    """
    assignment = assign_detections(ground_truth, detections, iou_threshold=iou_threshold, max_detections=max_detections)
    return classify_errors(assignment, background_threshold)


def classify_errors(assignment: Assignment, background_threshold: float = 0.1) -> TideResult:
    """TIDE's types of error and their costs (``evaluate_tide``) of detections that have been matched already."""
    if not 0 < background_threshold < assignment.iou_threshold:
        accepted = f"(0, iou_threshold = {assignment.iou_threshold})"
        raise ValueError(f"background_threshold {background_threshold} is not in {accepted}")
    evidence = _gather(assignment, background_threshold)
    error, target = _classify(evidence, ~assignment.hit & ~assignment.ignored)
    free = assignment.counted.copy()
    free[assignment.partner[assignment.hit]] = False
    target[~np.append(free, False)[target]] = -1
    truth, first = np.unique(target, return_index=True)  # detections stand in order of falling score
    best, missed = np.zeros(len(error), bool), free.copy()
    best[first[truth >= 0]] = True
    missed[truth[truth >= 0]] = False

    positives = assignment.positives
    ranking = Ranking(
        assignment.detections.category, assignment.hit, ~assignment.ignored, positives, assignment.truths.category,
        error, target, best, missed, free,
    )  # fmt: skip
    ap = _ap(ranking, positives)
    gains = {kind.name: _ap(kind.mend(ranking, number), positives) - ap for number, kind in enumerate(EVERY)}
    counts = {kind.name: int(np.count_nonzero(error == number)) for number, kind in enumerate(TYPES)}
    return TideResult(
        _mean(ap), assignment.iou_threshold, counts | {Missed.name: int(missed.sum())},
        {name: _mean(gain, empty=0.0) for name, gain in gains.items()},
        {k: {name: float(gain[i]) for name, gain in gains.items()} for i, k in enumerate(assignment.categories)},
        assignment, error, missed,
    )  # fmt: skip


def _classify(
    evidence: Evidence, wrong: Bool[np.ndarray, " detection"]
) -> tuple[Int[np.ndarray, " detection"], Int[np.ndarray, " detection"]]:
    """The position in ``TYPES`` of each wrong detection's error, and the truth that it points to; -1: none."""
    error, target = np.full((2, len(wrong)), -1)
    for number, kind in enumerate(TYPES):
        here = wrong & (error < 0) & kind.holds(evidence)
        error[here] = number
        target[here] = kind.target(evidence)[here]
    return error, target


def _ap(ranking: Ranking, positives: Int[np.ndarray, " category"]) -> Float[np.ndarray, " category"]:
    """AP of the categories that had a truth before anything was mended; NaN of the others."""
    category, hit = ranking.category[ranking.scored], ranking.hit[ranking.scored]
    ap = average_precision(category, hit, ranking.positives)
    bare = (ranking.positives == 0) & (positives > 0)
    left = np.bincount(category, minlength=len(positives)) > 0
    return np.where(bare, np.where(left, 0.0, 1.0), ap)


def _mean(values: Float[np.ndarray, " category"], empty: float = -1.0) -> float:
    """The mean over the categories with truths; ``empty`` where there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else empty


def _gather(assignment: Assignment, background: float) -> Evidence:
    """What each detection overlaps most among the truths that count, of its class and of the others."""
    detections, n = assignment.detections, len(assignment.partner)
    position = np.flatnonzero(assignment.counted)
    truths = assignment.truths.select(position)
    same, other = ((np.zeros(n), np.full(n, -1)) for _ in range(2))
    for pairs in overlap_blocks(truths, detections, least=np.nextafter(0, 1)):
        own = detections.category[pairs.detection] == truths.category[pairs.truth]
        write_most_overlapped(pairs.select(own), *same)
        write_most_overlapped(pairs.select(~own), *other)
    (of_same, same_truth), (of_other, other_truth) = ((iou, np.append(position, -1)[at]) for iou, at in (same, other))
    return Evidence(of_same, same_truth, of_other, other_truth, assignment.least_iou, background)
