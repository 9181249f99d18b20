"""Is every state at the level that it is taken for: at the start, where the network is asked, and at the end.

Read off the states, and off nothing that the sampler states of itself. Under ``Told`` a state of two numbers reads
(alpha, sigma). Where noise is drawn, alpha is read without noise, and sigma is the root of the sum of the squared
responses to the start and to each draw.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from bench.audit.finding import Measured, NotApplicable
from bench.audit.probe import Dirac, Reading, Told, Witness
from bench.audit.script import oracle, script, times
from bench.audit.subject import Subject, gaussian, normal, start
from implementations.diffusion import Path
from implementations.samplers.noise import PerSampleNoise

LIMIT = 1e-4  # of the logarithm of sigma/alpha: peers round their levels to float32
DATA, NOISE = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
START_STEPS = (10, 25, 50)
OWN_STEPS = (10, 40, 60, 120)  # of a scheduler as shipped


def first_level(subject: Subject) -> Measured:
    """The first state is asked at the level of ``times[0]``, however many steps follow: log of the largest ratio."""
    path, figure, says = subject.path(), 0.0, ""
    for steps in START_STEPS:
        grid = subject.times(path, steps)
        witness = Witness(Told(path, DATA, NOISE))
        subject(witness, _state(path, float(grid[0])), grid, witness.noise)
        first = witness.evaluations[0]
        if first.draws and subject.draws_noise:
            raise NotApplicable("it adds noise before it asks")
        off = _log_ratio(float(path.ratio(first.t)), float(path.ratio(grid[0])))
        if off > figure:
            figure = off
            says = f"of {steps} steps the first is at sigma/alpha {float(path.ratio(first.t)):.4g}, not at " + (
                f"{float(path.ratio(grid[0])):.4g}"
            )
    body = f"""\
for steps in {START_STEPS}:
    times = {times(subject, "steps")}
    witness = Witness(Told(path, torch.zeros(1), torch.ones(1)))
    sampler(witness, torch.ones(1, 1, dtype=torch.float64), times)
    asked = path.ratio(witness.evaluations[0].t)
    print(steps, float(asked), float((asked / path.ratio(times[0])).log().abs()))"""
    holds = figure <= LIMIT
    return Measured(figure, f"at most {LIMIT:g}", holds, "" if holds else says,
                    script(subject, body, names="SCHEDULES Told Witness"))  # fmt: skip


def conditioning(subject: Subject) -> Measured:
    """The network is asked at the level of the state that it is given: log of the largest ratio."""
    path_name, path = _straight(subject)
    stochastic = subject.draws_noise
    figure, says, steps = 0.0, "", 40
    for n in OWN_STEPS if subject.own_grid else (40,):
        *read, last = _readings(subject, path, n)
        off = [(_log_ratio(_level(one, path, stochastic), float(path.ratio(one.t))), one) for one in read]
        largest, worst = max(off, key=lambda pair: pair[0])
        if largest > figure:
            figure, steps, level = largest, n, _level(worst, path, stochastic)
            says = f"of {n} steps a state at sigma/alpha {level:.4g} is asked for at {float(path.ratio(worst.t)):.4g}"
    carried = _log_ratio(_level(last, path, stochastic), float(path.ratio(last.t))) <= LIMIT
    if figure > LIMIT and not carried and not subject.own_grid:
        # its states are inexact even under Told: a step's error falls faster than the step, a wrong level does not
        coarse, fine = (_one_step_mismatch(subject, path, n, stochastic) for n in (20, 80))
        figure = 0.0 if fine <= max(LIMIT / 10, coarse / 8) else fine
    body = _conditioning_script(subject, steps, stochastic)
    text = script(subject, body, path_name, "SCHEDULES Told Witness")
    if figure > LIMIT:
        return Measured(figure, f"at most {LIMIT:g}", False, says, text)
    if stochastic:
        if not subject.entry.affine:
            return Measured(figure, f"at most {LIMIT:g}", True, "by alpha: not affine in its noise", text)
        coarse, fine = (_noise_mismatch(subject, path, n) for n in (10, 40))
        if fine > LIMIT and fine > coarse / 2:  # one that falls with the steps is the solver's own error
            return Measured(fine, f"at most {LIMIT:g}", False, "by the variance of its states", text)
        figure = max(figure, fine) if fine <= LIMIT else figure
    return Measured(figure, f"at most {LIMIT:g}", True, "", text)


def end(subject: Subject) -> Measured:
    """Nothing but data is left where sigma = 0: the standard deviation of what noise remains."""
    if subject.entry.ascending:
        raise NotApplicable("it goes from data to noise")
    (path_name, path), limit = _straight(subject), 1e-5
    grid = subject.times(path, 10, clean=True)
    if float(path.sigma(grid[-1])) > 0:
        raise NotApplicable("its path has no clean end")
    if subject.draws_noise:
        if not subject.entry.affine:
            raise NotApplicable("its output is not affine in its noise, so that its law takes sampling")
        figure = float(_responses(subject, path, grid)[-1].square().sum().sqrt())
        extra = "from bench.laboratory import Law, output_law"
        body = f"""\
