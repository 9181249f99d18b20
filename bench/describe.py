"""``fidmap describe NAME``: what a name stands for, what it takes and how to use it, without importing torch."""

from __future__ import annotations

import difflib
import json
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType, UnionType
from typing import Any

from bench.catalogue import kinds
from bench.errors import UsageError
from bench.plan.cells import find_task
from bench.plan.signature import Option, read_signature
from bench.report import published
from bench.task import Measure, NameOf, Task
from implementations.catalogue.entry import Entry, UnknownName
from implementations.catalogue.names import resolve_name

LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >="}
BETTER = {"lower": "lower is better", "higher": "higher is better", "target": "neither way is better"}
USE = {  # an example per kind: how an entry is called, with its name for NAME
    "samplers": "from implementations.diffusion import VP, GaussianOracle, SCHEDULES\n"
    "from implementations.samplers import SAMPLERS\n"
    "import torch\n"
    "denoiser = GaussianOracle(VP(), torch.zeros(2), 0.25)\n"
    'times = SCHEDULES["karras"](VP(), steps=20)\n'
    "start = VP().prior(torch.randn(100, 2), float(times[0]))\n"
    'samples = SAMPLERS["NAME"](denoiser, start, times)',
    "schedules": 'from implementations.diffusion import VP, SCHEDULES\ntimes = SCHEDULES["NAME"](VP(), steps=20)',
    "paths": 'from implementations.catalogue import PATHS\npath = PATHS["NAME"]()',
    "guidance": "from implementations.guidance import GUIDANCE\n"
    'guided = GUIDANCE["NAME"](denoiser)  # a Denoiser; the condition is the sampler\'s\n'
    'samples = SAMPLERS["heun"](guided, x, times, condition=labels)',
    "losses": "from implementations.boxes import LOSSES\n"
    'loss = LOSSES["NAME"](pred, target, reduction="mean")  # boxes (n, 4) as x1, y1, x2, y2',
    "nms": "from implementations.boxes import NMS\n"
    'kept = NMS["NAME"](boxes, scores, labels, iou_threshold=0.5)  # indices, scores and boxes',
    "suites": "fidmap run NAME",
}


@dataclass(frozen=True)
class Setting:
    """A setting of a task, or an option of a method: its name, type, default and choices as texts."""

    name: str
    type: str
    default: str  # "required" where there is none


@dataclass(frozen=True)
class Description:
    """What is known of one name: the field ``kind`` is the catalogue that it stands in."""

    name: str
    kind: str
    summary: str
    paper: str = ""
    docstring: str = ""
    facts: dict[str, str] = field(default_factory=dict)  # what else the catalogue holds of it
    settings: list[Setting] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)  # figures of papers, the headline first
    example: str = ""

    def text(self, width: int) -> str:
        """The description as text for a terminal of so many columns."""
        return "\n".join(self._lines(width))

    def _lines(self, width: int) -> Iterator[str]:
        paper = f" ({self.paper})" if self.paper else ""
        yield from textwrap.wrap(f"{self.name} ({self.kind}): {self.summary}{paper}", width)
        if self.docstring:
            yield from ["", *(f"  {line}".rstrip() for line in self.docstring.splitlines())]
        if self.facts:
            yield ""
            for name, value in self.facts.items():
                yield from textwrap.wrap(f"{name}: {value}", width, initial_indent="  ", subsequent_indent="    ")
        if self.settings:
            yield from ["", "settings" if self.kind == "tasks" else "options"]
            yield from _lay_out([_say_setting(one) for one in self.settings], width)
        if self.measures:
            yield from ["", "measures"]
            yield from _lay_out([(one.name, one.unit or "-", _say_measure(one)) for one in self.measures], width)
        if self.published:
            yield from ["", "published"]
            yield from textwrap.wrap(self.published[0]["words"], width, initial_indent="  ", subsequent_indent="    ")
        if self.example:
            yield from ["", "in a suite" if self.kind == "tasks" else "example"]
            yield from (f"  {line}".rstrip() for line in self.example.splitlines())


def describe(name: str) -> list[Description]:
    """Describe every entry of this name, one per kind of catalogue, or what another program's name stands for.

    Raises UsageError where there is neither.
    """
    found = [_describe(kind, catalogue[name]) for kind, catalogue in kinds().items() if name in catalogue]
    if found or (found := list(_describe_trade_name(name))):
        return found
    known = {entry for catalogue in kinds().values() for entry in catalogue}
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise UsageError(
        f"nothing is named {name!r}; " + (f"did you mean {' or '.join(near)}?" if near else "see fidmap list")
    )


def _describe_trade_name(name: str) -> Iterator[Description]:
    """What another program's name of a sampler or a schedule stands for."""
    for kind in ("samplers", "schedules"):
        try:
            meaning = resolve_name(kind, name)
        except UnknownName:
            continue
        if meaning.entry == name:  # code of the user's
            continue
        of_entry = _describe(kind, kinds()[kind][meaning.entry])
        facts = {"stands for": str(meaning), "cannot be run": meaning.refused, "differs": meaning.note}
        yield replace(of_entry, name=name, facts={k: v for k, v in facts.items() if v} | of_entry.facts)


