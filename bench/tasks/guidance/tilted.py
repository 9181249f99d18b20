"""The density ``p(x) p(c | x)^w`` of a mixture with classes: exact draws, and the score of what noise makes of it."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.oracle import MixtureOracle
from implementations.diffusion.path import Path

Plane: TypeAlias = Float[Tensor, "n 2"]
BOX = 4.0  # half the side of the square that holds the data: a tail beyond it has less than 1e-12 of their mass
NODES = 160  # intervals along a side, whose trapezoids are exact to rounding for densities as smooth as these


def three_classes(path: Path, wider: float = 0.0) -> MixtureOracle:
    """Three classes in the plane that overlap, of two Gaussians each.

    ``wider`` is added to their variances, for a weaker model of the same data.
    """
    means = torch.tensor(
        [[1.0, 0.0], [0.2, 0.9], [-0.9, 0.5], [-0.6, -0.6], [0.3, -1.0], [0.1, 0.2]], dtype=torch.float64
    )
    variances = torch.tensor([0.10, 0.06, 0.10, 0.15, 0.08, 0.05], dtype=torch.float64) + wider
    weights = torch.tensor([0.25, 0.15, 0.15, 0.15, 0.2, 0.1], dtype=torch.float64)
    return MixtureOracle(path, means, variances, weights, labels=torch.tensor([0, 0, 1, 1, 2, 2]))


def posterior(oracle: MixtureOracle, x: Plane, t: float, condition: int) -> Float[Tensor, " n"]:
    """Give ``p_t(c | x)`` of a class, from the densities of the class and of all."""
    labels = oracle.labels
    assert labels is not None
    share = oracle._log_weights[labels == condition].logsumexp(0)
    return (oracle.log_density(x, t, condition) + share - oracle.log_density(x, t)).exp()


def draw_tilted(oracle: MixtureOracle, w: float, condition: int, n: int, source: torch.Generator) -> Plane:
    """Draw n times from ``p(x) p(c | x)^w`` by rejection.

    For w of at least 1, draws of the class are kept with probability ``p(c | x)^(w - 1)``; below, draws of all with
    ``p(c | x)^w``.
    """
    kept: list[Tensor] = []
    while sum(map(len, kept)) < n:
        x = oracle.sample(4 * n, source, condition if w >= 1 else None)
        chance = posterior(oracle, x, 0.0, condition) ** (w - 1 if w >= 1 else w)
        kept.append(x[torch.rand(len(x), generator=source, dtype=torch.float64) < chance])
    return torch.cat(kept)[:n]


class Quadrature(NamedTuple):
    """A score and its error: how far it is from that of half as many nodes along each side, at most."""

    score: Plane
    error: float


def noised_score(oracle: MixtureOracle, w: float, condition: int, x: Plane, alpha: float, sigma: float) -> Quadrature:
    """Give the score at x of ``q_t(x) = int q(x0) N(x; alpha x0, sigma^2) dx0``, q the density ``p(x) p(c | x)^w``.

    ``(alpha E[x0 | x] - x) / sigma^2``, by trapezoids over a square of x0, whose spacing must be small beside
    sigma/alpha.
    """
    fine, coarse = (_score(oracle, w, condition, x, alpha, sigma, nodes) for nodes in (NODES, NODES // 2))
    return Quadrature(fine, float((fine - coarse).abs().max()))


def _score(oracle: MixtureOracle, w: float, condition: int, x: Plane, alpha: float, sigma: float, nodes: int) -> Plane:
    side = torch.linspace(-BOX, BOX, nodes + 1, dtype=torch.float64)
    x0 = torch.cartesian_prod(side, side)
    log_density = oracle.log_density(x0, 0.0) + w * posterior(oracle, x0, 0.0, condition).log()
    found = []
    for part in x.split(50):
        distances = torch.cdist(part, alpha * x0, compute_mode="donot_use_mm_for_euclid_dist").square()
        shares = (log_density - distances / (2 * sigma**2)).softmax(1)
        found.append((alpha * shares @ x0 - part) / sigma**2)
    return torch.cat(found)
