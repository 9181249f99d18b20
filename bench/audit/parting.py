"""The first place where the runs of two samplers part: in which step, and in what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bench.audit.coefficients import VIEWS, Coefficients, Run, Step, find_coefficients, relate
from bench.audit.finding import NotApplicable
from bench.audit.subject import Subject
from bench.audit.trials import Trial
from implementations.diffusion.denoiser import Head
from implementations.diffusion.path import Path

SAME_LEVEL = 1e-5  # relative difference up to which two levels are one


@dataclass(frozen=True)
class Share:
    """A coefficient in which two samplers part: what it is ``of``, its value in one's ``own`` and in the named one."""

    of: str
    own: float
    like: float


@dataclass(frozen=True)
class Parting:
    """The first place where two samplers part on a ``grid``.

    ``step`` counts from 1, of ``steps``, from and to ``levels`` (sigma/alpha); it is None where only samples could be
    compared. ``what`` says what differs, and ``shares`` are the coefficients that do. ``state`` and ``end`` are the
    relative differences of the states there, where there are any to compare, and of the samples.
    """

    grid: str
    step: int | None
    steps: int
    levels: tuple[float, float]
    what: str
    shares: tuple[Share, ...]
    state: float | None
    end: float

    @property
    def only_in_law(self) -> bool:
        """Whether only the noise differs, and not its variance, so that the step may be the same in law."""
        own, like = (sum(getattr(share, side) ** 2 for share in self.shares) for side in ("own", "like"))
        noise = bool(self.shares) and all("noise" in share.of for share in self.shares)
        return noise and abs(own - like) <= 1e-6 * like


class Place(NamedTuple):
    """Where two runs part: at the evaluation ``call`` of the named one, or its output, in level, state or number."""

    call: int
    kind: Literal["level", "number", "state"]


class Pair(NamedTuple):
    """The coefficients of two samplers in one view."""

    own: Coefficients
    like: Coefficients

    @property
    def answers(self) -> int:
        """The larger number of answers of the network."""
        return max(one.answers for one in self)

    def differences(self) -> list[float]:
        """The largest difference of the coefficients of each state, in units of the largest of them."""
        own, like = (self.pad(one, one.rows) for one in self)
        apart = [(a - b).abs().max() / torch.maximum(a.abs(), b.abs()).max().clamp(min=1e-3)
                 for a, b in zip(own, like, strict=False)]  # fmt: skip
        return [float(one) for one in apart]

    def pad(self, one: Coefficients, rows: Tensor) -> Tensor:
        """Rows of one of the two, in the columns of both: the answers and draws that it does not have count 0."""
        draws = max(each.run.draws for each in self)
        known = [one.answers, one.run.draws, 1]
        head, told, drawn, constant = rows.split([rows.shape[-1] - sum(known), *known], -1)
        wide = torch.nn.functional.pad(told, (0, self.answers - one.answers))
        return torch.cat([head, wide, torch.nn.functional.pad(drawn, (0, draws - one.run.draws)), constant], -1)


def find_pair(trial: Trial, own: Subject, like: Subject, tolerance: float, view: Head = "x0") -> Pair:
    """Find the coefficients of both samplers; raises NotApplicable, which says for which of them there are none."""
    found = []
    for subject, times, gain in ((own, trial.own_times, trial.gain), (like, trial.times, 1.0)):
        try:
            if subject.entry.adaptive:
                raise NotApplicable("it chooses its steps")
            if not subject.entry.affine:
                raise NotApplicable("it is not affine in its start, in what the network answers and in its noise")
            found.append(find_coefficients(subject, trial.path, times, view, tolerance, gain))
        except NotApplicable as reason:
            raise NotApplicable(f"{subject.name}: {reason}") from None
        except FloatingPointError:  # the answers are no data
            raise NotApplicable(f"{subject.name}: it is not finite where the network's answers are free") from None
    return Pair(*found)


def first_place(path: Path, own: Run, like: Run, apart: list[bool]) -> Place | None:
    """Find the first evaluation at which two runs part; ``apart`` says of which states they do."""
    for call, (a, b) in enumerate(zip(own.calls, like.calls, strict=False)):
        asked, wanted = float(path.ratio(a.t)), float(path.ratio(b.t))
        if abs(asked - wanted) > SAME_LEVEL * wanted:
            return Place(call, "level")
        if apart[call]:
            return Place(call, "state")
    if len(own.calls) != len(like.calls):
        return Place(min(len(own.calls), len(like.calls)), "number")
    return Place(len(like.calls), "state") if apart[-1] else None


