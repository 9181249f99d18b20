"""What a suite shows as pictures: one model per kind of plot, each with the fields that its drawing reads.

Fields name a parameter, a measure, or, as ``@name``, an array that is kept beside the records.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from bench.toml import Strict

SpecName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]  # of a table or a plot, and of its file


def _is_array(name: str) -> str:
    if not name.startswith("@"):
        raise ValueError("the name of an array is accepted, as @name")
    return name


Array: TypeAlias = Annotated[str, AfterValidator(_is_array)]


class Plot(Strict):
    """What plots of every kind have."""

    columns: ClassVar[tuple[str, ...]]  # the fields that name a parameter, a measure or an array

    name: SpecName
    title: str
    task: str
    where: dict[str, Any] = {}
    series: str | None = None
    facet: str | None = None

    def references(self) -> list[str]:
        """The parameters, measures and arrays that the plot refers to."""
        return [*filter(None, (getattr(self, field) for field in (*self.columns, "series", "facet"))), *self.where]


class LinePlot(Plot):
    """A curve per series and a panel per facet; over several seeds a curve is the mean, with the range as a band."""

    columns = ("x", "y", "floor")

    kind: Literal["line"] = "line"
    x: str  # or "index": the place in the array y, from 1
    y: str
    log: Literal["", "x", "y", "xy"] = ""
    floor: str | None = None  # a measure drawn as a line across, with its interval as a band
    slopes: list[int] = []  # orders of accuracy whose slopes are drawn beside the curves
    pareto: bool = False  # the points that no other point beats in x and y at once, where a smaller x is better
    xlabel: str = ""
    ylabel: str = ""


class BarPlot(Plot):
    """A bar per value of ``x`` and series, with the interval of ``y`` as its error bar."""

    columns = ("x", "y")

    kind: Literal["bar"]
    x: str
    y: str
    log: Literal["", "y"] = ""
    xlabel: str = ""
    ylabel: str = ""


class MapPlot(Plot):
    """What maps of either kind have: a panel per series and facet, over the axes ``x`` and ``y`` of a grid.

    Values at points in place of a grid have both axes in one array of the shape (n, 2), which ``x`` and ``y`` name.
    """

    x: Array
    y: Array
    log: Literal["", "x", "y", "xy", "z", "xyz"] = ""
    scale: Literal["shared", "own"] = "shared"  # of the colours of all panels
    mark: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None  # a place marked on every panel
    xlabel: str = ""
    ylabel: str = ""
    zlabel: str = ""  # of the colours


class HeatPlot(MapPlot):
    """The values ``z`` as colours."""

    columns = ("x", "y", "z")

    kind: Literal["heat"]
    z: Array


class FieldPlot(MapPlot):
    """The direction of descent as arrows against the gradient ``u``, ``v``, over colours: ``z``, or else its length."""

    columns = ("x", "y", "z", "u", "v")

    kind: Literal["field"]
    u: Array
    v: Array
    z: Array | None = None


class BoxesPlot(Plot):
    """Boxes to scale, a panel per record that keeps them: a counter-example, under the numbers of its two sides."""

    columns = ("x", "y")

    kind: Literal["boxes"]
    x: Array  # the boxes (k, 4) as corners
    y: Array  # the numbers
    names: Annotated[list[str], Field(min_length=1)]  # of the boxes, in their order


class TrajectoriesPlot(Plot):
    """Paths of samples in the plane, a panel per record, over lines that they should follow."""

    columns = ("x", "y")

    kind: Literal["trajectories"]
    x: Array  # the paths (paths, points, 2)
    y: Array  # the lines, of the same form; a record without them shows its paths alone
    xlabel: str = ""
    ylabel: str = ""


def _kind_of(plot: Any) -> Any:
    return plot.get("kind", "line") if isinstance(plot, dict) else getattr(plot, "kind", None)


PlotSpec: TypeAlias = Annotated[
    Annotated[LinePlot, Tag("line")]
    | Annotated[BarPlot, Tag("bar")]
    | Annotated[HeatPlot, Tag("heat")]
    | Annotated[FieldPlot, Tag("field")]
    | Annotated[BoxesPlot, Tag("boxes")]
    | Annotated[TrajectoriesPlot, Tag("trajectories")],
    Discriminator(
        _kind_of,
        custom_error_type="kind_of_plot",
        custom_error_message="kind: line, bar, heat, field, boxes or trajectories is accepted",
    ),
]
