"""A key map: which tensors of a published checkpoint make which tensor of a network, with every key accounted for.

A tensor of the network is those of the checkpoint one below the other: queries, keys and values, which the network has
as one product, and the modulations of all blocks. A kernel of a 1x1 convolution, or one as large as its stride, is the
matrix that multiplies flattened pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


class NotCovered(ValueError):
    """Raised on a checkpoint that may be sound, but is not of a network of this package."""


@dataclass(frozen=True)
class KeyMap:
    """``parts`` has for each key of a network those of the checkpoint, in order; ``copies`` has key -> its original.

    A copy is a tensor that a checkpoint holds again: it is accepted where it equals the original.
    """

    parts: Mapping[str, tuple[str, ...]]
    copies: Mapping[str, str] = field(default_factory=dict)

    def keys(self) -> Iterator[str]:
        """Every key of the checkpoint, as often as it is used."""
        for names in self.parts.values():
            yield from names
        yield from self.copies

    def fill(self, network: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Copy a checkpoint into a network of this map.

        Raises ValueError, which names a key, where the checkpoint lacks one, has one too many or one of another shape,
        and NotCovered where a copy differs from its original.
        """
        if difference := find_difference(set(self.keys()), state.keys()):
            raise ValueError(f"weights of another network: {difference}")
        for copy, original in self.copies.items():
            if not torch.equal(state[copy], state[original]):
                raise NotCovered(f"{copy} differs from {original}: a network has these weights once")
        own = network.state_dict()
        joined = {key: self._join(key, own[key], state) for key in self.parts}
        network.load_state_dict(joined)

    def _join(self, key: str, own: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        names = self.parts[key]
        found = [as_matrix(state[name], own.ndim) for name in names]
        rows = sum(part.shape[0] for part in found if part.ndim)
        for name, part in zip(names, found, strict=True):
            if part.ndim != own.ndim or part.shape[1:] != own.shape[1:] or rows != own.shape[0]:
                of = f"{len(names)} that together have" if len(names) > 1 else "one of"
                raise ValueError(f"weights of another network: {name} is {tuple(state[name].shape)}, where {of} "
                                 f"shape {tuple(own.shape)} is needed")  # fmt: skip
        return torch.cat(found).to(own.dtype) if len(found) > 1 else found[0].to(own.dtype)


def find_difference(wanted: Set[str], given: Set[str]) -> str:
    """What the keys of weights lack of those wanted, or have beside them, in words; empty where they are the same."""
    for what, keys in (("lacks", wanted - given), ("has an unknown", given - wanted)):
        if keys:
            return f"it {what} {min(keys)}, and {len(keys) - 1} more"
    return ""


def as_matrix(tensor: Tensor, dimensions: int) -> Tensor:
    """A kernel as the matrix of its flattened pixels, where two dimensions are wanted; any other tensor as it is."""
    return tensor.flatten(1) if dimensions == 2 and tensor.ndim == 4 else tensor


def require(config: Mapping[str, object], accepted: Mapping[str, tuple[object, ...]]) -> None:
    """Refuse the first option of a published configuration whose value is not among those accepted.

    An option that is absent is accepted: its default is the first of them. Raises ValueError.
    """
    for name, values in accepted.items():
        if name in config and not any(_same(config[name], value) for value in values):
            shown = " or ".join("null" if value is None else str(value).lower() for value in values)
            raise ValueError(f"{name} is {config[name]!r}; {shown} is covered")


def known(config: Mapping[str, object], names: Collection[str]) -> None:
    """Refuse an option that this key map has never heard of, unless it is null or false; raises ValueError."""
    for name, value in config.items():
        if not name.startswith("_") and name not in names and value not in (None, False):
            raise ValueError(f"{name} is {value!r}, an option that is not covered")


def _same(given: object, value: object) -> bool:
    return given == value and isinstance(given, bool) == isinstance(value, bool)
