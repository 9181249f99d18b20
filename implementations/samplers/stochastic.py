"""The reverse SDE with its linear part and its noise exact: what stochastic exponential integrators share.

Noise at a rate eta >= 0 turns the flow into an SDE with the same marginals (2309.05019, with eta = tau^2): 0 is the
flow, 1 the forward process reversed. Over a step of h in lambda = log alpha/sigma it is the step of ``exponential``
with other coefficients, and Gaussian noise:

| form  | A                              | B                      | z              | variance                        |
|-------|--------------------------------|------------------------|----------------|---------------------------------|
| data  | ``(sigma'/sigma) e^(-eta h)``  | ``(1 + eta) alpha' h`` | ``-(1+eta) h`` | ``sigma'^2 (1 - e^(-2 eta h))`` |
| noise | ``alpha'/alpha``               | ``-(1 + eta) sigma' h``| ``h``          | ``eta sigma'^2 (e^(2h) - 1)``   |

A multiplies noise, too, so that the noise of a step is made of that of its parts: a stage and the end of a step see
one Brownian path. On a fixed grid, fresh numbers for each part have the law of a Brownian tree.

Weak order, with eta > 0: a prediction feels the noise since the step's start only through the stages within the step,
or, in a multistep method, one step late. Where the weights of the values sum up to the kernel's first moment, both
leave the covariance of state and noise right to O(h^3) per step: order 2. No such method is of order 3 in general,
since order 3 needs the variance of the noise's own integral, h^3/3: one stage at 1/2 gives h^3/2, two at 1/3 and 2/3
give h^3 3/8, and a multistep method sees an impulse of noise whole or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from implementations.diffusion.grid import Point, add_scaled
from implementations.diffusion.path import Images
from implementations.samplers.exponential import Form, find_form


@dataclass(frozen=True)
class ReverseSde:
    """A reverse SDE with a rate of noise, as an exponential integrator steps it: its form, and the noise of a step.

    ``deviation(here, there)`` is the standard deviation of the noise that a step from one point to another adds.
    """

    form: Form
    deviation: Callable[[Point, Point], float]

    def noise(self, here: Point, there: Point, z: Images, before: Images | None = None, scale: float = 1.0) -> Images:
        """Give the noise in the state at ``there``: what ``before``, that at ``here``, has become, and fresh noise.

        A step ``x' = A x + ...`` multiplies noise, too, by A. The fresh noise is ``scale`` times the step's deviation
        times z.
        """
        fresh = (self.deviation(here, there) * scale, z)
        return add_scaled(fresh) if before is None else add_scaled((self.form.step(here, there)[0], before), fresh)


def reverse_sde(prediction: str, eta: float) -> ReverseSde:
    """Give the reverse SDE with noise rate ``eta``, solved on the predicted ``data`` or ``noise``; at 0 it is the flow.

    ``dx = [f x - (1 + eta)/2 g^2 score] dt + sqrt(eta) g dw``: 1 is the forward process reversed. At 0 its steps are
    those of the flow bit for bit.
    """
    flow, data = find_form(prediction), prediction == "data"

    def step(here: Point, there: Point) -> tuple[float, float, float]:
        a, b, z = flow.step(here, there)
        h = there.log_snr - here.log_snr
        return (a * math.exp(-eta * h), b * (1 + eta), z * (1 + eta)) if data else (a, b * (1 + eta), z)

    def deviation(here: Point, there: Point) -> float:
        h = there.log_snr - here.log_snr
        return there.sigma * math.sqrt(-math.expm1(-2 * eta * h) if data else eta * math.expm1(2 * h))

    return ReverseSde(Form(flow.view, step), deviation)


def fresh_share(here: Point, there: Point) -> float:
    """The share of the variance sigma'^2 that is drawn afresh in the posterior of x' given x and the data.

    It is ``1 - e^(2 (lambda - lambda'))``, with lambda = log(alpha/sigma).
    """
    return -math.expm1(2 * (here.log_snr - there.log_snr))


def check_eta(eta: float, most: float = math.inf) -> float:
    """Give the rate of noise ``eta``; raises ValueError where it is negative, not finite or above ``most``."""
    if not (0 <= eta <= most and eta < math.inf):
        raise ValueError(f"eta must lie in [0, {most:g}], got {eta}" if most < math.inf
                         else f"eta must be finite and not negative, got {eta}")  # fmt: skip
    return eta


def check_s_noise(s_noise: float) -> float:
    """Give ``s_noise``, the factor of the noise that a sampler adds.

    Raises ValueError where it is negative or not finite.
    """
    if not 0 <= s_noise < math.inf:
        raise ValueError(f"s_noise must be finite and not negative, got {s_noise}")
    return s_noise
