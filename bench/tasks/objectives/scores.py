"""Score matching compared: each loss's value beside the exact one, the variance of its gradient, the cost of a step.

With p the density of toy data with Gaussian noise, s the network and C = E |grad log p|^2 / 2, all three losses know
the Fisher divergence ``E |s - grad log p|^2 / 2``: implicit and sliced score matching are it minus C, and denoising
score matching is it plus E |z / sigma|^2 / 2 minus C. C and the divergence are known by quadrature.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.data.toy import TOYS, Toy
from bench.task import ContestMeasurements, Context, Value
from bench.tasks.cost import count_flops
from bench.tasks.draws import generator, seed_of
from bench.tasks.objectives.network import Score
from bench.timing import clock_for, measure, median_interval, paired_ratio
from implementations.objectives.score_matching import denoising, implicit, sliced

if TYPE_CHECKING:
    from bench.tasks.objectives.declarations import ScoreMatchingParameters

Points: TypeAlias = Float[Tensor, "n 2"]
Loss: TypeAlias = Callable[
    [Callable[[Points], Points], Points, Points, Points], Tensor
]  # of score, clean data, noise, directions
NODES = 500  # intervals along a side of the square over which densities are summed
FAR = 6.0  # noises beyond the data at which the square ends


def score_matching(parameters: ScoreMatchingParameters, context: Context) -> ContestMeasurements:
    """Value, variance of the gradient and cost of each loss, on one network and the same draws."""
    toy, sigma, seed = TOYS[parameters.toy](), parameters.sigma, context.seed
    truth = integrate(parameters.toy, sigma)
    network = make_score(parameters, truth, seed)
    exact, coarse = (truth.divergence(network, step) for step in (1, 2))
    data, noise = generator(seed, "data"), generator(seed, "noise")

    def draw(n: int) -> tuple[Points, Points, Points]:
        x0 = toy.sample(n, data).double()
        z, v = torch.randn(2, n, 2, generator=noise, dtype=torch.float64)
        return x0, z, v

    values, batches = draw(parameters.draws), [draw(parameters.batch) for _ in range(parameters.groups)]
    known = _variance(partial(explicit, toy, sigma), network, batches)
    found: dict[str, dict[str, float | Value]] = {}
    steps = {}
    for name in parameters.objectives:
        loss = make_loss(name, sigma)
        own = loss(network, *values).detach() + truth.constant - _constant(name, sigma)
        error = float(own.std()) / math.sqrt(len(own))
        mean = float(own.mean())
        found[name] = {
            "divergence": Value(mean, (mean - 1.96 * error, mean + 1.96 * error), n=len(own)),
            "divergence_exact": exact,
            "quadrature_error": abs(exact - coarse) / exact,
            "deviation": (mean - exact) / error,
            "loss_deviation": float(own.std()),
            "gradient_variance": _variance(loss, network, batches) / known,
        }
        steps[name] = partial(_step, loss, network, batches[0])
        found[name]["cost"] = count_flops(steps[name]) / count_flops(partial(network.forward, batches[0][0]))
    timings = measure(steps, clock=clock_for("cpu"), seed=seed, max_seconds=parameters.max_seconds)
    first = parameters.objectives[0]
    for name, timing in timings.items():
        context.keep(f"seconds.{name}", torch.tensor(timing.samples, dtype=torch.float64))
        context.timing[name] = timing.summary()
        low, high = median_interval(timing.samples, seed=seed)
        ratio, interval = paired_ratio(timing.samples, timings[first].samples, seed=seed)
        found[name]["time"] = Value(timing.median * 1e3, (low * 1e3, high * 1e3), n=len(timing.samples))
        found[name]["ratio"] = Value(ratio, interval, n=len(timing.samples))
    return found


def make_loss(name: str, sigma: float) -> Loss:
    """The loss of a name as a function of the score network, clean data, their noise, and directions."""
    losses: dict[str, Loss] = {
        "denoising_score_matching": lambda score, x0, z, v: denoising(score, x0, z, sigma=sigma),
        "sliced_score_matching": lambda score, x0, z, v: sliced(score, x0 + sigma * z, v),
        "implicit_score_matching": lambda score, x0, z, v: implicit(score, x0 + sigma * z),
    }
    return losses[name]


def explicit(
    toy: Toy, sigma: float, score: Callable[[Points], Points], x0: Points, z: Points, v: Points
) -> Float[Tensor, " n"]:
    """``|s - grad log p|^2 / 2`` (n,) with the true score of the noised data, which no training has."""
    x = x0 + sigma * z
    return (score(x) - true_score(noised(toy, sigma), x)).square().sum(1) / 2


def noised(toy: Toy, sigma: float) -> Toy:
    """The toy with Gaussian noise added, which is the same toy with a wider Gaussian."""
    name = "deviation" if hasattr(toy, "deviation") else "noise"
    return dataclasses.replace(toy, **{name: math.hypot(getattr(toy, name), sigma)})  # type: ignore[arg-type]


def true_score(toy: Toy, x: Points, part: int = 20_000) -> Points:
    """The gradient of a toy's log-density at points, by autograd."""
    found = []
    for some in x.detach().split(part):
        some = some.clone().requires_grad_()
        with torch.enable_grad():
            found.append(torch.autograd.grad(toy.log_density(some).sum(), some)[0])
    return torch.cat(found)


