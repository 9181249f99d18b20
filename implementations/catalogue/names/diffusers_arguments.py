"""diffusers' names as calls: ``DPMSolverMultistepScheduler(solver_order=3, use_karras_sigmas=True)``."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from implementations.catalogue.entry import UnknownName
from implementations.catalogue.names import diffusers
from implementations.catalogue.names.meaning import Argument, Resolved

_CALL = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*", re.DOTALL)


def resolve_call(text: str, exact: bool = True) -> Resolved | None:
    """Say what a scheduler's class with arguments stands for, or give None where it is no class of the table.

    Raises UnknownName on an argument that it does not take here, or that no row fits.
    """
    match = _CALL.fullmatch(text)
    name = _pick(match[1], list(diffusers.SAMPLERS), exact) if match else None
    if match is None or name is None:
        return None
    method, grids = diffusers.DEFAULTS.get(name, {}), diffusers.GRIDS.get(name, ())
    given = _read(name, match[2] or "")
    for argument in given:
        if argument not in (*method, *grids):
            known = ", ".join([*method, *grids]) or "no arguments"
            raise UnknownName(
                f"{name} takes {known} here, and not {argument}: arguments of the method and its grid alone"
            )
    values = {**method, **{k: v for k, v in given.items() if k in method}}
    for where, row in diffusers.SAMPLERS[name]:
        if all(values.get(k) in (v if isinstance(v, tuple) else (v,)) for k, v in where.items()):
            found = replace(row, options=_fill(row.options, values))
            return _on_grid(name, found, {k: v for k, v in given.items() if k in grids})
    shown = ", ".join(f"{k}={v}" for k, v in values.items())
    raise UnknownName(f"{name} has no method with {shown}")


def resolve_grid(text: str, exact: bool = True) -> Resolved | None:
    """Say what an argument that chooses a grid stands for, such as ``timestep_spacing=leading``, or give None."""
    key = text.replace(" ", "").removesuffix("=True")
    name, _, value = key.partition("=")
    if name == "shift" and value:
        return replace(diffusers.SCHEDULES["shift"], options={"shift": _literal(value)})
    picked = _pick(key, list(diffusers.SCHEDULES), exact)
    if picked is None:
        return None
    found = diffusers.SCHEDULES[picked]
    return replace(found, options=_fill(found.options, diffusers.SETTINGS))


def _on_grid(name: str, found: Resolved, given: Mapping[str, Any]) -> Resolved:
    """Add the grid that the arguments choose; levels count before the spacing of timesteps, as in diffusers."""
    chosen = [key for key in (k if v is True else f"{k}={v}" for k, v in given.items()) if key in diffusers.SCHEDULES]
    chosen += ["shift"] if "shift" in given and "use_dynamic_shifting" not in chosen else []
    levels = [key for key in chosen if not key.startswith("timestep_spacing")] or chosen
    for argument in ("timestep_spacing", "sigma_schedule"):
        if argument in given and f"{argument}={given[argument]}" not in diffusers.SCHEDULES:
            known = [key.partition("=")[2] for key in diffusers.SCHEDULES if key.startswith(argument)]
            raise UnknownName(f"{name}: {argument} must be {' or '.join(known)}, got {given[argument]}")
    if len(levels) > 1:
        raise UnknownName(f"{name} takes one grid at a time, got {' and '.join(levels)}")
    if not levels:
        return found
    grid = diffusers.SCHEDULES[levels[0]]
    options = _fill(grid.options, {**diffusers.SETTINGS, **given})
    if given.get("final_sigmas_type") == "sigma_min":
        options["clean"] = False
    note = "; ".join(one for one in (found.note, grid.note) if one)
    return replace(found, schedule=grid.entry, schedule_options=options, note=note)


def _fill(options: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[value.name] if isinstance(value, Argument) else value for name, value in options.items()}


def _read(name: str, text: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        argument, equals, value = (one.strip() for one in part.partition("="))
        if not equals or not argument.isidentifier():
            raise UnknownName(f"{name}: expected argument=value, got {part!r}")
        given[argument] = _literal(value)
    return given


def _literal(text: str) -> Any:
    """A number, a truth value or a quoted text as in Python; anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _pick(text: str, names: list[str], exact: bool) -> str | None:
    return next((n for n in names if n == text or (not exact and n.casefold() == text.casefold())), None)
