"""What a catalogue is made of: entries that hold what can be known of an object without importing it.

Outside packages add entries through an entry point of a catalogue's group (``fidmap.samplers``, ...), which is listed
without being imported.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from importlib import metadata
from numbers import Integral
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar


class UnknownName(LookupError):
    """Raised on a name that a catalogue of methods does not hold; the message names the nearest ones."""


@dataclass(frozen=True)
class Entry:
    """An entry of a catalogue: a name, the object behind it as ``module:attribute``, and what is known of it.

    Nothing is imported for it.
    """

    name: str
    target: str
    summary: str = ""
    paper: str = ""
    source: str = field(default="fidmap", kw_only=True)  # the distribution that it comes from
    package: str = field(default="", kw_only=True)  # the distribution that a peer's entry calls

    def resolve(self) -> Any:
        """Import the module of ``target`` and return the object; raises ImportError with the entry's name."""
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # outside code may raise anything while it is imported
            reason = " ".join(f"{type(error).__name__} {error}".split())
            place = "" if self.name == self.target else f" from {self.target!r}"
            raise ImportError(f"cannot load {self.name!r}{place}: {reason}") from error

    @cached_property
    def _resolved(self) -> Any:
        return self.resolve()

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._resolved(*args, **options)


@dataclass(frozen=True)
class SamplerEntry(Entry):
    """What the catalogue knows of a sampler without importing it.

    ``order`` is the order of its global error on a smooth denoiser, the weak order if it is ``stochastic``. An alias is
    another entry's function with some options set: ``preset`` holds these.
    """

    family: str = "custom"
    order: int | None = None
    stochastic: bool = False
    coordinate: str | None = None  # sigma, lambda, angle, t; None: not stated
    coordinates: tuple[str, ...] = ()  # those it takes as an option
    stages: int = 1  # evaluations in a step strictly inside the path
    noisy: tuple[str, ...] = ()  # options that alone decide whether it adds noise: it adds none where all are 0
    orders: Mapping[int, int] = field(default_factory=dict, hash=False)  # value of the option `order` -> its order
    uniform: Mapping[int, int] = field(default_factory=dict, hash=False)  # the same on equal steps of its coordinate
    affine: bool = True  # on a Gaussian its output is affine in start and noise, so that unit impulses give its law
    differentiable: bool = True  # autograd reaches its start and the parameters of the denoiser
    adaptive: bool = False  # it chooses its steps between the times of the grid
    ascending: bool = False  # it goes from data to noise only
    maps: bool = False  # it uses the denoiser's flow map, with which any number of steps may be exact
    corrects: bool = False  # each prediction corrects the step before it; the last step is not corrected
    lower_end: bool = False  # its last step is of the order below
    equal_steps: bool = False  # its history has the weights of equal steps, whatever the grid
    from_noise: bool = True  # a grid may begin at alpha = 0
    to_data: Literal["may", "must", "never"] = "may"  # whether a grid ends at sigma = 0
    preset: Mapping[str, Any] = field(default_factory=dict, hash=False)
    prepare: str = ""  # module:function, (denoiser, x, times) -> what it takes as the option `artifact`
    finely: bool = False  # `prepare` takes a grid much finer than the call's, over the same range; else the call's own
    others: str = ""  # names in other libraries

    def __call__(self, denoiser: Any, x: Any, times: Any, **options: Any) -> Any:
        if self.source != "fidmap":  # it may write into its start and its times, which the caller goes on using
            x, times = x.clone(), times.clone()
        return self._resolved(denoiser, x, times, **{**self.preset, **options})

    def load(self) -> SamplerEntry:
        """Import the sampler, and return its entry with what the function states of itself.

        Attributes of the function such as ``order`` and ``stages`` take the place of the table's.
        """
        function = self._resolved
        stated = {f.name for f in fields(SamplerEntry)} - {f.name for f in fields(Entry)} - {"preset"}
        return replace(self, **{name: getattr(function, name) for name in stated if hasattr(function, name)})

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Give every option of a call by name: the caller's value, else the preset's, else the function's default."""
        parameters = inspect.signature(self._resolved).parameters.values()
        own = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in _CONTRACT}
        return {**own, **self.preset, **options}

    def variants(self) -> list[dict[str, Any]]:
        """Give the options that make it different methods, one mapping per method: each coordinate with each order."""
        return [
            ({"coordinate": c} if c else {}) | ({"order": k} if k else {})
            for c in self.coordinates or (None,)
            for k in self.orders or (None,)
        ]

    def theory(self, options: Mapping[str, Any], uniform: bool = False) -> int | None:
        """Give the order of accuracy with these options, on a smooth grid or on ``uniform`` steps of the coordinate.

        The function's own rule ``order_of(**options)`` comes before the table. With noise it is the weak order.
        """
        rule = getattr(self._resolved, "order_of", None)
        if rule is not None:
            return rule(**self.options(options))  # type: ignore[no-any-return]
        table = self.uniform if uniform and self.uniform else self.orders
        return table[self.options(options)["order"]] if table else self.order

    def draws_noise(self, options: Mapping[str, Any]) -> bool:
        """Say whether the sampler adds noise when it is called with these options."""
        return any(self.options(options).get(name) for name in self.noisy) if self.noisy else self.stochastic

    def evaluations(self, times: Any, *, path: Any = None, **options: Any) -> int | None:
        """Count evaluations of the denoiser over ``times``; None where it chooses its steps.

        A step that touches alpha = 0 or sigma = 0 costs one. The path says which times those are; without it, a time
        of exactly 0 is taken for sigma = 0 (not so on ``VE`` and ``DiscreteVP``), and alpha = 0 is not seen.
        """
        levels = None
        if path is None:
            ends = [float(t) == 0.0 for t in times]
        else:
            levels = [float(s / a) for a, s in zip(path.alpha(times), path.sigma(times), strict=True)]
            ends = [level == 0 or level == math.inf for level in levels]
        return self.cost([here or there for here, there in itertools.pairwise(ends)], options, levels)

    def steps_for(self, nfe: int, *, ends: int = 1, **options: Any) -> int:
        """Give the most steps that ``nfe`` evaluations allow, at least 1, if ``ends`` of them touch an end of the path.

        A step that touches an end costs one evaluation. Where the cost is unknown, as of a solver that chooses its
        steps, it is ``nfe``.
        """
        for steps in range(nfe, 1, -1):
            cost = self.cost([i >= steps - ends for i in range(steps)], options)
            if cost is None or cost <= nfe:
                return steps
        return 1

    def cost(self, touching: list[bool], options: Mapping[str, Any], levels: list[float] | None = None) -> int | None:
        """Count evaluations of the denoiser over steps; None for a sampler that chooses its steps.

        ``touching[i]`` says whether step i touches alpha = 0 or sigma = 0. The function's own ``count(touching,
        **options)`` decides, else ``stages``: one evaluation at an end. A ``count`` that has the argument ``levels`` is
        given sigma/alpha at every time, or None where no path is known.
        """
        count = getattr(self._resolved, "count", None)
        if count is not None:
            known = {"levels": levels} if "levels" in inspect.signature(count).parameters else {}
            return count(touching, **self.options(options), **known)  # type: ignore[no-any-return]
        return None if self.adaptive else sum(1 if end else self.stages for end in touching)


