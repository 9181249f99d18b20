"""log p(x) by the instantaneous change of variables along the probability flow (1810.01367; 2011.13456, app. D.2).

The flow is ``ds/du = q``, s = x/scale, in the coordinates of ``samplers/runge_kutta.py``, so that

    log p_0(x_0) = log p_T(x_T) + integral of div q du + d log(scale_T / scale_0).

``metrics.bits_per_dim`` turns nats into bits per dimension, given the number of dimensions and the scale of a grey
level; it presupposes the noise of ``dequantise``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Grid, Point, add_scaled, check_start
from implementations.diffusion.noise import Noise, draws
from implementations.diffusion.path import Images, Path
from implementations.samplers.runge_kutta import BOSH3, EULER, HEUN, RK4, Coordinate, Tableau, find_coordinate

METHODS = {"euler": EULER, "heun": HEUN, "bosh3": BOSH3, "rk4": RK4}
Divergence: TypeAlias = Callable[[Images, Images], Float64[Tensor, "probes n"]]  # (x, view) -> div of the view by x


class Likelihood(NamedTuple):
    """Log-densities of a batch by the probability flow: ``nats`` is log p(x), ``error`` its standard error.

    The error is that over the probes of the divergence: 0 if that is exact, NaN with a single probe. ``latent`` is
    where the flow ends, at the last time.
    """

    nats: Float64[Tensor, " n"]
    error: Float64[Tensor, " n"]
    latent: Float[Tensor, " n *shape"]  # the end of the flow, at the last time


@draws("probes")
def log_likelihood(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    method: Literal["euler", "heun", "bosh3", "rk4"] = "heun",
    coordinate: str = "angle",
    divergence: Literal["exact", "hutchinson"] = "exact",
    probes: int = 1,
    distribution: Literal["rademacher", "gaussian"] = "rademacher",
    noise: Noise,
    prior: Callable[[Images], Float[Tensor, " n"]] | None = None,
    condition: Any = None,
) -> Likelihood:
    """Log-density of ``x`` in nats, one value per sample, by the probability flow from data to noise.

    ``log p_0(x_0) = log p_T(x_T)`` plus the integral of the divergence of the velocity over ascending ``times`` (the
    instantaneous change of variables); ``x`` is at the first. ``coordinate`` is as in ``rk4``; ``angle`` is regular at
    both ends, where the model's own head is. ``divergence``: ``exact`` takes one gradient per dimension at each
    evaluation, ``hutchinson`` one per probe z, ``z^T J z``, with the same z all the way (1810.01367, eq. 8); probe k is
    ``noise(k, x)`` or its signs. Rademacher probes have the lower variance. ``prior`` is the log-density at the last
    time: by default that of ``path.prior``, whose mismatch with the marginal there is no error of the solver; with an
    oracle's ``log_density`` only the solver's error is left. Raises ValueError on wrong options, on descending times,
    and where the coordinate is infinite.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    rule, grid, x = find_coordinate(coordinate), Grid(denoiser.path, times), check_start(x.detach())
    grid.require_ascending()
    variable = torch.tensor([_variable(rule, point) for point in grid.points], dtype=torch.float64)
    if not bool(variable.isfinite().all()):
        raise ValueError(f"coordinate {coordinate} is infinite at an end of these times; angle is not")
    trace = _trace(divergence, probes, distribution, noise, x)
    tableau, total = METHODS[method], 0.0
    for i, (here, there) in enumerate(zip(grid.points, grid.points[1:], strict=False)):
        span = float(variable[i + 1] - variable[i])
        x, change = _advance(tableau, rule, grid.path, denoiser, x, here, there, variable[i : i + 2], trace, condition)
        total = total + span * change
    growth = math.log(rule.scale(grid.points[-1]) / rule.scale(grid.points[0])) * x[0].numel()
    log_prior = _log_prior(denoiser.path, x, grid.points[-1].t) if prior is None else prior(x).double()
    estimates = log_prior + total + growth
    return Likelihood(estimates.mean(0), _error(estimates, divergence), x)


@draws("levels")
def dequantise(
    levels: UInt8[Tensor, " n *shape"], *, scale: float = 1 / 128, offset: float = -1.0, noise: Noise
) -> Float[Tensor, " n *shape"]:
    """Add uniform noise to whole grey levels: ``scale (levels + u) + offset``, u uniform on [0, 1).

    By default 256 levels become [-1, 1) (1511.01844, sec. 3.1). u is the distribution function of the normal at draw 0
    of the noise.
    """
    like = levels.float()
    return (like + torch.special.ndtr(noise(0, like).double()).clamp(max=1 - 2**-16).to(like)).mul_(scale).add_(offset)


