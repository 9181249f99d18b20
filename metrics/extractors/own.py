"""Extractors of one's own: an object that a module holds, a TorchScript file, a program of ``torch.export``.

A network gets float32 (n, c, h, w) in [0, 1], with one or three channels as the images have, and gives one row of
features per image. Nothing is imported or run but what the caller names: the module of ``MODULE:OBJECT``, and the file,
which ``torch.jit.load`` or ``torch.export.load`` reads. Load only files that you trust.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metrics.extractors.extractor import Extractor, from_module
from metrics.extractors.resize import Resize

ACCEPTED = (
    "an Extractor, a torch.nn.Module, a function of images, or a function without arguments that returns one of them,"
    " is accepted"
)


def from_exported(file: str | Path, resize: str = "none", *, device: str = "cpu") -> Extractor:
    """Make a feature extractor of a file .pt2 that ``torch.export.save`` wrote; the hash is that of the file.

    Raises ValueError where the file holds no exported program, and on images of a shape that the program does not take.
    """
    file = Path(file)
    content = file.read_bytes()  # an OSError of Python's names the file
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True  # it writes the trace of what it then raises
    try:
        program = torch.export.load(file).module().to(device)
    except Exception as error:  # torch raises whatever its parts do
        reason = _line(error).partition(" Please check the warnings")[0]
        raise ValueError(f"{file} is no program of torch.export ({reason})") from None
    finally:
        log.disabled = before

    def network(x: Tensor) -> Tensor:
        try:
            return program(x)
        except (RuntimeError, AssertionError, ValueError) as error:  # for example of a shape fixed at the export
            shape = tuple(x.shape)
            raise ValueError(f"{file.name} fails on images of shape {shape}: {_line(error)}") from None

    digest = hashlib.sha256(content).hexdigest()[:16]
    return Extractor(file.name, digest, str(Resize.parse(resize)), network, None, device)


def from_object(spec: str, *, device: str = "cpu") -> Extractor:
    """Make a feature extractor of the object ``MODULE:OBJECT``, which is imported.

    It is an ``Extractor``, a ``torch.nn.Module``, a function of images, or a function or class without arguments that
    returns one of them. The hash of a module covers its weights and the source file of its class, that of a function
    its source file; neither covers what these import or read. Raises ValueError on anything else, and where the import
    or the call fails.
    """
    try:
        found = pkgutil.resolve_name(spec)
        if not isinstance(found, Extractor | nn.Module) and callable(found) and not _required(found):
            found = found()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ValueError(f"{spec}: cannot be loaded ({type(error).__name__}: {_line(error)})") from None
    if isinstance(found, Extractor):
        return found
    if isinstance(found, nn.Module):
        own = from_module(found, spec, device=device)
        return Extractor(spec, _hash(own.hash, _source(type(found))), own.resize, own.network, None, device)
    if callable(found) and _required(found) == 1:
        return Extractor(spec, _hash(_source(found)), "none", _guard(spec, found), None, device)
    raise ValueError(f"{spec} is {type(found).__name__}; {ACCEPTED}")


def _required(function: Callable[..., Any]) -> int:
    """The number of arguments that a function needs."""
    empty, kinds = inspect.Parameter.empty, (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(parameter.default is empty and parameter.kind not in kinds for parameter in parameters)


def _guard(spec: str, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def network(x: Tensor) -> Tensor:
        try:
            return function(x)
        except Exception as error:
            raise ValueError(f"{spec} fails on images of shape {tuple(x.shape)}: {_line(error)}") from None

    return network


def _source(thing: Any) -> str:
    """The text of the source file of a class or function, or its name where there is no such file."""
    module = sys.modules.get(getattr(thing, "__module__", "") or type(thing).__module__)
    file = getattr(module, "__file__", None)
    if file and file.endswith(".py"):
        return Path(file).read_text(encoding="utf-8")
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
