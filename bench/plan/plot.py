"""The plots of a suite: one model per kind of plot, with the options that a suite file may give.

A field such as ``x`` holds the name of a parameter, of a measure, or, written ``@name``, of an array that is stored
beside the records. ``bench.report`` draws them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from bench.task import Direction
from bench.toml import Strict

# What the title of a line plot says of its curves, computed from them (``bench.report.conclusions``): who is best at
# both ends, at the last x, on average or at one point; who reaches the floor first; from where on nothing on the Pareto
# front is better; the measured orders; what raises and lowers y; which curve changes most.
Says: TypeAlias = Literal["ends", "last", "mean", "peak", "floor", "front", "order", "moves", "change"]
SpecName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]  # of a table or a plot, and of its file


def _is_array(name: str) -> str:
    if not name.startswith("@"):
        raise ValueError("the name of an array is accepted, as @name")
    return name


Array: TypeAlias = Annotated[str, AfterValidator(_is_array)]


class Plot(Strict):
    """The fields that plots of every kind have: which records of a task are shown, and how they are divided.

    ``where`` gives values of parameters (of a list, any value); records with others are left out. Each value of the
    parameter ``series`` gets a colour, or in maps a panel; each value of ``facet`` gets a panel.
    """

    columns: ClassVar[tuple[str, ...]]  # the fields that name a parameter, a measure or an array

    name: SpecName  # of the file too
    title: str
    task: str
    where: dict[str, Any] = {}
    series: str | None = None
    facet: str | None = None

    def references(self) -> list[str]:
        """Every parameter, measure and array (``@name``) that the plot names, to check that its task has them."""
        return [*filter(None, (getattr(self, field) for field in (*self.columns, "series", "facet"))), *self.where]


class LinePlot(Plot):
    """Curves of ``y`` over ``x``: one per series, in a panel per facet.

    Over several seeds a curve is the mean of ``y``, and a band shows its range; of one seed, bars show the intervals.
    """

    columns = ("x", "y", "floor")

    kind: Literal["line"] = "line"
    x: str  # or "index": the position in the array y, from 1
    y: str
    log: Literal["", "x", "y", "xy"] = ""
    floor: str | None = None  # a measure drawn as a horizontal line, with its interval as a band
    floor_label: str = "floor"  # of what the floor is
    slopes: list[int] = []  # orders of accuracy whose slopes are drawn beside the curves
    pareto: bool = False  # ring the points than which none of as small an x is better beyond both intervals
    says: Says | None = None  # by default front, floor or ends, by what the plot has
    better: Direction | None = None  # which y is better, where no measure declares it
    xlabel: str = ""  # in words; a measure's unit and direction are added
    ylabel: str = ""


class BarPlot(Plot):
    """Bars of the measure ``y``: one per value of the parameter ``x`` and series, with the interval as error bar."""

    columns = ("x", "y")

    kind: Literal["bar"]
    x: str
    y: str
    log: Literal["", "y"] = ""
    xlabel: str = ""
    ylabel: str = ""


class MapPlot(Plot):
    """The fields of a map: values over the plane, in one panel per series and facet.

    ``x`` (n,) and ``y`` (m,) are the axes of a grid, with values of the shape (m, n). For values (n,) at scattered
    points, ``x`` and ``y`` name the same array (n, 2) of their coordinates.
    """

    x: Array
    y: Array
    log: Literal["", "x", "y", "xy", "z", "xyz"] = ""
    scale: Literal["shared", "own"] = "shared"  # one colour scale for all panels, or one per panel
    mark: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None  # a point (x, y) marked on each panel
    xlabel: str = ""
    ylabel: str = ""
    zlabel: str = ""  # of the colour bar


class HeatPlot(MapPlot):
    """A heat map: the values ``z`` as colours over the axes ``x`` and ``y``.

    Where smaller or larger values are ``better``, the title says which panel is best at most places.
    """

    columns = ("x", "y", "z")

    kind: Literal["heat"]
    z: Array
    better: Direction | None = None


class FieldPlot(MapPlot):
    """A gradient field: arrows point against the gradient (``u``, ``v``), which is where descent leads.

    The colours beneath show ``z``, or where there is none the length of the gradient.
    """

    columns = ("x", "y", "z", "u", "v")

    kind: Literal["field"]
    u: Array
    v: Array
    z: Array | None = None


class BoxesPlot(Plot):
    """Counter-examples to claims about box losses: the boxes drawn to scale, in a panel per record that has them.

    The title of a panel shows both sides of the inequality that the boxes break, each after its name in ``sides``. The
    coordinates are in the units of the search.
    """

    columns = ("x", "y")

    kind: Literal["boxes"]
    x: Array  # the boxes (k, 4) as corners x1, y1, x2, y2
    y: Array  # the sides of the inequality (n,)
    names: Annotated[list[str], Field(min_length=1)]  # of the k boxes
    sides: list[str] = []  # names of the numbers


class TrajectoriesPlot(Plot):
    """Paths of samples in the plane, drawn over the exact paths that they should follow, in a panel per record."""

    columns = ("x", "y")

    kind: Literal["trajectories"]
    x: Array  # the paths (paths, points, 2)
    y: Array  # the exact paths, of the same shape; a record without them shows its own alone
    xlabel: str = ""
    ylabel: str = ""


class SamplesPlot(Plot):
    """Samples as they are, a row of images or a panel of points per record; those of one start stand in one column."""

    columns = ("x",)

    kind: Literal["samples"]
    x: Array  # images (n, c, h, w) as uint8, or points (n, d) of floats


def _kind_of(plot: Any) -> Any:
    return plot.get("kind", "line") if isinstance(plot, dict) else getattr(plot, "kind", None)


PlotSpec: TypeAlias = Annotated[
    Annotated[LinePlot, Tag("line")]
    | Annotated[BarPlot, Tag("bar")]
    | Annotated[HeatPlot, Tag("heat")]
    | Annotated[FieldPlot, Tag("field")]
    | Annotated[BoxesPlot, Tag("boxes")]
    | Annotated[TrajectoriesPlot, Tag("trajectories")]
    | Annotated[SamplesPlot, Tag("samples")],
    Discriminator(
        _kind_of,
        custom_error_type="kind_of_plot",
        custom_error_message="kind: line, bar, heat, field, boxes, trajectories or samples is accepted",
    ),
]
