"""The sampler under audit, with its options, and the problems that it is set."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.audit.finding import Undecided
from bench.audit.probe import Asked, Asks, Told, Witness
from bench.audit.rounding import roughness, staircase
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.catalogue.entry import SamplerEntry
from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.discrete import DiscreteVP
from implementations.diffusion.grid import Callback
from implementations.diffusion.noise import Noise
from implementations.diffusion.oracle import GaussianOracle
from implementations.diffusion.path import EDM, VE, VP, Cosine, Images, Path, RectifiedFlow, SubVP, TrigFlow

LEVELS = {"sigma_min": 0.02, "sigma_max": 40.0}  # of sigma/alpha; inside every path
CONTINUOUS: dict[str, Callable[[], Path]] = {
    "VP()": VP,
    "RectifiedFlow()": RectifiedFlow,
    "EDM()": EDM,
    "VE()": VE,
    "Cosine()": Cosine,
    "SubVP()": SubVP,
    "TrigFlow()": TrigFlow,
}
BEND = 1e-6  # of what float64 leaves on an affine sampler
TABLE = "DiscreteVP(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)"  # Stable Diffusion's
HOMES = (TABLE, "RectifiedFlow()", "EDM()", "TrigFlow()")  # of schedulers as shipped


def table() -> DiscreteVP:
    """The path of Stable Diffusion's betas."""
    return DiscreteVP(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)


def gaussian(path: Path) -> GaussianOracle:
    """Six modes of variance 0.05 to 2."""
    return GaussianOracle(path, torch.linspace(-1, 1, 6).double(), torch.linspace(0.05, 2, 6).double())


