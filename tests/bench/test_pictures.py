"""What a picture says can be read and is so: its ticks, the words of its axes, its lines and panels, and its title."""

import itertools
import json
import re

import matplotlib
import numpy as np
import pytest
import torch
from safetensors.torch import save

from bench.catalogue import SUITES_FOLDER, kinds
from bench.data.scenes import scenes
from bench.evaluate import detection_plots
from bench.evaluate.detections import evaluate
from bench.evaluate.detector_comparison import compare
from bench.evaluate.models.template import make_plots
from bench.plan.plot import BarPlot, BoxesPlot, FieldPlot, HeatPlot, LinePlot, SamplesPlot
from bench.plan.suite import read
from bench.records.record import Measurement
from bench.records.store import Store
from bench.report import bars, boxes, curves, front, maps, samples
from bench.report.captions import label_axis
from bench.report.conclusions import Panel, conclude
from bench.report.front import Figure, is_on_front, trace_front
from bench.report.points import Point
from bench.tasks.metrics.detection import perturb
from metrics.floors import Floor

matplotlib.use("Agg")
from matplotlib import pyplot

WHAT = {"name": "p", "title": "What is shown", "task": "t", "series": "loss"}


@pytest.fixture
def figures():
    """A list of figures that are closed when the test ends."""
    yield (made := [])
    for figure in made:
        pyplot.close(figure)


@pytest.fixture
def points(record):
    """Makes the records of curves: for each name and seed its (x, y) or (x, y, low, high)."""

    def make(series, direction="lower", unit="", **parameters):
        made = []
        for (name, seed), values in series.items():
            for x, y, *interval in values:
                measure = Measurement(name="error", value=y, interval=interval or None, direction=direction, unit=unit)
                key = f"{name}{x}{seed}{parameters}"
                made.append(
                    record(key, task="t", entry=name, seed=seed, measures=[measure], hash=key,
                           parameters={"loss": name, "n": x, **parameters})
                )  # fmt: skip
        return made

    return make


def tick_labels(axis):
    """The texts of an axis's tick labels in view with their boxes in pixels, measured anew."""
    low, high = sorted(axis.get_view_interval())
    shown = [
        (text, text.get_window_extent())
        for where, text in zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
        if low <= where <= high and text.get_visible() and text.get_text()
    ]
    return [text.get_text() for text, _ in shown], [box for _, box in shown]


def overlaps(axis):
    """The pairs of tick labels whose boxes have area in common."""
    texts, found = tick_labels(axis)
    return [
        (texts[i], texts[j])
        for (i, a), (j, b) in itertools.combinations(enumerate(found), 2)
        if a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1
    ]


RANGES = [(322.3, 1928.0), (300.1, 330.7), (9.91, 10.13), (2e-7, 9e1), (0.02, 9e4)]


@pytest.mark.parametrize(("ends", "log"), [*((ends, "xy") for ends in RANGES), (RANGES[1], ""), (RANGES[4], "")])
def test_ticks_are_round_and_never_touch(points, tmp_path, figures, ends, log):
    """On both axes, of two panels; the ticks that were measured do touch, so that the check sees it."""
    values = np.geomspace(*ends, 9)
    made = [r for k in "ab" for r in points({("one", 0): zip(values, values, strict=True)}, kind=k)]
    made += [r for k in "ab" for r in points({("two", 0): [(values[0], values[-1] * ord(k) / 90)]}, kind=k)]
    chosen = LinePlot(**WHAT, x="n", y="error", log=log, facet="kind")
    figure = curves.draw(chosen, Store(tmp_path), made)
    figures.append(figure)
    figure.draw_without_rendering()
    assert len(figure.axes) == 2
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis) if axes is figure.axes[0] else (axes.xaxis,):
            assert overlaps(axis) == []
            ticks = list(axis.get_majorticklocs())
            assert len(tick_labels(axis)[0]) >= 2, (ends, ticks)
            spacing = min((b - a for a, b in itertools.pairwise(ticks)), default=1)
            digits = [len(f"{tick / 10.0 ** np.floor(np.log10(spacing)):.6g}".strip("0").lstrip("-")) for tick in ticks]
            assert max(digits) <= 5, ticks  # 325.5, never 322.3671
    axis = figure.axes[0].xaxis
    axis.set_ticks(np.geomspace(*ends, 40), [f"{x:.6g}" for x in np.geomspace(*ends, 40)])
    assert overlaps(axis)


