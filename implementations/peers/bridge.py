"""A path, its grid and a denoiser as a peer sees them: states and noise levels of the frame that the peer works in.

| frame    | state             | level                 |
|----------|-------------------|-----------------------|
| exploding| x / alpha         | sigma / alpha         |
| unit     | x / hypot         | sigma / alpha         |
| straight | x / (alpha+sigma) | sigma / (alpha+sigma) |

Rescaling is exact up to rounding, so that a peer written for one frame runs on every path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.grid import Callback, Grid, Point, checked_start
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images

Frame = Literal["exploding", "unit", "straight"]
SCALES: dict[str, Callable[[Point], float]] = {
    "exploding": lambda point: point.alpha,
    "unit": lambda point: point.radius,
    "straight": lambda point: point.alpha + point.sigma,
}


class Bridge:
    """A call under the samplers' contract, on its way into a peer: checks as ``Grid``, and counts draws and steps."""

    def __init__(
        self,
        denoiser: Denoiser,
        x: Images,
        times: Any,
        noise: Noise,
        callback: Callback | None,
        condition: Any,
        frame: Frame,
        direction: Literal["down", "up"] = "down",
    ):
        self.denoiser, self.condition, self.callback = denoiser, condition, callback
        self.grid, self.scale, self.frame = Grid(denoiser.path, times, direction), SCALES[frame], frame
        self.x, self.noise = checked_start(x), noise
        self.draws = self.steps = 0
        self._increment: tuple[float, float, Images] | None = None
        self._before: Prediction | None = None

    @property
    def begun(self) -> bool:
        """Whether a step has begun."""
        return self._before is not None

    @property
    def clean(self) -> bool:
        """Whether the grid ends at sigma = 0."""
        return self.grid.points[-1].sigma == 0

    @property
    def levels(self) -> Tensor:
        """Noise levels of the grid in the peer's frame, float64."""
        return torch.tensor([self.level(point) for point in self.grid.points], dtype=torch.float64)

    def level(self, point: Point) -> float:
        """Noise level of a point in the peer's frame."""
        return point.sigma / (point.alpha + point.sigma) if self.frame == "straight" else point.ratio

    def point(self, level: float, eps: float = 1e-12) -> Point:
        """Give the point of a level, a point of the grid where it is that one to ``eps``."""
        nearest = min(self.grid.points, key=lambda point: abs(self.level(point) - level))
        if abs(self.level(nearest) - level) <= eps * level:
            return nearest
        return self.grid.at(-math.log(level / (1 - level) if self.frame == "straight" else level))

    def between(self, i: int, shares: tuple[float, ...]) -> list[Point]:
        """Points inside step i, by their shares of its log-SNR."""
        here, there = self.grid.points[i], self.grid.points[i + 1]
        return [self.grid.at(here.log_snr + share * (there.log_snr - here.log_snr)) for share in shares]

    def enter(self) -> Images:
        """Give the start as the peer has it; raises ValueError at alpha = 0 where its frame has no such state."""
        if self.grid.points[0].alpha == 0 and self.frame != "straight":
            raise ValueError(f"this peer starts at alpha > 0, got alpha = 0 at t = {self.grid.points[0].t}")
        return self.x / self.scale(self.grid.points[0])

    def leave(self, y: Images) -> Images:
        """Give the end as the path has it; raises FloatingPointError where it is not finite."""
        x = y * self.scale(self.grid.points[-1])
        self._report(self.grid.times[-1], x)
        if not bool(x.sum().isfinite()):
            raise FloatingPointError(
                f"the peer's state is not finite after step {len(self.grid)} of {len(self.grid)}: the denoiser "
                "returned NaN or infinity, or the solver diverged"
            )
        return x

    def predict(self, y: Images, point: Point) -> Prediction:
        """Ask the denoiser at the peer's state."""
        return self.denoiser(y * self.scale(point), point.time, self.condition)

    def begin(self, prediction: Prediction) -> None:
        """Say that a step begins with this prediction: the one before has ended where it was made."""
        self._report(prediction.t, prediction.x)
        self._before = prediction

    def draw(self, like: Images) -> Images:
        """The next draw of noise; steps that took none have left theirs."""
        number = max(self.draws, self.steps)
        self.draws = number + 1
        return self.noise(number, like)

    def brownian(self, start: Any, end: Any) -> Images:
        """The increment of a Brownian motion in the level from ``start`` to ``end``, in units of its deviation.

        One that starts where the last did and goes on beyond it holds that one.
        """
        high, low = float(start), float(end)
        z = self.draw(self.x)
        if self._increment is not None and self._increment[0] == high and low < self._increment[1]:
            share = (high - self._increment[1]) / (high - low)
            z = math.sqrt(share) * self._increment[2] + math.sqrt(1 - share) * z
        self._increment = (high, low, z)
        return z

    def _report(self, time: Tensor, x: Images) -> None:
        """Tell the callback of the step that ended here."""
        if self._before is not None:
            if self.callback is not None:
                self.callback(self.steps, time, x, self._before)
            self.steps += 1
