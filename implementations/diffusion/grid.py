"""A time grid as solvers read it: the path's coefficients as floats, the checks, and the loop they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import as_tensor
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images, Path

Sampler = TypeVar("Sampler", bound=Callable[..., Any])
Callback = Callable[[int, Tensor, Images, Prediction], Any]  # (step, time and state after it, prediction before it)


class Point(NamedTuple):
    """The path at one time of the grid."""

    t: float
    alpha: float
    sigma: float
    log_snr: float

    @property
    def end(self) -> bool:
        """Whether this is an end of the path, where higher-order formulas are singular."""
        return self.alpha == 0 or self.sigma == 0

    @property
    def time(self) -> Tensor:
        """``t`` as a denoiser takes it."""
        return torch.tensor(self.t, dtype=torch.float64)

    @property
    def ratio(self) -> float:
        """``sigma / alpha``; infinite where alpha = 0."""
        return self.sigma / self.alpha if self.alpha else math.inf

    @property
    def radius(self) -> float:
        """``hypot(alpha, sigma)``."""
        return math.hypot(self.alpha, self.sigma)

    @property
    def angle(self) -> float:
        """``atan2(sigma, alpha)``, from 0 (clean) to pi/2."""
        return math.atan2(self.sigma, self.alpha)


class Grid:
    """Times, checked: at least 2, finite, strictly monotone, within the path, and ``down``, ``up`` or ``either`` way.

    A time that its own dtype's rounding parts from an end of the path is that end, so that alpha = 0 and sigma = 0 are
    met exactly. Raises ValueError otherwise, naming the value.
    """

    def __init__(
        self, path: Path, times: Float[Tensor, " points"], direction: Literal["either", "down", "up"] = "either"
    ):
        times = as_tensor(times).detach().cpu()
        if times.ndim != 1 or len(times) < 2:
            raise ValueError(f"times must be a vector of at least 2 (one step), got shape {tuple(times.shape)}")
        times = _at_the_ends(times, path)
        outside = ~((times >= path.t_min) & (times <= path.t_max))  # true of NaN, too
        if bool(outside.any()):
            wrong = times[outside][0].item()
            raise ValueError(f"times must lie in [{path.t_min}, {path.t_max}] of {path!r}, got {wrong}")
        steps = times.diff()
        if not (bool((steps < 0).all()) or bool((steps > 0).all())):
            raise ValueError(f"times must be strictly monotone, got {[round(t, 6) for t in times.tolist()]}")
        if direction == "down" and bool(steps[0] > 0):
            raise ValueError("ascending times invert a sampler, and one that adds noise has no inverse")
        if direction == "up" and bool(steps[0] < 0):
            raise ValueError("times must ascend, from data to noise: this sampler inverts another")
        self.path, self.times = path, times.unbind()
        columns = (times, path.alpha(times), path.sigma(times), path.log_snr(times))
        self.points = [Point(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def __len__(self) -> int:
        return len(self.points) - 1

    def at(self, log_snr: float) -> Point:
        """Give the point of a log-SNR within the path, for a stage between two times."""
        t = self.path.time(log_snr).clamp(self.path.t_min, self.path.t_max)
        return Point(t.item(), self.path.alpha(t).item(), self.path.sigma(t).item(), log_snr)

    def at_time(self, t: float) -> Point:
        """Give the point of a time within the path."""
        return Point(t, *(float(f(t)) for f in (self.path.alpha, self.path.sigma, self.path.log_snr)))

    def solve(
        self,
        denoiser: Denoiser,
        x: Images,
        step: Callable[[int, Images, Prediction], Images],
        callback: Callback | None,
        condition: Any,
        lift: Callable[[int, Images], tuple[Point, Images]] | None = None,
        regular: bool = False,
    ) -> Images:
        """Run ``step(i, x, prediction)`` from ``times[i]`` to ``times[i+1]`` over the grid, in float32 at least.

        A step that touches alpha = 0 or sigma = 0 is the first-order data-prediction step ``alpha' x0 + sigma' eps``,
        unless ``step`` is ``regular`` there.
        ``lift(i, x)`` may carry the state to a noisier point before the model sees it.
        ``callback(i, t, x, prediction)`` sees the time and the state after step i and the prediction before it.
        Raises ValueError where ``x`` is empty or not finite, FloatingPointError if it ceases to be: the message has
        the step.
        """
        x = checked_start(x)
        # An element of each sample a step, and the whole state at the end, since NaN stays; looked at when all is done:
        # a sum of everything would be a fifth of a step, and a look at each step would synchronise a GPU.
        watch = []
        for i, (here, there) in enumerate(zip(self.points, self.points[1:], strict=False)):
            if lift is not None:
                here, x = lift(i, x)
            prediction = ask(denoiser, x, here, condition)
            x = prediction.x.to(x.dtype)  # a corrector may have moved the state
            end = not regular and (self.points[i].end or there.end)
            x = prediction.combine(there.alpha, there.sigma) if end else step(i, x, prediction)
            watch.append(x.detach().reshape(len(x), -1)[:, 0].sum())
            if callback is not None:
                callback(i, self.times[i + 1], x, prediction)
            del prediction  # it holds the state before: kept into the next step, memory would go back and forth
        self.check(torch.stack([*watch[:-1], x.detach().sum()]))
        return x

    def check(self, sums: Float[Tensor, " steps"]) -> None:
        """Raise FloatingPointError with the first step after which the state's sum is not finite."""
        finite = sums.isfinite()
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            start, end = self.times[first], self.times[first + 1]
            before = " or before" if first == len(self) - 1 else ""
            raise FloatingPointError(
                f"the state is not finite after step {first + 1} of {len(self)}{before}, from t = {start:.6g} to "
                f"{end:.6g}: the denoiser or the noise was NaN or infinite there, or the solver diverged"
            )