def test_measured_values_are_ticks_where_they_are_round(points, tmp_path, figures):
    calls = {"ddim": (5, 10, 20, 40), "ipndm": (5, 10, 20, 40), "ddpm": (5, 10, 20, 40), "heun": (5, 9, 19, 39)}
    made = points({(name, 0): [(n, i + n) for n in own] for i, (name, own) in enumerate(calls.items())})
    figure = curves.draw(LinePlot(**WHAT, x="n", y="error", log="x"), Store(tmp_path), made)
    figures.append(figure)
    assert tick_labels(figure.axes[0].xaxis)[0] == ["5", "10", "20", "40"]


SPECS = [
    pytest.param(spec, id=f"{file.stem}-{spec.name}")
    for file in sorted(SUITES_FOLDER.glob("*.toml"))
    for spec in read(file).plot
]


@pytest.mark.parametrize("spec", SPECS)
def test_every_axis_has_words_its_unit_and_the_better_direction(spec, record):
    """As the task declares them. An array has no declaration, so that the plot must have words for it."""
    measures = kinds()["tasks"][spec.task].resolve().measures
    declared = [
        Measurement(name=m.name, value=1.0, unit=m.unit, direction=m.direction, deterministic=m.deterministic)
        for m in measures.values()
    ]
    one = record(measures=declared, task=spec.task)
    for axis in ("x", "y", "z"):
        name = getattr(spec, axis, None)
        if not name or isinstance(spec, BoxesPlot | SamplesPlot):
            continue
        words = getattr(spec, f"{axis}label", "")
        text = label_axis(words, name, [one], getattr(spec, "better", None))
        assert len(text) > 1 or text in ("x", "y", "n")
        assert "_" not in text.replace("C_T", "")
        assert words or name in measures or not name.startswith("@"), f"{spec.name}: {name} needs words"
        if name in measures and isinstance(spec, LinePlot | BarPlot):
            unit, direction = measures[name].unit, measures[name].direction
            assert unit in ("", "1") or f"({unit})" in text
            assert direction == "target" or f"{direction} is better" in text


def test_equal_series_are_one_line_that_says_so(points, tmp_path, figures):
    same = {("euler", 0): [(5, 0.3), (10, 0.1)], ("heun", 0): [(5, 0.2), (10, 0.05)]}
    twin = [(5, 0.3 * (1 + 1e-9)), (10, 0.1)]
    for other, legend in ((twin, ["euler = ddim", "heun"]), ([(5, 0.3), (10, 0.1001)], ["euler", "heun", "ddim"])):
        made = points(same | {("ddim", 0): other})
        figure = curves.draw(LinePlot(**WHAT, x="n", y="error"), Store(tmp_path), made)
        figures.append(figure)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == legend
        assert len(figure.axes[0].lines) == len(legend)


def test_series_that_are_equal_in_one_panel_alone_are_named_there(points, tmp_path, figures):
    made = points({("a", 0): [(1, 1.0), (2, 2.0)], ("b", 0): [(1, 1.0), (2, 2.0)]}, kind="alike")
    made += points({("a", 0): [(1, 1.0), (2, 2.0)], ("b", 0): [(1, 1.0), (2, 3.0)]}, kind="apart")
    figure = curves.draw(LinePlot(**WHAT, x="n", y="error", facet="kind"), Store(tmp_path), made)
    figures.append(figure)
    titles = [axes.get_title() for axes in figure.axes]
    assert ["a = b" in title for title in titles] == [True, False]


def test_a_panel_that_equals_another_is_not_drawn_and_said(points, tmp_path, figures):
    series = {("a", 0): [(1, 1.0), (2, 2.0)]}
    made = points(series, path="vp") + points(series, path="edm") + points({("a", 0): [(1, 1.0), (2, 2.5)]}, path="ve")
    figure = curves.draw(LinePlot(**WHAT, x="n", y="error", facet="path"), Store(tmp_path), made)
    figures.append(figure)
    assert [axes.get_title().splitlines()[0] for axes in figure.axes] == ["path vp", "path ve"]
    assert "Not drawn: path edm, which equals path vp." in figure.get_suptitle()


