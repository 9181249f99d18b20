"""The words of a picture: axes with their unit and which direction is better, and a title that says the conclusion."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.records.record import Measurement, Record
from bench.task import Direction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITLESS = ("", "1", "yes/no")
WIDE = 11.5  # characters of a title per inch


def find_measure(records: Sequence[Record], name: str) -> Measurement | None:
    """The first measurement of ``name`` in the records; None where it is a parameter or an array."""
    return next((m for record in records if (m := record.measure(name))), None)


def find_direction(records: Sequence[Record], name: str, better: Direction | None) -> Direction:
    """Which values of ``name`` are better: what the plot says, else the measure's declaration, else neither."""
    measure = find_measure(records, name)
    return better or (measure.direction if measure else "target")


def name_quantity(words: str, name: str) -> str:
    """What an axis shows, without its unit: the plot's words, else the name of the parameter, measure or array."""
    text = words or name.lstrip("@").replace("_", " ")
    return text.partition(" (")[0] if words.endswith(")") else text


def label_axis(words: str, name: str, records: Sequence[Record], better: Direction | None = None) -> str:
    """The label of an axis: its words, its unit in brackets, and which direction is better.

    Unit and direction are those of the measure's declaration; ``better`` is the direction where there is none.
    """
    measure = find_measure(records, name)
    text = words or name.lstrip("@").replace("_", " ")
    if measure and measure.unit not in UNITLESS and f"({measure.unit})" not in text:
        text += f" ({measure.unit})"
    direction = find_direction(records, name, better)
    return text if direction == "target" else f"{text}, {direction} is better"


def entitle(figure: Figure, title: str, says: str = "", notes: Sequence[str] = ()) -> None:
    """Put the conclusion above the figure, beneath it what is shown, and what a reader must know of it."""
    width = int(WIDE * figure.get_figwidth())
    parts = [says, title, *notes]
    figure.suptitle("\n".join(line for part in parts if part for line in textwrap.wrap(part, width)), fontsize=11)


def join(names: Sequence[str], most: int = 4) -> str:
    """Names as a sentence lists them; of more than ``most``, the first and how many more there are."""
    names = list(names)
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
