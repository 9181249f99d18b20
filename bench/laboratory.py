"""The spectral laboratory: the exact law of what a sampler makes of a Gaussian, by unit impulses.

On a Gaussian with diagonal covariance most samplers are affine in their start and in each noise draw, and keep the
modes apart: ``y = c + a x_T + sum_k b_k z_k`` for each mode. One batch holds the response to nothing, to the start
and to each draw, so that mean and variance of the output come out without Monte Carlo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion import GaussianOracle

Modes: TypeAlias = Float[Tensor, " modes"]


class Law(NamedTuple):
    """Independent Gaussians, one a mode."""

    mean: Modes
    variance: Modes


def marginal_law(oracle: GaussianOracle, t: float | Tensor) -> Law:
    """The truth at ``t``: ``N(alpha m, alpha^2 C + sigma^2)``."""
    mean, spectrum = oracle._means[0], oracle._spectra[0].expand_as(oracle._means[0])
    alpha, sigma = (float(f(t)) for f in (oracle.path.alpha, oracle.path.sigma))
    return Law(alpha * mean, alpha**2 * spectrum + sigma**2)


def output_law(
    sampler: Callable[..., Tensor],
    oracle: GaussianOracle,
    times: Float[Tensor, " points"],
    options: Mapping[str, Any] | None = None,
    start: Law | None = None,
) -> Law:
    """Give the exact law of the sampler's output from ``start``, by default the marginal at ``times[0]``.

    The oracle's shape must be (modes,), its covariance diagonal. Raises ValueError where the sampler is not affine: a
    response to a combination of impulses must be that combination of the responses.
    """
    options, start = options or {}, start or marginal_law(oracle, times[0])
    draws = 0

    def count(draw: int, like: Tensor) -> Tensor:
        nonlocal draws
        draws = max(draws, draw + 1)
        return torch.zeros_like(like)

    zero = torch.zeros_like(start.mean)[None]
    sampler(oracle, zero, times, noise=count, **options)
    # row 0: nothing, row 1: the start, row k + 2: draw k, last row: a combination of all
    weights = torch.cat([torch.zeros(1, draws + 1), torch.eye(draws + 1)]).to(zero)
    mixed = torch.randn(1, draws + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(zero)
    weights = torch.cat([weights, mixed])

    def impulse(draw: int, like: Tensor) -> Tensor:
        return weights[:, draw + 1, None].to(like).expand_as(like)

    output = sampler(oracle, weights[:, :1] * torch.ones_like(zero), times, noise=impulse, **options)
    if not bool(output.isfinite().all()):
        raise FloatingPointError("the sampler's response to unit impulses is not finite")
    response: Float[Tensor, "draws+1 modes"] = output[1:-1] - output[:1]
    expected = output[0] + mixed[0] @ response
    if not torch.allclose(output[-1], expected, rtol=1e-6, atol=1e-6 * float(output.abs().max())):
        apart = float((output[-1] - expected).abs().max())
        raise ValueError(f"the sampler is not affine on a Gaussian: its response to mixed impulses is {apart:.3g} off")
    mean = output[0] + response[0] * start.mean
    return Law(mean, response[0].square() * start.variance + response[1:].square().sum(0))


def variance_error(law: Law, truth: Law) -> float:
    """RMS over the modes of the relative error of the variance."""
    return float((law.variance / truth.variance - 1).square().mean().sqrt())
