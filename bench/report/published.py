"""Published figures: what papers and repositories state of a method, read from TOML files, one per kind of entry.

[[row]]                    # of results/published/KIND.toml; the first row of an entry is its headline
entry = "ddim"             # a name of the catalogue of this kind
measure = "FID"
figure = 4.67
unit = ""
within = 0.05              # how far from the figure the truth may lie, where it was read off a plot
setting = { data = "CIFAR-10", network = "DDPM's", budget = "50 steps", note = "unconditional" }
source = "DDIM, 2010.02502, table 1"  # with an arXiv number, a DOI or an address
date = "2020-10"           # of the source: year, month, day as far as known
confirmed = "paper"        # where it was read: the source's paper, abstract, authors' repository, or secondary: WHERE

[[row]]                    # where there is no figure
entry = "rk4"
none_found = "what was looked at, and why it has none"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from bench.errors import UsageError
from bench.toml import Strict, explain

PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE.parent / "results" / "published", PACKAGE / "published")  # in a checkout, and where it is installed
TRACEABLE = re.compile(r"\b\d{4}\.\d{4,5}\b|\b10\.\d{4,}/\S+|https?://\S+|\bgithub\.com/\S+")
CONFIRMED = r"^(paper|abstract|authors' repository|secondary: .+)$"


class Setting(Strict):
    """What a figure was measured on: data set, network (or detector), budget (evaluations, steps, schedule), and more.

    The note says what else belongs to it; only the first three decide whether two figures can be compared.
    """

    data: str = ""
    network: str = ""
    budget: str = ""
    note: str = ""


class Row(Strict):
    """A row of a file: a figure with its setting and source, or that none was found."""

    entry: str
    measure: str = ""
    figure: float | None = None
    unit: str = ""
    within: Annotated[float, Field(gt=0)] | None = None
    setting: Setting = Setting()
    source: str = ""
    date: Annotated[str, Field(pattern=r"^(\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?)?$")] = ""
    confirmed: Annotated[str, Field(pattern=CONFIRMED)] | None = None
    none_found: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Row:
        if self.none_found:
            if self.figure is not None:
                raise ValueError(f"{self.entry}: a figure, and none_found: one of the two is expected")
            return self
        missing = [name for name in ("figure", "measure", "source", "date", "confirmed") if not _has(self, name)]
        if missing:
            raise ValueError(f"{self.entry}: {', '.join(missing)} missing; or none_found with what was looked at")
        return self

    @field_validator("source")
    @classmethod
    def _can_be_traced(cls, source: str) -> str:
        if source and not TRACEABLE.search(source):
            raise ValueError("expected an arXiv number, a DOI or an address in it")
        return source


class Published(Row):
    """A published figure of an entry of the catalogue of this kind, or that none was found."""

    kind: str

    def words(self) -> str:
        """The row in words, as in ``4.67 FID, CIFAR-10, 50 steps (DDIM, 2010.02502, table 1), published``."""
        if self.figure is None:
            return f"none found ({self.none_found})"
        setting = [self.setting.data, self.setting.network, self.setting.budget, self.setting.note]
        return f"{', '.join(filter(None, [self._figure, *setting]))} ({self.source}), published"

    def short(self) -> str:
        """The row for a cell of a table, as in ``4.67 FID, CIFAR-10, 50 steps``; ``none found`` without a figure."""
        if self.figure is None:
            return "none found"
        return ", ".join(filter(None, [self._figure, self.setting.data, self.setting.budget]))

    @property
    def _figure(self) -> str:
        within = f"± {_show(self.within)}" if self.within else ""
        return " ".join(filter(None, [_show(self.figure or 0.0), within, self.unit, self.measure]))

    def comparable(self, measure: str, here: Setting) -> bool:
        """Whether a figure measured ``here`` is of the same measure, data, network and budget."""
        return self.figure is not None and not self._differences(measure, here)

    def mark(self, measure: str, here: Setting) -> str:
        """How to mark the figure beside one that was measured ``here``: as published, and where the settings differ."""
        if self.figure is None:
            return "none found"
        differences = self._differences(measure, here)
        return f"published; not comparable: {', '.join(differences)}" if differences else "published"

    def _differences(self, measure: str, here: Setting) -> list[str]:
        pairs = {
            "measure": (self.measure, measure),
            **{name: (getattr(self.setting, name), getattr(here, name)) for name in ("data", "network", "budget")},
        }
        return [
            f"{name} {theirs or 'not stated'}, here {ours or 'not stated'}"
            for name, (theirs, ours) in pairs.items()
            if theirs.casefold() != ours.casefold()
        ]


class _File(Strict):
    row: Annotated[list[Row], Field(min_length=1)]


def read(folder: Path | None = None) -> list[Published]:
    """Read the published figures of a folder of TOML files, by default those that come with fidmap.

    Raises UsageError naming file, key, and what is accepted.
    """
    folder = folder or find_folder()
    if folder is None:
        return []
    if not folder.is_dir():
        raise UsageError(f"no folder of published figures: {folder}")
    return [row for file in sorted(folder.glob("*.toml")) for row in read_file(file)]


def read_kind(kind: str) -> list[Published]:
    """The published figures of one kind of entry that come with fidmap; none where there is no file of them."""
    folder = find_folder()
    file = folder / f"{kind}.toml" if folder else None
    return read_file(file) if file and file.is_file() else []


def find_folder() -> Path | None:
    """The folder of published figures that comes with fidmap, or None where it was left out."""
    return next((folder for folder in FOLDERS if folder.is_dir()), None)


def read_file(file: Path) -> list[Published]:
    """Read one file of published figures, whose name is the kind of its entries; raises UsageError as ``read`` does."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    try:
        rows = _File.model_validate(content).row
    except ValidationError as error:
        raise UsageError(f"{file}: {explain(error, _File)}") from None
    return [Published(kind=file.stem, **dict(row)) for row in rows]