@pytest.fixture
def stored(record, tmp_path):
    """Makes a record with arrays in a store."""
    store = Store(tmp_path).create()

    def make(loss, arrays):
        one = record(loss, task="t", entry=loss, parameters={"loss": loss}, arrays=sorted(arrays), hash=loss)
        store.write(one, save({name: array.contiguous() for name, array in arrays.items()}))
        return one

    return store, make


def field(slope, n=8):
    """A field whose descent leads to the middle where ``slope`` is 1, and away from it where it is -1."""
    axis = torch.linspace(-1, 1, n)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return {"axis": axis, "gx": slope * x, "gy": slope * y, "error": slope + x**2}


def test_a_field_says_where_descent_leads_away_and_which_panels_are_equal(stored, figures):
    store, make = stored
    made = [make("good", field(1.0)), make("twin", field(1.0)), make("wrong", field(-1.0)), make("flat", field(0.0))]
    chosen = FieldPlot(**WHAT, kind="field", x="@axis", y="@axis", u="@gx", v="@gy", mark=[0.0, 0.0])
    figure = maps.draw(chosen, store, made)
    figures.append(figure)
    said = {axes.get_title().partition("\n")[0]: axes.get_title().partition("\n")[2] for axes in figure.axes[:3]}
    assert said == {"good": "towards the target", "wrong": "away at 100%", "flat": "no gradient at 100%"}
    assert "equal to good: twin" in figure.get_suptitle()
    assert figure.get_suptitle().startswith("Descent leads away from the target most often by wrong, at 100%")
    figure = maps.draw(chosen, store, made[:1])
    figures.append(figure)
    assert figure.get_suptitle().startswith("Descent leads towards the target wherever")


def test_a_step_in_a_logarithm_is_one_in_its_value_over_it(stored, figures):
    """A box of width 4 and height 1/2 about (1, 1): descent by (-1, -.2) is nearer in the logarithms, not in values."""
    store, make = stored
    arrays = {
        "x": torch.tensor([4.0]),
        "y": torch.tensor([0.5]),
        "u": torch.tensor([[1.0]]),
        "v": torch.tensor([[0.2]]),
    }
    made = [make("one", arrays)]
    for log, away in (("xy", True), ("", False)):
        chosen = FieldPlot(**WHAT, kind="field", x="@x", y="@y", u="@u", v="@v", mark=[1.0, 1.0], log=log)
        one = maps._Map(chosen, store.arrays(made[0]), made[0])
        # in logarithms: -log 4 * -1/4 + log 2 * -.2/.5 = .347 - .277 > 0; in values: 3 - .1 > 0
        assert one.shares == (0.0, 0.0)
        steep = store.arrays(made[0]) | {"v": torch.tensor([[0.3]])}  # .347 - .416 < 0; 3 - .15 > 0
        assert maps._Map(chosen, steep, made[0]).shares == (float(away), 0.0)


def test_a_heat_map_says_who_is_best_most_often(stored, figures):
    store, make = stored
    made = [make("high", field(2.0)), make("low", field(1.0))]
    chosen = HeatPlot(**WHAT, kind="heat", x="@axis", y="@axis", z="@error", zlabel="error (m)", better="lower")
    for better, first in (("lower", "low"), ("higher", "high")):
        figure = maps.draw(chosen.model_copy(update={"better": better}), store, made)
        figures.append(figure)
        assert figure.get_suptitle().startswith(f"{first} has the {better.replace('er', 'est')} error at 100%")


def test_counter_examples_that_are_equal_are_drawn_once(stored, figures):
    store, make = stored
    pair = torch.tensor([[0.0, 0, 100, 100], [50, 50, 51, 51]])
    arrays = {"claim_boxes": pair, "claim_sides": torch.tensor([1.5, 1.25])}
    made = [make("giou", arrays), make("diou", arrays), make("eiou", {"other": pair})]
    chosen = BoxesPlot(
        **WHAT, kind="boxes", x="@claim_boxes", y="@claim_sides", names=["prediction", "target"], sides=["loss", "then"]
    )
    figure = boxes.draw(chosen, store, made)
    figures.append(figure)
    (panel,) = [axes for axes in figure.axes if axes.get_visible()]
    assert panel.get_title() == "giou\nloss 1.5 > then 1.25"
    assert figure.get_suptitle().splitlines()[0] == "A counter-example is found for giou and diou; none for eiou"
    assert "equal to giou: diou" in figure.get_suptitle()
    (small,) = panel.lines  # the target is too small to be seen
    assert small.get_xydata().tolist() == [[50.5, 50.5]]


