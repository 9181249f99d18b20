"""The small networks that objectives train in the plane: a denoiser on any path, and a score at one level."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from implementations.diffusion.denoiser import Head, Network, Prediction
from implementations.diffusion.path import EDM, Images, Path, Time, per_sample
from implementations.networks import Preconditioned

WIDTH = 96
FREQUENCIES = (1.0, 2.0, 4.0, 8.0)
RANGE = 6.0  # of log sigma/alpha, beyond which all levels look the same to the network


class Perceptron(nn.Module):
    """Three hidden layers of ``WIDTH``, with SiLU, ``perceptron(x, time) -> (n, 2)``; time enters by sines too."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (2 + 1 + 2 * len(FREQUENCIES), WIDTH, WIDTH, WIDTH)
        layers = [part for i, o in itertools.pairwise(sizes) for part in (nn.Linear(i, o), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 2))

    def forward(self, x: Tensor, time: Tensor, condition: Any = None) -> Tensor:
        time = time.to(x).expand(len(x))[:, None]
        angles = time * x.new_tensor(FREQUENCIES)
        return self.layers(torch.cat([x, time, angles.sin(), angles.cos()], 1))  # type: ignore[no-any-return]


class Plain(Network):
    """A perceptron whose output is the view ``head``; it gets ``x / hypot(alpha, sigma)`` and log(sigma/alpha) / 4.

    With data of unit variance both are what EDM's preconditioning gives a network, on every path.
    """

    def __init__(self, path: Path, module: nn.Module, head: Head):
        super().__init__(path, module, head, time=lambda t: -path.log_snr(t).clamp(-RANGE, RANGE) / 4)

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        t = self.path.inside(t)
        size = torch.hypot(self.path.alpha(t), self.path.sigma(t)).expand(len(x))
        return Prediction(self.path, x, t, **{self.head: self._ask(x / per_sample(size, x), condition, t)})


def make_denoiser(path: Path, head: Head, preconditioned: bool) -> Network:
    """Make a denoiser of a perceptron with weights from torch's global generator, for data of unit variance.

    ``preconditioned`` puts EDM's preconditioning around it, on the path EDM. Raises ValueError on another path.
    """
    if not preconditioned:
        return Plain(path, Perceptron(), head)
    if not isinstance(path, EDM):
        raise ValueError(f"EDM's preconditioning is of the path EDM, got {path!r}")
    return Network(path, Preconditioned(Perceptron(), deviation=1.0), "x0")


class Score(nn.Module):
    """A score in the plane, ``score(x) -> (n, 2)`` in float64: two hidden layers of 64 with SiLU.

    ``spread`` and ``size`` are the typical sizes of x and of the score.
    """

    def __init__(self, spread: float, size: float):
        super().__init__()
        self.spread, self.size = spread, size
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in ((2, 64), (64, 64), (64, 2))).double()

    def forward(self, x: Tensor) -> Tensor:
        h, last = x / self.spread, len(self.layers) - 1
        for i, layer in enumerate(self.layers):  # no calls of modules, which a counter of operations would hook
            h = F.linear(h, layer.weight, layer.bias)
            h = F.silu(h) if i < last else h
        return self.size * h