def find(
    rows: Iterable[Published], entry: str, measure: str | None = None, setting: Setting | None = None, *, kind: str = ""
) -> list[Published]:
    """The rows of an entry in their order, the headline first; of one measure, setting and kind where these are given.

    A kind tells apart entries of one name, as the loss ``diou`` and the NMS ``diou``.
    """
    return [
        row
        for row in rows
        if row.entry == entry
        and kind in ("", row.kind)
        and measure in (None, row.measure)
        and setting in (None, row.setting)
    ]


def choose(rows: Iterable[Published], measure: str, here: Setting) -> Published | None:
    """The row whose measure, data, network and budget differ least from what was measured ``here``; None of no rows.

    Of several the first is chosen, which is an entry's headline.
    """
    return min(rows, key=lambda row: len(row._differences(measure, here)), default=None)


def setting_of(task: str, parameters: Mapping[str, Any]) -> Setting:
    """The setting of a record of a task with these parameters, in the words of the published ones."""
    budget = f"{parameters['nfe']} NFE" if parameters.get("nfe") else ""
    if task == "iou_regression":
        track = (parameters.get("options") or {}).get("gradient", "true")
        iterations = parameters.get("iterations") or 200
        return Setting(
            data=f"simulation {parameters.get('protocol', '')}",
            network=f"gradient {track}",
            budget=f"{iterations} iterations",
        )
    if task.startswith("nms_"):
        return Setting(data="composed scenes", network="simulated candidates")
    if task == "model_quality":
        return Setting(data=str(parameters.get("data") or ""), network=str(parameters.get("model", "")), budget=budget)
    if "spectrum" in parameters:
        return Setting(data=f"Gaussian, spectrum {parameters['spectrum']}", network="oracle", budget=budget)
    if "images" in parameters:
        return Setting(data="Fashion-MNIST", network="oracle", budget=budget)
    if "oracle" in parameters:
        return Setting(data=f"{parameters['oracle']} oracle", network="oracle", budget=budget)
    return Setting(data=task, budget=budget)


def _has(row: Row, name: str) -> bool:
    return getattr(row, name) not in (None, "")


def _show(figure: float) -> str:
    return f"{figure:g}" if abs(figure) >= 1e5 else repr(figure).removesuffix(".0")
