"""The sampler under audit, with its options, and the problems that it is given."""

from __future__ import annotations

import ast
import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.audit.finding import Undecided
from bench.audit.probe import ConstantDenoiser, FirstCall, Interrupter, RecordingDenoiser
from bench.audit.rounding import roughness, staircase
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.catalogue.entry import SamplerEntry
from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.discrete import DiscreteVP
from implementations.diffusion.grid import Callback
from implementations.diffusion.noise import Noise
from implementations.diffusion.oracle import GaussianOracle
from implementations.diffusion.path import EDM, VE, VP, Cosine, Images, Path, RectifiedFlow, SubVP, TrigFlow

LEVELS = {"sigma_min": 0.02, "sigma_max": 40.0}  # sigma/alpha at the ends of a grid, strictly inside every path
CONTINUOUS: dict[str, Callable[[], Path]] = {
    "VP()": VP,
    "RectifiedFlow()": RectifiedFlow,
    "EDM()": EDM,
    "VE()": VE,
    "Cosine()": Cosine,
    "SubVP()": SubVP,
    "TrigFlow()": TrigFlow,
}
AFFINE_TOLERANCE = 1e-6  # relative departure from affine at which a sampler still counts as affine
STABLE_DIFFUSION = "DiscreteVP(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)"
HOMES = (STABLE_DIFFUSION, "RectifiedFlow()", "EDM()", "TrigFlow()")  # paths that schedulers as shipped are made for


def stable_diffusion_path() -> DiscreteVP:
    """The discrete variance-preserving path over Stable Diffusion's 1,000 betas, on which schedulers are audited."""
    return DiscreteVP(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)


def six_modes(path: Path) -> GaussianOracle:
    """The Gaussian oracle on which samplers are audited: six modes, means from -1 to 1, variances from 0.05 to 2."""
    return GaussianOracle(path, torch.linspace(-1, 1, 6).double(), torch.linspace(0.05, 2, 6).double())


