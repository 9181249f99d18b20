"""Denoisers that observe a sampler: the level of each state, and the level at which the network is evaluated."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images, Path, Time


class ConstantDenoiser(Denoiser):
    """A denoiser that answers ``x0 = data`` and ``eps = noise`` for every state and time, to read levels off states.

    ``data`` and ``noise`` are one sample or a batch. A sampler that begins at ``alpha data + sigma noise`` then stays
    at it for whatever level it steps to: with data (1, 0) and noise (0, 1), every state reads (alpha, sigma). This is
    exact for solvers in every coordinate but ``t``, and for those in ``t`` on ``RectifiedFlow``, where the velocity is
    constant.
    """

    def __init__(self, path: Path, data: Tensor, noise: Tensor):
        self.path, self.data, self.noise = path, data, noise

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        x0, eps = (answer.to(x).expand_as(x).clone() for answer in (self.data, self.noise))
        return Prediction(self.path, x, t, x0=x0, eps=eps)


class NetworkCall(NamedTuple):
    """One call of the network by a sampler: the time asked for, the state, and how many draws of noise came before."""

    t: float
    x: Images
    draws: int = 0


class RecordingDenoiser(Denoiser):
    """A denoiser that passes calls on to another and records them; a call with several times counts as one per time."""

    def __init__(self, denoiser: Denoiser):
        self.denoiser, self.path = denoiser, denoiser.path
        self.calls: list[NetworkCall] = []
        self.batched, self.draws = False, 0

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        times = torch.as_tensor(t, dtype=torch.float64)
        apart = times.ndim > 0 and len(times.unique()) > 1
        self.batched |= apart
        for value in times.unique() if times.ndim else times[None]:
            rows = x[times == value] if apart else x
            self.calls.append(NetworkCall(float(value), rows.detach().clone(), self.draws))
        return self.denoiser(x, t, condition)

    def noise(self, draw: int, like: Images) -> Images:
        """A sampler's noise that is 0 in every draw, and counts the draws."""
        self.draws = max(self.draws, draw + 1)
        return torch.zeros_like(like)


class Reading(NamedTuple):
    """The alpha and sigma that a sampler's state shows, and the time at which the network was evaluated there."""

    t: float
    alpha: float
    sigma: float


class Dirac(Denoiser):
    """The denoiser of data that are all 0: ``x0 = 0``, ``eps = x / sigma``.

    Linear in the state, it leaves only noise.
    """

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        sigma = float(self.path.sigma(t))
        eps = x / sigma if sigma else torch.zeros_like(x)
        return Prediction(self.path, x, t, x0=torch.zeros_like(x), eps=eps)


class FirstCall(Exception):
    """Raised by ``Interrupter`` at a sampler's first call of the network, with the state ``x`` and the time ``t``."""

    def __init__(self, x: Images, t: float):
        super().__init__(f"asked at t = {t}")
        self.x, self.t = x, t


class Interrupter(Denoiser):
    """A denoiser that ends a sampler's run at its first call, by raising FirstCall, to see where it begins."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        raise FirstCall(x, float(torch.as_tensor(t).flatten()[0]))