def _advance(
    tableau: Tableau,
    rule: Coordinate,
    path: Path,
    denoiser: Denoiser,
    x: Images,
    here: Point,
    there: Point,
    ends: Float64[Tensor, " 2"],
    trace: Divergence,
    condition: Any,
) -> tuple[Images, Float64[Tensor, "probes n"]]:
    """Take one step of the method: give the state, and the mean of div q over the step."""
    span = float(ends[1] - ends[0])
    slopes: list[tuple[float, Images]] = []  # 1/unit and view
    traces: list[Tensor] = []

    def evaluate(point: Point, state: Images) -> None:
        # The divergence needs gradients, also where the caller forbids them.
        with torch.inference_mode(False), torch.enable_grad():
            state = _leave_inference(state).detach().requires_grad_()
            view = rule.read(denoiser(state, _leave_inference(point.time), _leave_inference(condition)))
            if not view.requires_grad:
                raise ValueError("the denoiser's output has no gradient by x, and a likelihood needs its divergence")
            traces.append(trace(state, view) * (rule.scale(point) / rule.unit(point)))
        slopes.append((1 / rule.unit(point), view.detach()))

    def move(point: Point, weights: Any) -> Images:
        scale = rule.scale(point)
        terms = ((scale * span * w * u, q) for w, (u, q) in zip(weights, slopes, strict=True))
        return add_scaled((scale / rule.scale(here), x), *terms)

    evaluate(here, x)
    for node, row in zip(tableau.nodes, tableau.stages, strict=True):
        point = there if node == 1 else rule.points(path, ends[:1].lerp(ends[1:], node)).unbind()[0]
        evaluate(point, move(point, row))
    change = torch.stack([w * trace for w, trace in zip(tableau.weights, traces, strict=True)]).sum(0)
    return move(there, tableau.weights), change


def _leave_inference(value: Any) -> Any:
    """Give a tensor that autograd can record, which one made under ``inference_mode`` is not."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _trace(divergence: str, probes: int, distribution: str, noise: Noise, x: Images) -> Divergence:
    """Choose the divergence of a view by x: one row where it is exact, else one row per probe."""
    if divergence == "exact":
        if (probes, distribution) != (1, "rademacher"):
            raise ValueError("probes and distribution are options of divergence='hutchinson'")
        return _exact
    if divergence != "hutchinson":
        raise ValueError(f"divergence must be exact or hutchinson, got {divergence!r}")
    probes = check_integer("probes", probes, 1)
    if distribution not in ("rademacher", "gaussian"):
        raise ValueError(f"distribution must be rademacher or gaussian, got {distribution!r}")
    drawn = [noise(k, x) for k in range(probes)]
    if distribution == "rademacher":
        drawn = [torch.where(z < 0, -1.0, 1.0).to(x) for z in drawn]

    def hutchinson(x: Images, view: Images) -> Float64[Tensor, "probes n"]:
        return torch.stack([_samples(z * _gradient(view, x, z)).sum(1) for z in drawn])

    return hutchinson


def _exact(x: Images, view: Images) -> Float64[Tensor, "probes n"]:
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for j in range(x[0].numel()):
        unit = torch.zeros_like(x[0]).reshape(-1)
        unit[j] = 1
        total += _samples(_gradient(view, x, unit.reshape(x[0].shape).expand_as(x)))[:, j]
    return total[None]


def _gradient(view: Images, x: Images, z: Images) -> Images:
    (gradient,) = torch.autograd.grad(view, x, z, retain_graph=True)
    return gradient


def _samples(x: Images) -> Float64[Tensor, "n d"]:
    return x.reshape(len(x), -1).double()


def _variable(rule: Coordinate, point: Point) -> float:
    return math.inf if rule.scale(point) == 0 else float(rule.variable(point))


def _error(estimates: Float64[Tensor, "probes n"], divergence: str) -> Float64[Tensor, " n"]:
    """Standard error of the mean over probes."""
    if divergence == "exact" or len(estimates) == 1:
        return torch.full_like(estimates[0], 0.0 if divergence == "exact" else math.nan)
    return estimates.std(0) / math.sqrt(len(estimates))


def _log_prior(path: Path, x: Images, t: float) -> Float64[Tensor, " n"]:
    """Log-density of what a user starts from: a Gaussian of the deviation that ``path.prior`` gives."""
    deviation, z = float(path.prior(torch.ones(1, dtype=torch.float64), t)), _samples(x)
    return -(z / deviation).square().sum(1) / 2 - z.shape[1] * math.log(deviation * math.sqrt(2 * math.pi))
