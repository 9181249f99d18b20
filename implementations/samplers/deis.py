"""DEIS: the flow ``d(x/alpha) = eps d(sigma/alpha)``, exact for eps a polynomial in t, or by Runge-Kutta methods.

Its third kind, rhoAB, whose polynomial is in sigma/alpha, is ``lms``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, costs
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.adams import adams
from implementations.samplers.contract import sampler
from implementations.samplers.exponential import checked_order, weights
from implementations.samplers.runge_kutta import RK4, Tableau, _tabulated


@sampler
def deis_tab(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    order: int = 3,
) -> Images:
    """tAB-DEIS of ``order`` 1 to 4, the paper's degree r = order - 1 (2204.13902, eq. 14 and 15).

    eps is the polynomial in t through its last ``order`` values; on ``EDM``, where t is sigma, this is ``lms``. The
    first steps use the values there are.
    """
    grid, order = Grid(denoiser.path, times), checked_order(order, 4)
    t, moments = [point.t for point in grid.points], time_moments(grid, order)

    def shares(i: int, n: int) -> Sequence[float]:
        return weights([(t[i - j] - t[i]) / (t[i + 1] - t[i]) for j in range(n)], moments[i][:n])

    return adams(denoiser, x, grid, order, shares, callback, condition)


EULER = Tableau((), (), (1.0,))
HEUN = Tableau((1.0,), ((1.0,),), (1 / 2, 1 / 2))
KUTTA3 = Tableau((1 / 2, 1.0), ((1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6))


def _stages(touching: list[bool], *, order: int, **options: Any) -> int:
    return sum(1 if end else order for end in touching)


@sampler
@costs(_stages)
def deis_rhork(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    order: int = 3,
) -> Images:
    """rhoRK-DEIS of ``order`` 1 to 4 in as many stages: Euler, Heun, Kutta's third and fourth (2204.13902).

    A Runge-Kutta method of ``d(x/alpha) / d(sigma/alpha) = eps``; orders 1, 2 and 4 are ``euler``, ``heun`` and ``rk4``
    in sigma.
    """
    tableau = (EULER, HEUN, KUTTA3, RK4)[checked_order(order, 4) - 1]
    return _tabulated(tableau, denoiser, x, times, callback, condition, "sigma")


def time_moments(grid: Grid, n: int) -> list[list[float]]:
    """Means of ``u^k``, k < n, over ``d(sigma/alpha)`` in each step, with u from 0 to 1 as t goes; 0 where it ends.

    By Gauss's rule in the log-SNR, in which t is analytic at least pi/2 off the real line on every continuous path:
    16 nodes on 2 nats leave 1e-16.
    """
    t, _, _, log_snr = torch.tensor(grid.points, dtype=torch.float64).T
    inside = log_snr.isfinite()[1:] & log_snr.isfinite()[:-1]
    nodes, masses = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(16))
    reach = torch.where(inside, log_snr.diff(), 0.0)
    pieces = max(1, math.ceil(float(reach.abs().max()) / 2))
    places = ((torch.arange(pieces)[:, None] + (nodes + 1) / 2) / pieces).flatten()  # in (0, 1)
    between = torch.where(inside, log_snr[:-1], 0.0)[:, None] + reach[:, None] * places
    # d(sigma/alpha) = -(sigma/alpha) d lambda; scaled to the step's start, since only the shape counts
    mass = torch.exp(-reach[:, None] * places) * masses.repeat(pieces)
    u = (grid.path.time(between) - t[:-1, None]) / t.diff()[:, None]
    return (mass[..., None] * u[..., None] ** torch.arange(n)).sum(1).div(mass.sum(1)[:, None]).tolist()
