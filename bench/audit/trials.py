"""The trials on which two samplers are held against each other: a path, and the times that each is given on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from bench.audit.coefficients import Run, watch
from bench.audit.finding import NotApplicable, Undecided
from bench.audit.subject import Subject, normal, six_modes, state_at
from implementations.catalogue import SCHEDULES
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.path import Images, Path

FIRST, LAST = 20.0, 0.05  # sigma/alpha at the ends of the grids
UNEVEN = (0.5, 1.0, 0.5, 0.25, 0.5, 1.0, 0.5)  # steps in log-SNR, each half or twice as long as the one before
STEPS = (20, 2, 1)  # besides the first grid, of 8: many steps, below which some methods lower their order, and few
SAMPLES = 2  # as many as in the calls that open an audit: what a sampler keeps of those fits the next call


class Trial(NamedTuple):
    """A grid on which two samplers run: its name, and the times of the named one and of one's own.

    They are the same but for a scheduler as shipped, which makes its own; ``gain`` is by what it multiplies its start.
    """

    name: str
    path: Path
    times: Tensor
    own_times: Tensor
    gain: float = 1.0

    def level(self, number: int) -> float:
        """Give sigma/alpha at a time of the grid."""
        return float(self.path.ratio(self.times[number]))

    def start(self, own: bool) -> Images:
        """The states from which both start, as each is given them."""
        x = state_at(self.path, self.times[0], normal(SAMPLES))
        return x / self.gain if own else x

    def watch(self, subject: Subject, own: bool) -> Run:
        """Run a sampler on the trial, with its times as one's ``own`` or the named one's, and watch it.

        Raises NotApplicable where it asks for several times at once.
        """
        truth, times = six_modes(self.path), self.own_times if own else self.times
        try:
            return watch(subject, self.path, times, self.start(own), lambda _, x, t: truth(x, t), draw)
        except NotApplicable as reason:
            raise NotApplicable(f"{subject.name}: {reason}") from None

    def sample(self, subject: Subject, own: bool) -> Images:
        """Run a sampler on the trial for its samples alone."""
        return subject(six_modes(self.path), self.start(own), self.own_times if own else self.times, draw)


def draw(number: int, like: Images) -> Images:
    """The noise of every trial; a plain function, so that no sampler takes another stream of it."""
    return PerSampleNoise(range(len(like)), "steps")(number, like)


def make_trials(own: Subject, like: Subject) -> tuple[str, Iterator[Trial]]:
    """Where two samplers are compared, in words, and the grids there; raises Undecided where both take none."""
    if own.as_shipped:
        return "Stable Diffusion's table", _shipped_trials(own)
    name = next((name for name in own.candidates if own.runs_on(name) and like.runs_on(name)), None)
    if name is None:
        theirs = f"{own.name} runs on {', '.join(own.paths)}, {like.name} on {', '.join(like.paths)}"
        raise Undecided(f"there is no path that both take: {theirs}")
    turned = own.entry.ascending or like.entry.ascending
    ends = [clean for clean in (True, False) if _takes(own, clean) and _takes(like, clean) and not (turned and clean)]
    if not ends:
        raise Undecided("there is no grid that both take: one of them must end at sigma = 0, the other cannot")
    return f"{name} from sigma/alpha {FIRST:g}", _given_trials(own.path(name), ends, turned)


def _given_trials(path: Path, ends: list[bool], turned: bool) -> Iterator[Trial]:
    def trial(name: str, times: Tensor) -> Trial:
        times = times.flip(0) if turned else times
        return Trial(name, path, times, times)

    def karras(steps: int, clean: bool) -> Trial:
        name = f"{steps} {'steps' if steps > 1 else 'step'} to {0 if clean else LAST}"
        return trial(name, SCHEDULES["karras"](path, steps, clean=clean, sigma_min=LAST, sigma_max=FIRST))

    yield from (karras(8, clean) for clean in ends)
    if False in ends:
        log_snr = torch.tensor([0.0, *UNEVEN], dtype=torch.float64).cumsum(0) - math.log(FIRST)
        yield trial(f"{len(UNEVEN)} uneven steps", path.time(log_snr))
    yield from (karras(steps, ends[0]) for steps in STEPS)


def _takes(subject: Subject, clean: bool) -> bool:
    return subject.ends_clean if clean else subject.entry.to_data != "must"


def _shipped_trials(own: Subject) -> Iterator[Trial]:
    """The levels at which a scheduler as shipped asks the network, and the clean end; the named one is given them."""
    path = own.path()
    for steps in own.counts((8, 20)):
        own_times = own.times(path, steps)
        begin = own.first_state(path, own_times)
        seen = Trial("", path, torch.tensor([begin.t]), own_times, begin.gain).watch(own, True)
        times = sorted({call.t for call in seen.calls}, reverse=True)
        yield Trial(f"its own {steps} steps", path, torch.tensor([*times, path.t_min]).double(), own_times, begin.gain)


def on_other_paths(trial: Trial, own: Subject, like: Subject) -> Iterator[tuple[str, Trial]]:
    """The same levels on every path that both samplers take, by the name of the path."""
    levels = trial.path.log_snr(trial.times)
    for name in own.paths if not own.as_shipped else ():
        path = own.path(name)
        if name in like.paths and not (bool(levels.isinf().any()) and float(path.sigma(path.t_min)) > 0):
            times = torch.where(levels.isinf(), path.t_min, path.time(levels))
            yield name, Trial(trial.name, path, times, times)
