"""The determinism check: does the same call give the same bits, whatever was called before?"""

from __future__ import annotations

import math
import random
import warnings
from typing import NamedTuple

import numpy as np
import torch

from bench.audit.finding import Measurement
from bench.audit.opening import KEPT
from bench.audit.script import RADIUS, oracle, script, times
from bench.audit.subject import Subject, normal, six_modes, state_at
from implementations.diffusion.noise import PerSampleNoise


class Repeats(NamedTuple):
    """How equal calls of a sampler differ: ``kept`` with the same seed, ``drawn`` with noise and another seed.

    ``touched`` says that a call draws from a global generator or changes its arguments; a difference is then ``drawn``.
    """

    kept: float
    drawn: float
    touched: str = ""


def repeat(subject: Subject) -> Repeats:
    """Call a sampler three times alike, without noise and with it, the third time after another start and grid."""
    path = subject.path()
    grid, other = subject.times(path, 8), subject.times(path, 5)
    x, touched, kept, drawn = state_at(path, grid[0], normal(4)), "", 0.0, 0.0
    before, truth = (x.clone(), grid.clone()), six_modes(path)
    with_noise = {"noise": PerSampleNoise(range(4))} if subject.takes("noise") else {}
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for noise, seeds in (({}, (1, 1, 1)), (with_noise, (1, 2, 3))):
            found = []
            for seed in seeds:
                torch.manual_seed(seed)
                states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
                found.append(subject.entry(truth, x, grid, **noise, **subject.options))
                after = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
                may_draw = with_noise and not noise
                if states[1:] != after[1:] or not (may_draw or torch.equal(states[0], after[0])):
                    touched = "it draws from a global generator"
                if len(found) == 2:
                    subject.entry(truth, -x, other, **noise, **subject.options)
            differences = [float((one - found[0]).abs().max()) for one in found[1:]]
            largest = max(one if one == one else math.inf for one in differences)
            kept, drawn = (largest, drawn) if seeds == (1, 1, 1) else (kept, largest)
    if not (torch.equal(x, before[0]) and torch.equal(grid, before[1])):
        touched = "it changes its arguments"
    return Repeats(0.0, max(kept, drawn), touched) if touched else Repeats(kept, drawn)


def determinism(subject: Subject) -> Measurement:
    """A repeated call gives the same bits and leaves its arguments and the global generators alone.

    This is a check of a sampler's audit. The figure is the largest difference. One call follows an identical one, and
    one follows a call with another start and grid, so that any state that a sampler keeps between calls shows. A
    sampler that is called without noise may draw from torch's global generator, so that ``torch.manual_seed`` repeats
    it; with noise, no seed may change anything.
    """
    found = repeat(subject)
    figure = max(found.kept, found.drawn)
    kept = f"a later call differs from the first: {KEPT}" if found.kept else ""
    says = found.touched or kept or ("" if figure == 0 else "two calls of it differ")
    holds = figure == 0 and not found.touched
    return Measurement(figure, "0", holds, says, determinism_script(subject))


def determinism_script(subject: Subject) -> str:
    """A script that calls a sampler three times alike, without noise and with it, and prints the difference."""
    noise_option = "{'noise': PerSampleNoise(range(4))}" if subject.takes("noise") else "{}"
    body = f"""\
{oracle(4)}times, other = {times(subject, 8)}, {times(subject, 5)}
x = z * {RADIUS.format(t="times[0]")}
before, figure = x.clone(), 0.0
for options, seeds in (({{}}, (1, 1, 1)), ({noise_option}, (1, 2, 3))):
    found = []
    for seed in seeds:
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        found.append(sampler(oracle, x, times, **options))
        print("arguments kept:", torch.equal(x, before), "generator kept:", torch.equal(torch.get_rng_state(), state))
        if len(found) == 2:
            sampler(oracle, -x, other, **options)
    figure = max([figure, *(float((one - found[0]).abs().max()) for one in found[1:])])
print(figure)"""
    extra = "from implementations.diffusion.noise import PerSampleNoise" if subject.takes("noise") else ""
    return script(subject, body, "", "GaussianOracle SCHEDULES", extra)
