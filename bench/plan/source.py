"""The source on which a number depends: the hash of its modules' files, and what a worker really loaded.

A module of fidmap's counts with its own file and those that it declares to open (``bench.plan.reach``). One of the
user's is named by its top-level name and counts with every file of its package (source, weights and data); it counts
with all of the user's modules that it imports, however deep. Source counts as a syntax tree without docstrings, so that
a comment moves nothing; other files count byte by byte.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from bench.files import digest
from bench.plan.reach import OURS, read, tree_digest

_LIBRARY = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}


@cache
def source_hash(modules: tuple[str, ...]) -> str:
    """Hash over modules, each as it was when this process first asked for it."""
    return _combine({module: _known(module) for module in modules})


def fingerprint(modules: Iterable[str]) -> str:
    """Hash over modules as they are on disk; nothing is imported but the parents of a dotted name."""
    return _combine({module: _files(module) for module in modules})


def own_modules(targets: Iterable[str]) -> tuple[str, ...]:
    """The user's modules behind ``module:function`` targets: theirs, and those that they import by a statement.

    The interpreter's, installed and fidmap's own modules are not followed. Raises ImportError where one is not found.
    """
    waiting = [target.partition(":")[0].partition(".")[0] for target in targets]
    for name in waiting:
        _find(name)
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(name)
    return tuple(sorted(found))


class Loaded:
    """Records the bytes of every source file that this process loads from now on.

    A file that is overwritten before a worker loads it, and restored before it is read again, would pass for the source
    that was hashed. So the bytes that are compiled are hashed; the bytecode cache is passed over, which knows a file by
    the second of its last change and its size alone.
    """

    def __init__(self, modules: Iterable[str] = ()):
        self.modules = {*OURS, *modules}
        self.digests: dict[str, set[bytes]] = {}  # by file; more than one where it was loaded again

    def record(self) -> None:
        """Begin; the loader of this whole process is changed, which must be a worker's."""
        plain = SourceFileLoader.get_code

        def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
            path = loader.get_filename(name)
            if name.partition(".")[0] not in self.modules and _is_library(path):
                return plain(loader, name)
            content = loader.get_data(path)
            self.digests.setdefault(os.path.realpath(path), set()).add(_digest(path, content))
            return loader.source_to_code(content, path)  # type: ignore[no-any-return]

        SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]

    def require(self, modules: Iterable[str], expected: str) -> None:
        """Raise RuntimeError unless disk and what was loaded have the hash, and nothing was loaded beside it."""
        disk = {module: _files(module) for module in modules}
        loaded = {
            module: {
                name: File(file.path, b"".join(sorted(self.digests.get(file.path, {file.digest}))))
                for name, file in files.items()
            }
            for module, files in disk.items()
        }
        if not _combine(disk) == _combine(loaded) == expected:
            raise RuntimeError("the source changed during the run; run again")
        known = {file.path for files in disk.values() for file in files.values()}
        folders = {_root(module).parent for module in modules if module.partition(".")[0] not in OURS}
        for path in sorted(set(self.digests) - known):
            if any(folder in Path(path).parents for folder in folders) and not _is_ours(path):
                raise RuntimeError(f"{path} was loaded and no import statement names it: its source is not in the hash")


class File(NamedTuple):
    """One file of a module."""

    path: str  # without links
    digest: bytes


def _combine(files: dict[str, dict[str, File]]) -> str:
    """One hash of the files of several modules, by their names within each."""
    return digest({module: {name: file.digest.hex() for name, file in own.items()} for module, own in files.items()})


@cache
def _known(module: str) -> dict[str, File]:
    return _files(module)


def _files(module: str) -> dict[str, File]:
    """Every file that a module counts with, by its path in it; none of a module that has no file."""
    if module.partition(".")[0] in OURS:
        source = read(module)
        return {path.name: _file(path) for path in (source.path, *source.opens)}
    root = _root(module)
    if not root.is_dir():
        return {root.name: _file(root)} if root.is_file() else {}
    return {path.relative_to(root).as_posix(): _file(path) for path in sorted(root.rglob("*")) if _counts(path)}


def _file(path: Path) -> File:
    return File(os.path.realpath(path), _digest(str(path), path.read_bytes()))


@lru_cache(maxsize=4096)
def _digest(path: str, content: bytes) -> bytes:
    if path.endswith(".py"):
        try:
            return tree_digest(content)
        except (SyntaxError, ValueError, RecursionError):  # whoever imports it will say so
            pass
    return hashlib.sha256(content).digest()


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"


def _root(module: str) -> Path:
    """The folder of a package or the file of a module; one without a file goes by its name."""
    spec = _find(module)
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin or module)


def _find(module: str) -> ModuleSpec:
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # loaded without a spec, as the main module is
        spec = None
    if spec is None:
        raise ImportError(f"no module named {module!r}")
    return spec


def _imported(module: str) -> Iterator[str]:
    """The user's modules that the source of a package or module names in import statements, wherever these stand."""
    root = _root(module)
    for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
        if path.suffix != ".py" or not path.is_file():
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError):  # whoever imports it will say so
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            else:
                continue
            yield from (top for name in names if _is_users(top := name.partition(".")[0]))


@cache
def _is_users(module: str) -> bool:
    """Whether a top-level module is neither the interpreter's, nor installed, nor fidmap's."""
    if module in OURS or module in sys.stdlib_module_names:
        return False
    try:
        root = _root(module)
    except ImportError:
        return False
    return root.exists() and not _is_library(str(root))


def _is_library(path: str) -> bool:
    folders = {os.path.realpath(folder) for folder in _LIBRARY if folder}
    real = os.path.realpath(path)
    return (
        "site-packages" in Path(real).parts
        or "dist-packages" in Path(real).parts
        or any(real.startswith(folder + os.sep) for folder in folders)
    )


def _is_ours(path: str) -> bool:
    return any(path.startswith(os.path.realpath(_root(module)) + os.sep) for module in OURS)