_CONTRACT = ("condition", "noise", "generator", "callback")


@dataclass(frozen=True)
class ScheduleEntry(Entry):
    """What the catalogue knows of a time grid without importing it.

    ``prepare`` is the ``module:function`` of (denoiser, x, times) that makes what it takes as the option ``artifact``;
    ``others`` are its names in other libraries. An alias is another entry's function with the options ``preset``.
    """

    preset: Mapping[str, Any] = field(default_factory=dict, hash=False)
    prepare: str = ""
    others: str = ""

    def __call__(self, path: Any, steps: Any, **options: Any) -> Any:
        """Give the times of a grid of ``steps`` steps on a path; NumPy's integers are taken as Python's.

        NumPy's own arithmetic may overflow.
        """
        whole = isinstance(steps, Integral) and not isinstance(steps, bool)
        return self._resolved(path, int(steps) if whole else steps, **{**self.preset, **options})


@dataclass(frozen=True)
class GuidanceEntry(Entry):
    """What the catalogue knows of a guidance scheme without importing it.

    ``neutral`` says at which options it gives back, bit for bit, the prediction of what it wraps, or which one; it is
    empty where there is none. ``evaluations`` are those per sample around a bare denoiser, ``needs`` what it cannot do
    without beside the condition, and ``wraps`` is guided where it corrects another scheme.
    """

    family: str = "custom"
    neutral: str = ""
    space: str = ""  # in which predictions are compared by default: x0, eps, v, velocity, or every
    evaluations: int = 2
    needs: tuple[str, ...] = ()  # attention, classifier, images, loss, measurement, weak
    stateful: bool = False  # it depends on the levels of the run before; a higher level begins anew
    wraps: str = "denoiser"
    others: str = ""  # names in other libraries


