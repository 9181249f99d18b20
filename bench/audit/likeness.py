"""A sampler held against a named one, step by step: the first step in which they part, by how much and in what.

Both run on the same problem and levels, from the same starts and with the same noise. What is compared are the levels
at which they evaluate the network, their states there, and the coefficients of these states (``coefficients``), of
which the states of one problem might show nothing. The steps are those of the named method.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

from bench.audit.coefficients import Run
from bench.audit.finding import NotApplicable, Undecided
from bench.audit.opening import open_audit
from bench.audit.parting import (
    Parting,
    describe_parting,
    find_pair,
    find_shares,
    first_place,
    relative_difference,
    step_before,
    write_pair,
)
from bench.audit.subject import Subject, one_thread
from bench.audit.trials import Trial, make_trials, on_other_paths

EVERY = "every coefficient of every step"
AGREE, AT_MOST = 1e-6, 1e-4  # relative difference up to which two figures are one; the latter where states are rounded


@dataclass(frozen=True)
class Likeness:
    """What holding one sampler against another has shown: ``same``, ``parts``, or the ``error`` that stopped it.

    ``compared`` is what could be compared, ``largest`` the largest relative difference where they are the same, and
    ``agrees_on`` the paths on which the samples of the same levels agree all the same. ``left_out`` are the grids on
    which the named one raises.
    """

    sampler: str
    like: str
    verdict: Literal["same", "parts", "error"]
    says: str = ""
    compared: str = ""
    where: str = ""
    grids: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    largest: float = 0.0
    parting: Parting | None = None
    agrees_on: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give the fields for JSON; a figure that is not finite is a string, as in records."""
        fields = asdict(self)
        if self.parting is not None:
            figures = {name: fields["parting"][name] for name in ("state", "end")}
            fields["parting"] |= {name: str(v) for name, v in figures.items() if v is not None and math.isinf(v)}
        return fields

    def text(self) -> str:
        """Write the verdict and, where they part, in which step and in what, line by line."""
        lines = [f"{self.sampler} held against {self.like}"]
        if self.verdict == "error":
            lines.append(f"  error  {self.says}")
        elif self.parting is None:
            lines.append(f"  same   up to {max(self.largest, 1e-16):.1g} in {self.compared}")
            lines.append(f"         on {self.where}: {', '.join(self.grids)}")
        else:
            lines += self._parting_lines(self.parting)
        return "\n".join([*lines, *(f"  left out: {one}" for one in self.left_out)])

    def _parting_lines(self, parting: Parting) -> list[str]:
        at, step = "at the end", "the end"
        if parting.step is not None:
            between = " to ".join(f"{level:.4g}" for level in parting.levels)
            at, step = f"in step {parting.step} of {parting.steps}, sigma/alpha {between}", f"step {parting.step}"
        lines = [f"  parts  {at}  ({self.where}: {parting.grid})"]
        for share in parting.shares:
            figures = write_pair(share.own, share.like, f", {self.like} has ")
            lines.append(f"  {step}: the coefficient of {share.of} is {figures}")
        if not parting.shares:
            lines.append(f"  {step}: {parting.what}")
        if parting.only_in_law:
            lines.append("  the noise has the same variance, made of other draws: in law the step may be the same")
        if self.compared != EVERY:
            lines.append(f"  compared: {self.compared}")
        there = "" if parting.state is None else f"{parting.state:.2g} there, "
        lines.append(f"  relative difference of the states: {there}{parting.end:.2g} at the end")
        if self.agrees_on:
            lines.append(f"  at these levels the samples agree all the same on {', '.join(self.agrees_on)}")
        return lines


class Comparison(NamedTuple):
    """What one trial has shown: where two samplers part, the largest difference, and what was compared."""

    parting: Parting | None
    largest: float
    compared: str


