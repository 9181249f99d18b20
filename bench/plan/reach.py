"""Which source a number depends on: the modules that a task reaches by imports, and the entries that they look up.

Imports are followed in the syntax trees, so that nothing is imported. Those inside functions count, those under
``TYPE_CHECKING`` do not. A file that a module opens is declared in the module: ``OPENS = ("weights.safetensors",)``.

Two kinds of module are not dependencies themselves. A package whose ``__init__`` only re-exports names is passed
through: an import of a name from it reaches the module that defines the name. The table of a catalogue is not followed,
so that one more line in it changes no hash. Instead, where a module imports a catalogue, an entry of it is reached if
its name stands as a string in any reached module (``SAMPLERS["rk4"]``, or a default that another module looks up).
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

Documentable = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef  # what may have a docstring
OURS = ("bench", "implementations", "metrics")
TABLES = "implementations.catalogue"  # its modules, but for ``entry``, are tables
EXPORT_NAMES = {"_EXPORTS", "__all__", "__dir__", "__getattr__"}  # all that a re-exporting ``__init__`` may assign
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # where a node of a syntax tree holds statements
PROSE = ("summary", "paper", "others", "command")  # fields of an entry on which no number depends


class Source(NamedTuple):
    """One of fidmap's modules as it is on disk: its file, its imports, and what else its numbers depend on."""

    path: Path
    imports: tuple[tuple[str, str | None], ...]  # (module, name imported from it, None for the module itself)
    words: frozenset[str]  # its string constants, among which are the names of entries that it looks up
    opens: tuple[Path, ...]  # the files that it declares to open
    exports: dict[str, tuple[str, str]] | None  # name -> (module, name there), if it is a package that only re-exports


class Reached(NamedTuple):
    """The modules and the catalogue entries of fidmap on which a number depends."""

    modules: tuple[str, ...]
    entries: tuple[Entry, ...]

    def describe_entries(self) -> list[dict[str, str]]:
        """Each entry's fields as text, without those of ``PROSE``: what a record's hash covers of an entry."""
        return [
            {one.name: repr(getattr(entry, one.name)) for one in fields(entry) if one.name not in PROSE}
            for entry in self.entries
        ]


@cache
def reach(targets: tuple[str, ...], entries: tuple[Entry, ...] = (), outside: tuple[Path, ...] = ()) -> Reached:
    """Find all of fidmap's modules and entries that ``targets``, ``entries`` and files of the user's depend on.

    ``targets`` are written ``module`` or ``module:function``. Modules of other packages are not followed; ``outside``
    are the files of those that the user names.
    """
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

    def follow(imports: Iterable[tuple[str, str | None]]) -> None:
        nonlocal kinds
        for place, name in imports:
            waiting.extend(one for one in _resolve(place, name) if not _is_table(one))
            kinds |= _kinds(place, name)

    for path in outside:
        nodes = _nodes_of_users(path)
        words |= _words(nodes)
        follow(_imports(nodes, ""))
    while waiting:
        while waiting:
            module = waiting.pop()
            if module in modules or module.partition(".")[0] not in OURS:
                continue
            source = read(module)
            if source.exports is not None:
                continue
            modules.add(module)
            words |= source.words
            follow(source.imports)
        for kind in kinds:
            for name in words.intersection(CATALOGUES[kind]):
                take(CATALOGUES[kind][name])
    return Reached(tuple(sorted(modules)), tuple(sorted(found, key=lambda entry: (entry.name, entry.target))))


@cache
def read(module: str) -> Source:
    """Parse the file of one of fidmap's modules; raises ImportError where there is none."""
    path = find_file(module)
    if path is None:
        raise ImportError(f"no module named {module!r}")
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = _parse(path.read_bytes())
    nodes = list(_run_time_nodes(tree))
    imports = tuple(dict.fromkeys(_imports(nodes, package)))
    exports = _find_exports(module, tree, imports) if path.name == "__init__.py" else None
    return Source(path, imports, _words(nodes), find_opened(path, tree), exports)


