"""Names of the trade: what ComfyUI, AUTOMATIC1111 and Forge, diffusers and k-diffusion call samplers and schedules.

A name may be preceded by its program, ``comfyui:dpmpp_2m_sde_heun``; without, all programs are searched. Names of
fidmap come first. One table per program says what its names stand for; no torch and no program is imported.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from implementations.catalogue.diffusion import SCHEDULES
from implementations.catalogue.entry import Catalogue, UnknownName
from implementations.catalogue.guided_sampler import GuidedSamplerEntry
from implementations.catalogue.names import automatic1111, comfyui, diffusers, k_diffusion
from implementations.catalogue.names.diffusers_arguments import resolve_call, resolve_grid
from implementations.catalogue.names.meaning import Resolved
from implementations.catalogue.own_scheduler import OWN_SCHEDULER, SchedulerEntry
from implementations.catalogue.samplers import SAMPLERS

__all__ = ["PROGRAMS", "Resolved", "find_entry", "find_program", "list_names", "names_code", "resolve_name"]

_TABLES: Mapping[str, Any] = MappingProxyType(
    {"comfyui": comfyui, "automatic1111": automatic1111, "diffusers": diffusers, "k_diffusion": k_diffusion}
)
PROGRAMS = tuple(_TABLES)
_ALSO = {"a1111": "automatic1111", "forge": "automatic1111", "k-diffusion": "k_diffusion"}
_CATALOGUES: dict[str, Catalogue[Any]] = {"samplers": SAMPLERS, "schedules": SCHEDULES}


def resolve_name(kind: str, text: str) -> Resolved:
    """Say what a name of a sampler or a schedule stands for: an entry of fidmap with options.

    ``kind`` is samplers or schedules. ``text`` is a name of the catalogue, which comes first; a program's name, with or
    without ``program:`` before it, such as ``DPM++ 2M SDE Karras`` or
    ``diffusers:DPMSolverMultistepScheduler(algorithm_type=sde-dpmsolver++)``; or code, ``module:function``. Raises
    UnknownName on an unknown name, and on one that programs use for different methods. A name that cannot be run comes
    back with the reason as ``refused``.
    """
    catalogue = _CATALOGUES[kind]
    if text in catalogue:
        return Resolved(text)
    found = _find(kind, text)
    if found is not None:
        return found
    if names_code(text):
        return Resolved(text)
    near = _near(text, [*catalogue, *(name for program in _TABLES for name in _texts(program, kind))])
    hint = near or f"`fidmap list {kind}` names them, with --names those of other programs"
    raise UnknownName(f"no {catalogue.singular} named {text!r}; {hint}")


def find_entry(catalogue: Catalogue[Any], text: str) -> Any:
    """Give an entry of a catalogue for the name that another program has for it, its options set, or None.

    ``scheduler:module:name`` gives the user's own scheduler as a sampler. Raises UnknownName on a name that cannot be
    run, and on one that programs use for different methods.
    """
    if catalogue.kind == "samplers" and text.startswith(OWN_SCHEDULER):
        return SchedulerEntry.named(text)
    found = _find(catalogue.kind, text)
    if found is None:
        return None
    if found.refused:
        raise UnknownName(f"{catalogue.singular} {text!r} cannot be run: {found.refused}")
    entry, options = catalogue[found.entry], found.options
    fixed: dict[str, Any] = {"name": text, "preset": {**entry.preset, **options}}
    for table in ("orders", "uniform"):  # its variants are those that the name leaves open
        orders = getattr(entry, table, {})
        if options.get("order") in orders:
            fixed[table] = {options["order"]: orders[options["order"]]}
    named = replace(entry, **fixed)
    return GuidedSamplerEntry.of(named, found.guidance) if found.guidance else named


def list_names(kind: str, program: str) -> dict[str, Resolved]:
    """Give every name of samplers or schedules of a program with what it stands for; those of diffusers by their rows.

    Raises UnknownName on another program.
    """
    name = find_program(program)
    texts = _texts(name, kind)
    if name == "diffusers" and kind == "samplers":
        texts = [_write(scheduler, where) for scheduler, rows in diffusers.SAMPLERS.items() for where, _ in rows]
    found = {text: _look_up(name, kind, text, exact=True) for text in texts}
    return {text: meaning for text, meaning in found.items() if meaning is not None}


def find_program(text: str) -> str:
    """Give a program's name as the tables have it; ``a1111`` and ``forge`` are automatic1111. Raises UnknownName."""
    name = _program(text)
    if name is None:
        raise UnknownName(f"no program named {text!r}; there are {', '.join(_TABLES)}")
    return name


