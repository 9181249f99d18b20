"""The exact law of a sampler's output on a Gaussian, without Monte Carlo, from its responses to unit impulses.

On a Gaussian with diagonal covariance most samplers are affine in their start and in each draw of noise, and treat each
mode by itself: ``y = c + a x_T + sum_k b_k z_k``. The outputs for zero input, for a unit start and for each unit draw
give c, a and b_k, hence mean and variance of the output, and from these bias, W2, KL and weak order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.oracle import GaussianOracle

Modes: TypeAlias = Float[Tensor, " modes"]

AT_ONCE = 2**20  # values in a batch of impulses: 8 MiB, of which an oracle makes some ten copies


class Law(NamedTuple):
    """The law of a sampler's output or of its truth: independent Gaussians, one mean and one variance per mode."""

    mean: Modes
    variance: Modes


def marginal_law(oracle: GaussianOracle, t: float | Tensor) -> Law:
    """Give the law of the noised data at ``t``, per mode: ``N(alpha m, alpha^2 C + sigma^2)`` for data N(m, C)."""
    mean, spectrum = oracle.means[0], oracle.spectra[0].expand_as(oracle.means[0])
    alpha, sigma = (float(f(t)) for f in (oracle.path.alpha, oracle.path.sigma))
    return Law(alpha * mean, alpha**2 * spectrum + sigma**2)


def prior_law(oracle: GaussianOracle, t: float | Tensor) -> Law:
    """Give the law of the path's prior at ``t``, from which a user starts; its mean is 0.

    The variance is that of ``path.prior``.
    """
    mean = torch.zeros_like(oracle.means[0])
    deviation = oracle.path.prior(torch.ones_like(mean)[None], float(t))[0]
    return Law(mean, deviation.square())


def carry_law(law: Law, oracle: GaussianOracle, t_from: float | Tensor, t_to: float | Tensor) -> Law:
    """Give the law at ``t_to`` of a state that has ``law`` at ``t_from`` and follows the exact probability flow.

    The flow of Gaussian data is affine, so that the law stays Gaussian.
    """
    ends = torch.stack([torch.zeros_like(law.mean), torch.ones_like(law.mean), law.mean])
    nothing, one, mean = oracle.flow(ends, t_from, t_to)
    return Law(mean, (one - nothing).square() * law.variance)


def output_law(
    sampler: Callable[..., Tensor],
    oracle: GaussianOracle,
    times: Float[Tensor, " points"],
    options: Mapping[str, Any] | None = None,
    start: Law | None = None,
    denoiser: Denoiser | None = None,
    tolerance: float = 1e-6,
) -> Law:
    """Give the exact law of a sampler's output on Gaussian data, without Monte Carlo, by responses to unit impulses.

    It starts from the law ``start``, by default the marginal at ``times[0]``. The oracle's shape must be (modes,) and
    its covariance diagonal; ``denoiser`` may be a wrapper of it. Raises ValueError where the sampler is not affine or
    mixes modes: its response to a combination of impulses, different in each mode, must be that combination of its
    responses, up to ``tolerance`` of the largest response. A sampler that casts its state to float32 needs a larger
    tolerance.
    """
    options, start, denoiser = options or {}, start or marginal_law(oracle, times[0]), denoiser or oracle
    draws = 0

    def count(draw: int, like: Tensor) -> Tensor:
        nonlocal draws
        draws = max(draws, draw + 1)
        return torch.zeros_like(like)

    zero = torch.zeros_like(start.mean)[None]
    nothing = sampler(denoiser, zero, times, noise=count, **options)[0]
    source = torch.Generator().manual_seed(0)
    mixture = torch.randn(draws + 1, len(start.mean), generator=source, dtype=torch.float64).to(zero)
    # row 0 is the response to the start, row k + 1 that to draw k, the last that to the mixture
    rows = torch.arange(draws + 2)
    parts = []
    for chunk in rows.split(max(1, AT_ONCE // len(start.mean))):
        impulse = _impulses(chunk, mixture)
        parts.append(sampler(denoiser, impulse(-1, zero.expand(len(chunk), -1)), times, noise=impulse, **options))
    response = torch.cat(parts) - nothing
    if not bool(response.isfinite().all()):
        raise FloatingPointError("the sampler's response to unit impulses is not finite")
    expected = (mixture * response[:-1]).sum(0)
    if not torch.allclose(response[-1], expected, rtol=tolerance, atol=tolerance * float(response.abs().max())):
        apart = float((response[-1] - expected).abs().max())
        raise ValueError(
            "the sampler is not affine on a Gaussian, mode by mode: "
            f"its response to mixed impulses is {apart:.3g} off, of {float(expected.abs().max()):.3g}"
        )
    mean = nothing + response[0] * start.mean
    return Law(mean, response[0].square() * start.variance + response[1:-1].square().sum(0))


def mean_errors(law: Law, truth: Law) -> Modes:
    """Error of the mean of a law, its mean less that of the truth, per mode, in units of the state."""
    return law.mean - truth.mean


def variance_errors(law: Law, truth: Law) -> Modes:
    """Relative error of the variance of a law, its variance over that of the truth minus 1, per mode."""
    return law.variance / truth.variance - 1


def variance_error(law: Law, truth: Law) -> float:
    """Relative error of a law's variance against the truth, ``v'/v - 1``, as the root mean square over modes."""
    return float(variance_errors(law, truth).square().mean().sqrt())


def squared_w2(law: Law, truth: Law) -> Modes:
    """Squared 2-Wasserstein distance of a law from the truth per mode, ``(m' - m)^2 + (s' - s)^2``; it adds over modes.

    m and s are mean and standard deviation, primed for the law. The laws' own squared distance is the sum over modes.
    """
    return (law.mean - truth.mean).square() + (law.variance.sqrt() - truth.variance.sqrt()).square()


def relative_entropy(law: Law, truth: Law) -> Modes:
    """Relative entropy ``KL(law | truth)`` per mode, in nats; infinite where a variance is 0.

    The laws' own is the sum over modes.
    """
    excess = variance_errors(law, truth)
    return ((law.mean - truth.mean).square() / truth.variance + excess - excess.log1p()) / 2


def _impulses(rows: Int[Tensor, " rows"], mixture: Float[Tensor, "numbers modes"]) -> Callable[[int, Tensor], Tensor]:
    """Noise that is 1 in row k + 1 at draw k, the mixture's in the last row, 0 elsewhere; draw -1 is the start."""
    last = len(mixture)

    def impulse(draw: int, like: Tensor) -> Tensor:
        unit = (rows == draw + 1).to(like)[:, None].expand_as(like)
        return torch.where((rows == last).to(like.device)[:, None], mixture[draw + 1].to(like), unit)

    return impulse
