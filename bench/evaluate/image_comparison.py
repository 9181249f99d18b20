"""``fidmap evaluate images REAL A B ...``: sets of generated images against one reference, and their differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.errors import UsageError
from bench.evaluate import figures
from bench.evaluate.differences import HEADER, MEANING, conclude, show_difference, tell_difference
from bench.evaluate.figures import Figure
from bench.evaluate.images import (
    Origin,
    check_save,
    check_widths,
    choose_possible,
    extract,
    origin_of,
    save_statistics,
    show_floor,
    title_of,
)
from bench.evaluate.labels import label_sources
from bench.evaluate.sides import Statistics, read_side
from bench.progress import Steps
from bench.report.select import show
from bench.report.tables import Table
from bench.tasks.metrics.calls import bind
from metrics.catalogue import Metric
from metrics.extractors.extractor import Extractor
from metrics.paired import PairedDifference
from metrics.samples.paired import compare_samples
from metrics.samples.paired import count_calls as count_differences
from metrics.uncertainty import split_figures


@dataclass(frozen=True)
class Difference:
    """The difference of a figure between two sets of generated images: that of the first minus that of the second."""

    figure: str
    pair: tuple[str, str]
    better: str
    found: PairedDifference


@dataclass(frozen=True)
class ImageComparison:
    """Sets of generated images against one reference: figures of each by its name, and differences of pairs."""

    figures: dict[str, list[Figure]]
    differences: list[Difference]
    real: Origin
    generated: dict[str, Origin]
    extractor: str  # name@hash
    resize: str
    seed: int
    notes: list[str]

    def table(self) -> str:
        """The figures and their differences as markdown tables, with a sentence on each difference."""
        return "\n".join(table.render() for table in (self._figures(), self._differences()))

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON: the figures of each set, and a list of differences with verdicts."""
        return {
            "sets": {
                name: {"figures": [figure.as_dict() for figure in self.figures[name]], **asdict(origin)}
                for name, origin in self.generated.items()
            },
            "real": asdict(self.real),
            "differences": [
                {"set": d.pair[0], "against": d.pair[1], "figure": d.figure,
                 **tell_difference(d.found, d.pair, d.better)}
                for d in self.differences
            ],
            "extractor": self.extractor, "resize": self.resize, "seed": self.seed, "notes": self.notes,
        }  # fmt: skip

    def _figures(self) -> Table:
        rows = [
            [of_one[i].name, name, show(of_one[i].value), *show_floor(of_one[i])]
            for i in range(len(next(iter(self.figures.values()))))
            for name, of_one in self.figures.items()
        ]
        header = ["figure", "set", "value", "floor", "95 % of draws", "against the floor", "better"]
        sides = [f"real: {self.real.source}, n = {self.real.n}, data {self.real.data}"]
        sides += [f"{name}: {own.source}, n = {own.n}, data {own.data}" for name, own in self.generated.items()]
        sides.append(f"extractor {self.extractor or 'unknown'}, resize {self.resize or 'unknown'}, seed {self.seed}")
        return Table("figures", "Generated images against real ones", header, rows, sides)

    def _differences(self) -> Table:
        rows = [[*d.pair, d.figure, *show_difference(d.found, d.pair, d.better)] for d in self.differences]
        notes = [f"{d.figure}: {conclude(d.found, d.pair, d.better)}" for d in self.differences]
        notes.append(
            "intervals are by the jackknife over the images of both sets and of the reference, which are left out of"
            f" both figures at once; {MEANING} of a figure, and not over figures"
        )
        header = ["set", "against", "figure", *HEADER]
        return Table("differences", "Differences against one reference", header, rows, notes)


