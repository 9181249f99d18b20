"""Adams-Bashforth methods: the flow ``d(x/alpha) / d(sigma/alpha) = eps`` by a polynomial through past predictions.

``x' = (alpha'/alpha) x + (sigma' - sigma alpha'/alpha) sum_j w_j eps_j``, with eps_j the noise predicted j steps ago. A
method is its weights, which sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point, add_scaled
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import History, check_order, weights

EQUAL_STEPS = [[1.0], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]  # by order
POWERS = [1.0, 1 / 2, 1 / 3, 1 / 4]  # int_0^1 u^k du


@sampler
def lms(problem: Problem, *, order: int = 4) -> Images:
    """LMS: variable-step Adams-Bashforth, with eps the polynomial in sigma/alpha through its last values.

    It integrates ``d(x/alpha) / d(sigma/alpha) = eps`` with that polynomial exactly, as DEIS's rhoAB does (2204.13902).
    ``order``, 1 to 4, is the number of values; the first steps use those there are.
    """
    ratios = [point.ratio for point in problem.points]

    def shares(i: int, n: int) -> Sequence[float]:
        reach = ratios[i + 1] - ratios[i]
        return weights([(ratios[i - j] - ratios[i]) / reach for j in range(n)], POWERS[:n])

    return adams(problem, check_order(order, 4), shares)


@sampler
def ipndm(problem: Problem, *, order: int = 4) -> Images:
    """Improved PNDM: Adams-Bashforth of ``order`` 1 to 4 with the weights of equal steps, whatever the steps are.

    It integrates ``d(x/alpha) / d(sigma/alpha) = eps``: PNDM (2202.09778, eq. 12) whose first steps use the values
    there are (2204.13902). It has its nominal order on equal steps of sigma/alpha; order 2 at most where the steps
    change slowly, and order 1 where they alternate.
    """
    return adams(problem, check_order(order, 4), lambda i, n: EQUAL_STEPS[n - 1])


def adams(problem: Problem, order: int, shares: Callable[[int, int], Sequence[float]]) -> Images:
    """Run an Adams-Bashforth method on ``d(x/alpha) / d(sigma/alpha) = eps``, given by its weights.

    ``shares(i, n)`` are the weights in step i of the n latest eps, those of the steps i, i - 1, ..., i - n + 1; they
    sum to 1. n is ``order``, or fewer in the first steps.
    """
    history = History(order)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        past = [eps for _, eps in history.push(i, here.log_snr, prediction.eps)]
        return transfer(here, there, x, shares(i, len(past)), past)

    return problem.solve(step)


def transfer(here: Point, there: Point, x: Images, shares: Sequence[float], values: Sequence[Images]) -> Images:
    """DDIM's step from ``here`` to ``there`` with the noise ``eps = sum_j shares[j] values[j]``.

    ``x' = (alpha'/alpha) x + (sigma' - sigma alpha'/alpha) eps``, which is exact where eps is constant (2202.09778, eq.
    9).
    """
    a = there.alpha / here.alpha
    b = there.sigma - here.sigma * a
    return add_scaled((a, x), *((b * share, eps) for share, eps in zip(shares, values, strict=True)))