def normal(n: int, d: int = 6) -> Tensor:
    """Standard normal draws (n, d) in float64, the same in every call: the starts of the audit."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def state_at(path: Path, t: float | Tensor, z: Tensor) -> Tensor:
    """The state ``z hypot(alpha, sigma)`` at time t, from which audits start: the same on every path, up to scale."""
    return z * float(torch.hypot(path.alpha(t), path.sigma(t)))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread: the states have a few numbers, for which several threads take eight times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class WrongReturn(TypeError):
    """Raised where a sampler returns anything but samples; the message says what came and what is accepted."""


def _require_samples(found: Any, x: Images) -> Images:
    if isinstance(found, Tensor) and found.shape == x.shape and found.is_floating_point():
        return found
    came = (
        f"a tensor of {found.dtype} and shape {tuple(found.shape)}"
        if isinstance(found, Tensor)
        else (f"a {type(found).__name__}" if found is not None else "None")
    )
    raise WrongReturn(
        f"it returned {came}; samples are accepted, a tensor of floats of the shape of x, {tuple(x.shape)}"
    )


class FirstState(NamedTuple):
    """Where a sampler begins: the time ``t`` of the path at which it first evaluates the network, and at which state.

    That state is ``gain`` times the unit noise that the caller gives. A scheduler may scale this noise by sigma in
    place of hypot(alpha, sigma); the choice of prior is not under audit, so that truths start from the scaled state.
    """

    t: float
    gain: float


@dataclass(frozen=True)
class Subject:
    """A sampler under audit, with its options."""

    entry: SamplerEntry
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the sampler, with the options that it is audited with."""
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.entry.name}({options})" if options else self.entry.name

    @property
    def peer(self) -> bool:
        """Whether the sampler belongs to another library, whose tables are in float32."""
        return self.entry.family == "peer"

    @property
    def as_shipped(self) -> bool:
        """Whether it is a scheduler as shipped, which makes its own grid: only the number of times reaches it."""
        return self.entry.options(self.options).get("mode") == "shipped"

    def counts(self, steps: tuple[int, ...]) -> tuple[int, ...]:
        """Which of these numbers of steps the sampler takes: schedulers of distilled models have a maximum."""
        most = getattr(self.entry._resolved, "most_steps", None) if self.as_shipped else None
        return tuple(n for n in steps if most is None or n <= most)

    @property
    def condition(self) -> str:
        """The ``steps_offset`` of a scheduler as shipped, in words: figures depend on it although it is a default."""
        if not self.as_shipped or "steps_offset" not in self.entry._resolved.settings:
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
        """Run the sampler; whatever it draws from torch's global generator is the same in every call.

        Raises WrongReturn where it returns anything but samples.
        """
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            if self.peer:
                warnings.simplefilter("ignore")  # other libraries warn about the arguments that they get here
            torch.manual_seed(0)
            offered = {"noise": noise, "callback": callback}
            known = {name: value for name, value in offered.items() if value is not None and self.takes(name)}
            return _require_samples(self.entry(denoiser, x, times, **known, **self.options), x)

    def takes(self, name: str) -> bool:
        """Whether the sampler has a parameter called ``name``."""
        return name in inspect.signature(self.entry._resolved).parameters

    @cached_property
    def refusals(self) -> dict[str, str]:
        """The continuous paths on which the sampler raises, with what it says.

        Checks that need one path use another.
        """
        reasons = {name: self._refusal(self.path(name)) for name in self.candidates}
        return {name: reason for name, reason in reasons.items() if reason}

    @property
    def candidates(self) -> list[str]:
        """The continuous paths; for a sampler that must end at sigma = 0, those that reach it; a scheduler's home."""
        if self.as_shipped:
            return self.paths
        if self.entry.to_data != "must":
            return list(CONTINUOUS)
        return [name for name, make in CONTINUOUS.items() if float((path := make()).sigma(path.t_min)) == 0]

    @cached_property
    def paths(self) -> list[str]:
        """The names of the paths on which the sampler runs; for a scheduler as shipped its home alone.

        Raises Undecided where there is none.
        """
        if self.as_shipped:
            return [next(name for name in HOMES if isinstance(self.path(name), self.entry._resolved.home))]
        found = [name for name in self.candidates if name not in self.refusals]
        if not found:
            raise Undecided("on {}: {}".format(*next(iter(self.refusals.items()))))
        return found

    @property
    def accepts_options(self) -> bool:
        """Whether a scheduler as shipped has the settings that the options name, and runs from noise to data."""
        settings = set(self.options) - {"mode"}
        return settings <= set(self.entry._resolved.settings) and not self.entry.ascending

    def _refusal(self, path: Path) -> str:
        times = self.times(path, 5)
        try:
            self(six_modes(path), state_at(path, times[0], normal(2)), times)
        except WrongReturn:
            return ""  # of this the call itself will tell
        except (ValueError, TypeError, NotImplementedError) as error:
            return f"{type(error).__name__}: {error}"
        except Exception:
            return ""  # any other error is a fault of the sampler, which the checks report
        return ""

    @cached_property
    def path_name(self) -> str:
        """The name of the first path on which the sampler runs, which checks of one path use; Undecided without one."""
        if self.as_shipped:
            return self.paths[0]
        return next((name for name in self.candidates if self.runs_on(name)), None) or self.paths[0]

    def runs_on(self, name: str) -> bool:
        """Say whether the sampler runs on the path called ``name``; a scheduler as shipped, on its home alone."""
        if self.as_shipped or name not in self.candidates:
            return name in self.candidates
        return not self._refusal(self.path(name))

    def path(self, name: str | None = None) -> Path:
        """Make the path called ``name``, or the first on which the sampler runs."""
        name = name or self.path_name
        return stable_diffusion_path() if name == STABLE_DIFFUSION else CONTINUOUS[name]()

    def times(self, path: Path, steps: int, clean: bool = False) -> Tensor:
        """A time grid of ``steps`` for the audit, on Karras's levels inside the path, or to sigma = 0 (``clean``).

        For a scheduler as shipped it is over the whole path.
        """
        if self.as_shipped:
            return SCHEDULES["uniform"](path, steps)  # type: ignore[no-any-return]
        clean = clean or self.entry.to_data == "must"
        times = SCHEDULES["karras"](path, steps, clean=clean, **LEVELS)
        return times.flip(0) if self.entry.ascending else times  # type: ignore[no-any-return]

    @property
    def ends_clean(self) -> bool:
        """Whether the sampler takes a grid that ends at sigma = 0."""
        return self.as_shipped or self.entry.to_data != "never"

    def first_state(self, path: Path, times: Tensor) -> FirstState:
        """Where the sampler begins: at ``times[0]``, or for a scheduler as shipped, where it first asks the network."""
        if not self.as_shipped:
            return FirstState(float(times[0]), 1.0)
        try:
            self(
                Interrupter(path), torch.ones(1, 1, dtype=torch.float64), times, lambda _, like: torch.zeros_like(like)
            )
        except FirstCall as first:
            return FirstState(first.t, float(first.x))
        raise ValueError("it never asks the network")

    @cached_property
    def draws_noise(self) -> bool:
        """Whether noise, and nothing else, changes the sampler's output; measured, not taken from what it states."""
        path = self.path()
        times = self.times(path, 6)
        x = state_at(path, times[0], normal(2))
        silent, loud, again = (
            self(six_modes(path), x, times, lambda _, like, level=level: torch.full_like(like, level))  # type: ignore[misc]
            for level in (0.0, 1.0, 0.0)
        )
        return torch.equal(silent, again) and not torch.equal(silent, loud)

    @cached_property
    def rounding(self) -> float:
        """Relative rounding of the sampler's states: about 1e-16 in float64, 3e-8 where a state is cast to float32."""
        path = self.path()
        grid = self.times(path, 8)
        begin = self.first_state(path, grid)
        recorder = RecordingDenoiser(ConstantDenoiser(path, torch.tensor([0.5, 1.0]), torch.tensor([1.0, -0.5])))
        x = state_at(path, begin.t, torch.tensor([[0.7, -0.9]]).double()) * staircase() / begin.gain
        last = self(recorder, x, grid, recorder.noise)
        if recorder.batched:
            return roughness(last)
        return max(roughness(y) for y in (*(one.x for one in recorder.calls), last))

    @property
    def affine_tolerance(self) -> float:
        """How far a sampler may be from affine, relatively: 1e-6, and more for one that rounds coarsely."""
        return max(AFFINE_TOLERANCE, 1e3 * self.rounding)