oracle = GaussianOracle(path, torch.zeros(1).double(), 1e-30)  # data that are all 0
times = {times(subject, 10, clean=True)}
start = Law(torch.zeros(1).double(), path.sigma(times[0])[None] ** 2)
print(float(output_law(sampler, oracle, times, start=start).variance.sqrt()))"""
        names = "GaussianOracle SCHEDULES"
    else:
        begin = subject.begins(path, grid)
        figure = abs(float(subject(Told(path, DATA, NOISE), _state(path, begin), grid)[0, 1]))
        body = f"""\
times = {times(subject, 10, clean=True)}
told = Told(path, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))  # data and noise: a state reads (alpha, sigma)
begin = Witness(told)
sampler(begin, torch.ones(1, 2).double(), times)
t = begin.evaluations[0].t
alpha, sigma = sampler(told, torch.tensor([[path.alpha(t), path.sigma(t)]]).double(), times)[0]
print(abs(float(sigma)))"""
        names, extra = "SCHEDULES Told Witness", ""
    says = "" if figure <= limit else "noise is left at the end"
    return Measured(figure, f"at most {limit:g}", figure <= limit, says, script(subject, body, path_name, names, extra))


def idle(subject: Subject) -> Measured:
    """Every evaluation moves the state: how many change nothing."""
    if subject.entry.adaptive:
        raise NotApplicable("it takes steps that it rejects from the same state")
    path, figure, says = subject.path(), 0, ""
    still_to = 1e-6 if subject.peer else 1e-10  # relative: peers round their levels to float32
    for steps in (5, 10, 20):
        grid = subject.times(path, steps, clean=True)
        witness = Witness(gaussian(path))
        x = start(path, subject.begins(path, grid), normal(4))
        last = subject(witness, x, grid, PerSampleNoise(range(4)))
        if witness.batched:
            raise NotApplicable("it asks for several times at once")
        states = [*(one.x for one in witness.evaluations), last]
        still = [i for i, (a, b) in enumerate(pairwise(states)) if _same(a, b, still_to)]
        if len(still) > figure:
            figure, says = len(still), f"of {steps} steps, evaluation {still[-1] + 1} of {len(states) - 1}"
    body = f"""\
{oracle(4)}for steps in (5, 10, 20):
    times, witness = {times(subject, "steps", clean=True)}, Witness(oracle)
    last = sampler(witness, z, times)
    states = [*(one.x for one in witness.evaluations), last]
    print(steps, sum(torch.allclose(a, b, rtol={still_to}, atol={still_to}) for a, b in zip(states, states[1:])))"""
    return Measured(figure, "0", figure == 0, says, script(subject, body, names="GaussianOracle SCHEDULES Witness"))


def _straight(subject: Subject) -> tuple[str, Path]:
    """The path on which Told is exact in t too, if it is taken."""
    name = "RectifiedFlow()" if "RectifiedFlow()" in subject.paths else subject.path_name
    return name, subject.path(name)


def _state(path: Path, t: float) -> Tensor:
    return torch.tensor([[float(path.alpha(t)), float(path.sigma(t))]], dtype=torch.float64)


def _readings(subject: Subject, path: Path, steps: int) -> list[Reading]:
    """Every state at which the network is asked, and the output; of a parallel sampler the last at each time."""
    grid = subject.times(path, steps)
    begin = subject.begins(path, grid)
    witness = Witness(Told(path, DATA, NOISE))
    last = subject(witness, _state(path, begin), grid, witness.noise)
    evaluations = witness.evaluations
    if witness.batched:
        evaluations = list({one.t: one for one in evaluations}.values())
    read = [Reading(one.t, *one.x[0].double().tolist()) for one in evaluations]
    return [*read, Reading(float(grid[-1]), *last[0].double().tolist())]


def _one_step_mismatch(subject: Subject, path: Path, steps: int, stochastic: bool) -> float:
    """The largest of all steps of a grid, each of which begins at an exact state."""
    grid, figure = subject.times(path, steps), 0.0
    for i in range(steps):
        witness = Witness(Told(path, DATA, NOISE))
        subject(witness, _state(path, float(grid[i])), grid[i : i + 2], witness.noise)
        for one in witness.evaluations:
            level = _level(Reading(one.t, *one.x[0].double().tolist()), path, stochastic)
            figure = max(figure, _log_ratio(level, float(path.ratio(one.t))))
    return figure


def _level(reading: Reading, path: Path, stochastic: bool) -> float:
    """Sigma over alpha, of alpha alone where noise takes the place of part of sigma."""
    if not stochastic:
        return reading.sigma / reading.alpha if reading.alpha else math.inf
    if float(path.alpha(path.t_max)) == float(path.alpha(path.t_min)):
        return float(path.ratio(reading.t))  # alpha says nothing on this path
    low, high = path.t_min, path.t_max
    for _ in range(60):  # alpha falls with t
        middle = (low + high) / 2
        low, high = (middle, high) if float(path.alpha(middle)) > reading.alpha else (low, middle)
    return float(path.ratio(high))


def _responses(subject: Subject, path: Path, grid: Tensor) -> list[Tensor]:
    """Of every state and the output: its responses to the start and to each draw, on data that are all 0."""
    begin = subject.begins(path, grid)
    counting = Witness(Dirac(path))
    subject(counting, torch.zeros(1, 1, dtype=torch.float64), grid, counting.noise)
    rows = torch.arange(counting.draws + 1)

    def impulse(draw: int, like: Tensor) -> Tensor:
        return (rows == draw + 1).to(like)[:, None].expand_as(like)

    witness = Witness(Dirac(path))
    x = impulse(-1, torch.empty(len(rows), 1, dtype=torch.float64)) * float(path.sigma(begin))
    last = subject(witness, x, grid, impulse)
    return [*(one.x for one in witness.evaluations), last]


def _noise_mismatch(subject: Subject, path: Path, steps: int) -> float:
    """Log of the largest ratio between the deviation of a state and the sigma that is asked for it."""
    grid = subject.times(path, steps)
    witness = Witness(Dirac(path))
    subject(witness, torch.zeros(1, 1, dtype=torch.float64), grid, witness.noise)
    if witness.batched:
        raise NotApplicable("it asks for several times at once")
    deviations = [float(x.square().sum().sqrt()) for x in _responses(subject, path, grid)[:-1]]
    asked = [float(path.sigma(one.t)) for one in witness.evaluations]
    return max(_log_ratio(a, b) for a, b in zip(deviations, asked, strict=True))


def _log_ratio(a: float, b: float) -> float:
    if a == b:
        return 0.0
    return abs(math.log(a / b)) if a > 0 and b > 0 and math.isfinite(a / b) else math.inf


def _same(a: Tensor, b: Tensor, to: float) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=to, atol=to)


def _conditioning_script(subject: Subject, steps: int, stochastic: bool) -> str:
    state = "asked, state = float(path.ratio(one.t)), float(one.x[0, 1] / one.x[0, 0])"
    if stochastic:
        state = "asked, state = float(path.alpha(one.t)), float(one.x[0, 0])"
    return f"""\
told = Told(path, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))  # data and noise: a state reads (alpha, sigma)
times, first, witness = {times(subject, steps)}, Witness(told), Witness(told)
sampler(first, torch.ones(1, 2).double(), times{", noise=first.noise" if stochastic else ""})
t = first.evaluations[0].t
x = torch.tensor([[path.alpha(t), path.sigma(t)]]).double()
sampler(witness, x, times{", noise=witness.noise" if stochastic else ""})
largest = 0.0
for one in witness.evaluations:
    {state}
    largest = max(largest, abs(torch.tensor(state / asked).log().item()))
    print(f"asked at {{asked:.6g}}, a state at {{state:.6g}}")
print(largest)"""
