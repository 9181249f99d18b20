"""SPEC, the name of a model on the command line, and the model that it stands for.

    MODULE:FUNCTION   a function without arguments that returns a Denoiser, or (path, module, head[, time])
    NAME              a checkpoint that comes with fidmap, or a file NAME.safetensors that fidmap train wrote
    FOLDER            a folder that diffusers saved, with a UNet2DModel or a DiT and scheduler_config.json; the network
                      is fidmap's own where its key map covers the model, else diffusers'
    hf:ORG/NAME       such a folder on the Hugging Face hub, or in its cache on this machine

Only a module that SPEC names is imported; from folders and the hub come numbers and JSON alone.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bench.catalogue import is_code
from bench.environment import import_from_here
from bench.errors import UsageError, printable
from bench.files import digest

if TYPE_CHECKING:
    from implementations.diffusion.denoiser import Denoiser

ACCEPTED = "MODULE:FUNCTION, a folder that diffusers saved, or hf:ORG/NAME is accepted"
Found: TypeAlias = "tuple[Denoiser, tuple[int, ...] | None, Any]"  # denoiser, shape of a sample, autoencoder
RETURNED = "a Denoiser or (path, module, head[, time]) is accepted"


@dataclass(frozen=True, eq=False)
class Model:
    """A model of one's own: its denoiser, the shape of one sample where it is known, and a hash of its numbers.

    The hash covers the weights, and the path and the head that they are read by, but no code.
    """

    spec: str
    denoiser: Denoiser
    shape: tuple[int, ...] | None
    hash: str
    autoencoder: Any = None  # of a latent model: ``encode`` images in [-1, 1], ``decode`` latents

    def on(self, device: str) -> Denoiser:
        """The denoiser on a device, with every module that it holds in evaluation mode."""
        from torch import nn

        for holder in _holders(self.denoiser):
            for value in vars(holder).values():
                if isinstance(value, nn.Module):
                    value.to(device).eval().requires_grad_(False)
        move = getattr(self.denoiser, "to", None)
        return move(device) if move is not None and device != "cpu" else self.denoiser


@lru_cache(maxsize=2)
def load_model(spec: str) -> Model:
    """Load the model that ``spec`` names, on the CPU; raises UsageError on a bad one."""
    import torch

    with torch.random.fork_rng(devices=[]):  # building a network draws weights, whose place the stored ones take
        denoiser, shape, autoencoder = _find(spec)
    held = denoiser if autoencoder is None else [denoiser, autoencoder]
    return Model(spec, denoiser, shape, hash_numbers(held), autoencoder)


def call_named(option: str, spec: str, *arguments: Any) -> Any:
    """What the function MODULE:FUNCTION returns; raises UsageError where it is not found, or raises itself.

    What it draws at random is the same in each process, since torch's generator is seeded with 0.
    """
    import torch

    import_from_here()
    try:
        function = pkgutil.resolve_name(spec)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{option} {spec}: cannot be imported: {_reason(error)}") from None
    if not callable(function):
        raise UsageError(f"{option} {spec}: is {type(function).__name__}; a function is accepted")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return function(*arguments)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{option} {spec}: raised {_reason(error)}") from None


def hash_numbers(thing: Any) -> str:
    """A hash of all tensors and numbers that an object holds: of a module its weights, of others their attributes."""
    found: dict[str, Any] = {}
    _collect("", thing, found, set())
    return digest(dict(sorted(found.items())))


def _find(spec: str) -> Found:
    from implementations.catalogue import WEIGHTS
    from implementations.weights import load, shipped

    if spec in shipped() or spec in WEIGHTS or spec.endswith(".safetensors"):
        try:
            return _read_returned(spec, load(spec))
        except ValueError as error:
            raise UsageError(f"model {spec}: {error}") from None
    if spec.startswith("hf:") and "/" in spec:
        return _load_folder(spec, _fetch(spec.removeprefix("hf:")))
    if spec.startswith("hf:"):
        raise UsageError(f"model {spec}: a repository of the hub is named hf:ORG/NAME; {ACCEPTED}")
    if Path(spec).is_dir():
        return _load_folder(spec, Path(spec))
    if is_code(spec):
        return _read_returned(spec, call_named("model", spec))
    names = f"; there are {', '.join(shipped())}" if shipped() else "; no model comes with fidmap yet"
    raise UsageError(f"model {spec!r}: no such folder or name{names}; {ACCEPTED}")


def _read_returned(spec: str, found: Any) -> Found:
    from implementations.diffusion.denoiser import Denoiser, Network
    from implementations.diffusion.path import Path as DiffusionPath

    if isinstance(found, tuple | list):
        if len(found) not in (3, 4) or not isinstance(found[0], DiffusionPath) or not callable(found[1]):
            held = ", ".join(type(one).__name__ for one in found)
            raise UsageError(f"model {spec}: returned ({held}); {RETURNED}")
        path, module, head, *rest = found
        try:
            found = Network(path, module, head, time=rest[0] if rest else None)
        except ValueError as error:
            raise UsageError(f"model {spec}: {error}") from None
    if not isinstance(found, Denoiser) or not isinstance(getattr(found, "path", None), DiffusionPath):
        raise UsageError(f"model {spec}: returned {type(found).__name__}; {RETURNED}")
    shape = getattr(found, "shape", None)
    return found, tuple(shape) if isinstance(shape, tuple | list) else None, None


def _load_folder(spec: str, folder: Path) -> Found:
    try:
        from implementations.peers import diffusers_models
    except ImportError:
        raise UsageError(f"model {spec}: needs the package diffusers: pip install diffusers") from None
    try:
        return diffusers_models.load(folder)
    except (ValueError, OSError) as error:
        raise UsageError(f"model {spec}: {printable(str(error))}") from None


def _fetch(name: str) -> Path:
    """The folder of a repository of the hub: from the cache if it is there, else downloaded."""
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(f"model hf:{name}: needs the package huggingface_hub: pip install huggingface_hub") from None
    for offline in (True, False):
        try:
            found = huggingface_hub.snapshot_download(
                name, allow_patterns=["*.json", "*.safetensors", "*.bin"], local_files_only=offline
            )
            return Path(found)
        except Exception as error:  # of many kinds: no network, no such repository, no access, a name of another form
            reason = error
    raise UsageError(f"model hf:{name}: neither in the hub's cache nor to be had: {_reason(reason)}")


def _holders(denoiser: Any) -> list[Any]:
    """A denoiser and those that it wraps."""
    from implementations.diffusion.denoiser import Denoiser

    found = [denoiser]
    for one in found:
        found += [v for v in vars(one).values() if isinstance(v, Denoiser) and not any(v is other for other in found)]
    return found


def _collect(name: str, value: Any, found: dict[str, Any], seen: set[int]) -> None:
    from torch import Tensor, nn, uint8

    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1).view(uint8).numpy().tobytes()
        found[name] = [str(value.dtype), list(value.shape), digest(raw)]
    elif isinstance(value, str | int | float | complex | None):
        found[name] = repr(value)
    elif id(value) not in seen and not isinstance(value, type) and not hasattr(value, "__code__"):  # code has its own
        seen.add(id(value))
        found[name] = type(value).__name__
        if isinstance(value, nn.Module):
            parts = value.state_dict()
        elif isinstance(value, list | tuple):
            parts = dict(enumerate(value))
        else:
            parts = value if isinstance(value, dict) else getattr(value, "__dict__", {})
        for key, part in parts.items():
            _collect(f"{name}.{key}", part, found, seen)


def _reason(error: BaseException) -> str:
    return printable(f"{type(error).__name__}: {error}")