def subjects(name: str, variants: bool = True) -> Iterator[Subject]:
    """The subjects of an audit of one sampler: each coordinate and order, with its noise and without.

    ``name`` is that of the catalogue, or module:function. Without ``variants`` it is the sampler by its defaults alone.
    """
    entry = SAMPLERS[name].load()
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


def find_subject(text: str) -> Subject:
    """Give a sampler by a name, of another program too, or by ``module:function``; with options, ``ddim(eta=1)``.

    Raises LookupError on an unknown name or option, and ImportError where it cannot be loaded.
    """
    name, bracket, given = text.partition("(")
    if bracket and not given.endswith(")"):
        raise LookupError(f"{text!r} has no closing bracket: NAME or NAME(OPTION=VALUE, ...) is accepted")
    try:  # diffusers' classes take arguments of their own
        entry, options = SAMPLERS[text].load() if not bracket or name not in SAMPLERS else None, {}
    except LookupError as error:
        raise LookupError(
            f"{error}; `fidmap list samplers` names them, with --names PROGRAM those of other programs"
        ) from None
    if entry is None:
        entry, options = SAMPLERS[name].load(), _read_options(given)
        known = entry.options({})
        if unknown := set(options) - set(known):
            accepted = ", ".join(known) or "none"
            raise LookupError(f"{name} has no option {min(unknown)}; its options are: {accepted}")
    return Subject(entry, options)


def _read_options(text: str) -> dict[str, Any]:
    """The options in ``eta=1, solver_type=heun)``; what is no literal is text."""
    options: dict[str, Any] = {}
    for pair in filter(None, (one.strip() for one in text.removesuffix(")").split(","))):
        name, equals, value = (one.strip() for one in pair.partition("="))
        if not equals:
            raise LookupError(f"{pair!r} is no option: OPTION=VALUE is accepted")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def _without(value: Any) -> Any:
    """The value of an option that adds noise at which it adds none."""
    if isinstance(value, int | float):
        return 0.0
    return () if isinstance(value, tuple | list) else None


@dataclass(frozen=True)
class FunctionEntry(SamplerEntry):
    """The catalogue entry of a sampler that is passed as a function, so that nothing is imported."""

    function: Callable[..., Tensor] = field(kw_only=True)

    def resolve(self) -> Callable[..., Tensor]:
        """Give the function of the sampler, which needs no import."""
        return self.function


def of_function(function: Callable[..., Tensor], **facts: Any) -> Subject:
    """Make the subject of an audit of a sampler that is a function and stands in no catalogue.

    Keywords state what a catalogue's entry would: its order, the evaluations per step (``stages``), the variable in
    which it integrates (``coordinate``), ... Raises TypeError on a keyword that is no field of ``SamplerEntry``.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    known = {f.name for f in fields(SamplerEntry)}
    if unknown := set(facts) - known:
        raise TypeError(f"{min(unknown)!r} is nothing that a sampler states, such as order, stages or coordinate")
    entry = FunctionEntry(name, name, source=function.__module__.partition(".")[0], function=function)
    return Subject(replace(entry.load(), **facts))
