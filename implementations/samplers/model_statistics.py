"""DPM-Solver-v3's statistics of a model: l, s and b along the log-SNR, learnt or constant, and their integrals.

The empirical model statistics (2310.13268, sec. 3): l is the mean diagonal of the Jacobian of ``sigma eps``; s and b
are slope and intercept of the regression, over samples, of f' on ``f = (sigma eps - l x) / alpha``. Each has one value
per element of a sample. For a perfect denoiser, l is also the mean of eps^2.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.artifact import Artifact
from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import CountingDenoiser, Denoiser, Prediction
from implementations.diffusion.grid import Grid, Point
from implementations.diffusion.noise import Noise, PerSampleNoise, noise_of
from implementations.diffusion.path import Images
from implementations.samplers.exponential import exact_moments, weights
from implementations.samplers.res import res_multistep

Times: TypeAlias = Float[Tensor, " points"]
Value: TypeAlias = float | Tensor  # one for all elements, or of the shape of a sample

METHOD = "dpm_solver_v3"
PROBE = 0.05  # of sigma, the scale on which the noised density is smooth: an error of .05^2 / 6 of the third derivative


def prepare(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    condition: Any = None,
    noise: Noise | None = None,
    probes: int = 1,
) -> Artifact:
    """Learn DPM-Solver-v3's statistics of a model at the inner points of ``times``, from a batch ``x`` at ``times[0]``.

    They are l, the mean diagonal of the Jacobian of ``sigma eps``, and s and b, slope and intercept of the regression
    of f' on ``f = (sigma eps - l x) / alpha`` over samples on the flow (2310.13268, sec. 3). l is Hutchinson's
    diagonal, by central differences along ``probes`` vectors of signs per sample, the same at all times, so that l is
    smooth. f' is the difference of f along the flow, for which a hundred times or so are needed; each costs ``1 + 2
    probes`` evaluations. The statistics are functions of the log-SNR for x/alpha, and hold on any path; those found
    with a condition hold for that condition. Unless ``noise`` is given, the vectors are those of seeds 0 to n - 1: the
    same call gives the same artifact. Raises ValueError where fewer than 3 times lie inside alpha, sigma > 0, and on a
    number of probes below 1.
    """
    probes = check_integer("probes", probes, 1)
    grid, counting = Grid(denoiser.path, times), CountingDenoiser(denoiser)
    noise = noise_of(noise or PerSampleNoise(range(len(x))), None, "probes")
    window: deque[_Statistics] = deque(maxlen=3)  # of the batch: memory does not grow with the times
    rows: list[tuple[Tensor, Tensor, Tensor]] = []  # l, s, b

    def visit(i: int, prediction: Prediction) -> None:
        point, at = grid.points[i], prediction.x
        if point.end:
            return
        rate = torch.zeros_like(at[0], dtype=torch.float64)
        for k in range(probes):
            signs = torch.where(noise(k, at) < 0, -1.0, 1.0).to(at)
            reach = PROBE * point.sigma
            ahead, behind = (counting(at + way * reach * signs, grid.times[i], condition).eps for way in (1, -1))
            rate += ((ahead - behind) * signs).double().mean(0) / (2 * PROBE * probes)
        noisy = prediction.eps.double() * point.ratio
        # where the terms of f cancel, rounding leaves a variance of eps^2 of theirs, which must not be fitted
        floor = torch.finfo(at.dtype).eps ** 1.5 * noisy.square().mean(0)
        window.append(_Statistics(point.log_snr, rate, noisy - rate * at.double() / point.alpha, floor))
        if len(window) == 3:
            rows.extend(_fit(window, k) for k in ((1,) if rows else (0, 1)))

    def follow(i: int, t: Tensor, after: Images, prediction: Prediction) -> None:
        visit(i, prediction)

    end = res_multistep(counting, x, times, order=2, condition=condition, callback=follow)
    if not grid.points[-1].end:
        visit(len(grid), counting(end, grid.times[-1], condition))
    if not rows:
        raise ValueError(f"times must have at least 3 points inside alpha, sigma > 0, got {times.tolist()}")
    rows.append(_fit(window, 2))
    levels = torch.tensor([point.log_snr for point in grid.points if not point.end], dtype=torch.float64)
    tensors = {name: torch.stack(column).cpu() for name, column in zip("lsb", zip(*rows, strict=True), strict=True)}
    return Artifact(METHOD, {"log_snr": levels, **tensors}, counting.calls)


class Integrals(NamedTuple):
    """Integrals of DPM-Solver-v3's statistics l, s and b over a step from lambda to lambda', which make the step.

    ``decay`` is e^(-L), ``growth`` e^S and ``shift`` B, with L, S and B the integrals of l, s and ``e^(-S) b``;
    ``moments`` are those of ``e^(L + S)`` and ``source`` that of ``e^(L + S) B``, both multiplied by ``e^(-L)``.
    """

    decay: Value  # e^(-L)
    moments: list[Any]  # int e^(L + S) u^k dlambda, u from 0 to 1 over the step
    source: Value  # int e^(L + S) B dlambda
    growth: Value  # e^S
    shift: Value  # B = int e^(-S) b dlambda


class Model(Protocol):
    """DPM-Solver-v3's statistics of a model along the log-SNR: l of the linear part, s and b of the source."""

    def quantity(self, prediction: Prediction, point: Point) -> Images:
        """Give ``f = (sigma eps - l x) / alpha`` of a prediction, whose slope along the flow is near ``s f + b``."""

    def integrate(self, start: float, end: float, count: int) -> Integrals:
        """Give the integrals over a step from log-SNR ``start`` to ``end``, with ``count`` moments of the kernel."""


