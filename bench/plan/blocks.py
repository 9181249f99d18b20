"""The cells of one block of a suite: its axes crossed, with guests added, each cell with its hash.

A guest is an entry of the user's (``--sampler module:function``), which joins the entries of a suite. It is left out of
the cells whose parameters it does not accept. A cell's hash covers all that its numbers may depend on.
"""

from __future__ import annotations

import contextlib
import fnmatch
import inspect
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError

from bench import environment
from bench.catalogue import is_code, kinds
from bench.errors import printable
from bench.files import digest
from bench.plan import source
from bench.plan.cell import Cell, Identity, key_of, name_of
from bench.plan.reach import reach
from bench.plan.suite import Block, Suite
from bench.task import Task, TaskParameters
from bench.toml import explain
from implementations.catalogue import CATALOGUES
from implementations.catalogue.entry import Entry, UnknownName
from implementations.catalogue.names import names_code
from implementations.catalogue.own_scheduler import OWN_SCHEDULER, SchedulerEntry

RUNS = ("bench.run.pristine", "bench.run.worker")  # part of every cell's source: they run each task
SCHEDULERS = "implementations.peers.own_schedulers"  # through which a scheduler of the user's is called
# Environment variables that select other arithmetic on the same machine.
VARIABLES = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "NVIDIA_TF32_OVERRIDE")

Guests = Mapping[str, Sequence[str]]  # kind of catalogue -> the user's entries, module:function