@one_thread()
def compare(own: Subject, like: Subject) -> Likeness:
    """Hold a sampler against another: on one trial after another, until they part; see ``Likeness``."""
    found = Likeness(own.name, like.name, "same", compared=EVERY)
    opening = open_audit(own)
    if opening.fault:
        return replace(found, verdict="error", says=opening.fault)
    if opening.kept:
        return replace(found, verdict="error", says=opening.kept + _say_where_calls_part(own))
    try:
        where, trials = make_trials(own, like)
    except Undecided as reason:
        return replace(found, verdict="error", says=str(reason))
    found = replace(found, where=where)
    tolerance = min(max(AGREE, 1e3 * max(own.rounding, like.rounding)), AT_MOST)
    for trial in trials:
        theirs = _observe(trial, like, own=False)
        if isinstance(theirs, str):
            found = replace(found, left_out=(*found.left_out, f"{trial.name}, where {like.name} raises {theirs}"))
            continue
        mine = _observe(trial, own, own=True)
        if isinstance(mine, str):
            return replace(found, verdict="error", says=f"it raises {mine} in {trial.name}, {like.name} does not")
        unseen = next((one for one in (mine, theirs) if isinstance(one, NotApplicable)), None)
        if isinstance(mine, Run) and isinstance(theirs, Run):
            shown = _compare_runs(trial, own, like, mine, theirs, tolerance)
        else:
            shown = _compare_samples(trial, own, like, tolerance, f"the samples alone ({unseen})")
        found = replace(
            found, grids=(*found.grids, trial.name), parting=shown.parting, largest=max(found.largest, shown.largest),
            compared=shown.compared if found.compared == EVERY else found.compared,
        )  # fmt: skip
        if shown.parting is not None:
            others = on_other_paths(trial, own, like)
            agrees = tuple(name for name, other in others if _agree(other, own, like, tolerance))
            return replace(found, verdict="parts", agrees_on=agrees)
    if not found.grids:
        return replace(found, verdict="error", says="nothing can be compared")
    return found


def _compare_runs(trial: Trial, own: Subject, like: Subject, a: Run, b: Run, tolerance: float) -> Comparison:
    differences = [relative_difference(x, y) for x, y in zip(a.states, b.states, strict=False)]
    place = first_place(trial.path, a, b, [one > tolerance for one in differences])
    compared, pair = EVERY, None
    try:
        pair = find_pair(trial, own, like, tolerance)
    except NotApplicable as reason:
        compared = f"the levels and states at every evaluation, no coefficients ({reason})"
    if pair is not None:
        apart = pair.differences()
        in_coefficients = first_place(trial.path, pair.own.run, pair.like.run, [one > tolerance for one in apart])
        place = min((one for one in (place, in_coefficients) if one is not None), default=None)
        differences += apart
    if place is None:
        return Comparison(None, max(differences), compared)
    shares = find_shares(trial, own, like, pair, place, tolerance) if pair and place.kind == "state" else ()
    return Comparison(describe_parting(trial, a, b, place, shares, own.name, like.name), 0.0, compared)


def _compare_samples(trial: Trial, own: Subject, like: Subject, tolerance: float, compared: str) -> Comparison:
    end = relative_difference(trial.sample(own, own=True), trial.sample(like, own=False))
    if end <= tolerance:
        return Comparison(None, end, compared)
    steps = len(trial.times) - 1
    levels = trial.level(0), trial.level(steps)
    return Comparison(Parting(trial.name, None, steps, levels, "the samples differ", (), None, end), 0.0, compared)


def _agree(trial: Trial, own: Subject, like: Subject, tolerance: float) -> bool:
    """Whether the samples of a trial agree; they do not where a sampler raises."""
    try:
        return _compare_samples(trial, own, like, tolerance, "").parting is None
    except ImportError:
        raise
    except Exception:
        return False


def _observe(trial: Trial, subject: Subject, own: bool) -> Run | NotApplicable | str:
    """A sampler's run on a trial, why it cannot be watched, or what it raises; ImportError is raised on."""
    try:
        return trial.watch(subject, own)
    except NotApplicable as reason:
        return reason
    except ImportError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _say_where_calls_part(own: Subject) -> str:
    """In which step a second call parts from the first, in words; nothing where that cannot be seen."""
    try:
        trial = next(make_trials(own, own)[1])
        first, second = (trial.watch(own, own=True) for _ in range(2))
        apart = [relative_difference(x, y) > AGREE for x, y in zip(second.states, first.states, strict=False)]
        place = first_place(trial.path, second, first, apart)
        return f", from step {step_before(trial, first, place.call).number + 1} on" if place else ""
    except Exception:  # what it keeps may make any call fail
        return ""