def names_code(text: str) -> bool:
    """Say whether a text names code as ``module:function``, and is no program's name."""
    program, colon, _ = text.partition(":")
    return bool(colon) and _program(program) is None and "(" not in program


def _program(text: str) -> str | None:
    name = _ALSO.get(text.lower(), text.lower())
    return name if name in _TABLES else None


@lru_cache(maxsize=4096)
def _find(kind: str, text: str) -> Resolved | None:
    """What a program's name stands for, or None where it is none; raises UnknownName."""
    prefix, colon, name = text.partition(":")
    program = _program(prefix) if colon else None
    if program is not None:
        found = _look_up(program, kind, name, exact=False)
        if found is None:
            hint = _near(name, _texts(program, kind)) or f"`fidmap list {kind} --names {program}` names them"
            raise UnknownName(f"no {_CATALOGUES[kind].singular} of {program} named {name!r}; {hint}")
        return found
    for exact in (True, False):
        meanings = {p: r for p in _TABLES if (r := _look_up(p, kind, text, exact)) is not None}
        if len({(str(r), r.refused) for r in meanings.values()}) > 1:
            each = " or ".join(f"{p}:{text} ({r})" for p, r in meanings.items())
            raise UnknownName(f"{text!r} is of several programs, which differ: {each}")
        if meanings:
            return next(iter(meanings.values()))
    return None


def _look_up(program: str, kind: str, text: str, exact: bool) -> Resolved | None:
    if program == "diffusers":
        return (resolve_call if kind == "samplers" else resolve_grid)(text, exact)
    found = _pick(_names(_TABLES[program], kind), text, exact)
    if found is None and program == "automatic1111" and kind == "samplers":
        return _with_schedule(text, exact)
    return found


def _with_schedule(text: str, exact: bool) -> Resolved | None:
    """A sampler of AUTOMATIC1111 followed by a schedule type, such as ``Euler a SGM Uniform``."""
    schedules = _names(automatic1111, "schedules")
    for label in sorted(schedules, key=len, reverse=True):
        head, tail = text[: -len(label)], text[-len(label) :]
        if head.endswith(" ") and (tail == label or (not exact and tail.casefold() == label.casefold())):
            sampler = _pick(_names(automatic1111, "samplers"), head.rstrip(), exact)
            if sampler is None:
                return None
            if label == "Automatic":
                own = next((n for n, r in automatic1111.SAMPLERS.items() if r is sampler), "")
                label = automatic1111.AUTOMATIC.get(own, "Uniform")
            grid = schedules[label]
            notes = "; ".join(note for note in (sampler.note, grid.note) if note)
            return replace(
                sampler, schedule=grid.entry, schedule_options=grid.options, note=notes,
                refused=sampler.refused or grid.refused,
            )  # fmt: skip
    return None


def _names(table: Any, kind: str) -> dict[str, Any]:
    """The names of a kind in a program's table, its aliases too."""
    names: dict[str, Any] = getattr(table, kind.upper())
    aliases = getattr(table, "ALIASES", {})
    return {**names, **{alias: names[name] for alias, name in aliases.items() if name in names}}


def _texts(program: str, kind: str) -> list[str]:
    """What a program calls samplers or schedules; of diffusers the classes, or the arguments."""
    return list(_names(_TABLES[program], kind))


def _pick(names: Mapping[str, Resolved], text: str, exact: bool) -> Resolved | None:
    if exact:
        return names.get(text)
    return next((found for name, found in names.items() if name.casefold() == text.casefold()), None)


def _near(text: str, names: list[str]) -> str:
    """A question that names the nearest of these names, or nothing."""
    folded = {name.casefold(): name for name in reversed(names)}
    near = [folded[one] for one in difflib.get_close_matches(text.casefold(), folded, n=3, cutoff=0.5)]
    return f"did you mean {' or '.join(near)}?" if near else ""


def _write(scheduler: str, where: Mapping[str, Any]) -> str:
    """A row of diffusers as a call; of several values of an argument the first."""
    first = {name: value[0] if isinstance(value, tuple) else value for name, value in where.items()}
    return scheduler + (f"({', '.join(f'{k}={v}' for k, v in first.items())})" if first else "")
