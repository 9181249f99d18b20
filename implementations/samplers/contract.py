"""The contract of every sampler: ``sampler(denoiser, x, times, *, condition, noise, generator, callback, **options)``.

A solver is a function of the ``Problem`` that such a call poses; its own keywords are the sampler's options:

    @sampler
    def euler(problem: Problem) -> Images:
        def step(i: int, x: Images, prediction: Prediction) -> Images:
            there = problem.points[i + 1]
            return prediction.combine(there.alpha, there.sigma)

        return problem.solve(step)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.grid import Callback, Grid, Point, check_start
from implementations.diffusion.noise import Generators, Noise, PerSampleNoise, noise_of
from implementations.diffusion.path import Images, Path

__all__ = ["PerSampleNoise", "Problem", "Sampler", "sampler"]

Step: TypeAlias = Callable[[int, Images, Prediction], Images]  # (i, x, prediction) -> the state after step i
Lift: TypeAlias = Callable[
    [int, Images], tuple[Point, Images]
]  # (i, x) -> where step i starts instead, the state there
Count: TypeAlias = Callable[..., int | None]  # (touching, **options) -> evaluations; touching[i]: step i touches an end
Order: TypeAlias = Callable[..., int | None]  # (**options) -> order of accuracy


@dataclass(frozen=True)
class Problem:
    """The initial value problem that a sampler is to solve: from ``x`` at the first time of ``grid`` through all times.

    ``noise(k, like)`` is draw k of the call for the whole batch. A solver that adds no noise never asks for it.
    """

    denoiser: Denoiser
    grid: Grid
    x: Images
    noise: Noise
    condition: Any = None
    callback: Callback | None = None

    @property
    def path(self) -> Path:
        """The forward process that the sampler runs on, which is the denoiser's."""
        return self.grid.path

    @property
    def points(self) -> list[Point]:
        """``t``, ``alpha``, ``sigma`` and ``log_snr = log(alpha/sigma)`` at every time of the grid, as floats."""
        return self.grid.points

    @property
    def times(self) -> tuple[Tensor, ...]:
        """Every time of the grid as a denoiser takes it, a float64 scalar tensor."""
        return self.grid.times

    def __len__(self) -> int:
        return len(self.grid)

    def require_descending(self) -> None:
        """Raise ValueError on ascending times, which a solver that adds noise cannot take."""
        self.grid.require_descending()

    def ask(self, x: Images, point: Point) -> Prediction:
        """Ask the denoiser for its prediction at ``x`` and a point of the path."""
        return self._ask(x, point, torch.tensor(point.t, dtype=torch.float64))

    def solve(self, step: Step, lift: Lift | None = None, regular: bool = False) -> Images:
        """Run ``step(i, x, prediction) -> x'`` from ``times[i]`` to ``times[i + 1]`` for every i, in float32 at least.

        A step that touches alpha = 0 or sigma = 0 is the first-order data-prediction step ``alpha' x0 + sigma' eps``,
        unless ``step`` is ``regular`` there. ``lift(i, x)`` may carry the state to a noisier point before the denoiser
        sees it. The callback sees the time and the state after step i and the prediction before it. Raises
        FloatingPointError if the state ceases to be finite; the message has the step.
        """
        x, points, times, callback = self.x, self.points, self.times, self.callback
        n, last = len(x), len(self) - 1
        # A state that is not finite shows in a sum: over one element per sample after each step, over all after the
        # last, since NaN spreads. Summing all would take a fifth of a step, and reading a sum would synchronise a GPU.
        # The sums have their memory beforehand: small pieces taken at each step would lie in the way of the next state.
        sums = x.new_zeros(len(self))
        places = sums.unbind()
        for i, there in enumerate(points[1:]):
            here, time = points[i], times[i]
            if lift is not None:
                here, x = lift(i, x)
                time = here.time
            prediction = self._ask(x, here, time)
            if prediction.x is not x:  # a corrector may have moved the state
                x = prediction.x.to(x.dtype)
            if not regular and (points[i].end or there.end):
                x = prediction.combine(there.alpha, there.sigma)
            else:
                x = step(i, x, prediction)
            if i < last:
                torch.sum(_first_elements(x, n), 0, dtype=sums.dtype, out=places[i])
            if callback is not None:
                callback(i, times[i + 1], x, prediction)
            del prediction  # it holds the state before: kept into the next step, memory would go back and forth
        sums[last] = x.detach().sum()
        self.grid.check_finite(sums)
        return x

    def _ask(self, x: Images, point: Point, time: Tensor) -> Prediction:
        prediction = self.denoiser(x, time, self.condition)
        if prediction.path is self.path:  # whose alpha and sigma it need not work out again
            prediction.take_scales(point.t, point.alpha, point.sigma)
        return prediction


