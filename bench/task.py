"""A task: typed parameters in, measurements out. It declares the unit, direction and determinism of each measure.

class Parameters(TaskParameters):
    sampler: str
    steps: int = 10

@task(entry="sampler", measures=[Measure("rms_error", direction="lower")])
def sampler_error(parameters: Parameters, context: Context) -> Measurements:
    return {"rms_error": ...}

A contest measures several entries by turns in one process, and returns the measurements of each:

@task(kind="contest", entry="samplers", measures=[Measure("ratio", deterministic=False)])
def sampler_overhead(parameters: Parameters, context: Context) -> ContestMeasurements:
    return {"euler": {"ratio": ...}, "heun": {"ratio": ...}}
"""

from __future__ import annotations

import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict

from implementations.catalogue import CATALOGUES
from implementations.catalogue.names import resolve_name

Kind = Literal["plain", "ladder", "contest"]
Direction = Literal["lower", "higher", "target"]  # which values are better; with target, any change is worse


class TaskParameters(BaseModel):
    """Base of the parameters of every task: unknown keys are errors, values are checked and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def contents(self) -> dict[str, str]:
        """Hashes of weights and data that the parameters name, which belong to the hash of a record beside the source.

        They are taken where the cell is planned, and again in its worker. Raises ValueError where one is no such thing.
        """
        return {}

    def unavailable(self, device: str) -> str:
        """Say why a cell of these parameters cannot run on this machine and device; empty where it can.

        Such a cell is recorded as skipped, with this reason.
        """
        return ""

    def runs_alone(self, timing: bool) -> bool:
        """Whether nothing else may run beside the cell; ``timing`` is whether its task has a measure that is a time."""
        return timing


def check_name(catalogue: Mapping[str, Any]) -> AfterValidator:
    """A pydantic validator for texts that must name an entry of ``catalogue``, or code as module:function.

    Its error says which names there are.
    """

    def check(name: str) -> str:
        try:
            catalogue[name]
        except LookupError as error:
            raise ValueError(str(error)) from None
        if name not in catalogue and ":" not in name:
            raise ValueError(f"{name!r} is another program's name: write it with the program, as in comfyui:{name}")
        sampler = catalogue is CATALOGUES["samplers"] and name not in catalogue
        if sampler and (found := resolve_name("samplers", name)).schedule:
            raise ValueError(f"{name!r} is {found}: name the sampler and the schedule apart")
        return name

    return AfterValidator(check)


class NameOf(NamedTuple):
    """The kind of catalogue that a setting names an entry of; it stands beside the validator, for descriptions."""

    kind: str


SamplerName = Annotated[str, check_name(CATALOGUES["samplers"]), NameOf("samplers")]
PathName = Annotated[str, check_name(CATALOGUES["paths"]), NameOf("paths")]
ScheduleName = Annotated[str, check_name(CATALOGUES["schedules"]), NameOf("schedules")]
GuidanceName = Annotated[str, check_name(CATALOGUES["guidance"]), NameOf("guidance")]
LossName = Annotated[str, check_name(CATALOGUES["losses"]), NameOf("losses")]
NmsName = Annotated[str, check_name(CATALOGUES["nms"]), NameOf("nms")]


@dataclass(frozen=True)
class Measure:
    """A task's declaration of a measure that it returns: its unit, which direction is better, how it is compared.

    A deterministic measure decides a comparison: two values count as the same where they differ by at most ``window``
    of the first, or by at most ``floor``, which is for values that may be zero. A timing is advisory.
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
    """A measured value with its uncertainty and origin; a bare float is a Value without them."""

    value: float
    interval: tuple[float, float] | None = None
    n: int | None = None
    extractor: str | None = None  # name@hash of the feature extractor
    reference: str | None = None  # hash of the data that it is measured against


Measurements = Mapping[str, float | Value]  # by measure
ContestMeasurements = Mapping[str, Measurements]  # by entry
Function = Callable[..., Measurements | ContestMeasurements]  # of (parameters, context)


@dataclass
class Context:
    """The harness's part in a call of a task: seed and device, and places for arrays and timings of the record."""

    seed: int = 0
    device: str = "cpu"
    keep_samples: bool = False
    arrays: dict[str, Any] = field(default_factory=dict)  # name -> tensor, stored beside the record
    timing: dict[str, Any] = field(default_factory=dict)  # entry -> the summary of its Timing

    def keep(self, name: str, tensor: Any) -> None:
        """Store a tensor beside the record; features, detections and raw timings are always stored."""
        self.arrays[name] = tensor.detach().cpu().contiguous().clone()  # safetensors refuses shared memory


@dataclass(frozen=True)
class Task:
    """A benchmark task: a function, with its declared parameters and measures."""

    name: str
    kind: Kind
    entry: str  # the parameter that names what is measured
    catalogue: str  # the catalogue from which the values of that parameter come
    parameters: type[TaskParameters]
    measures: dict[str, Measure]
    function: Function | str  # or its place as module:function, imported at the first run
    packages: tuple[str, ...] = ()  # other libraries that it calls, whose versions belong to the hash
    samples: bool = False  # with `--keep samples` it stores what it generates as the array "samples"

    @property
    def timing(self) -> bool:
        """Whether a measure is a timing, so that its cells must run alone."""
        return any(not measure.deterministic for measure in self.measures.values())

    @property
    def module(self) -> str:
        """The module of the function, on whose source the numbers depend."""
        return self.function.partition(":")[0] if isinstance(self.function, str) else self.function.__module__

    def resolve(self) -> Function:
        """Import the function, of ``(parameters, context)``."""
        return pkgutil.resolve_name(self.function) if isinstance(self.function, str) else self.function  # type: ignore[no-any-return]

    def run(self, parameters: TaskParameters, context: Context) -> Measurements | ContestMeasurements:
        """Measure with these parameters."""
        return self.resolve()(parameters, context)


def declare(
    function: Function | str,
    parameters: type[TaskParameters],
    *,
    entry: str,
    measures: list[Measure],
    kind: Kind = "plain",
    catalogue: str = "",
    packages: tuple[str, ...] = (),
    samples: bool = False,
) -> Task:
    """Declare a task under the name of its function, given as ``module:function``, which is imported at the first run.

    ``entry`` is the parameter that names what is measured (in a contest, a list of names), ``catalogue`` is where those
    names come from.
    """
    table = {measure.name: measure for measure in measures}
    name = function.partition(":")[2] if isinstance(function, str) else function.__name__
    return Task(name, kind, entry, catalogue, parameters, table, function, packages, samples)


def task(
    *,
    entry: str,
    measures: list[Measure],
    kind: Kind = "plain",
    catalogue: str = "",
    packages: tuple[str, ...] = (),
    samples: bool = False,
) -> Callable[[Function], Task]:
    """Make a Task of a function ``(parameters, context) -> measurements``, under the function's name.

    ``entry`` is the parameter that names what is measured (in a contest, a list of names), ``catalogue`` is where those
    names come from.
    """

    def wrap(function: Function) -> Task:
        hints = typing.get_type_hints(function)
        parameters = hints[next(iter(inspect.signature(function).parameters))]
        return declare(
            function, parameters, entry=entry, measures=measures, kind=kind, catalogue=catalogue, packages=packages,
            samples=samples,
        )  # fmt: skip

    return wrap
