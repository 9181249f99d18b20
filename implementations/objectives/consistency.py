"""Consistency models: a denoiser whose x0 is the same at two times of one trajectory (2303.01469; 2310.14189).

    loss = w(t, s) d(student's x0 at (x_t, t), target's x0 at (x_s, s)),   s < t

The target is the student without gradient, or an average of it. x_s comes from x_t by a step of a teacher's flow
(distillation) or has the same noise (training). A denoiser that gives back its state where there is no noise, as one
with EDM's preconditioning does, meets the boundary condition; its flow map to there is the consistency function.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.path import Images, per_sample
from implementations.objectives.regression import Times, noised

Distance = Literal["l2", "pseudo_huber"]


def consistency_distillation(
    student: Denoiser,
    target: Denoiser,
    teacher: Denoiser,
    x0: Images,
    t: Times,
    s: Times,
    noise: Images,
    condition: Any = None,
    *,
    solver: Literal["euler", "heun"] = "heun",
    distance: Distance = "pseudo_huber",
) -> Float[Tensor, " n"]:
    """The loss (n,) between t and s on the teacher's flow, by one step of Euler or Heun in sigma (alg. 2).

    Raises ValueError where s is not below t, and on a teacher of another path.
    """
    if teacher.path != student.path:
        raise ValueError(f"the teacher is on {teacher.path!r}, the student on {student.path!r}; one path is accepted")
    x = noised(student.path, x0, t, noise)
    with torch.no_grad():
        there = step_of(teacher, x, t, s, condition, solver)
    return _compare(student, target, x, t, there, s, condition, distance)


def consistency_training(
    student: Denoiser,
    target: Denoiser,
    x0: Images,
    t: Times,
    s: Times,
    noise: Images,
    condition: Any = None,
    *,
    distance: Distance = "pseudo_huber",
) -> Float[Tensor, " n"]:
    """The loss (n,) between t and s at the same noise, without a teacher (alg. 3); raises ValueError unless s < t."""
    there = noised(student.path, x0, s, noise)
    return _compare(student, target, noised(student.path, x0, t, noise), t, there, s, condition, distance)


def step_of(
    teacher: Denoiser, x: Images, t: Times, s: Times, condition: Any, solver: Literal["euler", "heun"]
) -> Images:
    """One step of a teacher's flow from t to s, one time each per sample, by Euler or Heun in sigma/alpha.

    Heun's second evaluation is left out where s has no noise (2206.00364, alg. 1).
    """
    path = teacher.path
    alpha, sigma, alpha_s, sigma_s = (
        per_sample(scale, x) for scale in (path.alpha(t), path.sigma(t), path.alpha(s), path.sigma(s))
    )
    here = teacher(x, t, condition).x0.to(x)
    euler = sigma_s / sigma * x + (alpha_s - sigma_s * alpha / sigma) * here
    if solver == "euler":
        return euler
    clean = sigma_s == 0
    there = teacher(euler, s, condition).x0.to(x)
    slope = (x - alpha * here) / sigma + (euler - alpha_s * there) / torch.where(clean, 1.0, sigma_s)  # eps, twice
    heun = alpha_s * (x / alpha + (sigma_s / alpha_s - sigma / alpha) * slope / 2)
    return torch.where(clean, euler, heun)


def karras_levels(n: int, low: float, high: float, rho: float = 7.0) -> Float[Tensor, " n"]:
    """n rising noise levels from ``low`` to ``high``, equally spaced in their rho-th root (2303.01469, app. C)."""
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return (low ** (1 / rho) + ramp * (high ** (1 / rho) - low ** (1 / rho))) ** rho


def pick_interval(
    u: Float[Tensor, " n"], levels: Float[Tensor, " k"], *, mean: float = -1.1, std: float = 2.0
) -> Tensor:
    """The index (n,) of the lower level of an interval, by u in (0, 1) and the interval's probability.

    That is the mass of a normal of log sigma between its levels, among all intervals (2310.14189, eq. 9).
    """
    mass = torch.special.ndtr((levels.log() - mean) / std).diff()
    edges = mass.cumsum(0) / mass.sum()
    return torch.searchsorted(edges, u.double().contiguous()).clamp(max=len(mass) - 1)


def _compare(
    student: Denoiser, target: Denoiser, x: Images, t: Times, there: Images, s: Times, condition: Any, distance: str
) -> Float[Tensor, " n"]:
    if not bool((s < t).all()):
        raise ValueError("s must lie below t in every sample")
    own = student(x, t, condition).x0
    with torch.no_grad():
        wanted = target(there, s, condition).x0
    square = (own - wanted).square().flatten(1)
    if distance == "l2":
        return square.mean(1)
    if distance != "pseudo_huber":
        raise ValueError(f"distance must be l2 or pseudo_huber, got {distance!r}")
    c = 0.00054 * math.sqrt(square.shape[1])  # 2310.14189, sec. 3.3
    weight = 1 / (student.path.ratio(t) - student.path.ratio(s))  # 2310.14189, eq. 8
    return weight.to(square) * ((square.sum(1) + c * c).sqrt() - c)