@dataclass(frozen=True)
class Constant:
    """DPM-Solver-v3's statistics with constant l = ``rate`` and s = ``slope``, and b = 0.

    l = 1, s = 0 makes it DPM-Solver++, and l = 0, s = -1 DPM-Solver.
    """

    rate: float  # l
    slope: float  # s

    def quantity(self, prediction: Prediction, point: Point) -> Images:
        return prediction.combine(-self.rate, (1 - self.rate) * point.ratio)

    def integrate(self, start: float, end: float, count: int) -> Integrals:
        h, power = end - start, self.rate + self.slope
        scale = h * math.exp(self.slope * h)  # h e^((l + s) h) e^(-l h)
        moments = [scale * moment for moment in exact_moments(-power * h, count)]
        return Integrals(math.exp(-self.rate * h), moments, 0.0, math.exp(self.slope * h), 0.0)


class Table:
    """DPM-Solver-v3's statistics l, s and b as learnt, by cubics between the log-SNRs of the artifact.

    They are held in float64 on the device of ``x``. Raises ValueError where the artifact is of another method or of
    samples of another shape.
    """

    def __init__(self, artifact: Artifact, x: Images):
        tensors = {name: tensor.to(x.device, torch.float64) for name, tensor in artifact.of(METHOD).items()}
        if tensors["l"].shape[1:] != x.shape[1:]:
            shapes = tuple(tensors["l"].shape[1:]), tuple(x.shape[1:])
            raise ValueError(f"artifact must be of samples like x, got statistics of shape {shapes[0]} for {shapes[1]}")
        order = tensors["log_snr"].argsort()
        self.levels: list[float] = tensors["log_snr"][order].tolist()
        self.rows = torch.stack([tensors[name][order] for name in "lsb"], 1)  # (levels, 3, *shape)

    def quantity(self, prediction: Prediction, point: Point) -> Images:
        rate = self._at(point.log_snr)[0].to(prediction.x.dtype)
        return (prediction.eps * (point.ratio * (1 - rate))).sub_(prediction.x0 * rate)

    def integrate(self, start: float, end: float, count: int) -> Integrals:
        """Give the integrals of the statistics over a step from log-SNR ``start`` to ``end``, with ``count`` moments.

        They are by Gauss's rule of three nodes on each cell of the table, and inner integrals by the parabola through
        these.
        """
        inner = [level for level in self.levels if min(start, end) < level < max(start, end)]
        knots = [start, *(inner if start < end else inner[::-1]), end]
        blank = torch.zeros_like(self.rows[0, 0])
        rate, slope, shift, source = (blank.clone() for _ in range(4))  # the integrals so far: L, S, B and that of E B
        moments = [blank.clone() for _ in range(count)]
        for here, there in itertools.pairwise(knots):
            width = there - here
            at = torch.stack([self._at(here + u * width) for u in GAUSS])  # (3 nodes, l s b, *shape)
            inside = width * torch.einsum("jm,mr...->jr...", GAUSS_PARTIAL.to(at), at[:, :2])
            kernel = (rate + inside[:, 0] + slope + inside[:, 1]).exp()  # e^(L + S)
            drive = (-slope - inside[:, 1]).exp() * at[:, 2]  # e^(-S) b
            reached = shift + width * torch.einsum("jm,m...->j...", GAUSS_PARTIAL.to(at), drive)
            share = (GAUSS_WEIGHTS * width).to(at)
            for k in range(count):
                fractions = ((here + width * torch.tensor(GAUSS, dtype=torch.float64) - start) / (end - start)) ** k
                moments[k] += torch.tensordot(share * fractions.to(at), kernel, 1)
            source += torch.tensordot(share, kernel * reached, 1)
            shift = shift + torch.tensordot(share, drive, 1)
            rate, slope = rate + torch.tensordot(share, at[:, 0], 1), slope + torch.tensordot(share, at[:, 1], 1)
        decay = (-rate).exp()
        return Integrals(decay, [decay * m for m in moments], decay * source, slope.exp(), shift)

    def _at(self, log_snr: float) -> Tensor:
        """l, s and b at a log-SNR, by the cubic through four levels of the table: a kink in l would be one in f.

        Raises ValueError beyond the table.
        """
        low, high = self.levels[0], self.levels[-1]
        if not low - 1e-9 <= log_snr <= high + 1e-9:  # room for a path's rounding of its ends
            span = f"{low:.6g} to {high:.6g}"
            raise ValueError(f"times must lie within the artifact's log-SNRs, {span}, got one of {log_snr:.6g}")
        first = min(max(bisect.bisect_right(self.levels, log_snr) - 2, 0), max(len(self.levels) - 4, 0))
        near = slice(first, first + 4)
        nodes = [level - log_snr for level in self.levels[near]]
        shares = weights(nodes, [1.0, 0.0, 0.0, 0.0][: len(nodes)])
        return torch.tensordot(torch.tensor(shares, dtype=torch.float64).to(self.rows), self.rows[near], 1)


