"""Exact starting values for any solver, so that what is measured is the solver and not how it starts.

A multistep method begins with steps of lower order. To measure the method itself, its state and all that it remembers
must lie on the exact flow at the time from which it is measured, whatever it keeps internally. This is done from
outside: the first calls of the network are answered with what the network would say on the exact flow, whatever state
is passed in, so that everything that the solver remembers is exact. Its state is not exact yet, since the first,
low-order steps have moved it off the flow. But with these answers fixed, the state is an affine function of the start.
So three starts, which get the same answers, run side by side; the affine combination of the first two that lies on the
flow at the end of the history is the state that an exact start would have had. From there on, the network is evaluated
at that combination. The third start checks that the solver is affine.

A solver may remember what it computes from an answer and its own state, such as eps = (x - alpha x0) / sigma. As the
three states differ, no answer makes both x0 and eps exact for all of them. The answer can therefore be made
``exact_in`` either: a correct solver is correct from an exact history of whatever it remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from bench.audit.finding import NotApplicable
from bench.audit.probe import NetworkCall
from bench.audit.subject import AFFINE_TOLERANCE
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.oracle import GaussianOracle
from implementations.diffusion.path import Images, Time

# Which view of an answer is exact: both as they are handed over, or one, with the other derived from it and the state.
Exact = Literal["both", "eps", "x0"]
EXACT: tuple[Exact, ...] = get_args(Exact)
HISTORY_STEPS = 6  # more than any method here remembers
THIRD = 2.5  # distance of the third start from the first, in units of that of the second


class ExactHistory(Denoiser):
    """A denoiser whose first answers are those on the exact flow, so that a multistep method starts exactly.

    The first ``exact_calls`` answers are as on the flow through (``t``, ``x``), and later ones are at the state
    ``mixture``. The batch is three starts, one after another: ``x``, ``x + 1`` and ``x + 2.5`` (``stack_starts``).
    """

    def __init__(self, oracle: GaussianOracle, t: Tensor, x: Images, exact_calls: int, exact_in: Exact = "both"):
        self.oracle, self.path, self.exact_calls, self.exact_in = oracle, oracle.path, exact_calls, exact_in
        self.t, self.x = t, x
        self.share = torch.zeros_like(x)
        self.calls: list[NetworkCall] = []
        self.nonlinearity = 0.0  # largest relative distance of the third state from where an affine solver has it

    def stack_starts(self) -> Images:
        """The three starts that run side by side, as one batch: ``x``, ``x + 1`` and ``x + 2.5``."""
        return torch.cat([self.x, self.x + 1, self.x + THIRD])

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        times = torch.as_tensor(t, dtype=torch.float64).flatten()
        if len(times.unique()) > 1:
            raise NotApplicable("it asks for several times at once")
        in_history = len(self.calls) < self.exact_calls
        if in_history:
            here = self.oracle.flow(self.x, self.t, times[0])
            if len(self.calls) == self.exact_calls - 1:
                first, second, _ = x.double().chunk(3)
                apart = second - first
                # A state that does not depend on the start follows from the answers alone, which are exact.
                self.share = torch.where(apart.abs() > 1e-9, (here - first) / apart, 0.0)
        else:
            here = self.mixture(x)
        self.calls.append(NetworkCall(float(times[0]), here))
        answer = self.oracle(here, times[0])
        x0, eps = (view.repeat(3, *[1] * (view.ndim - 1)).to(x) for view in (answer.x0, answer.eps))
        alpha, sigma = float(self.path.alpha(times[0])), float(self.path.sigma(times[0]))
        if in_history and self.exact_in == "eps":
            x0 = (x - sigma * eps) / alpha
        if in_history and self.exact_in == "x0":
            eps = (x - alpha * x0) / sigma
        return Prediction(self.path, x, t, x0=x0, eps=eps)

    def mixture(self, x: Images) -> Images:
        """The state that an exact start would have had: an affine combination of the states of the first two starts."""
        first, second, third = x.double().chunk(3)
        apart = second - first
        straight = first + THIRD * apart
        off = float((third - straight).abs().max() / (1 + straight.abs().max()))
        self.nonlinearity = max(self.nonlinearity, off)
        return first + self.share * apart


def states_from_exact_history(
    sampler: Callable[..., Images],
    oracle: GaussianOracle,
    x: Images,
    times: Tensor,
    steps: int = HISTORY_STEPS,
    tolerance: float = AFFINE_TOLERANCE,
    exact_in: Exact = "both",
) -> list[tuple[Tensor, Images]]:
    """Run a sampler from ``x`` at ``times[0]`` so that its first ``steps`` steps are exact; return its later states.

    They are pairs (time, state), one per later time. The exact flow is the oracle's. ``exact_in`` says what of an
    answer is exact: both x0 and eps as they are handed over, or one of them, with the other derived from it and the
    state. Raises NotApplicable where the solver is not affine in its start and in the answers of the network, or
    evaluates it at several times in one call.
    """
    near = float(times.diff().abs().min()) / 100  # far more than the rounding of a time in another library
    probe = ExactHistory(oracle, times[0], x, 2**30, exact_in)
    sampler(probe, probe.stack_starts(), times[: steps + 2])
    at = [i for i, call in enumerate(probe.calls) if abs(call.t - float(times[steps])) <= near]
    first_own = at[-1] + 1 if at else 0  # after the last call there, as a stage of the step before may be there too
    history = ExactHistory(oracle, times[0], x, first_own, exact_in)
    output = history.mixture(sampler(history, history.stack_starts(), times))
    if history.nonlinearity > tolerance:
        raise NotApplicable("it is not affine in its start and in what the network answers")
    after, states = times[steps + 1 : -1], {}
    for call in history.calls[first_own:]:
        if len(after) and float((after - call.t).abs().min()) <= near:
            states[int((after - call.t).abs().argmin())] = call.x  # overwritten until the call that begins the step
    return [*((after[i], state) for i, state in states.items()), (times[-1], output)]


def largest_error(
    sampler: Callable[..., Images],
    oracle: GaussianOracle,
    x: Images,
    times: Tensor,
    tolerance: float = AFFINE_TOLERANCE,
    exact_in: Exact = "both",
) -> float:
    """The largest RMS distance of a sampler's states from the oracle's exact flow, after exact starting values.

    It is over all later states: at the end alone, early and late errors may cancel.
    """
    states = states_from_exact_history(sampler, oracle, x, times, tolerance=tolerance, exact_in=exact_in)
    return max(float((y - oracle.flow(x, times[0], t)).square().mean().sqrt()) for t, y in states)
