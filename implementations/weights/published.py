"""Published checkpoints of diffusers as networks of this package: numbers and JSON alone, nothing is executed."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from implementations.networks import NETWORKS
from implementations.weights import keys_dit, keys_unet
from implementations.weights.keys import KeyMap, NotCovered

FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
CLASSES = {
    "UNet2DModel": "unet",
    "UNet2DConditionModel": "unet",
    "DiTTransformer2DModel": "dit",
    "Transformer2DModel": "dit",
}


def load_published(folder: str | Path, sha256: str | None = None) -> nn.Module:
    """Load a network from a folder that diffusers saved, with ``config.json`` and one file of weights.

    ``sha256`` is the hash in hex that the file of weights must have. Raises ValueError, one line, on a file that is
    missing, truncated, of another hash or a pickle of anything but tensors, and on weights of another network;
    NotCovered, which is one, on a model that is not covered.
    """
    place = Path(folder)
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{place / 'config.json'}: no readable JSON ({str(error).splitlines()[0]})") from None
    file = next((place / name for name in FILES if (place / name).is_file()), None)
    if file is None:
        raise NotCovered(f"{place}: has no weights; {' or '.join(FILES)} is accepted")
    state = read_state(file, sha256)
    try:
        return from_diffusers(config, state)
    except ValueError as error:
        raise type(error)(f"{file}: {error}") from None


def from_diffusers(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """Build the network that a configuration of diffusers describes, with the weights of its state.

    The network is in float32 and in evaluation mode. Raises ValueError as ``load_published`` does.
    """
    network, keys = build(config)
    if CLASSES[config["_class_name"]] == "unet":
        state = keys_unet.rename_former(state)
    keys.fill(network, state)
    return network.eval()


def build(config: Mapping[str, Any]) -> tuple[nn.Module, KeyMap]:
    """Build the network of a configuration of diffusers, whose weights are not set, and its key map.

    Raises NotCovered, a ValueError, on a configuration that is not covered.
    """
    name = config.get("_class_name") if isinstance(config, Mapping) else None
    if name not in CLASSES:
        raise NotCovered(f"the model is {name}; {', '.join(CLASSES)} are covered")
    kind = CLASSES[name]
    keys: Any = keys_unet if kind == "unet" else keys_dit
    try:
        network = NETWORKS[kind](**keys.configure(config))
    except ValueError as error:
        raise NotCovered(f"{name}: {error}") from None
    return network, keys.map_keys(network)


def read_state(file: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a file by name: safetensors, or what ``torch.save`` wrote of tensors alone.

    Raises ValueError as ``load_published`` does.
    """
    read: Callable[[Path], Any] = load_file if file.suffix == ".safetensors" else _unpickle
    try:
        if sha256 is not None:
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != sha256.lower():
                raise ValueError(f"{file}: its sha256 is {found}, and {sha256} is expected")
        state = read(file)
    except (SafetensorError, OSError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"{file}: cannot be read: {(str(error).strip() or 'it is empty').splitlines()[0]}") from None
    except pickle.UnpicklingError:
        raise ValueError(
            f"{file}: is a pickle of more than tensors, which is not opened; save it as safetensors"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file}: holds no mapping from names to tensors")
    return state


def _unpickle(file: Path) -> Any:
    return torch.load(file, map_location="cpu", weights_only=True)
