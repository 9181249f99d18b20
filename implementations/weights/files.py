"""Files of weights: numbers and a description alone, nothing of which is executed, checked against their cards."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from implementations.catalogue import WEIGHTS
from implementations.weights.keys import find_difference
from implementations.weights.learned import Learned, build

FOLDER = Path(__file__).parent


def shipped() -> list[str]:
    """The names of the shipped checkpoints."""
    return sorted(file.stem for file in FOLDER.glob("*.safetensors"))


class Opened(NamedTuple):
    """A file of weights that has been checked: their hash, the description of their network, and the network."""

    hash: str
    description: dict[str, Any]
    module: nn.Module


def load(name: str, device: str = "cpu") -> Any:
    """Load a shipped checkpoint by its name, or a file that ``fidmap train`` wrote: a denoiser or a noisy classifier.

    The weights are fixed, and in float32 whatever the file has. The hash of a shipped one is checked against its card.
    Raises ValueError, one line, on an unknown name, and on a file that is damaged, no safetensors, or of another
    network.
    """
    return _hand_over(open_file(name), device)


def open_file(name: str) -> Opened:
    """Open and check a checkpoint by its name or file; raises ValueError as ``load`` does."""
    if name.endswith(".safetensors"):
        return _open(Path(name))
    if name not in shipped():
        if name in WEIGHTS:
            raise ValueError(f"no checkpoint named {name!r} is in {FOLDER}, where fidmap train {name} --out makes it")
        near = difflib.get_close_matches(name, shipped(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(shipped()) or 'none'}"
        raise ValueError(f"no checkpoint named {name!r}; {hint} (a file of your own ends in .safetensors)")
    file = FOLDER / f"{name}.safetensors"
    card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    return _open(file, card["weights_hash"])


def read(file: Path, device: str = "cpu", expected: str | None = None) -> Any:
    """Read a file of weights; ``expected`` is the hash that they must have.

    Raises ValueError as ``load`` does.
    """
    return _hand_over(_open(file, expected), device)


def _open(file: Path, expected: str | None = None) -> Opened:
    try:
        with safe_open(file, "pt") as source:
            facts = source.metadata() or {}
            weights = {key: source.get_tensor(key) for key in source.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise ValueError(f"weights {file}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights {file}: no readable safetensors ({str(error).splitlines()[0]})") from None
    if "model" not in facts:
        raise ValueError(f"weights {file}: its metadata do not describe a network; a file of fidmap train is accepted")
    found = hash_weights(weights)
    if expected is not None and found != expected:
        raise ValueError(f"weights {file}: their hash is {found}, the card's {expected}; one of the two was changed")
    try:
        description = json.loads(facts["model"])
        module = build(description)
    except (ValueError, TypeError) as error:
        raise ValueError(f"weights {file}: {error}") from None
    _fill(module, weights, file)
    return Opened(found, description, module)


def _hand_over(opened: Opened, device: str) -> Any:
    opened.module.to(device).eval().requires_grad_(False)
    classifier = opened.description["network"] == "noisy_classifier"
    return opened.module if classifier else Learned(opened.description, opened.module)


def hash_weights(weights: dict[str, Tensor]) -> str:
    """The first 16 hex digits of the sha256 of the names, types, shapes and bytes of tensors, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _fill(module: nn.Module, weights: dict[str, Tensor], file: Path) -> None:
    """Copy the weights into the module, every one and no other."""
    wanted = module.state_dict()
    if difference := find_difference(wanted.keys(), weights.keys()):
        raise ValueError(f"weights {file}: of another network; {difference}")
    for key, value in weights.items():
        if value.shape != wanted[key].shape:
            given, accepted = tuple(value.shape), tuple(wanted[key].shape)
            raise ValueError(f"weights {file}: of another network; {key} is {given}, and {accepted} is accepted")
    module.load_state_dict({key: value.to(wanted[key].dtype) for key, value in weights.items()})
