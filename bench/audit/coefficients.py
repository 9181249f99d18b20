"""The coefficients of a sampler's steps, read off its states where what the network answers is free.

A sampler without adaptive steps is affine in its start, in the answers of the network and in its noise, and treats each
number of the state by itself. In a batch whose rows have one of these inputs at 1 and all others at 0, the state at any
evaluation then shows its coefficient of each. The answers are given as one view (x0, eps, ...), of which the other
views are made with the state, as a network would have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.audit.finding import NotApplicable
from bench.audit.subject import Subject
from implementations.diffusion.denoiser import Denoiser, Head, Prediction
from implementations.diffusion.path import Images, Path, Time
from implementations.peers.draws import LentDraws

VIEWS: tuple[Head, ...] = ("x0", "eps", "velocity", "v")


class Call(NamedTuple):
    """A call of the network by a sampler: its time and state, and how many draws of noise came before it."""

    t: float
    x: Images
    draws: int


class Step(NamedTuple):
    """Where a step of a sampler begins: the number of the evaluation, and that of the step on its grid, from 0."""

    call: int
    number: int


class Run(NamedTuple):
    """What a run of a sampler shows: its calls of the network, its steps, and its output."""

    calls: list[Call]
    steps: list[Step]
    output: Images
    draws: int

    @property
    def states(self) -> list[Images]:
        """The state at each call, and the output."""
        return [*(call.x for call in self.calls), self.output]


class Watched(Denoiser):
    """A denoiser that answers by a function of the call's number, and keeps the calls; one time in each.

    It has no flow map of its own: a few-step method gets one step of the prediction.
    """

    def __init__(self, path: Path, answer: Callable[[int, Images, Tensor], Prediction]):
        self.path, self.answer = path, answer
        self.calls: list[Call] = []
        self.answers: list[Prediction] = []
        self.numbers: dict[int, int] = {}  # draws in the order in which they were made

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        times = torch.as_tensor(t, dtype=torch.float64).flatten()
        if len(times) > 1 and len(times.unique()) > 1:
            raise NotApplicable("it asks for several times at once")
        prediction = self.answer(len(self.calls), x, times[0])
        self.calls.append(Call(float(times[0]), x.detach().clone(), len(self.numbers)))
        self.answers.append(prediction)
        return prediction

    def find(self, prediction: Prediction) -> int:
        """The number of the call that was answered with this prediction, or of the last one at its time."""
        for number, answer in enumerate(self.answers):
            if answer is prediction:
                return number
        t = float(prediction.t.flatten()[0])
        return max((number for number, call in enumerate(self.calls) if call.t == t), default=0)


def watch(
    subject: Subject,
    path: Path,
    times: Tensor,
    x: Images,
    answer: Callable[[int, Images, Tensor], Prediction],
    draw: Callable[[int, Images], Images],
) -> Run:
    """Run a sampler on a denoiser that answers by ``answer(call, x, t)``, with the noise ``draw(k, like)``.

    Its draws are numbered from 0 in the order in which it makes them, whatever it calls them; what it draws from torch
    is drawn here, too. Raises NotApplicable where it asks for several times at once.
    """
    watched = Watched(path, answer)
    steps: list[Step] = []

    def noise(number: int, like: Images) -> Images:
        return draw(watched.numbers.setdefault(number, len(watched.numbers)), like)

    def own_draw(like: Images) -> Images:
        return noise(-1 - len(watched.numbers), like)

    def listen(i: int, t: Any, state: Images, prediction: Prediction) -> None:
        steps.append(Step(watched.find(prediction), i))

    with LentDraws(own_draw, x):
        output = subject(watched, x, times, noise, listen)
    return Run(watched.calls, steps or _steps_by_time(watched.calls, times), output, len(watched.numbers))


def _steps_by_time(calls: list[Call], times: Tensor) -> list[Step]:
    """The steps of a sampler without a callback: each begins at the last call at a time of the grid."""
    found = []
    for number, time in enumerate(times[:-1].tolist()):
        at = [k for k, call in enumerate(calls) if abs(call.t - time) <= 1e-6 * max(abs(time), 1e-3)]
        if at:
            found.append(Step(at[-1], number))
    return found


class Coefficients(NamedTuple):
    """What every state of a sampler is made of: per state a row of coefficients.

    Its columns are the start, the answers of the network in one ``view``, the draws of noise, and the number 1.
    """

    run: Run
    rows: Tensor  # (states, 1 + answers + draws + 1)
    view: Head

    @property
    def answers(self) -> int:
        """How many answers of the network there are."""
        return len(self.run.calls)


def find_coefficients(
    subject: Subject, path: Path, times: Tensor, view: Head, tolerance: float, gain: float = 1.0
) -> Coefficients:
    """Read the coefficients of a sampler's states, with the answers of the network free in one ``view``.

    A start of 1 is passed in as 1/``gain``. Raises NotApplicable where it is not affine in these inputs, up to
    ``tolerance`` of the largest coefficient of a state, or evaluates the network at several times in one call.
    """

    def run(x: Images, value: Callable[[int, Images], Images]) -> Run:
        def answer(call: int, x: Images, t: Tensor) -> Prediction:
            return Prediction(path, x, t, **{view: value(1 + call, x)})  # type: ignore[arg-type]

        return watch(subject, path, times, x, answer, lambda k, like: value(-1 - k, like))

    zero = run(torch.zeros(1, 1, dtype=torch.float64), lambda _, like: torch.zeros_like(like))
    answers, draws = len(zero.calls), zero.draws
    n = 1 + answers + draws
    mixture = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = torch.cat([torch.eye(n, dtype=torch.float64), mixture[None], torch.zeros(1, n, dtype=torch.float64)])

    def value(place: int, like: Images) -> Images:
        column = place if place >= 0 else answers - place
        if column >= n:
            raise NotApplicable("how often it evaluates the network or draws depends on what the network answers")
        return inputs[:, column, None].to(like)

    full = run(inputs[:, :1] / gain, value)
    if len(full.calls) != answers or full.draws != draws:
        raise NotApplicable("how often it evaluates the network or draws depends on what the network answers")
    rows = []
    for state in full.states:
        *units, mixed, nothing = state.flatten().double()
        found = torch.stack(units) - nothing
        off = float((mixture @ found - (mixed - nothing)).abs())
        if not off <= tolerance * float(found.abs().max().clamp(min=1e-3)) * n:
            raise NotApplicable("it is not affine in its start, in what the network answers and in its noise")
        rows.append(torch.cat([found, nothing[None]]))
    return Coefficients(full, torch.stack(rows), view)


def relate(found: Coefficients, state: int, begin: int) -> Tensor:
    """Write the row of a state with the state at evaluation ``begin`` in place of what that one is made of.

    Its first entry is the coefficient of that state, the others are the columns of ``Coefficients``. It is chosen so
    that of the start and the draws before ``begin``, that which weighs most in that state has no other share in this
    one: in the view in which a method is written, none of what lies before its history has.
    """
    row, base = found.rows[state], found.rows[begin]
    if state <= begin:
        return torch.cat([row.new_zeros(1), row])
    earlier = [0, *range(1 + found.answers, 1 + found.answers + found.run.calls[begin].draws)]
    pivot = max(earlier, key=lambda column: abs(float(base[column])))
    weight = row[pivot] / base[pivot] if abs(float(base[pivot])) > 1e-12 else row.new_zeros(())
    rest = row - weight * base
    rest[pivot] = 0.0
    return torch.cat([weight[None], rest])