def _describe(kind: str, entry: Entry) -> Description:
    if kind == "tasks":
        return _describe_task(entry)
    known = read_signature(entry.target)
    preset: Mapping[str, Any] = getattr(entry, "preset", {})
    settings = [Setting(one.name, one.type, _default(one, preset)) for one in (known.options if known else ())]
    docstring = known.docstring if known else ""
    summary = entry.summary or docstring.partition("\n")[0] or f"{entry.target} of {entry.source}"
    command = getattr(entry, "command", "")
    example = USE.get(kind, "").replace("NAME", entry.name)
    return Description(
        entry.name, kind, summary, entry.paper, docstring, _facts(entry), settings,
        published=_published(kind, entry.name), example=command or example or _import_of(entry),
    )  # fmt: skip


def _published(kind: str, name: str) -> list[dict[str, Any]]:
    """The published figures of an entry, each with its words."""
    rows = published.find(published.read_kind(kind), name)
    return [row.model_dump(exclude_defaults=True) | {"words": row.words()} for row in rows]


def _default(option: Option, preset: Mapping[str, Any]) -> str:
    if option.name in preset:
        return repr(preset[option.name])
    return "required" if option.default is None else option.default


def _import_of(entry: Entry) -> str:
    module, _, name = entry.target.partition(":")
    return f"from {module} import {name}" if name else ""


def _facts(entry: Entry) -> dict[str, str]:
    """What the catalogue holds beside name, summary and paper, where it differs from what most have."""
    names = (
        "neutral",
        "evaluations",
        "needs",
        "space",
        "wraps",
        "stateful",
        "family",
        "order",
        "orders",
        "stochastic",
        "coordinate",
        "coordinates",
        "stages",
        "adaptive",
        "package",
        "others",
    )
    held, found = vars(entry), {}
    for name in names:
        value = held.get(name)
        if value and value != "custom":
            found[name] = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if entry.source != "fidmap":
        found["source"] = entry.source
    return found


def _describe_task(entry: Entry) -> Description:
    try:
        task = find_task(entry.name)
    except (ImportError, ValueError) as error:  # of an outside package
        raise UsageError(str(error)) from None
    known = read_signature(task.function) if isinstance(task.function, str) else None
    settings = [
        Setting(name, _say_type(one.annotation, one.metadata), "required" if one.is_required() else _toml(one.default))
        for name, one in task.parameters.model_fields.items()
    ]
    facts: dict[str, str] = {"kind of cell": task.kind}
    return Description(
        entry.name, "tasks", entry.summary, entry.paper, known.docstring if known else "", facts, settings,
        list(task.measures.values()), example=_block(task),
    )  # fmt: skip


def _say_type(annotation: Any, metadata: list[Any]) -> str:
    """A type in words, with its choices and limits."""
    named = next((one.kind for one in metadata if isinstance(one, NameOf)), None)
    limits = [f"{sign} {getattr(one, key)}" for one in metadata for key, sign in LIMITS.items() if hasattr(one, key)]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if named:
        text = f"a name of {named}, or {'FILE.safetensors' if named == 'weights' else 'MODULE:FUNCTION'}"
    elif origin is typing.Annotated:
        text = _say_type(arguments[0], list(arguments[1:]))
    elif origin is typing.Literal:
        text = " | ".join(map(str, arguments))
    elif origin in (typing.Union, UnionType):
        text = " or ".join("none" if one is NoneType else _say_type(one, []) for one in arguments)
    elif origin is list:
        text = f"list of {_say_type(arguments[0], [])}"
    elif origin is dict:
        text = "table"
    else:
        text = getattr(annotation, "__name__", str(annotation))
    return ", ".join([text, *limits])


def _block(task: Task) -> str:
    """A block of a suite that runs the task, with an example of every setting that must be given."""
    fields = task.parameters.model_fields
    given = {name: one.examples[0] for name, one in fields.items() if one.examples}
    examples = given | {name: "..." for name, one in fields.items() if one.is_required() and name not in given}
    examples.setdefault(task.entry, "...")
    lines = ["[[block]]", f'task = "{task.name}"']
    if task.kind == "contest":
        settings = {task.entry: examples.pop(task.entry)} | examples
    else:
        lines.append(f"axes.{task.entry} = {_toml([examples.pop(task.entry)])}")
        settings = examples
    lines += [f"settings.{name} = {_toml(value)}" for name, value in settings.items()]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return "none" if value is None else json.dumps(value)


def _say_setting(setting: Setting) -> tuple[str, str, str]:
    if setting.default == "required":
        return setting.name, "required", setting.type
    return setting.name, "optional", f"{setting.type}; {setting.default} by default".removeprefix("; ")


def _say_measure(measure: Measure) -> str:
    return f"{measure.summary} ({BETTER[measure.direction]}{'' if measure.deterministic else '; a timing'})"


def _lay_out(rows: list[tuple[str, str, str]], width: int) -> Iterator[str]:
    """Three columns, of which the last is wrapped to what is left of the width."""
    first, second = (max(len(row[k]) for row in rows) for k in (0, 1))
    for name, middle, text in rows:
        start = f"  {name:<{first}}  {middle:<{second}}  "
        yield from textwrap.wrap(text or "-", max(width, len(start) + 30), initial_indent=start,
                                 subsequent_indent=" " * len(start))  # fmt: skip
