"""Maps show the arrays that are kept: grids, points, arrows that go down, one scale, panels that wrap."""

import json

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save

from bench.errors import UsageError
from bench.plan.plot import BoxesPlot, FieldPlot, HeatPlot, LinePlot, PlotSpec, TrajectoriesPlot
from bench.plan.suite import read
from bench.records.store import Store
from bench.records.upgrade import upgrade_suite
from bench.report import boxes, curves, maps, plots, trajectories


@pytest.fixture
def kept(record, tmp_path):
    """A store with a record for each loss: a bowl of that height on a grid of 20 x 20, and at points."""
    store = Store(tmp_path).create()

    def make(loss, height=1.0, seed=0, **parameters):
        axis = torch.linspace(-1, 1, 20)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        points = torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
        arrays = {
            "axis": axis,
            "bowl": height * (x**2 + y**2),
            "gx": 2 * height * x,
            "gy": 2 * height * y,
            "points": points,
            "surface": height * points.sum(1),
        }
        one = record(
            f"{loss}{height}{seed}", task="t", entry=loss, seed=seed, parameters={"loss": loss, **parameters},
            arrays=sorted(arrays), hash=f"{loss}{height}{seed}",
        )  # fmt: skip
        store.write(one, save({name: array.contiguous() for name, array in arrays.items()}))
        return one

    return store, make


WHAT = {"name": "m", "title": "M", "task": "t", "series": "loss"}


def spec(kind="heat", **changes):
    own = {"z": "@bowl"} if kind == "heat" else {"u": "@gx", "v": "@gy"}
    model = {"heat": HeatPlot, "field": FieldPlot}[kind]
    return model(**WHAT | {"kind": kind, "x": "@axis", "y": "@axis"} | own | changes)