def scatter(seed, n=40):
    """Points (cost, quality) with intervals, drawn at random."""
    rng = np.random.default_rng(seed)
    cost, quality, wide, long = rng.uniform(1, 10, n), rng.uniform(1, 10, n), rng.uniform(0, 3, n), rng.uniform(0, 1, n)
    return [
        (Figure(c, (c - d, c + d)), Figure(q, (q - w, q + w)))
        for c, q, w, d in zip(cost, quality, wide, long, strict=True)
    ]


@pytest.mark.parametrize("higher", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_point_is_dominated_beyond_intervals_alone_and_the_steps_say_the_same(seed, higher):
    points = scatter(seed)
    flags = [is_on_front(point, points, higher) for point in points]
    expected = []
    for cost, quality in points:  # by the definition
        better = [o for o in points if (o[1].low > quality.high if higher else o[1].high < quality.low)]
        expected.append(all(other.low > cost.high for other, _ in better))
    assert flags == expected
    assert 1 <= sum(flags) < len(points)
    steps = trace_front(points, higher)
    bounds = [[bound for x, bound in steps if x <= cost.high][-1] for cost, _ in points]
    beaten = [(q.high < b) if higher else (q.low > b) for (_, q), b in zip(points, bounds, strict=True)]
    assert flags == [not each for each in beaten]
    sharp = [(Figure(cost.value), Figure(quality.value)) for cost, quality in points]
    values = [is_on_front(point, sharp, higher) for point in sharp]
    assert sum(values) <= sum(flags)  # noise keeps points on the front


def test_the_seeds_of_a_setting_are_one_point_of_the_pareto_picture(record, tmp_path, figures):
    """Their times differ; the point is at the mean of both, with Student's interval of each."""
    made = []
    for nfe, seed in itertools.product((5, 10), range(3)):
        measures = [
            Measurement(name="latency", value=nfe + 0.1 * seed, unit="ms"),
            Measurement(name="fd", value=10 / nfe + 0.01 * seed),
            Measurement(name="fd_floor", value=0.4, interval=(0.3, 0.5), direction="target"),
        ]
        made.append(
            record(f"{nfe}{seed}", task="model_quality", entry="heun", seed=seed, measures=measures,
                   parameters={"sampler": "heun", "nfe": nfe})
        )  # fmt: skip
    chosen, _ = make_plots("fd", "time of a batch of 64 (ms)", "fmnist")
    figure = curves.draw(chosen, Store(tmp_path), made)
    figures.append(figure)
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == pytest.approx(np.array([[5.1, 2.01], [10.1, 1.01]]))
    half = 4.302652729911275 * 0.01 / 3**0.5  # t of two degrees of freedom, deviation .01
    segments = [segment for bars in axes.containers for each in bars[2] for segment in each.get_segments()]
    reaches = [np.ptp(segment[:, 1]) for segment in segments if np.ptp(segment[:, 0]) == 0]
    assert reaches == pytest.approx([2 * half] * 2)
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "time of a batch of 64 (ms), lower is better", "FD (fmnist), lower is better"
    )  # fmt: skip
    legend = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    assert "floor (as many rows of the data)" in legend
    assert not any("exact" in text for text in legend)


def panel(values, direction="lower", floors=(), x="evaluations", unit=""):
    """A panel of curves: for each name its y at 5, 10, 20, ... with the half-width of its interval."""
    return Panel(
        {
            name: [
                Point(Figure(5 * 2**i), Figure(y, (y - w, y + w) if w else None), y - w, y + w)
                for i, (y, w) in enumerate(own)
            ]
            for name, own in values.items()
        },
        x, "error", unit, direction, floors,
    )  # fmt: skip


FLOOR = [Floor(0.1, 0.05, 0.2)]
FAST, SLOW = [(4.0, 0.1), (1.0, 0.1), (0.15, 0.01)], [(6.0, 0.1), (3.0, 0.1), (1.4, 0.1)]


