"""A task: typed parameters in, measurements out; it declares each measure's unit, direction and determinism.

class Parameters(TaskParameters):
    sampler: str
    steps: int = 10

@task(kind="plain", entry="sampler", measures=[Measure("rms_error", direction="lower")])
def sampler_error(parameters: Parameters, context: Context) -> Measurements:
    return {"rms_error": ...}
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from implementations.catalogue import CATALOGUES

Kind = Literal["plain", "ladder", "contest"]
Direction = Literal["lower", "higher", "target"]  # target: any change outside the window is worse


class TaskParameters(BaseModel):
    """Base of every task's parameters: unknown keys are errors, values are checked and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _named(kind: str) -> AfterValidator:
    def check(name: str) -> str:
        try:
            CATALOGUES[kind][name]
        except LookupError as error:
            raise ValueError(str(error)) from None
        return name

    return AfterValidator(check)


SamplerName = Annotated[str, _named("samplers")]
PathName = Annotated[str, _named("paths")]
ScheduleName = Annotated[str, _named("schedules")]
LossName = Annotated[str, _named("losses")]
NmsName = Annotated[str, _named("nms")]


@dataclass(frozen=True)
class Measure:
    """What a task declares of a measure it returns.

    ``window``: the relative change within which two values count as the same (deterministic measures gate by it).
    ``floor``: beside ``window``, the absolute change that never counts, for values that may be zero.
    """

    name: str
    summary: str = ""
    unit: str = ""
    direction: Direction = "lower"
    deterministic: bool = True
    window: float = 0.02
    floor: float = 1e-9


@dataclass(frozen=True)
class Value:
    """A measured value with what is known of its uncertainty and origin; a bare float is a Value without them."""

    value: float
    interval: tuple[float, float] | None = None
    n: int | None = None
    extractor: str | None = None  # name@hash of the feature extractor
    reference: str | None = None  # hash of the data it is measured against


Measurements = Mapping[str, float | Value]


@dataclass
class Context:
    """What the harness lends a task: the seed, the device, and a place for arrays worth keeping."""

    seed: int = 0
    device: str = "cpu"
    keep_samples: bool = False
    arrays: dict[str, Any] = field(default_factory=dict)  # name -> tensor, stored beside the record
    timing: dict[str, Any] = field(default_factory=dict)  # what bench.timing returned, by entry

    def keep(self, name: str, tensor: Any) -> None:
        """Store a tensor beside the record (features, detections, raw timings: always)."""
        self.arrays[name] = tensor.detach().cpu().contiguous().clone()  # safetensors refuses shared memory


@dataclass(frozen=True)
class Task:
    """A function with its declared parameters and measures."""

    name: str
    kind: Kind
    entry: str  # the parameter that names what is measured
    catalogue: str  # the catalogue that this parameter's values come from
    parameters: type[TaskParameters]
    measures: dict[str, Measure]
    run: Callable[[Any, Context], Measurements]
    summary: str
    packages: tuple[str, ...] = ()  # peers that it calls: their versions belong to the hash
    samples: bool = False  # it keeps what is generated under the name "samples" where asked to

    @property
    def timing(self) -> bool:
        """Whether any measure is a timing, so that its cells run alone."""
        return any(not measure.deterministic for measure in self.measures.values())


def task(
    *,
    entry: str,
    measures: list[Measure],
    kind: Kind = "plain",
    catalogue: str = "",
    packages: tuple[str, ...] = (),
    samples: bool = False,
) -> Callable[[Callable[..., Measurements]], Task]:
    """Make a Task of a function ``(parameters, context) -> measurements``; its name is the task's.

    ``entry`` is the parameter that names what is measured (a list of names in a contest), ``catalogue`` where those
    names come from.
    """

    def wrap(function: Callable[..., Measurements]) -> Task:
        hints = typing.get_type_hints(function)
        parameters = hints[next(iter(inspect.signature(function).parameters))]
        summary = (function.__doc__ or "").strip().partition("\n")[0]
        table = {measure.name: measure for measure in measures}
        return Task(function.__name__, kind, entry, catalogue, parameters, table, function, summary, packages, samples)

    return wrap
