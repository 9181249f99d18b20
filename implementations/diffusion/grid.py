"""A time grid as solvers read it: checked times, and the path's coefficients at each of them as floats."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import as_tensor
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images, Path

Callback = Callable[[int, Tensor, Images, Prediction], Any]  # (step, time and state after it, prediction before it)


class Point(NamedTuple):
    """A path at one time, as floats for the coefficients of a step: t, alpha, sigma and log(alpha/sigma)."""

    t: float
    alpha: float
    sigma: float
    log_snr: float

    @property
    def end(self) -> bool:
        """Whether alpha = 0 or sigma = 0 here: an end of the path, where higher-order formulas are singular."""
        return self.alpha == 0 or self.sigma == 0

    @property
    def time(self) -> Tensor:
        """The time t as a denoiser takes it, a float64 scalar tensor."""
        return torch.tensor(self.t, dtype=torch.float64)

    @property
    def ratio(self) -> float:
        """The noise level in units of the data, ``sigma / alpha``; infinite where alpha = 0."""
        return self.sigma / self.alpha if self.alpha else math.inf

    @property
    def radius(self) -> float:
        """The size of the state for unit data, ``hypot(alpha, sigma)``."""
        return math.hypot(self.alpha, self.sigma)

    @property
    def angle(self) -> float:
        """The share of noise as an angle, ``atan2(sigma, alpha)``, from 0 (clean) to pi/2 (noise alone)."""
        return math.atan2(self.sigma, self.alpha)


class Points(NamedTuple):
    """A path at many times: t, alpha, sigma and log(alpha/sigma) as float64 tensors of one shape."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    log_snr: Tensor

    @classmethod
    def at_log_snrs(cls, path: Path, log_snr: Tensor) -> Points:
        """Give the points of a path at values of the log-SNR, log(alpha/sigma), which must lie within the path."""
        t = path.time(log_snr).clamp(path.t_min, path.t_max)
        return cls(t, path.alpha(t), path.sigma(t), log_snr)

    @classmethod
    def at_times(cls, path: Path, t: Tensor) -> Points:
        """Give the points of a path at times t, which must lie within the path."""
        return cls(t, path.alpha(t), path.sigma(t), path.log_snr(t))

    def unbind(self) -> list[Point]:
        """Give the points of a vector one by one, as ``Point`` with floats."""
        return [Point(*row) for row in zip(*(column.tolist() for column in self), strict=True)]

    @property
    def ratio(self) -> Tensor:
        """The noise levels in units of the data, ``sigma / alpha``."""
        return self.sigma / self.alpha

    @property
    def radius(self) -> Tensor:
        """The sizes of the state for unit data, ``hypot(alpha, sigma)``."""
        return torch.hypot(self.alpha, self.sigma)

    @property
    def angle(self) -> Tensor:
        """The shares of noise as angles, ``atan2(sigma, alpha)``, from 0 (clean) to pi/2 (noise alone)."""
        return torch.atan2(self.sigma, self.alpha)


class Grid:
    """The times that a sampler is called with, checked, and alpha and sigma of the path at each of them.

    There must be at least 2, finite, strictly monotone and within the path: ValueError otherwise, naming the value. A
    time that the rounding of its own dtype parts from an end of the path is taken for that end, so that alpha = 0 and
    sigma = 0 are met exactly.
    """

    def __init__(self, path: Path, times: Float[Tensor, " points"]):
        times = as_tensor(times).detach().cpu()
        if times.ndim != 1 or len(times) < 2:
            raise ValueError(f"times must be a vector of at least 2 (one step), got shape {tuple(times.shape)}")
        values = _snap_to_ends(times, path)
        for t in values:
            if not path.t_min <= t <= path.t_max:  # true of NaN, too
                raise ValueError(f"times must lie in [{path.t_min}, {path.t_max}] of {path!r}, got {t}")
        pairs = list(itertools.pairwise(values))
        if not (all(here > there for here, there in pairs) or all(here < there for here, there in pairs)):
            raise ValueError(f"times must be strictly monotone, got {[round(t, 6) for t in values]}")
        times = torch.tensor(values, dtype=torch.float64)
        self.path, self.times = path, times.unbind()
        self.points = Points.at_times(path, times).unbind()

    def __len__(self) -> int:
        return len(self.points) - 1

    def require_descending(self) -> None:
        """Raise ValueError unless the times go from noise to data, as a sampler that adds noise needs."""
        if self.points[0].t < self.points[1].t:
            raise ValueError("ascending times invert a sampler, and one that adds noise has no inverse")

    def require_ascending(self) -> None:
        """Raise ValueError unless the times go from data to noise, as an inversion needs."""
        if self.points[0].t > self.points[1].t:
            raise ValueError("times must ascend, from data to noise: this sampler inverts another")

    def at(self, log_snr: float) -> Point:
        """Give the point of the path at a log-SNR, log(alpha/sigma), for a stage between two times."""
        t = self.path.time(log_snr).clamp(self.path.t_min, self.path.t_max)
        return Point(t.item(), self.path.alpha(t).item(), self.path.sigma(t).item(), log_snr)

    def at_time(self, t: float) -> Point:
        """Give the point of the path at time t: alpha, sigma and log(alpha/sigma) as floats."""
        return Point(t, *(float(f(t)) for f in (self.path.alpha, self.path.sigma, self.path.log_snr)))

    def check_finite(self, sums: Float[Tensor, " steps"]) -> None:
        """Raise FloatingPointError if the state has ceased to be finite, naming the first step after which it was not.

        ``sums`` has one sum over the state per step, so that the check costs one transfer from the device.
        """
        finite = [math.isfinite(value) for value in sums.tolist()]
        if not all(finite):
            first = finite.index(False)
            start, end = self.times[first], self.times[first + 1]
            before = " or before" if first == len(self) - 1 else ""
            raise FloatingPointError(
                f"the state is not finite after step {first + 1} of {len(self)}{before}, from t = {start:.6g} to "
                f"{end:.6g}: the denoiser or the noise was NaN or infinite there, or the solver diverged"
            )


def check_start(x: Images) -> Images:
    """Give a sampler's start ``x`` in float32 at least.

    Raises ValueError where it is empty, of integers or not finite.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"x must be a tensor, a batch of samples, got {type(x).__name__}")
    if x.ndim == 0 or len(x) == 0 or not x.is_floating_point():
        raise ValueError(f"x must be a batch of at least one sample in floating point, got {tuple(x.shape)} {x.dtype}")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if not math.isfinite(x.detach().sum().item()):
        raise ValueError("x is not finite before the first step")
    return x


def add_scaled(*terms: tuple[float, Images]) -> Images:
    """The linear combination ``sum_k c_k x_k`` of terms (c, x), in one new tensor; terms of weight 0 are left out."""
    (first, x), *rest = [term for term in terms if term[0] != 0] or terms[:1]
    total = x * first
    for weight, y in rest:
        total.add_(y, alpha=weight)
    return total


def _snap_to_ends(times: Tensor, path: Path) -> list[float]:
    """The times as floats; an end of the path for a time that is the end as rounded in its dtype, or an ulp beyond."""
    values = [float(t) for t in times.tolist()]
    if not times.is_floating_point():
        return values
    eps = torch.finfo(times.dtype).eps
    for end, outward in ((path.t_min, -1), (path.t_max, 1)):
        rounded = end if times.dtype is torch.float64 else torch.tensor(end, dtype=times.dtype).item()
        room = eps * abs(end)
        values = [end if t == rounded or 0 < outward * (t - end) <= room else t for t in values]
    return values
