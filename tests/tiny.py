"""Checkpoints as ``fidmap train`` writes them, of small networks with random weights, for tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from bench.train.run import write_weights
from implementations.weights import build

_UNET = {
    "channels": 1, "classes": 10, "widths": [8, 8], "depth": 1, "attention": [False, True], "unshuffle": 4,
    "groups": 4, "time_width": 16,
}  # fmt: skip
_OF_IMAGES = {"shape": [1, 28, 28], "classes": 10}
DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "edm": {"network": "unet", "configuration": _UNET, "path": "edm", "head": "x0", "sigma_data": 0.7, **_OF_IMAGES},
    "weak": {"network": "unet", "configuration": {**_UNET, "widths": [4, 8], "groups": 2}, "path": "edm", "head": "x0",
             "sigma_data": 0.7, **_OF_IMAGES},
    "flow": {"network": "unet", "configuration": _UNET, "path": "rectified_flow", "head": "velocity",
             "sigma_data": None, **_OF_IMAGES},
    "classifier": {"network": "noisy_classifier", "configuration": {"widths": [8, 8]}, "path": "edm", "head": "logits",
                   "sigma_data": None, **_OF_IMAGES},
}  # fmt: skip


def write_checkpoint(folder: Path, name: str, seed: int = 0) -> str:
    """Write the checkpoint of a name into a folder and give its file; no weight of it is zero."""
    torch.manual_seed(seed)
    module = build(DESCRIPTIONS[name])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    file = folder / f"{name}.safetensors"
    write_weights(file, module, "bfloat16", {"model": json.dumps(DESCRIPTIONS[name])})
    return str(file)
