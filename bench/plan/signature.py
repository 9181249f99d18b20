"""What a function says of itself, read off its source without importing it: its docstring and its options."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.plan.reach import find_file


class Option(NamedTuple):
    """A keyword of a function, or a field of a class, as its source spells it."""

    name: str
    type: str
    default: str | None  # None where it must be given


class Signature(NamedTuple):
    """The docstring of a function or class, without its indentation, and its options."""

    docstring: str
    options: tuple[Option, ...]


def read_signature(target: str) -> Signature | None:
    """Read ``module:name``; None where the module has no source, or assigns the name by a call.

    Options are the keywords of a function, or the fields of a dataclass, those of its bases in the module first.
    """
    module, _, name = target.partition(":")
    file = find_file(module) or _find_outside(module)
    if file is None:
        return None
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):  # of the user's: whoever imports it will say so
        return None
    found = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    aliases = {  # such as SolverType = Literal["midpoint", "heun"]
        target.id: ast.unparse(node.value)
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    node = found.get(name)
    if node is None:
        return None
    options = _keywords(node) if isinstance(node, ast.FunctionDef) else _fields(node, found)
    spelled = (one._replace(type=aliases.get(one.type, one.type)) for one in options)
    return Signature(inspect.cleandoc(ast.get_docstring(node) or ""), tuple(spelled))


def _find_outside(module: str) -> Path | None:
    """The source file of a module of an outside package; only packages above it are imported."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    found = Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
    return found if found and found.is_file() else None


def _keywords(function: ast.FunctionDef) -> Iterator[Option]:
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        yield Option(argument.arg, _spell(argument.annotation) or "", _spell(default))


def _fields(node: ast.ClassDef, found: dict[str, Any]) -> Iterator[Option]:
    for base in node.bases:
        if isinstance(base, ast.Name) and isinstance(found.get(base.id), ast.ClassDef):
            yield from _fields(found[base.id], found)
    for line in node.body:
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and "ClassVar" not in ast.unparse(line)
        ):
            yield Option(line.target.id, _spell(line.annotation) or "", _spell(line.value))
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            arguments, defaults = line.args.args[1:], line.args.defaults
            missing = [None] * (len(arguments) - len(defaults))
            for argument, default in zip(arguments, [*missing, *defaults], strict=True):
                yield Option(argument.arg, _spell(argument.annotation) or "", _spell(default))
            yield from _keywords(line)


def _spell(node: ast.expr | None) -> str | None:
    return None if node is None else ast.unparse(node)
