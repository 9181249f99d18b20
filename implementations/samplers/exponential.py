"""Exponential integrators: the linear part of the probability flow exactly, the rest by a polynomial under its kernel.

In lambda = log alpha/sigma the flow is linear in x except for the prediction, x0 or eps, so that a step of h is

| form  | step                                                               |
|-------|--------------------------------------------------------------------|
| data  | ``x' = (sigma'/sigma) x + alpha' h int_0^1 e^(-h (1-u)) x0(u) du`` |
| noise | ``x' = (alpha'/alpha) x - sigma' h int_0^1 e^(h (1-u)) eps(u) du`` |

(2211.01095, eq. 8; 2206.00927, eq. 3.4). With a polynomial through the predictions at some nodes u, the integral is a
sum over the nodes, whose weights follow from the moments ``int_0^1 e^(z (1-u)) u^k du = k! phi_(k+1)(z)`` alone. A
method is its nodes and its moments: some methods take others than the exact ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from torch import Tensor

from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point, add_scaled
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem

FormName: TypeAlias = Literal["data", "noise"]
Moments = Callable[[float, int], list[float]]  # (z, n) -> those of degree 0 to n - 1
Moment = TypeVar("Moment", float, Tensor)


def phi(k: int, z: float) -> float:
    """The function phi_k of exponential integrators, ``phi_k(z) = sum_j z^j / (j + k)!``.

    It is the exponential function without its first k terms, over ``z^k``. For k >= 1 it is ``int_0^1 e^(z (1-u))
    u^(k-1) / (k-1)! du``.
    """
    if abs(z) < 1 + k / 2:  # the recurrence below subtracts nearly equal terms there
        term = total = 1 / math.factorial(k)
        j = k
        while abs(term) > 1e-18 * abs(total):
            j += 1
            term *= z / j
            total += term
        return total
    if k == 0:
        return math.exp(z)
    return math.expm1(z) / z if k == 1 else (phi(k - 1, z) - 1 / math.factorial(k - 1)) / z


def exact_moments(z: float, n: int) -> list[float]:
    """The first n moments of the exponential kernel over a step: ``int_0^1 e^(z (1-u)) u^k du = k! phi_(k+1)(z)``."""
    return [math.factorial(k) * phi(k + 1, z) for k in range(n)]


def midpoint_moments(z: float, n: int) -> list[float]:
    """Moments of the exponential kernel over a step, k < n, with half of the zeroth in place of the first where n = 2.

    The kernel is then taken as constant at its mean. The others are ``int_0^1 e^(z (1-u)) u^k du``. Two nodes so make
    DPM-Solver's and DPM-Solver++'s second order, and UniPC's with ``B(h) = e^h - 1``.
    """
    first, *rest = exact_moments(z, n)
    return [first, first / 2] if n == 2 else [first, *rest]


def flat_moments(z: float, n: int) -> list[float]:
    """Moments of the exponential kernel over a step, k < n, with 1/2 in place of the first where n = 2.

    1/2 is the moment of a kernel of 1, as in UniPC with ``B(h) = h``. The others are ``int_0^1 e^(z (1-u)) u^k du``.
    """
    first, *rest = exact_moments(z, n)
    return [first, 0.5] if n == 2 else [first, *rest]


def weights(nodes: Sequence[float], moments: Sequence[Moment]) -> list[Moment]:
    """Weights of n values at ``nodes`` that integrate the polynomial through them, for a kernel with these ``moments``.

    They are the w with ``sum_j w_j u_j^k = moments[k]`` for k < n. The nodes must be distinct. Moments may be tensors
    with one kernel per element.
    """
    return [_dot(_basis(nodes, j), moments) for j in range(len(nodes))]


@dataclass(frozen=True)
class Form:
    """What an exponential integrator integrates, the data x0 or the noise eps, and its step's coefficients (A, B, z).

    ``x' = A x + B int_0^1 e^(z (1-u)) q(u) du`` over a step, where q is the ``view`` of the prediction and u goes from
    0 to 1 in log-SNR.
    """

    view: Literal["x0", "eps"]
    step: Callable[[Point, Point], tuple[float, float, float]]

    def read(self, prediction: Prediction) -> Images:
        """Give the quantity that is integrated, x0 or eps of a prediction."""
        return prediction.x0 if self.view == "x0" else prediction.eps

    def integrate(
        self,
        here: Point,
        there: Point,
        x: Images,
        values: Sequence[tuple[float, Images]],
        moments: Moments = exact_moments,
    ) -> Images:
        """Step from ``here`` to ``there`` by the polynomial in log-SNR through ``values``, pairs (log_snr, q).

        ``moments(z, n)`` are those of the kernel, exact by default.
        """
        a, b, z = self.step(here, there)
        h = there.log_snr - here.log_snr
        nodes = [(log_snr - here.log_snr) / h for log_snr, _ in values]
        shares = weights(nodes, moments(z, len(nodes)))
        return add_scaled((a, x), *((b * share, q) for share, (_, q) in zip(shares, values, strict=True)))


def find_form(prediction: str) -> Form:
    """Look up what an exponential integrator integrates, ``data`` or ``noise``; raises ValueError on another name."""
    if prediction not in FORMS:
        raise ValueError(f"prediction must be data or noise, got {prediction!r}")
    return FORMS[prediction]


def multistep(
    problem: Problem, form: Form, order: int, moments: Moments = exact_moments, lower_order_final: bool = False
) -> Images:
    """Run a multistep exponential integrator: Adams-Bashforth under the kernel, through the last ``order`` predictions.

    The polynomial is in log-SNR. The first steps use the predictions there are. ``lower_order_final`` takes no more of
    them than steps are left.
    """
    history = History(order)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        values = history.push(i, here.log_snr, form.read(prediction))
        if lower_order_final:
            values = values[: len(problem) - i]
        return form.integrate(here, there, x, values, moments)

    return problem.solve(step)


class History:
    """The predictions of the latest consecutive steps, at most ``length``, for multistep methods.

    The latest comes first. Steps that touch an end of the path are left out, and a step that is left out clears them.
    """

    def __init__(self, length: int):
        self.length, self.last, self.values = length, -2, list[tuple[float, Images]]()

    def push(self, i: int, log_snr: float, q: Images) -> list[tuple[float, Images]]:
        """Add the prediction q of step i at its log-SNR, and give all there are as (log_snr, q), at most ``length``."""
        before = self.values[: self.length - 1] if self.last == i - 1 else []
        self.last, self.values = i, [(log_snr, q), *before]
        return self.values


def check_order(order: int, most: int) -> int:
    """Give the order of a method; raises ValueError unless it is an integer from 1 to ``most``."""
    return check_integer("order", order, 1, most)


def _data(p: Point, q: Point) -> tuple[float, float, float]:
    h = q.log_snr - p.log_snr
    return q.sigma / p.sigma, q.alpha * h, -h


def _noise(p: Point, q: Point) -> tuple[float, float, float]:
    h = q.log_snr - p.log_snr
    return q.alpha / p.alpha, -q.sigma * h, h


FORMS: dict[str, Form] = {"data": Form("x0", _data), "noise": Form("eps", _noise)}


def _basis(nodes: Sequence[float], j: int) -> list[float]:
    """Coefficients, constant first, of Lagrange's polynomial that is 1 at node j and 0 at the others."""
    coefficients = [1.0]
    for i, node in enumerate(nodes):
        if i != j:
            scale = 1 / (nodes[j] - node)
            shifted = [0.0, *coefficients]
            coefficients = [scale * (up - node * c) for up, c in zip(shifted, [*coefficients, 0.0], strict=True)]
    return coefficients


def _dot(coefficients: Sequence[float], moments: Sequence[Moment]) -> Moment:
    total = moments[0] * coefficients[0]
    for c, moment in zip(coefficients[1:], moments[1:], strict=True):
        total = total + moment * c
    return total
