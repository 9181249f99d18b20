"""``fidmap evaluate images``: generated images measured against real ones, with intervals and floors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.environment import import_from_here
from bench.errors import UsageError
from bench.evaluate import figures
from bench.evaluate.features import features_of, sizes_of
from bench.evaluate.figures import Figure
from bench.evaluate.sides import Features, Images, Side, Statistics, read_side
from bench.progress import Steps
from bench.report.select import show
from bench.report.tables import Table
from metrics.catalogue import Metric
from metrics.extractors import load_extractor
from metrics.extractors.extractor import Extractor
from metrics.samples.frechet import FeatureStatistics, frechet_distance

FID = "inception", "bilinear-tf-299"  # (extractor, resize): the published weights after TensorFlow's resize


@dataclass(frozen=True)
class Origin:
    """Where the real or the generated images come from, so that a reader can tell which were measured."""

    source: str  # the file or folder
    n: int | None  # without those skipped; None where statistics do not say it
    data: str  # hash of the images' source
    skipped: int = 0  # images that could not be decoded


@dataclass(frozen=True)
class ImageReport:
    """The evaluation of generated images: the figures, both sides, the extractor, and notes for the reader."""

    figures: list[Figure]
    real: Origin
    generated: Origin
    extractor: str  # name@hash
    resize: str
    seed: int
    notes: list[str]

    def table(self) -> str:
        """The figures as a markdown table, with notes on both sides and on what intervals and floors mean."""
        header = ["figure", "value", "95 % interval", "of", "floor", "95 % of draws", "against the floor", "better"]
        rows = [
            [f.name, show(f.value), _span(f.interval), _OF[f.interval_of] if f.interval else "-",
             *show_floor(f)]
            for f in self.figures
        ]  # fmt: skip
        sides = [f"{name}: {side.source}, n = {side.n or 'unknown'}, data {side.data or 'unknown'}"
                 for name, side in (("real", self.real), ("generated", self.generated))]  # fmt: skip
        floors = {figure.floor_n for figure in self.figures if figure.floor_n}
        sides += [f"floor: {n} real images against {others} others, extrapolated (a line in 1/n, for shares and"
                  f" distances in 1/sqrt(n)) from splits of the {others} into two parts, mean of"
                  f" {figures.FLOOR_DRAWS} draws, and the range in which 95 % of further ones lie (Student's prediction"
                  " interval)" for n, others in floors]  # fmt: skip
        if any(figure.interval and figure.interval_of == "n" for figure in self.figures):
            sides.append(
                f"interval of 'this n': of the figure's mean over samples of {self.real.n} and {self.generated.n}, with"
                " its bias, not of its value for the two distributions, which it seldom contains where the figure is"
                " biased, as FD is; --metrics fd_debiased estimates FD of the distributions"
            )
        features = f"extractor {self.extractor or 'unknown'}, resize {self.resize or 'unknown'}, seed {self.seed}"
        return Table("figures", "Generated images against real ones", header, rows, [*sides, features]).render()

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON, with the figures as ``Figure.as_dict`` gives them."""
        found = asdict(self)
        found["figures"] = [figure.as_dict() for figure in self.figures]
        return found


def evaluate(
    real: str,
    generated: str,
    *,
    extractor: str | None = None,
    metrics: str | None = None,
    batch: int = 64,
    resamples: int = 50,
    seed: int = 0,
    device: str = "cpu",
    weights: Path | None = None,
    save_stats: Path | None = None,
    cache: bool = True,
    skip_bad: bool = False,
    workers: int | None = None,
) -> ImageReport:
    """Measure generated images against real ones.

    ``real`` and ``generated`` are folders, files or names of data sets (``read_side``). ``metrics`` is a list with
    commas, ``resamples`` the number of bootstrap resamples for intervals and floors, ``save_stats`` a file for the
    statistics of the real side, ``workers`` the number of threads that read images, which changes no figure. Raises
    UsageError that names the file or option at fault.
    """
    chosen = figures.choose(figures.DEFAULT if metrics is None else metrics)
    check_save(save_stats)
    sides = [read_side(source, skip_bad=skip_bad, workers=workers) for source in (real, generated)]
    statistics = next((side for side in sides if isinstance(side, Statistics)), None)
    notes: list[str] = []
    if statistics and "fd" not in chosen:
        raise UsageError(f"{statistics.source}: statistics give fd alone; --metrics is {metrics}")
    if statistics and len(chosen) > 1:
        left_out = ", ".join(name for name in chosen if name != "fd")
        notes.append(f"left out: {left_out}, as {statistics.source} holds statistics, which give fd alone")
    loaded, features = extract(
        sides, extractor, weights=weights, device=device, batch=batch, cache=cache, skip_bad=skip_bad, notes=notes
    )
    sides = _name_unknown(sides, extractor, loaded, notes)
    label, mode = (loaded.label, loaded.resize) if loaded else _find_label(sides)
    if statistics:
        both = [side.statistics if isinstance(side, Statistics) else _summarise(features[i], side, label, mode)
                for i, side in enumerate(sides)]  # fmt: skip
        try:
            distance = frechet_distance(both[0], both[1])
        except ValueError as error:
            raise UsageError(f"{real} and {generated}: {error}") from None
        measured = [Figure("fd", distance, "lower")]
        notes.append("statistics have neither an interval nor a floor: compare at equal n alone")
    else:
        measured = _measure(chosen, features[0], features[1], loaded, seed, resamples, notes)
    if save_stats is not None:
        save_statistics(save_stats, sides[0], features.get(0), label, mode)
    name = label.rpartition("@")[0]
    measured = [replace(figure, name=title_of(figure.name, name, mode)) for figure in measured]
    origins = [origin_of(side, features.get(i)) for i, side in enumerate(sides)]
    return ImageReport(measured, origins[0], origins[1], label, mode, seed, notes)


