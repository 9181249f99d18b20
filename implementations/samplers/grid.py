"""A time grid as solvers read it: the path's coefficients as floats, the checks, and the loop they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images, Path

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


class Grid:
    """Times, checked: at least 2, finite, strictly monotone and within the path; descending unless ``reversible``.

    A time that its own dtype's rounding parts from an end of the path is that end, so that alpha = 0 and sigma = 0 are
    met exactly. Raises ValueError otherwise, naming the value.
    """

    def __init__(self, path: Path, times: Float[Tensor, " points"], reversible: bool = True):
        times = torch.as_tensor(times).detach().cpu()
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
        if not reversible and bool(steps[0] > 0):
            raise ValueError("ascending times invert a sampler, and one that adds noise has no inverse")
        self.times = times.unbind()
        columns = (times, path.alpha(times), path.sigma(times), path.log_snr(times))
        self.points = [Point(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def __len__(self) -> int:
        return len(self.points) - 1

    def solve(
        self,
        denoiser: Denoiser,
        x: Images,
        step: Callable[[int, Images, Prediction], Images],
        callback: Callback | None,
        condition: Any,
    ) -> Images:
        """Run ``step(i, x, prediction)`` from ``times[i]`` to ``times[i+1]`` over the grid, in float32 at least.

        A step that touches alpha = 0 or sigma = 0 is the first-order data-prediction step ``alpha' x0 + sigma' eps``.
        ``callback(i, t, x, prediction)`` sees the time and the state after step i and the prediction before it.
        Raises ValueError where ``x`` is empty or not finite, FloatingPointError if it ceases to be: the message has
        the step.
        """
        if x.ndim == 0 or len(x) == 0 or not x.is_floating_point():
            raise ValueError(
                f"x must be a batch of at least one sample in floating point, got {tuple(x.shape)} {x.dtype}"
            )
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if not bool(x.sum().isfinite()):
            raise ValueError("x is not finite before the first step")
        watch = []  # one sum a step, looked at when all is done: a look at each would synchronise a GPU
        for i, (here, there) in enumerate(zip(self.points, self.points[1:], strict=False)):
            prediction = denoiser(x, self.times[i], condition)
            end = here.end or there.end
            x = prediction.combine(there.alpha, there.sigma) if end else step(i, x, prediction)
            watch.append(x.detach().sum())
            if callback is not None:
                callback(i, self.times[i + 1], x, prediction)
        finite = torch.stack(watch).isfinite()
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            raise FloatingPointError(
                f"the state is not finite after step {first + 1} of {len(self)}, from t = {self.times[first]:.6g} to "
                f"{self.times[first + 1]:.6g}: the denoiser returned NaN or infinity there, or the solver diverged"
            )
        return x


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