def find_opened(path: Path, tree: ast.Module) -> tuple[Path, ...]:
    """The files that a module's ``OPENS = ("weights.npz", ...)`` names, which lie beside it or below.

    Raises ValueError where it is no literal of texts, and where a file is missing.
    """
    try:
        names = _literal(tree, "OPENS") or ()
    except ValueError:
        names = None
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'{path}: OPENS: names of files are accepted, written out, as in OPENS = ("weights.npz",)')
    opened = tuple(path.parent / name for name in names)
    for one in opened:
        if not one.is_file():
            raise ValueError(f"{path}: OPENS names {one.name!r}, which is not there")
    return opened


def _words(nodes: Iterable[ast.AST]) -> frozenset[str]:
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _nodes_of_users(path: Path) -> list[ast.AST]:
    try:
        return list(_run_time_nodes(_parse(path.read_bytes())))
    except (SyntaxError, ValueError, RecursionError):  # whoever imports it will say so
        return []


def tree_digest(source: bytes) -> bytes:
    """Hash of a module's syntax tree without docstrings, which comments and layout do not move."""
    return hashlib.sha256(ast.dump(_parse(source)).encode()).digest()


@cache
def _parse(source: bytes) -> ast.Module:
    """The syntax tree of a module without its docstrings."""
    tree = ast.parse(source)
    waiting: list[ast.AST] = [tree]
    while waiting:  # a docstring is a statement: expressions need no look
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
        for block in _BLOCKS:
            waiting += getattr(node, block, ())
    return tree


def _has_docstring(node: Documentable) -> bool:
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


def _find_exports(
    package: str, tree: ast.Module, imports: Iterable[tuple[str, str | None]]
) -> dict[str, tuple[str, str]] | None:
    """Where each name of a package is defined (module, name), if re-exporting is all that its ``__init__`` does."""
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr | ast.Pass):
            return None
        if isinstance(node, ast.Assign) and _find_assigned_names(node) - EXPORT_NAMES:
            return None
    lazy = _literal(tree, "_EXPORTS") or {}
    own = {name: (f"{package}.{module}", name) for module, names in lazy.items() for name in names}
    return own | {name: (place, name) for place, name in imports if name is not None}


def _find_assigned_names(node: ast.Assign) -> set[str]:
    return {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _literal(tree: ast.Module, name: str) -> Any:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return ast.literal_eval(node.value)
    return None


def _resolve(place: str, name: str | None) -> Iterator[str]:
    """The modules that ``from place import name`` reaches: that of the name, and packages above it that run code."""
    if place.partition(".")[0] not in OURS or find_file(place) is None:
        return
    if name is not None and find_file(f"{place}.{name}") is not None:
        place, name = f"{place}.{name}", None
    parts = place.split(".")
    yield from (above for k in range(1, len(parts)) if read(above := ".".join(parts[:k])).exports is None)
    exports = read(place).exports
    if exports is None:
        yield place
    elif name in exports:
        yield from _resolve(*exports[name])


def _kinds(place: str, name: str | None) -> set[str]:
    """The kinds of catalogue that ``from place import name`` imports."""
    if (
        place == TABLES
        or place.startswith(f"{TABLES}.")
        or (find_file(place) and name and _comes_from_tables(place, name))
    ):
        return {kind for kind in CATALOGUES if name == kind.upper()} or (
            set(CATALOGUES) if name == "CATALOGUES" else set()
        )
    return set()


def _comes_from_tables(place: str, name: str) -> bool:
    exports = read(place).exports if place.partition(".")[0] in OURS else None
    return bool(exports and name in exports and _is_table(exports[name][0]))


def _is_table(module: str) -> bool:
    return (module == TABLES or module.startswith(f"{TABLES}.")) and module != f"{TABLES}.entry"


def _modules_of(entry: Entry) -> Iterator[str]:
    yield entry.target.partition(":")[0]
    if prepare := getattr(entry, "prepare", ""):
        yield prepare.partition(":")[0]
    if guidance := getattr(entry, "guidance", ""):  # of a sampler that has one, such as comfyui:euler_cfg_pp
        yield "implementations.guidance.sampler"
        yield from _modules_of(CATALOGUES["guidance"][guidance])
    for network in getattr(entry, "networks", ()):  # of a checkpoint
        yield from _modules_of(CATALOGUES["networks"][network])


@cache
def find_file(module: str) -> Path | None:
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