def ask(denoiser: Denoiser, x: Images, point: Point, condition: Any) -> Prediction:
    """Ask the denoiser at a point, whose alpha and sigma its prediction need not work out again."""
    prediction = denoiser(x, point.time, condition)
    same = prediction.path is denoiser.path
    return prediction.told(point.t, point.alpha, point.sigma) if same else prediction


def checked_start(x: Images) -> Images:
    """Give ``x`` in float32 at least; raises ValueError where it is empty, of integers or not finite."""
    if not isinstance(x, Tensor):
        raise ValueError(f"x must be a tensor, a batch of samples, got {type(x).__name__}")
    if x.ndim == 0 or len(x) == 0 or not x.is_floating_point():
        raise ValueError(f"x must be a batch of at least one sample in floating point, got {tuple(x.shape)} {x.dtype}")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if not bool(x.sum().isfinite()):
        raise ValueError("x is not finite before the first step")
    return x


def combined(*terms: tuple[float, Images]) -> Images:
    """``sum_k c_k x_k`` in one new tensor; terms of weight 0 are left out."""
    (first, x), *rest = [term for term in terms if term[0] != 0] or terms[:1]
    total = x * first
    for weight, y in rest:
        total.add_(y, alpha=weight)
    return total


def costs(count: Callable[..., int | None]) -> Callable[[Sampler], Sampler]:
    """State a sampler's evaluations: ``count(touching, **options)``, touching[i] is whether step i touches an end."""

    def mark(sampler: Sampler) -> Sampler:
        sampler.count = count  # type: ignore[attr-defined]
        return sampler

    return mark


def order_of(rule: Callable[..., int | None]) -> Callable[[Sampler], Sampler]:
    """State a sampler's order of accuracy where options other than ``order`` decide it: ``rule(**options)``."""

    def mark(sampler: Sampler) -> Sampler:
        sampler.order_of = rule  # type: ignore[attr-defined]
        return sampler

    return mark


def _at_the_ends(times: Tensor, path: Path) -> Float[Tensor, " points"]:
    """In float64, an end where the times' dtype has the end rounded, or is an ulp beyond it."""
    exact = times.double()
    if not times.is_floating_point():
        return exact
    eps = torch.finfo(times.dtype).eps
    for end, outward in ((path.t_min, -1), (path.t_max, 1)):
        beyond = outward * (exact - end)
        near = (times == torch.tensor(end, dtype=times.dtype)) | ((beyond > 0) & (beyond <= eps * abs(end)))
        exact = torch.where(near, end, exact)
    return exact