class Quadrature(NamedTuple):
    """The square's nodes, the density there times the area of a node, its score, and ``E |score|^2 / 2``."""

    nodes: Points
    mass: Float[Tensor, " n"]
    score: Points
    constant: float

    def divergence(self, network: nn.Module, every: int = 1) -> float:
        """``E |network - score|^2 / 2`` over every node, or every second one of each side."""
        side = NODES + 1
        grid = torch.zeros(side, side, dtype=torch.bool)
        grid[::every, ::every] = True
        chosen = grid.flatten()
        with torch.no_grad():
            apart = (network(self.nodes[chosen]) - self.score[chosen]).square().sum(1) / 2
        return float(every**2 * self.mass[chosen] @ apart)


@lru_cache(maxsize=4)
def integrate(name: str, sigma: float) -> Quadrature:
    """Sum the noised toy over a square by trapezoids, which for densities that smooth are exact to rounding."""
    toy = TOYS[name]()
    wide = noised(toy, sigma)
    points = toy.sample(4000, torch.Generator().manual_seed(0)).double()
    room = FAR * math.hypot(sigma, 0.5)
    low, high = points.amin(0) - room, points.amax(0) + room
    sides = [torch.linspace(float(a), float(b), NODES + 1, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    nodes = torch.cartesian_prod(*sides)
    area = float((sides[0][1] - sides[0][0]) * (sides[1][1] - sides[1][0]))
    mass = torch.cat([wide.log_density(some) for some in nodes.split(20_000)]).exp() * area
    score = torch.where(mass[:, None] > 0, true_score(wide, nodes), 0.0)
    return Quadrature(nodes, mass, score, float(mass @ score.square().sum(1) / 2))


def make_score(parameters: ScoreMatchingParameters, truth: Quadrature, seed: int) -> Score:
    """The network: as torch draws it with this seed, or fitted to the true score by Adam."""
    torch.manual_seed(seed_of(seed, "start"))
    spread = float((truth.mass @ truth.nodes.square().sum(1) / 2).sqrt())
    network = Score(spread, math.sqrt(truth.constant))
    if not parameters.fitted:
        return network
    toy, source = TOYS[parameters.toy](), generator(seed, "warm-up")
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for step in range(parameters.fit):
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 + math.cos(math.pi * step / parameters.fit)) / 2
        x0 = toy.sample(256, source).double()
        z = torch.randn(256, 2, generator=source, dtype=torch.float64)
        optimiser.zero_grad()
        explicit(toy, parameters.sigma, network, x0, z, z).mean().backward()
        optimiser.step()
    return network


def _constant(name: str, sigma: float) -> float:
    """``E |z / sigma|^2 / 2`` in the plane, which denoising score matching has beside the others."""
    return 1 / sigma**2 if name == "denoising_score_matching" else 0.0


def _step(loss: Loss, network: nn.Module, batch: tuple[Points, Points, Points]) -> tuple[Tensor, ...]:
    """The gradient of the mean loss of a batch."""
    return torch.autograd.grad(loss(network.forward, *batch).mean(), tuple(network.parameters()))


def _variance(loss: Loss, network: nn.Module, batches: list[tuple[Points, Points, Points]]) -> float:
    """The total variance, over all weights, of the gradient of one draw: that of a batch's times its size."""
    gradients = torch.stack(
        [torch.cat([one.flatten() for one in _step(loss, network, batch)]) for batch in batches]
    )  # fmt: skip
    return float(gradients.var(0).sum()) * len(batches[0][0])