def _first_elements(x: Tensor, n: int) -> Tensor:
    """Give the first element of each of n samples, without a copy."""
    return (x.detach() if x.requires_grad else x).as_strided((n,), (x.stride(0),))


class Sampler:
    """A sampler, called as ``sampler(denoiser, x, times, *, condition, noise, generator, callback, **options) -> x``.

    It is made of a solver, a function of a ``Problem``, with what that states of itself. ``count(touching, **options)``
    gives its evaluations where they are not ``stages`` per step, None where it cannot know them; ``touching[i]`` says
    whether step i touches alpha = 0 or sigma = 0. ``order_of(**options)`` gives its order of accuracy where options
    other than ``order`` decide it. Calling it raises ValueError on a denoiser without a path, on a callback that cannot
    be called, on text for a number, and where times, state or noise are not what ``Grid``, ``check_start`` and
    ``noise_of`` accept.
    """

    __name__: str

    def __init__(self, solver: Callable[..., Images], count: Count | None = None, order_of: Order | None = None):
        _, *options = inspect.signature(solver).parameters.values()  # without the problem
        if any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in options):
            raise TypeError(f"a sampler is made of a function (problem, *, ...), got {solver.__name__}")
        functools.update_wrapper(self, solver)
        self.solver, self.count, self.order_of = solver, count, order_of
        self._numbers = {p.name for p in options if isinstance(p.default, float | int)}
        contract = inspect.signature(type(self).__call__)
        _, *fixed, _ = contract.parameters.values()  # without self and **options
        self.__signature__ = contract.replace(parameters=[*fixed, *options])

    def __call__(
        self,
        denoiser: Denoiser,
        x: Images,
        times: Float[Tensor, " points"],
        *,
        condition: Any = None,
        noise: Noise | None = None,
        generator: Generators | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> Images:
        """Run the sampler from ``x`` at ``times[0]``, and return the state at ``times[-1]``."""
        if not isinstance(getattr(denoiser, "path", None), Path):
            made = "Network(path, module, head='eps') makes one of a module"
            raise ValueError(f"denoiser must have a path of the catalogue; {made}; got {type(denoiser).__name__}")
        if callback is not None and not callable(callback):
            raise ValueError(f"callback must be a function (i, t, x, prediction), got {callback!r}")
        for name in self._numbers & options.keys():
            if isinstance(options[name], str):
                raise ValueError(f"{name} must be a number, got {options[name]!r}")
        draws = noise_of(noise, generator, "steps")
        grid = Grid(denoiser.path, times)
        return self.solver(Problem(denoiser, grid, check_start(x), draws, condition, callback), **options)

    def __repr__(self) -> str:
        return f"{self.__name__}{self.__signature__}"


@overload
def sampler(solver: Callable[..., Images]) -> Sampler: ...
@overload
def sampler(
    *, count: Count | None = None, order_of: Order | None = None
) -> Callable[[Callable[..., Images]], Sampler]: ...
def sampler(solver: Any = None, *, count: Any = None, order_of: Any = None) -> Any:
    """Decorator that makes a sampler of a solver, a function of ``(problem, *, **options)`` that returns the end.

    ``count(touching, **options)`` gives its evaluations where they are not a fixed number per step, and
    ``order_of(**options)`` its order of accuracy where options other than ``order`` decide it.
    """
    if solver is None:
        return functools.partial(Sampler, count=count, order_of=order_of)
    return Sampler(solver, count, order_of)
