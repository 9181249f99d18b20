"""Which source a number depends on: the modules that a function reaches by imports, the entries that these name.

A package whose ``__init__`` only hands names on is passed through: who takes a name from it reaches the module that the
name comes from. A catalogue's table is not followed, so that one more line of it moves nothing: where a module takes a
catalogue, those of its entries are reached whose names stand as text in any module reached (``SAMPLERS["rk4"]``, or a
default that another module looks up).
Imports inside functions count, those under ``TYPE_CHECKING`` do not. A file that a module opens is declared beside it:
``OPENS = ("weights.safetensors",)``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from implementations.catalogue import CATALOGUES
from implementations.catalogue.entry import Entry

OURS = ("bench", "implementations", "metrics")
TABLES = "implementations.catalogue"  # its modules, but for ``entry``, are tables
HANDING_ON = {"_EXPORTS", "__all__", "__dir__", "__getattr__"}  # what such a package may assign
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # where a node of a syntax tree holds statements
PROSE = ("summary", "paper", "others")  # fields of an entry that move no number


class Source(NamedTuple):
    """One module as it is on disk."""

    path: Path
    imports: tuple[tuple[str, str | None], ...]  # module, and the name that is taken from it
    words: frozenset[str]  # its texts of one word, among which the names of entries are
    opens: tuple[Path, ...]
    hands_on: dict[str, tuple[str, str]] | None  # of a package that does nothing else: name -> where it comes from


class Reached(NamedTuple):
    """What a number depends on, of fidmap's own."""

    modules: tuple[str, ...]
    entries: tuple[Entry, ...]

    def stated(self) -> list[dict[str, str]]:
        """The entries' fields, but for those of prose."""
        return [
            {one.name: repr(getattr(entry, one.name)) for one in fields(entry) if one.name not in PROSE}
            for entry in self.entries
        ]


@cache
def reach(targets: tuple[str, ...], entries: tuple[Entry, ...] = ()) -> Reached:
    """Follow imports from modules (``module`` or ``module:function``) and entries; only fidmap's own are followed."""
    waiting = [target.partition(":")[0] for target in targets]
    found: set[Entry] = set()
    modules: set[str] = set()

    def take(entry: Entry) -> None:
        if entry not in found:
            found.add(entry)
            waiting.extend(_modules_of(entry))

    for entry in entries:
        take(entry)
    kinds: set[str] = set()
    words: set[str] = set()
    while waiting:
        while waiting:
            module = waiting.pop()
            if module in modules or module.partition(".")[0] not in OURS:
                continue
            source = read(module)
            if source.hands_on is not None:
                continue
            modules.add(module)
            words |= source.words
            for place, name in source.imports:
                waiting += [one for one in _resolve(place, name) if not _is_table(one)]
                kinds |= _kinds(place, name)
        for kind in kinds:
            for name in words.intersection(CATALOGUES[kind]):
                take(CATALOGUES[kind][name])
    return Reached(tuple(sorted(modules)), tuple(sorted(found, key=lambda entry: (entry.name, entry.target))))


@cache
def read(module: str) -> Source:
    """Parse a module; raises ImportError where there is none."""
    path = _path(module)
    if path is None:
        raise ImportError(f"no module named {module!r}")
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_bytes())
    nodes = list(_run_time_nodes(tree))
    words = frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    imports = tuple(dict.fromkeys(_imports(nodes, package)))
    opens = tuple(path.parent / name for name in _literal(tree, "OPENS") or ())
    handed = _handed_on(module, tree, imports) if path.name == "__init__.py" else None
    return Source(path, imports, words, opens, handed)


def tree_digest(source: bytes) -> bytes:
    """Hash of a module's syntax tree without docstrings, which comments and layout do not move."""
    tree = ast.parse(source)
    waiting: list[ast.AST] = [tree]
    while waiting:  # a docstring is a statement: expressions need no look
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _documented(node):
            node.body = node.body[1:] or [ast.Pass()]
        for block in _BLOCKS:
            waiting += getattr(node, block, ())
    return hashlib.sha256(ast.dump(tree).encode()).digest()


def _documented(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _run_time_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes of a tree, but for what stands under ``TYPE_CHECKING``."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _imports(nodes: Iterable[ast.AST], package: str) -> Iterator[tuple[str, str | None]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            place = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((place, alias.name) for alias in node.names)


def _handed_on(
    package: str, tree: ast.Module, imports: Iterable[tuple[str, str | None]]
) -> dict[str, tuple[str, str]] | None:
    """Where each name of a package comes from, if handing names on is all that its ``__init__`` does."""
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr):
            return None
        if isinstance(node, ast.Assign) and _assigned(node) - HANDING_ON:
            return None
    lazy = _literal(tree, "_EXPORTS") or {}
    own = {name: (f"{package}.{module}", name) for module, names in lazy.items() for name in names}
    return own | {name: (place, name) for place, name in imports if name is not None}


def _assigned(node: ast.Assign) -> set[str]:
    return {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _literal(tree: ast.Module, name: str) -> Any:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return ast.literal_eval(node.value)
    return None


def _resolve(place: str, name: str | None) -> Iterator[str]:
    """The modules that ``from place import name`` reaches: one, and the packages above it that do something."""
    if place.partition(".")[0] not in OURS or _path(place) is None:
        return
    if name is not None and _path(f"{place}.{name}") is not None:
        place, name = f"{place}.{name}", None
    parts = place.split(".")
    yield from (above for k in range(1, len(parts)) if read(above := ".".join(parts[:k])).hands_on is None)
    handed = read(place).hands_on
    if handed is None:
        yield place
    elif name in handed:
        yield from _resolve(*handed[name])


def _kinds(place: str, name: str | None) -> set[str]:
    """The catalogues that an import takes."""
    if place == TABLES or place.startswith(f"{TABLES}.") or (_path(place) and name and _comes_from_tables(place, name)):
        return {kind for kind in CATALOGUES if name == kind.upper()} or (
            set(CATALOGUES) if name == "CATALOGUES" else set()
        )
    return set()


def _comes_from_tables(place: str, name: str) -> bool:
    handed = read(place).hands_on if place.partition(".")[0] in OURS else None
    return bool(handed and name in handed and _is_table(handed[name][0]))


def _is_table(module: str) -> bool:
    return (module == TABLES or module.startswith(f"{TABLES}.")) and module != f"{TABLES}.entry"


def _modules_of(entry: Entry) -> Iterator[str]:
    yield entry.target.partition(":")[0]
    if prepare := getattr(entry, "prepare", ""):
        yield prepare.partition(":")[0]


@cache
def _path(module: str) -> Path | None:
    """The file of one of fidmap's modules, found without importing it; None where there is none."""
    top, *rest = module.split(".")
    if top not in OURS:
        return None
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    home = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
    for path in (home / "__init__.py", home.with_suffix(".py") if rest else home / "__init__.py"):
        if path.is_file():
            return path
    return None