@pytest.mark.parametrize("says", ["ends", "last", "mean", "peak", "floor", "front", "order", "moves", "change"])
def test_a_sentence_follows_the_records(says):
    """With the curves of two entries exchanged, the sentence exchanges their names; it is made of no other words."""
    steep, flat = (FAST, SLOW) if says != "moves" else (FAST, SLOW[::-1])
    one = conclude(panel({"heun": steep, "ddim": flat}, floors=FLOOR), says)
    other = conclude(panel({"heun": flat, "ddim": steep}, floors=FLOOR), says)
    assert "heun" in one
    swapped = re.sub("heun|ddim", lambda found: {"heun": "ddim", "ddim": "heun"}[found[0]], one)
    assert sorted(re.findall(r"[\w.,]+", swapped)) == sorted(re.findall(r"[\w.,]+", other))
    assert one != other


def test_ties_by_intervals_are_named_as_ties():
    near = [(4.05, 0.1), (1.05, 0.1), (0.155, 0.01)]
    said = conclude(panel({"heun": FAST, "ddim": SLOW, "ipndm": near}), "last")
    assert said.startswith("heun and ipndm have the lowest error at 20 evaluations (0.15), ddim the highest")
    assert conclude(panel({"heun": FAST, "ddim": SLOW}), "ends") == "heun has the lowest error throughout"
    crossing = conclude(panel({"heun": FAST, "ddim": FAST[::-1]}), "ends")
    assert crossing == "ddim has the lowest error at 5 evaluations, heun at 20"
    assert conclude(panel({"heun": FAST, "ddim": FAST[::-1]}, "higher"), "ends") == (
        "heun has the highest error at 5 evaluations, ddim at 20"
    )


def test_who_reaches_the_floor_is_told_by_its_range():
    two = {"heun": FAST, "ddim": [(0.15, 0.0)] * 3, "ddpm": [(0.15, 0.0)] * 3}
    assert conclude(panel(two, floors=FLOOR), "floor") == "ddim and ddpm reach the floor first, at 5 evaluations"
    assert conclude(panel({"heun": FAST}, floors=FLOOR), "floor") == "heun reaches the floor first, at 20 evaluations"
    assert conclude(panel({"a": SLOW, "b": FAST[:2]}, floors=FLOOR), "floor") == (
        "None reaches the floor; b ends nearest"
    )
    assert conclude(panel({"heun": FAST}), "floor") == ""


def test_the_front_s_sentence_names_where_nothing_is_better():
    noisy = {"heun": FAST, "ddim": [(5.0, 0.1), (0.17, 0.02), (0.16, 0.02)]}
    assert conclude(panel(noisy, unit="ms"), "front").startswith("From 10 ms on (ddim) nothing is better")
    sharp = {"heun": FAST, "ddim": [(5.0, 0.1), (0.17, 0.001), (0.17, 0.001)]}
    assert conclude(panel(sharp, unit="ms"), "front").startswith("From 20 ms on (heun) nothing is better")


def test_orders_are_slopes():
    curves_of = {f"p{order}": [(3.0 * 2.0 ** (-order * i), 0.0) for i in range(3)] for order in (1, 2, 2.5)}
    assert conclude(panel(curves_of), "order") == "Measured order: 1 of p1, 2 of p2, 2.5 of p2.5"


def test_the_title_of_a_picture_begins_with_its_conclusion(points, tmp_path, figures):
    series = {("heun", 0): [(5, 3.0), (10, 1.0)], ("ddim", 0): [(5, 2.0), (10, 2.0)]}
    for values, said in (
        (series, "ddim has the lowest error at 5 evaluations, heun at 10"),
        ({("heun", 0): series["ddim", 0], ("ddim", 0): series["heun", 0]},
         "heun has the lowest error at 5 evaluations, ddim at 10"),
    ):  # fmt: skip
        chosen = LinePlot(**WHAT, x="n", y="error", xlabel="evaluations (NFE)")
        figure = curves.draw(chosen, Store(tmp_path), points(values, unit="m"))
        figures.append(figure)
        assert figure.get_suptitle().splitlines() == [said, "What is shown"]
        assert figure.axes[0].get_ylabel() == "error (m), lower is better"


def test_bars_lie_beside_their_names_and_say_which_is_best(points, tmp_path, figures):
    names = [f"a_rather_long_name_{i}" for i in range(12)]
    made = points({(name, 0): [(1, 1.0 + i, 0.9 + i, 1.1 + i)] for i, name in enumerate(names)}, unit="ms")
    figure = bars.draw(BarPlot(**WHAT | {"series": None}, kind="bar", x="loss", y="error"), Store(tmp_path), made)
    figures.append(figure)
    (axes,) = figure.axes
    assert overlaps(axes.yaxis) == overlaps(axes.xaxis) == []
    assert tick_labels(axes.yaxis)[0] == names
    assert [bar.get_width() for bar in axes.patches] == [1.0 + i for i in range(12)]
    assert axes.get_xlabel() == "error (ms), lower is better"
    assert figure.get_suptitle().startswith(f"{names[0]} has the lowest error, {names[-1]} the highest")