class BlockCells:
    """The cells of one block of a suite, made one by one on iteration, since a block may have millions.

    A cell is a point of the crossed axes, a row of the zipped ones and a seed.
    """

    def __init__(self, suite: Suite, index: int, task: Task, device: str, guests: Guests, seeds: list[int]):
        self.suite, self.index, self.block = suite, index, suite.block[index]
        self.task, self.device, self.seeds = task, device, seeds
        block = self.block
        self.axes, self.settings = _axes(block, task, guests)
        self.zipped = [dict(zip(block.zip, row, strict=True)) for row in zip(*block.zip.values(), strict=True)] or [{}]
        self.hardware = environment.device_identity(device)
        home = task.module
        self.home = () if home.partition(".")[0] == "bench" else source.own_modules([home])  # of an outside task
        self.common = {
            "python": environment.python(),
            "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
            "device": device,
            "hardware": self.hardware,
            "threads": block.threads,
        }

    def takes_guests(self, kind: str) -> bool:
        """Whether the user's entries of a catalogue (``kind``: samplers, losses or nms) join an axis of this block."""
        own = {**self.block.axes, **(self.block.settings if self.task.kind == "contest" else {})}
        return self.task.catalogue == kind and self.task.entry in own

    def __iter__(self) -> Iterator[Cell]:
        for point, together, seed in itertools.product(_product(self.axes), self.zipped, self.seeds):
            yield self._cell(self.settings | point | together, seed)

    def _cell(self, values: dict[str, Any], seed: int) -> Cell:
        task, block = self.task, self.block
        values, admitted, left_out = self._admit(values)
        parameters = admitted.model_dump(mode="json", warnings=False)
        entries = parameters[task.entry]
        entries = [str(entry) for entry in entries] if isinstance(entries, list) else [str(entries)]
        excluded = (e.reason for e in block.exclude if all(_matches(values[k], v) for k, v in e.match.items()))
        reason = next(excluded, dict(left_out).get(entries[0]))
        named = tuple(find_entries(parameters, task.catalogue))
        targets = sorted({one.target for one in named if one.source != "fidmap"})
        outside = tuple(sorted({*self.home, *_own_modules(tuple(targets))}))
        bridged = any(isinstance(one, SchedulerEntry) for one in named)
        called = (task.module, *((SCHEDULERS,) if bridged else ()))
        entries_of_ours = tuple(one for one in named if one.source == "fidmap")
        reached = reach(called, entries_of_ours, source.python_files(outside))
        peers = sorted({one.package for one in named if one.package})
        others = {one.package for one in reached.entries if one.package} | {*peers, *source.packages(outside)}
        found = environment.versions(tuple(dict.fromkeys((*environment.BASE, *task.packages, *sorted(others)))))
        if absent := [name for name in peers if name not in found]:
            reason = reason or f"not installed: {', '.join(absent)}"
        reason = reason or admitted.unavailable(self.device) or None
        contents = {} if reason else admitted.contents()
        modules = (*RUNS, *reached.modules, *outside)
        hashed = self.common | {
            "task": task.name, "parameters": parameters, "seed": seed, "source": source.source_hash(modules),
            "entries": reached.describe_entries(), "packages": found, "outside": targets, "skip": reason,
        } | ({"contents": contents} if contents else {})  # fmt: skip
        identity = Identity(
            suite=self.suite.name, task=task.name, kind=task.kind, entries=entries, parameters=parameters, seed=seed,
            device=self.device, hardware=self.hardware, threads=block.threads,
            key=key_of(task.name, parameters, seed, self.device, block.threads), hash=digest(hashed),
        )  # fmt: skip
        shown = {k: v for k, v in values.items() if k != task.entry} | ({"seed": seed} if len(self.seeds) > 1 else {})
        return Cell(
            identity, name_of(task.name, identity.entry, shown), self.index, admitted.runs_alone(task.timing),
            self.suite.timeout_s, self.suite.memory_gib, modules, source.source_hash(modules), outside, task.samples,
            reason, tuple(sorted(contents.items())), tuple(left_out),
        )  # fmt: skip

    def _admit(self, values: dict[str, Any]) -> tuple[dict[str, Any], TaskParameters, list[tuple[str, str]]]:
        """A cell's values without unfit guests, the task's parameters made of them, and why each guest is left out.

        A plain cell keeps the name of such a guest and is recorded as skipped; a contest goes on without the guest.
        """
        entry, left_out = self.task.entry, []
        names = values.get(entry)
        for guest in self._guests(names if isinstance(names, list) else [names]):
            alone = values | {entry: [guest] if isinstance(names, list) else guest}
            if reason := _refusal(self.task, guest, alone):
                left_out.append((guest, reason))
                if not isinstance(names, list):
                    return values, self.task.parameters.model_construct(**values), left_out
                names = [name for name in names if name != guest]
        values = values | ({entry: names} if isinstance(names, list) else {})
        return values, self.task.parameters.model_validate(values), left_out

    def _guests(self, names: list[Any]) -> list[str]:
        """Entries from outside fidmap that this block does not name itself: they came by an option or a selector."""
        listed = json.dumps([self.block.axes.get(self.task.entry), self.block.settings, self.block.zip])
        catalogue = kinds().get(self.task.catalogue, {})
        return [
            name
            for name in names
            if isinstance(name, str)
            and json.dumps(name) not in listed
            and (names_code(name) or (name in catalogue and catalogue[name].source != "fidmap"))
        ]


@cache
def _own_modules(targets: tuple[str, ...]) -> tuple[str, ...]:
    return source.own_modules(targets)


def _refusal(task: Task, guest: str, values: dict[str, Any]) -> str | None:
    """Why a guest does not accept a cell's parameters (an option that it lacks, or the task's error), or None."""
    options = values.get("options")
    try:
        if task.catalogue and task.kind != "contest" and isinstance(options, dict):
            taken = inspect.signature(kinds()[task.catalogue][guest].resolve()).parameters
            takes_any = any(one.kind is one.VAR_KEYWORD for one in taken.values())
            if not takes_any and (lacking := sorted(set(options) - set(taken))):
                return f"{guest} takes no option {', '.join(lacking)}"
    except (TypeError, ValueError):  # a function without a signature: its call will tell
        pass
    try:
        task.parameters.model_validate(values)
    except ValidationError as error:
        return explain(error, task.parameters)
    except (Exception, SystemExit) as error:  # the guest's own code
        return printable(f"{type(error).__name__}: {error}")
    return None


