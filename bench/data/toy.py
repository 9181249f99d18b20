"""Toy densities in the plane, with exact samples and log-densities: two moons, checkerboard, rings, eight Gaussians.

    moons = TOYS["two_moons"]()
    x = moons.sample(1000, torch.Generator().manual_seed(0))    # (1000, 2)
    moons.log_density(x)                                        # (1000,)

Samples are in torch's default dtype and depend on the generator alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor


@dataclass(frozen=True)
class TwoMoons:
    """Toy density in the plane: two interleaved half circles of radius 1, with isotropic Gaussian noise added.

    The upper moon is ``(cos a, sin a)`` and the lower one ``(1 - cos a, 1/2 - sin a)``, with ``a`` uniform on [0, pi].
    """

    noise: float = 0.1

    def __post_init__(self) -> None:
        if not 0.05 <= self.noise < math.inf:
            raise ValueError(f"noise {self.noise} is not in [.05, inf): the quadrature of the density needs that much")

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n 2"]:
        """Draw ``n`` points (n, 2) of the two moons, each moon with probability 1/2."""
        angle = math.pi * torch.rand(n, generator=generator)
        lower = torch.rand(n, generator=generator) < 0.5
        points = torch.where(lower[:, None], self._lower(angle), self._upper(angle))
        return points + self.noise * torch.randn(n, 2, generator=generator)

    def log_density(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """Exact log-density of points, (n,): log of ``int N(x; arc(a), noise^2 I) da / pi``, averaged over the moons.

        arc(a) is the half circle. The integral over the angle has no closed form. With 192 Gauss-Legendre nodes, the
        log is accurate to 1e-11 on [-1.5, 2.5]^2 at noise = .05, and better for more noise.
        """
        nodes, weights = (torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in _gauss_legendre(192))
        angle = math.pi * (nodes + 1) / 2
        centres = torch.cat([self._upper(angle), self._lower(angle)])
        return _log_mixture(x, centres, (weights / 4).repeat(2), self.noise)

    @staticmethod
    def _upper(angle: Float[Tensor, " n"]) -> Float[Tensor, "n 2"]:
        return torch.stack([angle.cos(), angle.sin()], dim=-1)

    @staticmethod
    def _lower(angle: Float[Tensor, " n"]) -> Float[Tensor, "n 2"]:
        return torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=-1)


@dataclass(frozen=True)
class Checkerboard:
    """Toy density in the plane: uniform on the dark cells of a 4 x 4 board over ``[-half_width, half_width]^2``.

    The lower left cell is dark.
    """

    half_width: float = 4.0

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n 2"]:
        """Draw ``n`` points (n, 2), uniform on the dark cells of the board."""
        cell = torch.randint(8, (n,), generator=generator)
        column = cell // 2
        row = 2 * (cell % 2) + column % 2
        corner = torch.stack([column, row], dim=-1) - 2
        return (corner + torch.rand(n, 2, generator=generator)) * (self.half_width / 2)

    def log_density(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """Exact log-density of points, (n,): ``-log(2 half_width^2)`` on dark cells, and ``-inf`` elsewhere.

        A cell includes its left and lower edges.
        """
        cell = torch.floor(x * (2 / self.half_width)) + 2
        dark = ((cell >= 0) & (cell < 4)).all(dim=-1) & (cell.sum(dim=-1) % 2 == 0)
        return x.new_full(dark.shape, -math.inf).masked_fill(dark, -math.log(2 * self.half_width**2))


@dataclass(frozen=True)
class Rings:
    """Toy density in the plane: concentric circles of equal probability, with isotropic Gaussian noise added.

    ``radii`` are those of the circles around the origin, and ``noise`` is the standard deviation.
    """

    radii: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)
    noise: float = 0.1

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n 2"]:
        """Draw ``n`` points (n, 2): a ring, an angle on it, and Gaussian noise."""
        radius = torch.tensor(self.radii)[torch.randint(len(self.radii), (n,), generator=generator)]
        angle = 2 * math.pi * torch.rand(n, generator=generator)
        circle = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
        return circle + self.noise * torch.randn(n, 2, generator=generator)

    def log_density(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """Exact log-density of points, (n,): log of the mean over rings of their densities.

        That of the radius R is ``exp(-(r^2 + R^2) / 2 s^2) I_0(r R / s^2) / (2 pi s^2)``, where r is ``|x|`` and s the
        noise: a uniform distribution on a circle convolved with a Gaussian of standard deviation s; r is Rice
        distributed.
        """
        radius = x.norm(dim=-1, keepdim=True)
        rings = torch.tensor(self.radii, dtype=x.dtype, device=x.device)
        variance = self.noise**2
        # With i0e(z) = exp(-z) I_0(z) the exponent is -(r - R)^2 / 2 s^2, which does not overflow.
        bessel = torch.special.i0e(radius * rings / variance).log()
        log_rings = bessel - (radius - rings).square() / (2 * variance)
        return log_rings.logsumexp(dim=-1) - math.log(2 * math.pi * variance * len(self.radii))


@dataclass(frozen=True)
class EightGaussians:
    """Toy density in the plane: eight isotropic Gaussians of equal weight, evenly spaced on a circle of ``radius``.

    The first lies on the positive x axis; ``deviation`` is their standard deviation.
    """

    radius: float = 4.0
    deviation: float = 0.5

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n 2"]:
        """Draw ``n`` points (n, 2): one of the eight centres each, and Gaussian noise around it."""
        centres = self.means.to(torch.get_default_dtype())[torch.randint(8, (n,), generator=generator)]
        return centres + self.deviation * torch.randn(n, 2, generator=generator)

    def log_density(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """Exact log-density of points, (n,): log of the mean over the centres of ``N(x; centre, deviation^2 I)``."""
        means = self.means.to(x)
        return _log_mixture(x, means, torch.full_like(means[:, 0], 1 / 8), self.deviation)

    @property
    def means(self) -> Float[Tensor, "8 2"]:
        """The eight centres (8, 2), in float64, evenly spaced on a circle of ``radius``."""
        angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
        return self.radius * torch.stack([angle.cos(), angle.sin()], dim=-1)


Toy = TwoMoons | Checkerboard | Rings | EightGaussians
TOYS: dict[str, type[Toy]] = {
    "two_moons": TwoMoons,
    "checkerboard": Checkerboard,
    "rings": Rings,
    "eight_gaussians": EightGaussians,
}


def _log_mixture(
    x: Float[Tensor, "n 2"], centres: Float[Tensor, "k 2"], weights: Float[Tensor, " k"], deviation: float
) -> Float[Tensor, " n"]:
    # Explicit differences: the matrix product in torch.cdist loses half of the digits near a centre.
    square = (x[:, :1] - centres[:, 0]).square() + (x[:, 1:] - centres[:, 1]).square()
    exponents = weights.log() - square / (2 * deviation**2)
    return exponents.logsumexp(dim=-1) - math.log(2 * math.pi * deviation**2)


def _gauss_legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(nodes)
