"""A call under the samplers' contract, in the frame of states and noise levels that a peer works in.

| frame    | state             | level                 |
|----------|-------------------|-----------------------|
| exploding| x / alpha         | sigma / alpha         |
| unit     | x / hypot         | sigma / alpha         |
| straight | x / (alpha+sigma) | sigma / (alpha+sigma) |

Rescaling is exact up to rounding, so that a peer written for one frame runs on every path.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point
from implementations.diffusion.path import Images, Path
from implementations.samplers.contract import Count, Problem, Sampler

Frame = Literal["exploding", "unit", "straight"]
SCALES: dict[str, Callable[[Point], float]] = {
    "exploding": lambda point: point.alpha,
    "unit": lambda point: point.radius,
    "straight": lambda point: point.alpha + point.sigma,
}
Run = Callable[[], Images]


class PeerSampler(Sampler):
    """A sampler of another library, called as fidmap's are, with what the adapter states of it besides.

    ``bare(x, network, steps, draw, **options)`` makes a run by the peer's own API, in its own scaling of states and
    levels, on a network that answers with ``head``. ``own`` are the options that ``solver`` takes as ``**options``.
    """

    def __init__(
        self,
        solver: Callable[..., Images],
        bare: Callable[..., Run],
        *,
        doc: str,
        own: Sequence[inspect.Parameter] = (),
        open_ended: bool = False,  # it takes further options, too
        count: Count | None = None,
        head: Literal["eps", "x0", "v", "velocity"] = "eps",
        home: type[Path] = Path,  # as shipped, it runs on this kind of path
        settings: Sequence[str] = (),  # as shipped, it takes these options, too
        from_noise: bool = False,  # a grid may begin at alpha = 0
        to_data: Literal["may", "must", "never"] = "may",  # whether a grid ends at sigma = 0
        most_steps: int | None = None,  # as shipped, of what its model is distilled for
        to_sigma_min: bool = False,  # its network answers with a sample at sigma_min, of which the next state is made
    ):
        super().__init__(solver, count)
        self.bare, self.head, self.home, self.settings = bare, head, home, list(settings)
        self.from_noise, self.to_data = from_noise, to_data
        self.most_steps, self.to_sigma_min = most_steps, to_sigma_min
        self.__doc__ = doc
        *named, rest = self.__signature__.parameters.values()
        named += [p.replace(kind=p.KEYWORD_ONLY) for p in own]
        self.__signature__ = self.__signature__.replace(parameters=[*named, *([rest] if open_ended else [])])


class Bridge:
    """One call of a sampler on its way into another library and back, which counts the draws and steps of that library.

    The frame is the scaling of states and noise levels that the library works in. Raises ValueError on ascending times,
    or on descending ones where ``direction`` is up.
    """

    def __init__(self, problem: Problem, frame: Frame, direction: Literal["down", "up"] = "down"):
        self.problem, self.grid, self.x = problem, problem.grid, problem.x
        self.scale, self.frame = SCALES[frame], frame
        if direction == "down":
            self.grid.require_descending()
        else:
            self.grid.require_ascending()
        self.draws = self.steps = 0
        self._increment: tuple[float, float, Images] | None = None
        self._latest: Prediction | None = None  # with which the step that is being taken began

    @property
    def begun(self) -> bool:
        """Whether the peer's first step has begun."""
        return self._latest is not None

    @property
    def clean(self) -> bool:
        """Whether the grid of the call ends at sigma = 0."""
        return self.grid.points[-1].sigma == 0

    @property
    def levels(self) -> Tensor:
        """Noise levels of the grid as the peer counts them, in float64.

        They are sigma/alpha, or sigma/(alpha + sigma) for a peer written for the straight path.
        """
        return torch.tensor([self.level(point) for point in self.grid.points], dtype=torch.float64)

    def level(self, point: Point) -> float:
        """Give the noise level of a point as the peer counts it.

        It is sigma/alpha, or sigma/(alpha + sigma) for a peer written for the straight path.
        """
        return point.sigma / (point.alpha + point.sigma) if self.frame == "straight" else point.ratio

    def point(self, level: float, eps: float = 1e-12) -> Point:
        """Give the point of the path that has a noise level of the peer.

        It is a point of the grid where the level of one agrees to ``eps``, relatively.
        """
        nearest = min(self.grid.points, key=lambda point: abs(self.level(point) - level))
        if abs(self.level(nearest) - level) <= eps * level:
            return nearest
        return self.grid.at(-math.log(level / (1 - level) if self.frame == "straight" else level))

    def divide(self, i: int, shares: tuple[float, ...]) -> list[Point]:
        """Give the points inside step i at these shares of it in log-SNR, for the stages of a single-step method."""
        here, there = self.grid.points[i], self.grid.points[i + 1]
        return [self.grid.at(here.log_snr + share * (there.log_snr - here.log_snr)) for share in shares]

    def enter(self) -> Images:
        """Give the start of the call, scaled as the peer scales states.

        Raises ValueError at alpha = 0 where that scaling has no such state.
        """
        if self.grid.points[0].alpha == 0 and self.frame != "straight":
            raise ValueError(f"this peer starts at alpha > 0, got alpha = 0 at t = {self.grid.points[0].t}")
        return self.x / self.scale(self.grid.points[0])

    def leave(self, y: Images) -> Images:
        """Give the peer's last state, scaled back to the path; raises FloatingPointError where it is not finite."""
        x = y * self.scale(self.grid.points[-1])
        self._report(self.grid.times[-1], x)
        if not bool(x.sum().isfinite()):
            raise FloatingPointError(
                f"the peer's state is not finite after step {len(self.grid)} of {len(self.grid)}: the denoiser "
                "returned NaN or infinity, or the solver diverged"
            )
        return x

    def predict(self, y: Images, point: Point) -> Prediction:
        """Give the denoiser's prediction at the peer's state ``y``, scaled back to the path at ``point``."""
        return self.problem.denoiser(y * self.scale(point), point.time, self.problem.condition)

    def begin(self, prediction: Prediction) -> None:
        """Note that a step begins with this prediction; the step before ends at the state of the prediction."""
        self._report(prediction.t, prediction.x)
        self._latest = prediction

    def draw(self, like: Images) -> Images:
        """Give the next draw of the call's noise: draw i in step i at the earliest, so that a step may take none."""
        number = max(self.draws, self.steps)
        self.draws = number + 1
        return self.problem.noise(number, like)

    def brownian(self, start: Any, end: Any) -> Images:
        """Give the standardised increment of a Brownian motion in the noise level from ``start`` down to ``end``.

        It has variance 1. Where the increment before had the same start and a nearer end, this one contains it.
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
        if self._latest is not None:
            if self.problem.callback is not None:
                self.problem.callback(self.steps, time, x, self._latest)
            self.steps += 1


class Ask(NamedTuple):
    """One evaluation of the denoiser by a scheduler: the point of the path, and the scheduler's own timestep for it.

    ``begins`` says whether a step begins there.
    """

    point: Point
    timestep: Any
    begins: bool = True


Place = Callable[[Any, Bridge], Iterable[Ask]]  # (scheduler, bridge): set the grid, and give what to ask step by step