class _Statistics(NamedTuple):
    """l, f of every sample, and the variance of f below which rounding is all there is, at one point."""

    log_snr: float
    rate: Tensor  # l
    f: Tensor
    floor: Tensor


def _fit(window: Sequence[_Statistics], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """l, s and b at the k-th of three points: f' by the parabola through them, regressed on f over the batch."""
    here = window[k]
    shares = weights([sight.log_snr - here.log_snr for sight in window], [0.0, 1.0, 0.0])
    slope = sum(share * sight.f for share, sight in zip(shares, window, strict=True))
    f, df = here.f.mean(0), slope.mean(0)
    variance = (here.f - f).square().mean(0)
    s = torch.where(variance > here.floor, ((here.f - f) * (slope - df)).mean(0) / variance, 0.0)
    return here.rate, s, df - s * f


GAUSS = [0.5 - math.sqrt(0.15), 0.5, 0.5 + math.sqrt(0.15)]
GAUSS_WEIGHTS = torch.tensor([5 / 18, 8 / 18, 5 / 18], dtype=torch.float64)
# from 0 to each node: of the parabola through the three
GAUSS_PARTIAL = torch.tensor([weights(GAUSS, [u, u**2 / 2, u**3 / 3]) for u in GAUSS], dtype=torch.float64)