def extract(
    sides: list[Side], name: str | None, *, weights: Path | None, device: str, batch: int, cache: bool, skip_bad: bool,
    notes: list[str],
) -> tuple[Extractor | None, dict[int, Tensor]]:  # fmt: skip
    """The extractor, and the features of each side that is no statistics, by its position; parameters of ``evaluate``.

    Remarks on the images are appended to ``notes``. Raises UsageError on a side of fewer than 2 images.
    """
    loaded = _extractor(sides, name, weights, device)
    features: dict[int, Tensor] = {}
    for i, side in enumerate(sides):
        if isinstance(side, Features):
            features[i] = side.features
        elif isinstance(side, Images) and loaded is not None:
            features[i] = features_of(side, loaded, batch=batch, cache=cache, skip_bad=skip_bad, notes=notes)
    for other in sides[1:]:
        notes += _compare_sizes([sides[0], other], loaded)
    for i, found in features.items():
        if len(found) < 2:
            raise UsageError(f"{sides[i].source}: {len(found)} image; at least 2 are accepted")
    return loaded, features


def _extractor(sides: list[Side], name: str | None, weights: Path | None, device: str) -> Extractor | None:
    """Load the extractor: that of the option, else that of saved statistics on one side, else fmnist.

    None where no side has images.
    """
    given = [side for side in sides if isinstance(side, Features)]
    images = [side for side in sides if isinstance(side, Images)]
    if given and images:
        raise UsageError(
            f"{given[0].source} holds features, {images[0].source} does not; features of all sides are accepted"
        )
    unknown = [side for side in sides if isinstance(side, Statistics) and not side.statistics.extractor]
    if not images:
        if name and not unknown:
            raise UsageError(f"--extractor {name}: there are no images on either side")
        return None
    if name is None and unknown:
        raise UsageError(
            f"{unknown[0].source}: statistics of an unknown extractor; --extractor names the one they are of"
        )
    stored = next((side.statistics for side in sides if isinstance(side, Statistics)), None)
    if name is None and stored is not None:
        name = f"{stored.extractor.rpartition('@')[0]}@{stored.resize}"
    import_from_here()
    try:
        return load_extractor(name or "fmnist", weights=weights, device=device)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and error.filename:
            raise
        raise UsageError(f"--extractor: {error}") from None


def _name_unknown(sides: list[Side], name: str | None, loaded: Extractor | None, notes: list[str]) -> list[Side]:
    """The sides, in which statistics of an unknown extractor are taken to be of the one that the user names.

    Raises UsageError where the user names none, or another than that of the other side, which is known.
    """
    label, mode = (loaded.label, loaded.resize) if loaded else _find_label(sides)
    named: list[Side] = []
    for side in sides:
        if not isinstance(side, Statistics) or side.statistics.extractor:
            named.append(side)
            continue
        if label and name is None:
            raise UsageError(
                f"{side.source}: statistics of an unknown extractor; --extractor names the one they are of"
            )
        if label and loaded is None and name not in (label.rpartition("@")[0], f"{label.rpartition('@')[0]}@{mode}"):
            raise UsageError(f"--extractor {name}: the other side is of {label}, resize {mode}")
        if name is not None:
            notes.append(f"{side.source} does not say its extractor; it is taken to be {label or name}, as you say")
        named.append(replace(side, statistics=replace(side.statistics, extractor=label or name or "", resize=mode)))
    return named