@dataclass(frozen=True)
class LossEntry(Entry):
    """What the catalogue knows of a box loss without importing it.

    Suites choose by ``family``, which is the file that it stands in, or ``peer``.
    """

    family: str = "custom"


@dataclass(frozen=True)
class NmsEntry(Entry):
    """What the catalogue knows of a non-maximum suppression without importing it.

    Suites choose by ``family``, which is the file that it stands in, or ``peer``; ``columns`` are the options that it
    needs, with one value per box.
    """

    family: str = "custom"
    columns: tuple[str, ...] = ()  # options that it needs, with one value per box


@dataclass(frozen=True)
class NetworkEntry(Entry):
    """What the catalogue knows of a network without importing it.

    ``family`` is its architecture. A configuration with a name of its own is the architecture with the options
    ``preset``.
    """

    family: str = "custom"
    preset: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._resolved(*args, **{**self.preset, **options})


@dataclass(frozen=True)
class WeightsEntry(Entry):
    """What the catalogue knows of a checkpoint without opening it; called with a device, it gives what was trained.

    ``family`` is what that is, a denoiser or a classifier of noised samples. ``networks`` are those that its file may
    be a state of. ``file`` is where it has to lie.
    """

    family: str = "denoiser"
    networks: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The file of the weights: of a name the shipped one, of a path itself."""
        own = Path(self.name)
        return own if own.suffix else Path(__file__).parents[1] / "weights" / f"{self.name}.safetensors"

    def __call__(self, device: str = "cpu") -> Any:
        return self._resolved(self.name, device)


E_ = TypeVar("E_", bound=Entry)


@cache
def _entry_points() -> Any:
    """The entry points of all installed distributions, read once for all catalogues."""
    return metadata.entry_points()


class Catalogue(Mapping[str, E_], Generic[E_]):
    """A lazy mapping ``name -> Entry`` of methods: a literal table, and what outside packages add by entry points.

    The entry points are those of the group ``fidmap.<kind>``; listing imports none of them. A name with a colon is a
    single function of the user's, ``module:function``. ``named`` is the ``module:function`` of (catalogue, name) that
    gives an entry for the name that another program has for a method, or None; names of the catalogue come first.
    """

    def __init__(
        self, kind: str, entry_type: Callable[..., E_], entries: list[E_], singular: str = "", named: str = ""
    ):
        self.kind, self.entry_type = kind, entry_type
        self._named = Entry(named, named) if named else None
        self.singular = singular or kind.removesuffix("s")  # what a message calls one of them
        self._own = {entry.name: entry for entry in entries}

    @cached_property
    def _entries(self) -> dict[str, E_]:
        found = dict(self._own)
        for point in _entry_points().select(group=f"fidmap.{self.kind}"):
            source = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            # A name that is taken stays with its owner; the newcomer goes by its distribution's as well.
            name = f"{source.partition(' ')[0]}.{point.name}" if point.name in found else point.name
            found[name] = self.entry_type(name, point.value, source=source)
        return found

    def __getitem__(self, name: str) -> E_:
        if name in self._entries:
            return self._entries[name]
        entry: E_ | None = self._named(self, name) if self._named else None
        if entry is not None:
            return entry
        if ":" in name:  # a single function of the user's, module:function
            return self.entry_type(name, name, source=name.partition(":")[0])
        near = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(self._entries)}"
        raise UnknownName(f"no {self.singular} named {name!r}; {hint}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
