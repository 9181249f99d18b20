"""The hash of the source on which a number depends, and a check that a worker loaded just that source.

The hash covers, of a module of fidmap, its own file and those that it declares to open (``bench.plan.reach``). A module
of the user's is known by its top-level name; the hash covers every file of its package (source, weights and data), the
files beside it that it declares to open (``OPENS = ("data.npz",)``), and those of all the user's modules that it
imports, directly or not. Python files are hashed as syntax trees without docstrings, so that a comment changes nothing;
other files are hashed byte by byte.
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
from importlib.metadata import packages_distributions
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from bench.files import digest
from bench.plan.reach import OURS, find_opened, read, tree_digest

_LIBRARY = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}


@cache
def source_hash(modules: tuple[str, ...]) -> str:
    """Hash of the source of modules, each as it was on disk when this process first asked for it."""
    return _combine({module: _remember_files(module) for module in modules})


def fingerprint(modules: Iterable[str]) -> str:
    """Hash of the source of modules as it is on disk now; imports nothing but the parent packages of a dotted name."""
    return _combine({module: _files(module) for module in modules})


def own_modules(targets: Iterable[str]) -> tuple[str, ...]:
    """Top-level names of the user's modules that ``module:function`` targets name or import, directly or not.

    Import statements alone are seen. Modules of the standard library, of installed packages and of fidmap are not
    followed. Raises ImportError where a target's module is not found.
    """
    waiting = [target.partition(":")[0].partition(".")[0] for target in targets]
    for name in waiting:
        _find(name)
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _find_imports(name)
    return tuple(sorted(found))


def python_files(modules: Iterable[str]) -> tuple[Path, ...]:
    """The Python files of the user's modules, by their top-level names."""
    return tuple(path for module in modules for path in _python_files(module))


@cache
def packages(modules: tuple[str, ...]) -> tuple[str, ...]:
    """The installed distributions that the user's modules import, on whose versions their numbers may depend."""
    imported = {top for module in modules for top in _imported(module)} - {*OURS, *modules, *sys.stdlib_module_names}
    if not imported:
        return ()
    found = packages_distributions()
    return tuple(sorted({name for top in imported for name in found.get(top, ())}))


class Loaded:
    """The source files that a process has loaded, with hashes of the bytes that were compiled.

    A file that is overwritten before a worker loads it, and restored before it is read again, would pass for the source
    that was hashed. So the very bytes that are compiled are hashed. The bytecode cache is bypassed, since it recognises
    a file by its size and the second of its last change alone.
    """

    def __init__(self, modules: Iterable[str] = ()):
        self.modules = {*OURS, *modules}
        self.digests: dict[str, set[bytes]] = {}  # by file; several where it was loaded again with other content

    def record(self) -> None:
        """Hash every source file that this process loads from now on.

        This replaces Python's source loader for the whole process, which must therefore be a worker.
        """
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
        """Check that the files of ``modules``, and what was loaded of them, have the hash ``expected``.

        Raises RuntimeError where they do not, and where a file of the user's was loaded that is in none of ``modules``.
        """
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
    """A file of a module: its path, and the hash of its syntax tree or of its bytes."""

    path: str  # with links resolved
    digest: bytes


def _combine(files: dict[str, dict[str, File]]) -> str:
    """One hash of the files of several modules, by their names within each."""
    return digest({module: {name: file.digest.hex() for name, file in own.items()} for module, own in files.items()})


@cache
def _remember_files(module: str) -> dict[str, File]:
    return _files(module)


def _files(module: str) -> dict[str, File]:
    """The files that the hash of a module covers, by their paths within it; empty for a module without a file."""
    if module.partition(".")[0] in OURS:
        source = read(module)
        return {path.name: _file(path) for path in (source.path, *source.opens)}
    root = _root(module)
    if not root.is_file() and not root.is_dir():
        return {}
    found = [root] if root.is_file() else [path for path in sorted(root.rglob("*")) if _counts(path)]
    opened = [path for file in _python_files(module) for path in _opened(file)]
    home = root.parent if root.is_file() else root
    return {os.path.relpath(path, home): _file(path) for path in dict.fromkeys((*found, *opened))}


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
    """The folder of a package or the file of a module; for a module without a file, its name as a path."""
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


def _find_imports(module: str) -> Iterator[str]:
    """The user's modules that a package or module imports by statements, at its top or inside functions."""
    yield from filter(_is_users, _imported(module))


def _imported(module: str) -> Iterator[str]:
    """The top-level names that a package or module of the user's imports by statements."""
    for path in _python_files(module):
        for node in ast.walk(_parse(path) or ast.Module([], [])):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module.partition(".")[0]


def _opened(path: Path) -> tuple[Path, ...]:
    tree = _parse(path)
    return find_opened(path, tree) if tree else ()


def _parse(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # whoever imports it will say so
        return None


def _python_files(module: str) -> list[Path]:
    root = _root(module)
    found = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    return [path for path in found if path.suffix == ".py" and path.is_file()]


@cache
def _is_users(module: str) -> bool:
    """Whether a top-level module is neither of the standard library, nor of an installed package, nor of fidmap."""
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
