"""Networks of one configuration and equal random weights, fidmap's and a peer's, and what they are called on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from bench.tasks.networks.sizes import Size
from implementations.catalogue import NETWORKS
from implementations.weights.published import build

SPREAD = 0.02  # standard deviation of what is added to the weights, since some begin as zeros, which hide a difference
Inputs: TypeAlias = tuple[Tensor, Tensor, Tensor | None]  # states, times, and labels where there are classes


def draw_inputs(size: Size, batch: int, seed: int = 1) -> Inputs:
    """Draw states (batch, c, side, side), times (batch,) from 0 to 999, and labels (batch,) where it has classes."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, size.configuration["in_channels"], size.side, size.side, generator=source)
    labels = torch.randint(size.classes, (batch,), generator=source) if size.classes else None
    return x, torch.randint(1000, (batch,), generator=source).float(), labels


def make_networks(names: Iterable[str], size: Size, seed: int = 0) -> dict[str, nn.Module]:
    """Build the networks of these names of ``NETWORKS``, fidmap's and a peer's, at a size with equal random weights.

    They are in evaluation mode. The weights are the peer's, which come to fidmap's through the key map.
    """
    torch.manual_seed(seed)
    own, keys = build({"_class_name": size.kind, **size.configuration})
    found = {name: NETWORKS[name](**size.configuration) if NETWORKS[name].package else own for name in names}
    peer = next((network.network for network in found.values() if network is not own), None)
    with torch.no_grad():
        for parameter in (own if peer is None else peer).parameters():
            parameter.add_(SPREAD * torch.randn_like(parameter))
        if peer is not None:
            state = peer.state_dict()
            for copy, original in keys.copies.items():
                state[copy].copy_(state[original])
            keys.fill(own, state)
    return {name: network.eval() for name, network in found.items()}