def _axes(block: Block, task: Task, guests: Guests) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """A block's axes as lists and its settings, with selectors of entries resolved.

    Raises ValueError where a name stands in two of them, zipped lists differ in length, or an exclusion names none.
    """
    places = {"settings": set(block.settings), "axes": set(block.axes), "zip": set(block.zip)}
    for (one, left), (other, right) in itertools.combinations(places.items(), 2):
        if twice := left & right:
            raise ValueError(f"{', '.join(sorted(twice))} is in {one} and in {other}; one of them is accepted")
    lengths = {name: len(values) for name, values in block.zip.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"zip: lists of one length are accepted, given {lengths}")
    known = set().union(*places.values())
    for exclusion in block.exclude:
        if unknown := set(exclusion.match) - known:
            names = ", ".join(sorted(known))
            raise ValueError(f"exclude: no axis or setting {', '.join(sorted(unknown))}; there are {names}")
    settings, contest = dict(block.settings), task.kind == "contest"
    if contest and task.entry in settings:
        settings[task.entry] = _choose(task, task.entry, settings[task.entry], guests)
    axes = {}
    for name, values in block.axes.items():
        if contest and name == task.entry:  # an axis of contests: each value is a list of entries
            axes[name] = [_choose(task, name, each, guests) for each in values]
        else:
            axes[name] = _choose(task, name, values, guests)
    return axes, settings


def _choose(task: Task, name: str, values: Any, guests: Guests) -> list[Any]:
    """An axis as a list: a selector becomes the names that it matches in the catalogue, and guests are appended."""
    if isinstance(values, dict):
        if name != task.entry or not task.catalogue:
            raise ValueError(f"{name}: a list is accepted; a selector only for an entry that comes from a catalogue")
        values = _select(task.catalogue, name, values)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name}: a list of at least one value is accepted, given {values!r}")
    if name == task.entry:
        values = [*values, *(guest for guest in guests.get(task.catalogue, ()) if guest not in values)]
    return values


def choose_entries(block: Block, task: Task) -> list[str]:
    """The entries that a block of this task names in its axes, zipped lists or settings, with selectors resolved."""
    places = (block.axes, block.zip, block.settings)
    named = next((place[task.entry] for place in places if task.entry in place), [])
    if isinstance(named, dict):
        return _select(task.catalogue, task.entry, named)
    each = named if isinstance(named, list) else [named]
    lists = (_select(task.catalogue, task.entry, one) if isinstance(one, dict) else one for one in each)
    return [name for one in lists for name in (one if isinstance(one, list) else [one])]


def _select(kind: str, name: str, fields: dict[str, Any]) -> list[str]:
    catalogue = kinds()[kind]

    def matches(entry: Entry) -> bool:
        return all(fnmatch.fnmatchcase(str(getattr(entry, field)), str(glob)) for field, glob in fields.items())

    try:
        chosen = [entry for entry, what in catalogue.items() if matches(what)]
    except AttributeError as error:
        raise ValueError(f"{name}: no such field to select by: {error}") from None
    if not chosen:
        raise ValueError(f"{name}: no entry of {kind} matches {fields}")
    return chosen


def find_entries(parameters: dict[str, Any], kind: str = "") -> Iterator[Entry]:
    """The catalogue entries that a cell's parameters name, anywhere inside, without repeats.

    A text with a colon (``module:function``) is an entry of the user's, unless a program's name stands before it.
    ``kind`` is the catalogue of the task, where that is none of methods.
    """
    catalogues = {**CATALOGUES, **({kind: kinds()[kind]} if kind else {})}
    for name in dict.fromkeys(_texts(parameters)):
        if ":" in name and names_code(name) and not is_code(name):  # a place such as hf:ORG/NAME, or a file
            continue
        for of, catalogue in catalogues.items():
            if name.startswith(OWN_SCHEDULER) and of != "samplers":
                continue
            own_file = of == "weights" and name.endswith(".safetensors")
            if name in catalogue or names_code(name) or own_file:
                yield catalogue[name]
            elif ":" in name and of in ("samplers", "schedules"):  # a program's name
                with contextlib.suppress(UnknownName):
                    yield catalogue[name]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _product(axes: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _matches(value: Any, pattern: Any) -> bool:
    if isinstance(pattern, list):
        return any(_matches(value, one) for one in pattern)
    if isinstance(pattern, str) and isinstance(value, str):
        return fnmatch.fnmatchcase(value, pattern)
    return json.dumps(value, sort_keys=True) == json.dumps(pattern, sort_keys=True)
