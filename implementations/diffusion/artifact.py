"""What a method learns from a denoiser before it can sample: tensors with a hash and their cost in evaluations."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class Artifact:
    """Tensors that the sampler or schedule ``method`` has learnt from a denoiser, with their cost in ``evaluations``.

    An evaluation is one call of the denoiser on a batch.
    """

    method: str
    tensors: dict[str, Tensor]
    evaluations: int

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the artifact: of the method and of the tensors' names, types, shapes and bytes."""
        digest = hashlib.sha256(self.method.encode())
        for name, tensor in sorted(self.tensors.items()):
            values = tensor.detach().cpu().contiguous().numpy()
            digest.update(f"\0{name}\0{values.dtype}\0{values.shape}\0".encode() + values.tobytes())
        return digest.hexdigest()

    def of(self, method: str) -> dict[str, Tensor]:
        """Give the tensors by name; raises ValueError unless ``method`` is the one that has learnt them."""
        if self.method != method:
            raise ValueError(f"artifact must be what {method} prepared, got one of {self.method}")
        return self.tensors

    def save(self, file: str | Path) -> None:
        """Write the artifact to a file, as safetensors."""
        facts = {"method": self.method, "evaluations": json.dumps(self.evaluations)}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}, file, facts)

    @classmethod
    def load(cls, file: str | Path) -> Artifact:
        """Read an artifact; raises ValueError where the file holds none."""
        with safe_open(file, "pt") as source:
            facts = source.metadata() or {}
            tensors = {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118 (no mapping)
        if not {"method", "evaluations"} <= facts.keys():
            raise ValueError(f"{file} holds no artifact: its metadata must state a method and its evaluations")
        return cls(facts["method"], tensors, int(facts["evaluations"]))
