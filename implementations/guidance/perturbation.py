"""Perturbations: what guidance changes inside a network for some rows of a batch, through the network's hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from implementations.diffusion.denoiser import Denoiser
from implementations.networks import hooks

Heads: TypeAlias = Float[Tensor, "n heads tokens width"]
Size: TypeAlias = tuple[int, ...]  # of the image, height and width
Attend: TypeAlias = Callable[[Heads, Heads, Heads, Size], Heads]  # (q, k, v, size of the image) -> out


@dataclass(frozen=True, eq=False)
class Perturbation:
    """A change of layers, by name: ``attend(q, k, v, size)`` in place of attention, or None to bypass whole layers."""

    names: tuple[str, ...]
    attend: Attend | None = None


@contextmanager
def perturbed(denoiser: Denoiser, changes: Sequence[tuple[slice, Perturbation]], size: Size) -> Iterator[None]:
    """Change the network behind a denoiser, each perturbation in its own rows of the batch, until the block ends."""
    network = require_network(denoiser)
    of_layer: dict[str, list[tuple[slice, Attend]]] = {}
    with ExitStack() as stack:
        for rows, one in changes:
            if one.attend is None:
                stack.enter_context(hooks.bypass_layers(network, one.names, rows))
            else:
                for name in one.names:
                    of_layer.setdefault(name, []).append((rows, one.attend))
        for name, attends in of_layer.items():
            stack.enter_context(hooks.replace_attention(network, (name,), _in_rows(attends, size)))
        yield


def attention_names(denoiser: Denoiser, layers: Any) -> tuple[str, ...]:
    """Name the self-attention layers of the network behind a denoiser that ``layers`` chooses.

    ``layers`` are names, or numbers in the order of the forward pass; None is the network's middle one, as PAG, SEG and
    SAG have it. Raises ValueError where there is no such layer, and on a network that offers none.
    """
    return _choose(hooks.attention_layers(require_network(denoiser)), layers, "self-attention layer")


def block_names(denoiser: Denoiser, layers: Any) -> tuple[str, ...]:
    """Name the whole layers of the network behind a denoiser that ``layers`` chooses, as ``attention_names`` does."""
    return _choose(hooks.layers(require_network(denoiser)), layers, "layer")


def require_network(denoiser: Denoiser) -> torch.nn.Module:
    """Give the torch module behind a denoiser; raises ValueError where there is none, as behind an oracle."""
    network = denoiser.network
    if network is None:
        raise ValueError(
            f"this guidance changes layers of a network, and behind {type(denoiser).__name__} there is none"
        )
    return network


def grid_of(tokens: int, size: Size) -> tuple[int, int]:
    """Give rows and columns of tokens that cover an image of this size; raises ValueError where they are no grid."""
    height = round(math.sqrt(tokens * size[0] / size[1]))
    if height == 0 or tokens % height or abs(tokens // height / height - size[1] / size[0]) > 0.5 / height:
        raise ValueError(f"{tokens} tokens are no grid over an image of {size[0]} x {size[1]}")
    return height, tokens // height


def _in_rows(attends: Sequence[tuple[slice, Attend]], size: Size) -> Callable[[Heads, Heads, Heads], Heads]:
    """Attention as it is, but for some rows of the batch; several observers may look at the same rows."""
    changes = sorted(attends, key=lambda one: one[0].start)

    def attend(q: Heads, k: Heads, v: Heads) -> Heads:
        parts: list[Heads] = []
        end = 0
        for rows, own in changes:
            if rows.start < end:
                parts.pop()
            elif rows.start > end:
                parts.append(scaled_dot_product_attention(*(each[end : rows.start] for each in (q, k, v))))
            parts.append(own(q[rows], k[rows], v[rows], size))
            end = rows.stop
        if end < len(q):
            parts.append(scaled_dot_product_attention(q[end:], k[end:], v[end:]))
        return torch.cat(parts)

    return attend


def _choose(found: Mapping[str, Any], layers: Any, kind: str) -> tuple[str, ...]:
    names = list(found)
    if not names:
        raise ValueError(f"the network has no {kind}")
    if layers is None:
        middle = [name for name in names if "mid" in name.split(".")[0]]
        return (middle[len(middle) // 2] if middle else names[len(names) // 2],)
    wanted = [layers] if isinstance(layers, str | int) else list(layers)
    for one in wanted:
        if not (one in found if isinstance(one, str) else 0 <= one < len(names)):
            raise ValueError(f"no {kind} {one!r} of the network; there are {', '.join(names)}")
    return tuple(dict.fromkeys(one if isinstance(one, str) else names[one] for one in wanted))