def compare(
    real: str,
    generated: Sequence[str],
    *,
    names: str | None = None,
    all_pairs: bool = False,
    extractor: str | None = None,
    metrics: str | None = None,
    batch: int = 64,
    seed: int = 0,
    device: str = "cpu",
    weights: Path | None = None,
    save_stats: Path | None = None,
    cache: bool = True,
    skip_bad: bool = False,
    workers: int | None = None,
) -> ImageComparison:
    """Compare sets of generated images against one reference: all others with the first, or ``all_pairs``.

    ``names`` has the sets' names with commas between, without it they come from the files; the other parameters are
    those of ``bench.evaluate.images.evaluate``. A figure whose bias depends on n is compared between sets of equal
    numbers alone. Raises UsageError that names the file or option at fault.
    """
    labels = label_sources(generated, names)
    chosen = figures.choose(figures.DEFAULT if metrics is None else metrics)
    check_save(save_stats)
    sides = [read_side(source, skip_bad=skip_bad, workers=workers) for source in (real, *generated)]
    for side in sides:
        if isinstance(side, Statistics):
            raise UsageError(f"{side.source}: statistics have no intervals; images or features of each are accepted")
    notes: list[str] = []
    loaded, features = extract(
        sides, extractor, weights=weights, device=device, batch=batch, cache=cache, skip_bad=skip_bad, notes=notes
    )
    reference, *others = (features[i] for i in range(len(sides)))
    check_widths([reference, *others])
    sets = dict(zip(labels, others, strict=True))
    chosen = choose_possible(chosen, reference, others, loaded, notes)
    label, mode = (loaded.label, loaded.resize) if loaded else ("", "")
    measured: dict[str, list[Figure]] = {name: [] for name in sets}
    differences: list[Difference] = []
    calls = len(sets) * (1 + 2 * figures.FLOOR_DRAWS) + count_differences(len(sets))
    with Steps("metrics", len(chosen) * calls) as steps:
        for index, metric in enumerate(chosen.values()):
            found, of_pairs = _measure(metric, reference, sets, loaded, all_pairs, seed, steps.advance, notes)
            for name, own in found.items():
                measured[name] += own
            differences += of_pairs
            steps.advance((index + 1) * calls - steps.done)
    if save_stats is not None:
        save_statistics(save_stats, sides[0], reference, label, mode)
    base = label.rpartition("@")[0]
    for name, own in measured.items():
        measured[name] = [replace(figure, name=title_of(figure.name, base, mode)) for figure in own]
    return ImageComparison(
        measured, [replace(each, figure=title_of(each.figure, base, mode)) for each in differences],
        origin_of(sides[0], reference),
        {name: origin_of(side, sets[name]) for name, side in zip(labels, sides[1:], strict=True)},
        label, mode, seed, list(dict.fromkeys(notes)),
    )  # fmt: skip


def _measure(
    metric: Metric, reference: Tensor, sets: dict[str, Tensor], extractor: Extractor | None, all_pairs: bool, seed: int,
    advance: Callable[[], None], notes: list[str],
) -> tuple[dict[str, list[Figure]], list[Difference]]:  # fmt: skip
    """The figures of a metric for each set, and their differences; what has none is noted."""
    if metric.takes == "logits" and extractor is not None:
        reference, sets = extractor.logits(reference), {name: extractor.logits(own) for name, own in sets.items()}
    measured = {}
    floors: dict[int, dict[str, Any]] = {}  # by the number of images
    function = bind(metric, seed)

    def call(*sides: Tensor) -> dict[str, float]:
        advance()
        return function(*sides)

    for name, own in sets.items():
        measured[name], _ = figures.measure(metric, reference, own, seed=seed, resamples=0, advance=advance)
        n = len(own)
        if metric.resampled and n not in floors:
            try:
                floors[n] = figures.draw_floors(metric, call, reference, n, seed)
            except ValueError as error:
                notes.append(f"{metric.name}: no floor at {n} images against {len(reference)} real ones: {error}")
        measured[name] = [
            replace(figure, floor=floors[n][key], floor_n=(n, len(reference))) if n in floors else figure
            for key, figure in zip(metric.quantities, measured[name], strict=True)
        ]
    differences: list[Difference] = []
    sizes = {len(own) for own in sets.values()}
    if not metric.resampled:
        notes.append(f"{metric.name}: no differences, as it is not computed again without some of the images")
        return measured, differences
    if len(sizes) > 1 and any(quantity.interval_of == "n" for quantity in metric.quantities.values()):
        numbers = ", ".join(map(str, sorted(sizes)))
        notes.append(f"{metric.name}: no differences, as its bias depends on n and the sets have {numbers} images")
        return measured, differences
    try:
        for key, value in split_figures(call, metric.quantities):
            quantity = metric.quantities[key]
            found = compare_samples(value, reference, sets, every=all_pairs, seed=seed)
            differences += [Difference(quantity.name, pair, quantity.better, each) for pair, each in found.items()]
    except ValueError as error:
        notes.append(f"{metric.name}: no differences ({error})")
    return measured, differences