def draw(store, records, chosen):
    """The figure of the maps; its panels, in order."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = maps.draw(chosen, store, records)
    pyplot.close(figure)  # it stays readable
    return figure, [axes for axes in figure.axes if axes.get_title()]


def test_a_grid_s_rows_are_y(kept):
    store, make = kept
    record = make("a")
    figure, (panel,) = draw(store, [record], spec())
    mesh = panel.collections[0]
    expected = store.arrays(record)["bowl"].numpy()
    np.testing.assert_array_equal(mesh.get_array().reshape(20, 20), expected)
    low, high = mesh.get_clim()
    assert expected.min() <= low < high <= expected.max()
    assert len(figure.axes) == 2  # a colour bar
    assert panel.get_title() == "a"


def test_points_are_columns_of_one_array(kept):
    store, make = kept
    record = make("a")
    _, (panel,) = draw(store, [record], spec(x="@points", y="@points", z="@surface"))
    points = store.arrays(record)["points"]
    assert panel.dataLim.min.tolist() == pytest.approx(points.amin(0).tolist())
    assert panel.dataLim.max.tolist() == pytest.approx(points.amax(0).tolist())


def test_arrows_point_downhill_and_thin_out(kept):
    from matplotlib.quiver import Quiver

    store, make = kept
    figure, (panel,) = draw(store, [make("a")], spec("field"))
    (quiver,) = [each for each in panel.collections if isinstance(each, Quiver)]
    assert 0 < quiver.N <= maps.ARROWS**2
    inward = quiver.X * quiver.U + quiver.Y * quiver.V
    assert (inward < 0).all()  # towards the bottom of the bowl at (0, 0)
    np.testing.assert_allclose(np.hypot(quiver.U, quiver.V), 1, rtol=1e-6)
    heat = panel.collections[0].get_array().reshape(20, 20)
    assert heat[0, 0] == pytest.approx(2 * 2**0.5)  # the norm of (2, 2)
    assert len(figure.axes) == 2


def test_no_arrow_where_there_is_no_gradient(kept):
    from matplotlib.quiver import Quiver

    store, make = kept
    _, (panel,) = draw(store, [make("flat", height=0.0)], spec("field", log="z"))
    (quiver,) = [each for each in panel.collections if isinstance(each, Quiver)]
    assert np.all(quiver.Umask)


@pytest.mark.parametrize("scale", ["shared", "own"])
def test_panels_share_a_scale_or_have_their_own(kept, scale):
    store, make = kept
    records = [make("low", height=1.0), make("high", height=10.0)]
    figure, panels = draw(store, records, spec(scale=scale, zlabel="height"))
    limits = [panel.collections[0].get_clim() for panel in panels]
    assert (limits[0] == limits[1]) == (scale == "shared")
    bars = [axes for axes in figure.axes if axes not in panels]
    assert [bar.get_ylabel() for bar in bars] == ["height"] * (1 if scale == "shared" else 2)


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (4, 1, 4), (5, 2, 3), (8, 2, 4), (9, 3, 3)])
def test_panels_wrap(kept, n, rows, columns):
    store, make = kept
    _, panels = draw(store, [make(f"loss{i}", height=1.0 + i) for i in range(n)], spec())
    assert len(panels) == n
    places = panels[0].get_gridspec()
    assert (places.nrows, places.ncols) == (rows, columns)
    labelled = [panel for panel in panels if panel.get_xlabel()]
    assert len(labelled) == columns  # the lowest of each column, above a gap too


def test_a_panel_is_one_record(kept):
    store, make = kept
    same = [make("a", seed=0), make("a", seed=1)]
    assert len(draw(store, same, spec())[1]) == 1
    variants = [make("a", options={}), make("a", height=2.0, options={"sides": "offset"})]
    with pytest.raises(UsageError, match="two records for the panel 'a'"):
        draw(store, variants, spec())
    _, panels = draw(store, variants, spec(facet="options"))
    assert [panel.get_title() for panel in panels] == ["a", "a sides=offset"]


def test_arrays_that_are_not_there_or_do_not_fit_are_named(kept):
    store, make = kept
    record = make("a")
    with pytest.raises(UsageError, match="a keeps no array '@other'; it has axis, bowl"):
        draw(store, [record], spec(z="@other"))
    with pytest.raises(UsageError, match=r"20 x and 20 y with values \[\(30,\)\]"):
        draw(store, [record], spec(z="@surface"))


@pytest.mark.parametrize("kind", ["heat", "field"])
def test_a_map_needs_its_arrays(kind):
    with pytest.raises(ValidationError, match="the name of an array is accepted, as @name"):
        spec(kind, y="nfe")
    with pytest.raises(ValidationError, match="at least 2 items"):
        spec(kind, mark=[1.0])


def test_a_map_is_a_picture(kept):
    store, make = kept
    record = make("a", height=3.0)
    for chosen in (spec(log="xyz", mark=[0.5, 0.5]), spec("field", log="z"), spec(scale="own")):
        assert plots.draw(chosen, store, [record]).startswith(b"\x89PNG")


def test_a_line_is_the_mean_over_seeds_in_their_range(record, tmp_path):
    store = Store(tmp_path).create()
    values = {(0.0, 0): 1.0, (0.0, 1): 3.0, (1.0, 0): 4.0, (1.0, 1): 4.0}
    records = [
        record(f"{x}{seed}", value=y, task="t", entry="e", seed=seed, parameters={"loss": "e", "level": x})
        for (x, seed), y in values.items()
    ]
    chosen = LinePlot(**WHAT, x="level", y="order")
    (axes,) = curves.draw(chosen, store, records).axes
    assert axes.lines[0].get_xydata().tolist() == [[0.0, 2.0], [1.0, 4.0]]
    (band,) = axes.collections
    assert {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()} >= {(0.0, 1.0), (0.0, 3.0), (1.0, 4.0)}


def test_boxes_show_counterexamples_and_leave_out_claims_that_hold(record, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    store = Store(tmp_path).create()
    pair = torch.tensor([[0.0, 0, 2, 1], [5, 0, 6, 3]])
    broken = {"claim_boxes": pair, "claim_sides": torch.tensor([1.5, 1.25])}
    records = []
    for loss, arrays in (("giou", broken), ("piou", {"other": pair})):
        one = record(loss, task="t", entry=loss, parameters={"loss": loss}, arrays=sorted(arrays), hash=loss)
        store.write(one, save(arrays))
        records.append(one)
    chosen = BoxesPlot(**WHAT, kind="boxes", x="@claim_boxes", y="@claim_sides", names=["prediction", "target"])
    figure = boxes.draw(chosen, store, records)
    (axes,) = [axes for axes in figure.axes if axes.get_visible()]
    assert [patch.get_bbox().extents.tolist() for patch in axes.patches] == pair.tolist()
    assert axes.get_title() == "giou\n1.5 > 1.25"
    with pytest.raises(UsageError, match="names has 1 of 2 boxes"):
        boxes.draw(chosen.model_copy(update={"names": ["one"]}), store, records)
    assert plots.draw(chosen.model_copy(update={"where": {"loss": "piou"}}), store, records) is None


def test_trajectories_lie_over_the_lines_that_are_kept(record, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    store = Store(tmp_path).create()
    paths, lines = torch.rand(3, 4, 2), torch.rand(3, 9, 2)
    records = []
    for loss, arrays in (("with", {"paths": paths, "lines": lines}), ("without", {"paths": paths})):
        one = record(loss, task="t", entry=loss, parameters={"loss": loss}, arrays=sorted(arrays), hash=loss)
        store.write(one, save(arrays))
        records.append(one)
    chosen = TrajectoriesPlot(**WHAT, kind="trajectories", x="@paths", y="@lines")
    figure = trajectories.draw(chosen, store, records)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title().partition(":")[0] for axes in panels] == ["with", "without"]
    assert [[len(each.get_paths()) for each in axes.collections] for axes in panels] == [[3, 3], [3]]
    last = panels[1].collections[0].get_paths()[-1].vertices
    np.testing.assert_allclose(last, paths[-1].numpy(), rtol=1e-6)
    assert plots.draw(chosen, store, records).startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="with keeps no array '@other'; it has"):
        trajectories.draw(chosen.model_copy(update={"x": "@other"}), store, records)
    store.write(records[0], save({"paths": lines[0]}))
    with pytest.raises(UsageError, match=r"@paths has the shape \(9, 2\)"):
        trajectories.draw(chosen, store, records[:1])
    with pytest.raises(ValidationError, match="the name of an array is accepted"):
        TrajectoriesPlot(**WHAT, kind="trajectories", x="nfe", y="@lines")


LEAST = {  # by kind, the least that a plot of it needs
    "line": {"x": "n", "y": "m"}, "bar": {"x": "n", "y": "m"}, "heat": {"x": "@a", "y": "@b", "z": "@c"},
    "field": {"x": "@a", "y": "@b", "u": "@c", "v": "@d"}, "boxes": {"x": "@a", "y": "@b", "names": ["one"]},
    "trajectories": {"x": "@a", "y": "@b"},
}  # fmt: skip
OWN = {  # fields that some kinds read, each with a value that they accept
    "z": "@z", "u": "@u", "v": "@v", "floor": "m", "slopes": [1], "pareto": True, "scale": "own", "mark": [0.0, 1.0],
    "names": ["one"], "xlabel": "x", "zlabel": "z", "log": "y", "says": "ends", "better": "lower",
    "sides": ["one"], "floor_label": "floor",
}  # fmt: skip


@pytest.mark.parametrize("kind", LEAST)
def test_a_kind_of_plot_has_the_fields_that_it_reads_and_no_others(kind, tmp_path):
    """Generated: each field of any kind, given to each kind by a suite's file; a wrong one is named with the file."""
    plot = TypeAdapter(PlotSpec).validate_python(WHAT | {"kind": kind} | LEAST[kind])
    assert plot.kind == kind
    assert type(plot) in plots.DRAWERS
    for field, value in OWN.items():
        entries = {"name": "m", "title": "M", "task": "t", "kind": kind} | LEAST[kind] | {field: value}
        lines = [f"{key} = {json.dumps(each)}" for key, each in entries.items()]
        file = tmp_path / "mine.toml"
        file.write_text('name = "mine"\n[[block]]\ntask = "t"\n[[plot]]\n' + "\n".join(lines))
        if field in type(plot).model_fields:
            assert getattr(read(file).plot[0], field) == value
        else:
            with pytest.raises(
                UsageError, match=rf"mine.toml: plot.0.{kind}.{field}: no such key; (did you mean|there are) "
            ):
                read(file)