def normal(n: int, d: int = 6) -> Tensor:
    """The same draws always."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def start(path: Path, t: float | Tensor, z: Tensor) -> Tensor:
    """The same place in every path: ``x / hypot(alpha, sigma)`` is z."""
    return z * float(torch.hypot(path.alpha(t), path.sigma(t)))


class Begin(NamedTuple):
    """The time of the first state, and what the state is there of what is handed over.

    A scheduler may scale unit noise to sigma and not to hypot(alpha, sigma), which is its prior's affair.
    """

    t: float
    gain: float


@dataclass(frozen=True)
class Subject:
    """A sampler and its options."""

    entry: SamplerEntry
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The entry's name and the options given."""
        given = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.entry.name}({given})" if given else self.entry.name

    @property
    def peer(self) -> bool:
        """Whether it comes from another library, whose tables are in float32."""
        return self.entry.family == "peer"

    @property
    def own_grid(self) -> bool:
        """Whether it is a scheduler as shipped: of the times given it takes the number."""
        return self.entry.options(self.options).get("mode") == "shipped"

    def counts(self, steps: tuple[int, ...]) -> tuple[int, ...]:
        """Those numbers of steps that it takes: schedulers of distilled models have a most."""
        most = getattr(self.entry._resolved, "most_steps", None) if self.own_grid else None
        return tuple(n for n in steps if most is None or n <= most)

    @property
    def condition(self) -> str:
        """What a figure of a scheduler as shipped hangs on that its options do not show: its default offset."""
        if not self.own_grid or "steps_offset" not in self.entry._resolved.settings:
            return ""
        return f", at steps_offset={self.options.get('steps_offset', 0)}"

    def __call__(
        self,
        denoiser: Denoiser,
        x: Images,
        times: Tensor,
        noise: Noise | None = None,
        callback: Callback | None = None,
    ) -> Images:
        """Run it; whatever it draws from torch's global generator is the same each time."""
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            if self.peer:
                warnings.simplefilter("ignore")  # theirs, of what they are called with
            torch.manual_seed(0)
            given = {"noise": noise, "callback": callback}
            taken = {name: value for name, value in given.items() if value is not None and self.takes(name)}
            return self.entry(denoiser, x, times, **taken, **self.options)  # type: ignore[no-any-return]

    def takes(self, name: str) -> bool:
        """Whether it has a parameter of that name."""
        return name in inspect.signature(self.entry._resolved).parameters

    @cached_property
    def refused(self) -> dict[str, str]:
        """The continuous paths on which it raises, with what it says; ``order`` and the like are set on another."""
        reasons = {name: self._refusal(self.path(name)) for name in self._candidates}
        return {name: reason for name, reason in reasons.items() if reason}

    @property
    def _candidates(self) -> list[str]:
        """The continuous paths; with sigma = 0 alone for what must end there."""
        if self.entry.to_data != "must":
            return list(CONTINUOUS)
        return [name for name, make in CONTINUOUS.items() if float((path := make()).sigma(path.t_min)) == 0]

    @cached_property
    def paths(self) -> list[str]:
        """The paths that it takes, of a scheduler as shipped its home; raises Undecided where it takes none."""
        if self.own_grid:
            return [next(name for name in HOMES if isinstance(self.path(name), self.entry._resolved.home))]
        found = [name for name in self._candidates if name not in self.refused]
        if not found:
            raise Undecided("on {}: {}".format(*next(iter(self.refused.items()))))
        return found

    @property
    def taken(self) -> bool:
        """Whether a scheduler as shipped has the settings that are its options, and goes from noise to data."""
        settings = set(self.options) - {"mode"}
        return settings <= set(self.entry._resolved.settings) and not self.entry.ascending

    def _refusal(self, path: Path) -> str:
        times = self.times(path, 5)
        try:
            self(gaussian(path), start(path, times[0], normal(2)), times)
        except (ValueError, TypeError, NotImplementedError) as error:
            return f"{type(error).__name__}: {error}"
        except Exception:
            return ""  # what breaks on a path that is taken is for the checks to report
        return ""

    @property
    def path_name(self) -> str:
        """The first that it takes."""
        return self.paths[0]

    def path(self, name: str | None = None) -> Path:
        """A path by its name, or the first that it takes."""
        name = name or self.path_name
        return table() if name == TABLE else CONTINUOUS[name]()

    def times(self, path: Path, steps: int, clean: bool = False) -> Tensor:
        """A grid of ``steps``: inside the path, or to sigma = 0; all of the path for a scheduler as shipped."""
        if self.own_grid:
            return SCHEDULES["uniform"](path, steps)  # type: ignore[no-any-return]
        clean = clean or self.entry.to_data == "must"
        times = SCHEDULES["karras"](path, steps, clean=clean, **LEVELS)
        return times.flip(0) if self.entry.ascending else times  # type: ignore[no-any-return]

    @property
    def ends_clean(self) -> bool:
        """Whether it takes a grid to sigma = 0."""
        return self.own_grid or self.entry.to_data != "never"

    def begins(self, path: Path, times: Tensor) -> Begin:
        """Where the first state is: at ``times[0]``, or where a scheduler as shipped asks first, with its gain."""
        if not self.own_grid:
            return Begin(float(times[0]), 1.0)
        try:
            self(Asks(path), torch.ones(1, 1, dtype=torch.float64), times, lambda _, like: torch.zeros_like(like))
        except Asked as first:
            return Begin(first.t, float(first.x))
        raise ValueError("it never asks the network")

    @cached_property
    def draws_noise(self) -> bool:
        """Whether noise changes its output, and nothing else does: measured, and not what it states."""
        path = self.path()
        times = self.times(path, 6)
        x = start(path, times[0], normal(2))
        silent, loud, again = (
            self(gaussian(path), x, times, lambda _, like, level=level: torch.full_like(like, level))  # type: ignore[misc]
            for level in (0.0, 1.0, 0.0)
        )
        return torch.equal(silent, again) and not torch.equal(silent, loud)

    @cached_property
    def rounding(self) -> float:
        """How coarsely it rounds a state on the way, relative: 1e-16 in float64, 3e-8 where one is cast to float32."""
        path = self.path()
        grid = self.times(path, 8)
        begin = self.begins(path, grid)
        witness = Witness(Told(path, torch.tensor([0.5, 1.0]), torch.tensor([1.0, -0.5])))
        x = start(path, begin.t, torch.tensor([[0.7, -0.9]]).double()) * staircase() / begin.gain
        last = self(witness, x, grid, witness.noise)
        if witness.batched:
            return roughness(last)
        return max(roughness(y) for y in (*(one.x for one in witness.evaluations), last))

    @property
    def bend(self) -> float:
        """How far from affine, relatively, an affine sampler may be found: 1e-6, more for one that rounds coarsely."""
        return max(BEND, 1e3 * self.rounding)


def subjects(name: str, variants: bool = True) -> Iterator[Subject]:
    """A sampler by its name or as module:function: each coordinate and order, with its noise and without."""
    entry = SAMPLERS[name].loaded()
    if not variants:
        yield Subject(entry, {})
        return
    own = entry.options({})
    for options in entry.variants():
        yield Subject(entry, options)
        if entry.noisy and entry.draws_noise({}):
            yield Subject(entry, {**options, **{name: _without(own[name]) for name in entry.noisy}})
    if entry.noisy and not entry.draws_noise({}):
        yield Subject(entry, dict.fromkeys(entry.noisy, 1.0))


def _without(value: Any) -> Any:
    """What an option that adds noise is where it adds none."""
    if isinstance(value, int | float):
        return 0.0
    return () if isinstance(value, tuple | list) else None


def of_function(function: Callable[..., Tensor], **facts: Any) -> Subject:
    """Audit a function itself; ``facts`` are what an entry may state: order, stages, coordinate, ..."""
    name = f"{function.__module__}:{function.__qualname__}"
    known = {f.name for f in fields(SamplerEntry)}
    if unknown := set(facts) - known:
        raise TypeError(f"{min(unknown)!r} is nothing that a sampler states, such as order, stages or coordinate")
    entry = SamplerEntry(name, name, source=function.__module__.partition(".")[0])
    vars(entry)["_resolved"] = function  # what the name resolves to, without an import
    stated = replace(entry.loaded(), **facts)
    vars(stated)["_resolved"] = function
    return Subject(stated)
