"""A task of the user's own in a suite, by ``--task MODULE:NAME`` and ``--settings KEY=VALUE``.

A suite that names the task runs it where it does. To any other it is added as one more block, with the suite's own
entries of the catalogue from which the task's come, unless the settings name others.
"""

from __future__ import annotations

import itertools
import tomllib
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from bench.errors import UsageError
from bench.plan.blocks import choose_entries
from bench.plan.cells import find_task
from bench.plan.suite import Block, Suite
from bench.task import Task
from bench.toml import explain
from implementations.catalogue.entry import UnknownName


def join_task(suite: Suite, name: str, settings: Sequence[str] = ()) -> Suite:
    """A suite with the task ``name`` in it: in the blocks that name it, with these settings, or in one more block.

    A setting is ``KEY=VALUE``, where the value is written as in TOML, or a text as it is; a list for a key that takes
    no list is an axis. Raises UsageError on what is no task, on settings that the task does not have or accept, and
    where its entry is missing.
    """
    try:
        task = find_task(name)
    except (UnknownName, ImportError, ValueError) as error:
        raise UsageError(f"--task {error}") from None
    axes: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for key, value in map(parse_setting, settings):
        of_lists = key in task.parameters.model_fields and _takes_list(task.parameters.model_fields[key].annotation)
        (axes if isinstance(value, list) and value and not of_lists else plain)[key] = value
    if any(block.task == name for block in suite.block):
        return _set(suite, name, task, axes, plain)
    if task.entry not in axes | plain and (entries := list(dict.fromkeys(_entries_of(suite, task)))):
        (plain if task.kind == "contest" else axes)[task.entry] = entries
    block = Block(task=name, settings=plain, axes=axes)
    _check(task, block)
    return suite.model_copy(update={"block": [*suite.block, block]})


def parse_setting(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` as a pair; a value that is none of TOML's is a text. Raises UsageError on another form."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--settings {text!r}: KEY=VALUE is accepted")
    try:
        found = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return key.strip(), value
    return key.strip(), found["value"] if len(found) == 1 else value


def _set(suite: Suite, name: str, task: Task, axes: dict[str, Any], plain: dict[str, Any]) -> Suite:
    """The suite with settings in the blocks that name the task, in the place of those that stand there."""
    given = {*axes, *plain}
    blocks = []
    for block in suite.block:
        if block.task == name and given:
            kept = {where: {k: v for k, v in getattr(block, where).items() if k not in given}
                    for where in ("settings", "axes", "zip")}  # fmt: skip
            kept["settings"] |= plain
            kept["axes"] |= axes
            block = block.model_copy(update=kept)
            _check(task, block)
        blocks.append(block)
    return suite.model_copy(update={"block": blocks})


def _check(task: Task, block: Block) -> None:
    """Raise UsageError where the task does not accept a block's settings, at the first value of each axis."""
    values = block.settings | {key: own[0] for key, own in (block.axes | block.zip).items() if isinstance(own, list)}
    selected = {key for key, own in block.axes.items() if isinstance(own, dict)}
    try:
        task.parameters.model_validate(values)
    except ValidationError as error:
        if {str(item["loc"][0]) for item in error.errors() if item["loc"]} - selected or not selected:
            raise UsageError(f"--task {block.task}: --settings {explain(error, task.parameters)}") from None
    except Exception as error:  # the user's own code
        raise UsageError(f"--task {block.task}: {type(error).__name__}: {error}") from None


def _entries_of(suite: Suite, task: Task) -> Iterator[str]:
    """The entries of a suite's blocks that come from the catalogue of the task."""
    for block in suite.block:
        other = find_task(block.task)
        if task.catalogue and other.catalogue == task.catalogue:
            yield from choose_entries(block, other)


def _takes_list(annotation: Any) -> bool:
    parts = [annotation, *itertools.chain.from_iterable(map(_parts, _parts(annotation))), *_parts(annotation)]
    return any(typing.get_origin(part) in (list, tuple, set) or part in (list, tuple, set) for part in parts)


def _parts(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation)