def test_averages_have_students_interval():
    assert front.average([2.0, 2.0]) == Figure(2.0)
    low, high = front.average([1.0, 2.0, 3.0]).interval
    assert (low, high) == pytest.approx((2 - 4.302652729911275 / 3**0.5, 2 + 4.302652729911275 / 3**0.5))


def test_equal_samples_are_drawn_once(stored, figures):
    store, make = stored
    first = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    made = [make("euler", {"grid": first}), make("ddim", {"grid": first}), make("heun", {"grid": 255 - first})]
    figure = samples.draw(SamplesPlot(**WHAT, kind="samples", x="@grid"), store, made)
    figures.append(figure)
    assert [axes.get_ylabel() for axes in figure.axes] == ["euler", "heun"]
    assert "equal to euler: ddim" in " ".join(figure.get_suptitle().split())


@pytest.fixture(scope="module")
def detections(tmp_path_factory):
    """Files of scenes and of detections: one with moved boxes, one with wrong classes, and exact ones."""
    folder, truth = tmp_path_factory.mktemp("detections"), scenes(25, seed=3).coco
    found = {"moved": perturb(truth, "jitter", 0.15), "swapped": perturb(truth, "class_swap", 0.3)}
    for name, content in (("truth", truth), *((name, each.entries()) for name, each in found.items())):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_pictures_of_detections_say_what_is_worst(detections):
    """By the figures: the class with the lowest AP50, the error that costs most, the pair most often confused."""
    for name, error in (("moved", "localisation"), ("swapped", "classification")):
        report = evaluate(
            detections / "truth.json", detections / f"{name}.json", tide=True, confusion=True, calibration=True
        )
        assert max(report.tide.counts, key=report.tide.costs.get) == error
        assert report.tide.plot().axes[0].get_title().startswith(f"Of the errors, {error} costs most: ")
        fifty = {c: report.coco.curve(c, 0.5).mean() for c, ap in report.coco.per_class.items() if ap >= 0}
        worst, best = (pick(fifty, key=fifty.get) for pick in (min, max))
        figure = detection_plots.precision_recall(report)
        said = figure.get_suptitle()
        assert f"lowest for {report.coco.names[worst]} ({fifty[worst]:.3f})" in said
        assert f"highest for {report.coco.names[best]} ({fifty[best]:.3f})" in said
        lines = [line.get_label() for line in figure.axes[0].lines]
        distinct = {report.coco.curve(iou=iou).tobytes() for iou in report.coco.per_threshold}
        assert (len(lines), len(distinct) > 1) == (len(distinct), name == "moved")  # of exact boxes there is one curve
        title = detection_plots.confusion(report.confusion, report.coco.names).axes[0].get_title()
        wrong = report.confusion.counts[:-1, :-1].copy()
        np.fill_diagonal(wrong, 0)
        assert title.startswith("Most often taken for another class") == bool(wrong.any())
        assert str(wrong.max()) in title
        axes = detection_plots.reliability(report.calibration, 0.5).axes
        assert all(one.get_ylabel() for one in axes)


def test_the_title_of_compared_detectors_is_the_verdict_on_ap(detections):
    truth, moved, swapped = (detections / f"{name}.json" for name in ("truth", "moved", "swapped"))
    report = compare(truth, [moved, swapped], iou_thresholds="0.75")
    worse, better = sorted(report.comparison.results, key=lambda name: report.comparison.results[name].figures["AP"])
    said = detection_plots.compare_precision_recall(report).get_suptitle()
    assert said == f"By AP, {better} is better than {worse}"


def test_measured_values_that_would_touch_are_no_ticks(points, tmp_path, figures):
    made = points({("one", 0): [(n, n) for n in (10, 11, 12, 13, 1000)]})
    figure = curves.draw(LinePlot(**WHAT, x="n", y="error"), Store(tmp_path), made)
    figures.append(figure)
    assert overlaps(figure.axes[0].xaxis) == []
    assert "11" not in tick_labels(figure.axes[0].xaxis)[0]