def describe_parting(
    trial: Trial, own: Run, like: Run, place: Place, shares: tuple[Share, ...], name: str, other: str
) -> Parting:
    """Say in which step of the named sampler, ``other``, two runs part, and in what."""
    call = place.call
    state = relative_difference(own.states[call], like.states[call])
    leads = place.kind == "state" or (place.kind == "level" and state > SAME_LEVEL)
    step = step_before(trial, like, call) if leads else step_of(like, call)
    steps = len(trial.times) - 1
    if place.kind == "number":
        what = f"{name} evaluates the network {len(own.calls)} times in {steps} steps, {other} {len(like.calls)} times"
    elif place.kind == "level":
        asked, wanted = (float(trial.path.ratio(run.calls[call].t)) for run in (own, like))
        nth = f"evaluation {call - step.call + 1} of the step" if call > step.call else "the network"
        what = f"{nth} is asked at sigma/alpha {write_pair(asked, wanted, f', {other} at ')}"
    elif call == 0:
        what = "the state of the first evaluation differs"
    else:
        what = "the state differs" if call < len(like.calls) else "the samples differ"
    return Parting(
        trial.name, step.number + 1, steps, (trial.level(step.number), trial.level(step.number + 1)), what, shares,
        state if place.kind == "state" else None, relative_difference(own.output, like.output),
    )  # fmt: skip


def step_of(run: Run, call: int) -> Step:
    """Give the step of which a call is an evaluation."""
    return max((step for step in run.steps if step.call <= call), default=Step(0, 0))


def step_before(trial: Trial, run: Run, call: int) -> Step:
    """Give the step that leads to the state of a call: of a call that begins one at its time, the one before."""
    here = step_of(run, call)
    begins = here.call == call < len(run.calls) and abs(run.calls[call].t - float(trial.times[here.number])) <= 1e-9
    return max((step for step in run.steps if step.call < call), default=here) if begins else here


def find_shares(
    trial: Trial, own: Subject, like: Subject, pair: Pair, place: Place, tolerance: float
) -> tuple[Share, ...]:
    """The coefficients in which two samplers' states part, in the view in which the named one has fewest.

    They are of the state with which the step begins, of the predictions from the newest on, and of the noise.
    """
    tried = [pair]
    for view in VIEWS[1:]:
        try:
            tried.append(find_pair(trial, own, like, tolerance, view))
        except NotApplicable:
            continue
    best = min(tried, key=lambda each: _length(each.like))
    before = _begin(best.like.run, place.call)
    a, b = (best.pad(one, relate(one, place.call, before.call)) for one in best)
    names = _name_columns(best, before, len(a))
    scale = float(torch.maximum(a.abs(), b.abs()).max())
    off = [k for k in range(len(a)) if abs(float(a[k] - b[k])) > tolerance * scale]
    order = [0, 1, *range(1 + best.answers, 1, -1), *range(2 + best.answers, len(a))]
    return tuple(Share(names[k], float(a[k]), float(b[k])) for k in order if k in off)


def _begin(run: Run, state: int) -> Step:
    """The step in which a state is made."""
    return max((step for step in run.steps if step.call < state), default=Step(0, 0))


def _length(found: Coefficients) -> int:
    """How many coefficients of a sampler's states are not 0, written by the states with which their steps began."""
    rows = [relate(found, k, _begin(found.run, k).call).abs() for k in range(1, len(found.rows))]
    return sum(int((row > 1e-9 * row.max()).sum()) for row in rows)


def _name_columns(pair: Pair, begin: Step, columns: int) -> list[str]:
    """What the columns of a row of ``relate`` are called, seen from a step."""
    run, view = pair.like.run, pair.like.view
    order = [step.call for step in run.steps]

    def name_answer(call: int) -> str:
        home = max((at for at in order if at <= call), default=0)
        back = order.index(begin.call) - order.index(home) if {begin.call, home} <= set(order) else 0
        stage = f" of evaluation {call - home + 1}" if call > home else ""
        ago = f" {back} steps before" if back > 1 else ""
        return f"the {'previous ' if back == 1 else ''}{view} prediction{stage}{ago}"

    first = run.calls[begin.call].draws if run.calls else 0

    def name_draw(number: int) -> str:
        if number < first:
            return f"the noise of draw {number + 1}, before the step"
        return "the noise" if number == first else f"the noise of the step's draw {number - first + 1}"

    draws = columns - pair.answers - 3
    return ["the state", "the start", *map(name_answer, range(pair.answers)), *map(name_draw, range(draws)),
            "the constant"]  # fmt: skip


def relative_difference(a: Tensor, b: Tensor) -> float:
    """The root mean square of a difference, in units of that of ``b``; infinite where it is not finite."""
    off = (a - b).double().square().mean().sqrt() / b.double().square().mean().sqrt().clamp(min=1e-12)
    return float(off) if bool(off.isfinite()) else float("inf")


def write_pair(a: float, b: float, between: str) -> str:
    """Write two figures with as many digits as tell them apart, four at least."""
    digits = next((n for n in (4, 6, 8) if f"{a:.{n}g}" != f"{b:.{n}g}"), 12)
    return f"{a:.{digits}g}{between}{b:.{digits}g}"
