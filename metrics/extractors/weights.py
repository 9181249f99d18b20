"""Published weights: only tensors are read, never a pickle, and an error says how to get what is missing."""

from __future__ import annotations

import importlib
import pickle
import zipfile
from pathlib import Path
from types import ModuleType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def require(module: str, extractor: str, remedy: str) -> ModuleType:
    """Import a module that an ``extractor`` needs and that comes with an extra.

    Raises ModuleNotFoundError that says what needs it and how to get it (``remedy``).
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ModuleNotFoundError(f"extractor {extractor} needs the module {module}: {remedy}", name=module) from None


def read_weights(module: nn.Module, file: str | Path) -> None:
    """Load published weights, a state dict of safetensors or ``torch.save`` (``weights_only``), into a module.

    Raises FileNotFoundError on a missing file, and ValueError on a file of another network, with the first key that
    differs, or of anything but tensors.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"weights {file}: no such file")
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"weights {file}: no readable state dict of tensors ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights {file}: a {type(state).__name__}; a state dict of tensors is accepted")
    wanted = module.state_dict()
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}  # which older releases did not store
    absent, unknown = wanted.keys() - state.keys() - counters, state.keys() - wanted.keys()
    for what, keys in (("lacks", absent), ("has an unknown", unknown)):
        if keys:
            raise ValueError(f"weights {file}: of another network; it {what} {min(keys)} and {len(keys) - 1} more")
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            raise ValueError(f"weights {file}: {key} is {tuple(value.shape)}; {tuple(wanted[key].shape)} is accepted")
    module.load_state_dict(state, strict=False)


def place(network: nn.Module, device: str) -> None:
    """Put a network on a device, to be evaluated with fixed weights.

    On a CPU channels come last in memory, with which convolutions take about two thirds of the time. That changes
    results by the rounding of float32 alone.
    """
    network.to(device).eval().requires_grad_(False)
    if torch.device(device).type == "cpu":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
