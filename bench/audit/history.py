"""Exact starting values for any solver: the first steps are given, and what follows is the solver's own work.

A method of several steps begins with fewer. To see the method itself, the state and all that it remembers must lie on
the exact flow when the measurement begins, whatever the solver keeps inside. The first calls of the network are
therefore answered with what the exact flow would have given, whatever state is handed over; what a solver remembers of
them is exact. Its state is not yet: the first, low-order steps have moved it off. But with the answers fixed a solver
is affine in its start, so three starts that get the same answers run side by side, and the mixture of the first two
that stands exactly on the flow at the last given time is what an exact start would have been. From there on the network
is asked at the mixture. The third start checks that the solver is affine.

A solver may remember what it works out of an answer and its own state, eps = (x - alpha x0) / sigma for one. Of the
three starts' states no answer has both x0 and eps exact in this way, so the answer can be made ``exact_in`` either: a
right solver is right from an exact history of what it remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from bench.audit.finding import NotApplicable
from bench.audit.subject import BEND
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.oracle import GaussianOracle
from implementations.diffusion.path import Images, Time

Exact = Literal["both", "eps", "x0"]  # what of a given answer is exact: x0 and eps as they are told, or as derived
EXACT: tuple[Exact, ...] = get_args(Exact)
GIVEN = 6  # steps: no method here remembers more
THIRD = 2.5  # the third start lies this far from the first, in units of the second's distance


class Call(NamedTuple):
    """One call of the network: the time asked for and the mixture's state there."""

    t: float
    x: Images


class GivenHistory(Denoiser):
    """Answers the first ``given`` calls by the exact flow from (``t``, ``x``), and later ones at the mixture's state.

    The batch is three starts, one after another: ``x``, ``x + 1`` and ``x + 2.5`` (``starts``).
    """

    def __init__(self, oracle: GaussianOracle, t: Tensor, x: Images, given: int, exact_in: Exact = "both"):
        self.oracle, self.path, self.given, self.exact_in = oracle, oracle.path, given, exact_in
        self.t, self.x = t, x
        self.share = torch.zeros_like(x)
        self.calls: list[Call] = []
        self.bend = 0.0  # the largest relative distance of the third start from where an affine solver has it

    def starts(self) -> Images:
        """The three starts as one batch."""
        return torch.cat([self.x, self.x + 1, self.x + THIRD])

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        times = torch.as_tensor(t, dtype=torch.float64).flatten()
        if len(times.unique()) > 1:
            raise NotApplicable("it asks for several times at once")
        given = len(self.calls) < self.given
        if given:
            here = self.oracle.flow(self.x, self.t, times[0])
            if len(self.calls) == self.given - 1:
                first, second, _ = x.double().chunk(3)
                apart = second - first
                # a state that does not depend on the start follows from the answers alone, which are exact
                self.share = torch.where(apart.abs() > 1e-9, (here - first) / apart, 0.0)
        else:
            here = self.mixture(x)
        self.calls.append(Call(float(times[0]), here))
        told = self.oracle(here, times[0])
        x0, eps = (view.repeat(3, *[1] * (view.ndim - 1)).to(x) for view in (told.x0, told.eps))
        alpha, sigma = float(self.path.alpha(times[0])), float(self.path.sigma(times[0]))
        if given and self.exact_in == "eps":
            x0 = (x - sigma * eps) / alpha
        if given and self.exact_in == "x0":
            eps = (x - alpha * x0) / sigma
        return Prediction(self.path, x, t, x0=x0, eps=eps)

    def mixture(self, x: Images) -> Images:
        """The state of the exact start, from those of the three."""
        first, second, third = x.double().chunk(3)
        apart = second - first
        straight = first + THIRD * apart
        self.bend = max(self.bend, float((third - straight).abs().max() / (1 + straight.abs().max())))
        return first + self.share * apart


def states_from_exact_history(
    sampler: Callable[..., Images],
    oracle: GaussianOracle,
    x: Images,
    times: Tensor,
    given: int = GIVEN,
    bend: float = BEND,
    exact_in: Exact = "both",
) -> list[tuple[Tensor, Images]]:
    """Run from ``x`` at ``times[0]`` with ``given`` steps given: (time, state) at each time after, the output last.

    Raises NotApplicable where the solver is not affine in its start and in what the network answers, or asks for
    several times at once.
    """
    near = float(times.diff().abs().min()) / 100  # far more than a peer's rounding of a time
    told = GivenHistory(oracle, times[0], x, 2**30, exact_in)
    sampler(told, told.starts(), times[: given + 2])
    at = [i for i, call in enumerate(told.calls) if abs(call.t - float(times[given])) <= near]
    begun = at[-1] + 1 if at else 0  # the last, since a stage of the step before may ask here too
    history = GivenHistory(oracle, times[0], x, begun, exact_in)
    output = history.mixture(sampler(history, history.starts(), times))
    if history.bend > bend:
        raise NotApplicable("it is not affine in its start and in what the network answers")
    after, states = times[given + 1 : -1], {}
    for call in history.calls[begun:]:
        if len(after) and float((after - call.t).abs().min()) <= near:
            states[int((after - call.t).abs().argmin())] = call.x  # the last call at a time begins a step there
    return [*((after[i], state) for i, state in states.items()), (times[-1], output)]


def largest_error(
    sampler: Callable[..., Images],
    oracle: GaussianOracle,
    x: Images,
    times: Tensor,
    bend: float = BEND,
    exact_in: Exact = "both",
) -> float:
    """RMS distance from the exact flow where it is largest: at its end alone errors of early and late steps cancel."""
    states = states_from_exact_history(sampler, oracle, x, times, bend=bend, exact_in=exact_in)
    return max(float((y - oracle.flow(x, times[0], t)).square().mean().sqrt()) for t, y in states)