def _compare_sizes(sides: list[Side], extractor: Extractor | None) -> list[str]:
    """A note where the sides have different image sizes and nothing resizes them, which features then reflect."""
    one, two = (sizes_of(side) if isinstance(side, Images) else [] for side in sides)
    if extractor is None or not extractor.resize.startswith("none") or not one or not two or one == two:
        return []
    return [f"the sides have images of {', '.join(one)} and of {', '.join(two)}, and {extractor.name} resizes neither"]


def check_save(file: Path | None) -> None:
    """Raise UsageError on a file for statistics, if there is one, of another ending than .safetensors."""
    if file is not None and file.suffix.lower() != ".safetensors":
        raise UsageError(f"--save-stats {file}: a file that ends in .safetensors is accepted")


def check_widths(sides: list[Tensor]) -> None:
    """Raise UsageError where the sides have different numbers of features."""
    for other in sides[1:]:
        if other.shape[1] != sides[0].shape[1]:
            raise UsageError(
                f"the sides have {sides[0].shape[1]} and {other.shape[1]} features; equal numbers are accepted"
            )


def choose_possible(
    chosen: dict[str, Metric], real: Tensor, sets: list[Tensor], extractor: Extractor | None, notes: list[str]
) -> dict[str, Metric]:
    """The metrics that these features allow; where all are chosen, the others are noted, else the first is an error."""
    every = len(chosen) == len(figures.OF_IMAGES)
    possible = {}
    for name, metric in chosen.items():
        reasons = [figures.explain_refusal(metric, extractor, real, generated) for generated in sets]
        reason = next(filter(None, reasons), None)
        if reason is None:
            possible[name] = metric
        elif every:
            notes.append(f"left out: {reason}")
        else:
            raise UsageError(reason)
    return possible


def _measure(
    chosen: dict[str, Metric], real: Tensor, generated: Tensor, extractor: Extractor | None, seed: int,
    resamples: int, notes: list[str],
) -> list[Figure]:  # fmt: skip
    check_widths([real, generated])
    chosen = choose_possible(chosen, real, [generated], extractor, notes)
    measured, planned = [], 0
    with Steps("metrics", sum(figures.count_calls(metric, resamples) for metric in chosen.values())) as steps:
        for metric in chosen.values():
            x, y = real, generated
            if metric.takes == "logits" and extractor is not None:
                x, y = extractor.logits(real), extractor.logits(generated)
            found, missing = figures.measure(metric, x, y, seed=seed, resamples=resamples, advance=steps.advance)
            planned += figures.count_calls(metric, resamples)
            steps.advance(planned - steps.done)  # a metric that gives its own interval needs fewer
            measured += found
            notes += missing
    return measured


def title_of(figure: str, extractor: str, mode: str) -> str:
    """The name of a figure with its extractor; only Inception's published weights and resize give FID and KID."""
    if figure not in figures.FID_NAMES or not extractor:
        return figure
    return figures.FID_NAMES[figure] if (extractor, mode) == FID else f"{figure}_{extractor}"


def _summarise(features: Tensor, side: Side, label: str, mode: str) -> FeatureStatistics:
    data = "" if isinstance(side, Statistics) else side.hash
    return FeatureStatistics.from_features(features, extractor=label, resize=mode, data=data)


def save_statistics(file: Path, side: Side, features: Tensor | None, label: str, mode: str) -> None:
    """Write the statistics of a side, from its features if it has some, into a file."""
    found = side.statistics if isinstance(side, Statistics) else None
    if found is None and features is not None:
        found = _summarise(features, side, label, mode)
    file.parent.mkdir(parents=True, exist_ok=True)
    assert found is not None
    found.save(file)


def _find_label(sides: list[Side]) -> tuple[str, str]:
    stored = [side.statistics for side in sides if isinstance(side, Statistics) and side.statistics.extractor]
    return (stored[0].extractor, stored[0].resize) if stored else ("", "")


def origin_of(side: Side, features: Tensor | None) -> Origin:
    """Where a side comes from, and how many images or features of it were measured."""
    if isinstance(side, Statistics):
        return Origin(side.source, side.statistics.count, side.statistics.data)
    skipped = len(side.skipped) if isinstance(side, Images) else 0
    return Origin(side.source, 0 if features is None else len(features), side.hash, skipped)


_OF = {"laws": "the distributions", "n": "this n"}
_BETTER = {"lower": "lower", "higher": "higher", "floor": "as the floor"}


def _span(interval: tuple[float, float] | None) -> str:
    return f"{show(interval[0])} to {show(interval[1])}" if interval else "-"


def show_floor(figure: Figure) -> list[str]:
    """The cells of a figure's floor: its mean, its range, what the figure is against it, and which way is better."""
    floor = figure.floor
    span = _span((floor.low, floor.high) if floor else None)
    return [show(floor.mean if floor else None), span, figure.against_floor or "-", _BETTER[figure.better]]
