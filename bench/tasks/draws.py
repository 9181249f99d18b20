"""Streams of random numbers of a cell, one for each use, which tasks of several families draw from."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch

Role: TypeAlias = Literal["start", "noise", "truth", "directions", "warm-up", "data"]


def seed_of(seed: int, role: Role) -> int:
    """A seed for one use of randomness in a cell, its ``role`` (start, truth, ...), that differs from those of others.

    It has 32 bits, as torch's CPU generator ignores higher ones.
    """
    return int(np.random.SeedSequence([seed, *role.encode()]).generate_state(1)[0])


def generator(seed: int, role: Role) -> torch.Generator:
    """A torch generator for one use of randomness in a cell, its ``role`` (start, truth, ...), by ``seed_of``."""
    return torch.Generator().manual_seed(seed_of(seed, role))
