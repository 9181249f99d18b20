"""DEIS: the flow ``d(x/alpha) = eps d(sigma/alpha)``, exact for eps a polynomial in t, or by Runge-Kutta methods.

Its third kind, rhoAB, whose polynomial is in sigma/alpha, is ``lms``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from implementations.diffusion.grid import Grid
from implementations.diffusion.path import Images
from implementations.samplers.adams import adams
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import check_order, weights
from implementations.samplers.runge_kutta import EULER, HEUN, KUTTA3, RK4, solve_by_tableau


@sampler
def deis_tab(problem: Problem, *, order: int = 3) -> Images:
    """tAB-DEIS of ``order`` 1 to 4: Adams-Bashforth of the flow with eps a polynomial in t (2204.13902, eq. 14 and 15).

    The polynomial goes through the last ``order`` values (the paper's degree is r = order - 1) and is integrated
    exactly over ``d(x/alpha) = eps d(sigma/alpha)``; on ``EDM``, where t is sigma, this is ``lms``. The first steps use
    the values there are.
    """
    order = check_order(order, 4)
    t, moments = [point.t for point in problem.points], time_moments(problem.grid, order)

    def shares(i: int, n: int) -> Sequence[float]:
        return weights([(t[i - j] - t[i]) / (t[i + 1] - t[i]) for j in range(n)], moments[i][:n])

    return adams(problem, order, shares)


def _count_stages(touching: list[bool], *, order: int, **_: Any) -> int:
    return sum(1 if end else order for end in touching)


@sampler(count=_count_stages)
def deis_rhork(problem: Problem, *, order: int = 3) -> Images:
    """rhoRK-DEIS: Runge-Kutta methods of ``d(x/alpha) / d(sigma/alpha) = eps``, of ``order`` 1 to 4 in as many stages.

    They are Euler, Heun, Kutta's third and fourth (2204.13902); orders 1, 2 and 4 are ``euler``, ``heun`` and ``rk4``
    in sigma.
    """
    return solve_by_tableau(problem, (EULER, HEUN, KUTTA3, RK4)[check_order(order, 4) - 1], "sigma")


NODES = 16  # of a piece of Gauss's rule


def time_moments(grid: Grid, n: int) -> list[list[float]]:
    """Moments of t over each step, by which DEIS integrates a polynomial in t over sigma/alpha: a row of n per step.

    They are the means of ``u^k``, k < n, weighted by ``d(sigma/alpha)``, with u from 0 to 1 as t goes through the step;
    0 for a step that touches an end. By Gauss's rule in the log-SNR, in which t is analytic at least pi/2 off the real
    line on every continuous path: ``NODES`` per 2 nats leave an error of 1e-16.
    """
    t, _, _, log_snr = torch.tensor(grid.points, dtype=torch.float64).T
    inside = log_snr.isfinite()[1:] & log_snr.isfinite()[:-1]
    reach = torch.where(inside, log_snr.diff(), 0.0)
    places, masses = gauss_legendre(float(reach.abs().max()))
    between = torch.where(inside, log_snr[:-1], 0.0)[:, None] + reach[:, None] * places
    # d(sigma/alpha) = -(sigma/alpha) d lambda; scaled to the step's start, since only the shape counts
    mass = torch.exp(-reach[:, None] * places) * masses
    u = (grid.path.time(between) - t[:-1, None]) / t.diff()[:, None]
    return (mass[..., None] * u[..., None] ** torch.arange(n)).sum(1).div(mass.sum(1)[:, None]).tolist()


def gauss_legendre(longest: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes in (0, 1) and masses of Gauss's rule, composed of equal pieces of 2 nats at most with ``NODES`` nodes each.

    ``longest`` is the length in nats of the interval that [0, 1] stands for. The masses of a piece sum to 2.
    """
    nodes, masses = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(NODES))
    pieces = max(1, math.ceil(longest / 2))
    return ((torch.arange(pieces)[:, None] + (nodes + 1) / 2) / pieces).flatten(), masses.repeat(pieces)
