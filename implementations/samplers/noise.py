"""Noise that does not depend on how samples are batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from implementations.diffusion.path import Images

Noise = Callable[[int, Images], Images]


class PerSampleNoise:
    """``noise(draw, like)``: standard normals for the whole batch, sample i a pure function of ``(seeds[i], draw)``.

    Philox (Salmon et al., 2011) keyed by the seed, its counter set by the draw; drawn in float64 on the CPU and then
    cast, so that the numbers are bit-identical over batches and devices.
    Raises ValueError where the seeds are negative or not as many as the samples.
    """

    def __init__(self, seeds: Sequence[int]):
        self.seeds = [int(seed) for seed in seeds]
        if any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds must not be negative, got {min(self.seeds)}")

    def __call__(self, draw: int, like: Images) -> Images:
        """Draw number ``draw`` with the shape, dtype and device of ``like``."""
        if len(like) != len(self.seeds):
            raise ValueError(f"{len(self.seeds)} seeds were given for a batch of {len(like)}")
        values = np.empty((len(like), like[0].numel()))
        for row, seed in zip(values, self.seeds, strict=True):
            # the draw is the counter's highest word: no draw is long enough to run into the next
            np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, draw])).standard_normal(out=row)
        return torch.from_numpy(values).reshape(like.shape).to(like)


def given(noise: Noise | None, x: Images) -> Noise:
    """The noise of seeds 0 to n - 1 where none is given: the same at each call."""
    return noise or PerSampleNoise(range(len(x)))