def test_a_plot_of_no_kind_is_a_line_and_of_an_unknown_one_is_refused():
    assert isinstance(TypeAdapter(PlotSpec).validate_python(WHAT | LEAST["line"]), LinePlot)
    for kind in ("pie", ["line"], None):
        with pytest.raises(ValidationError, match="line, bar, heat, field, boxes, trajectories or samples is accepted"):
            TypeAdapter(PlotSpec).validate_python(WHAT | LEAST["line"] | {"kind": kind})


def test_suites_stored_with_the_options_of_every_kind_are_read():
    """As schema version 2 dumped a plot: all options of the one class that there was, most of them empty."""
    texts = dict.fromkeys(("z", "u", "v", "log", "xlabel", "ylabel", "zlabel"), "")
    empty = texts | {"where": {}, "facet": None, "scale": "shared", "mark": [], "floor": None, "slopes": []}
    empty |= {"pareto": False}
    for kind, fields in LEAST.items():
        old = WHAT | empty | {"kind": kind} | {k: v for k, v in fields.items() if k != "names"}
        old |= {"zlabel": "one, two"} if kind == "boxes" else {}
        (plot,) = upgrade_suite({"plot": [old]})["plot"]
        read_back = TypeAdapter(PlotSpec).validate_python(plot)
        assert (read_back.kind, getattr(read_back, "names", ["one", "two"])) == (kind, ["one", "two"])
