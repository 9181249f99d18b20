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
from bench.audit.script import begins, oracle, script, times
from bench.audit.subject import Subject, gaussian, normal, start
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.path import Path

LIMIT = 1e-4  # of the logarithm of sigma/alpha: peers round their levels to float32
BETWEEN = 1e-3  # as shipped: between timesteps schedulers interpolate sigma, and the path its logarithm
DATA, NOISE = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
START_STEPS = (10, 25, 50)
OWN_STEPS = (10, 40, 60, 120)  # of a scheduler as shipped


def first_level(subject: Subject) -> Measured:
    """The first state is asked at the level of ``times[0]``, however many steps follow: log of the largest ratio."""
    path, figure, says = subject.path(), 0.0, ""
    for steps in subject.counts(START_STEPS):
        grid = subject.times(path, steps)
        witness = Witness(Told(path, DATA, NOISE))
        subject(witness, _state(path, float(grid[0])), grid, witness.noise)
        if witness.batched:
            raise NotApplicable("it asks for several times at once")
        first = witness.evaluations[0]
        if first.draws and subject.draws_noise:
            raise NotApplicable("it adds noise before it asks")
        off = _log_ratio(float(path.ratio(first.t)), float(path.ratio(grid[0])))
        if off > figure:
            figure = off
            says = f"of {steps} steps the first is at sigma/alpha {float(path.ratio(first.t)):.4g}, not at " + (
                f"{float(path.ratio(grid[0])):.4g}{subject.condition}"
            )
    body = f"""\
largest = 0.0
for steps in {subject.counts(START_STEPS)}:
    times = {times(subject, "steps")}
    witness = Witness(Told(path, torch.zeros(1), torch.ones(1)))
    sampler(witness, torch.ones(1, 1, dtype=torch.float64), times)
    asked = path.ratio(witness.evaluations[0].t)
    print(steps, float(asked), "not", float(path.ratio(times[0])))
    largest = max(largest, float((asked / path.ratio(times[0])).log().abs()))
print(largest)"""
    holds = figure <= LIMIT
    return Measured(figure, f"at most {LIMIT:g}", holds, "" if holds else says,
                    script(subject, body, names="SCHEDULES Told Witness"))  # fmt: skip


def conditioning(subject: Subject) -> Measured:
    """The network is asked at the level of the state that it is given: log of the largest ratio."""
    path_name, path = _straight(subject)
    stochastic, limit = subject.draws_noise, BETWEEN if subject.own_grid else LIMIT
    figure, says, steps = 0.0, "", 40
    for n in subject.counts(OWN_STEPS) if subject.own_grid else (40,):
        *read, last = _readings(subject, path, n)
        largest, worst = max((_mismatch(one, path, stochastic), one) for one in read)
        if largest > figure:
            figure, steps = largest, n
            state = "alpha" if stochastic else "sigma/alpha"
            level = worst.alpha if stochastic else worst.sigma / worst.alpha if worst.alpha else math.inf
            asked = float((path.alpha if stochastic else path.ratio)(worst.t))
            says = f"of {n} steps a state at {state} {level:.4g} is asked for at {asked:.4g}"
    carried = _mismatch(last, path, stochastic) <= limit
    if figure > limit and not carried and not subject.own_grid:
        # its states are inexact even under Told: a step's error falls faster than the step, a wrong level does not
        coarse, fine = (_one_step_mismatch(subject, path, n, stochastic) for n in (20, 80))
        figure = 0.0 if fine <= max(LIMIT / 10, coarse / 8) else fine
    body = _conditioning_script(subject, steps, stochastic)
    text = script(subject, body, path_name, "SCHEDULES Told Witness")
    if figure > limit:
        return Measured(figure, f"at most {limit:g}", False, says, text)
    if stochastic:
        if not subject.entry.affine:
            return Measured(figure, f"at most {limit:g}", True, "by alpha: not affine in its noise", text)
        if subject.own_grid and getattr(subject.entry._resolved, "to_sigma_min", False):
            says = "by alpha: part of its states' noise is that of its network's answers, at sigma_min"
            return Measured(figure, f"at most {limit:g}", True, says, text)
        coarse, fine = (_noise_mismatch(subject, path, n) for n in (10, 40))
        if fine > limit and fine > coarse / 2:  # one that falls with the steps is the solver's own error
            text = script(subject, _variance_script(subject), path_name, "Dirac SCHEDULES Witness")
            return Measured(fine, f"at most {limit:g}", False, "by the variance of its states", text)
        figure = max(figure, fine) if fine <= limit else figure
    return Measured(figure, f"at most {limit:g}", True, "", text)


def end(subject: Subject) -> Measured:
    """Nothing but data is left where sigma = 0: the standard deviation of what noise remains."""
    if subject.entry.ascending:
        raise NotApplicable("it goes from data to noise")
    if not subject.ends_clean:
        raise NotApplicable("it has no step to sigma = 0")
    (path_name, path), limit = _straight(subject), 1e-5
    grid = subject.times(path, 10, clean=True)
    if float(path.sigma(grid[-1])) > 0:
        raise NotApplicable("its path has no clean end")
    if subject.draws_noise:
        if not subject.entry.affine:
            raise NotApplicable("its output is not affine in its noise, so that its law takes sampling")
        figure = float(_responses(subject, path, grid)[-1].square().sum().sqrt())
        extra = "from implementations.diffusion.law import Law, output_law"
        body = f"""\
oracle = GaussianOracle(path, torch.zeros(1).double(), 1e-30)  # data that are all 0
times = {times(subject, 10, clean=True)}
start = Law(torch.zeros(1).double(), path.sigma(times[0])[None] ** 2)
print(float(output_law(sampler, oracle, times, start=start).variance.sqrt()))"""
        names = "GaussianOracle SCHEDULES"
    else:
        begin = subject.begins(path, grid)
        last = subject(Told(path, DATA, NOISE), _state(path, begin.t) / begin.gain, grid)
        figure = abs(float(last[0, 1]))
        body = f"""\
times = {times(subject, 10, clean=True)}
told = Told(path, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))  # data and noise: a state reads (alpha, sigma)
begin = Witness(told)
sampler(begin, torch.ones(1, 2).double(), times)
t, gain = {begins(subject, "begin")}
alpha, sigma = sampler(told, torch.tensor([[path.alpha(t), path.sigma(t)]]).double() / gain, times)[0]
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
        grid = subject.times(path, steps, clean=subject.ends_clean)
        witness = Witness(gaussian(path))
        begin = subject.begins(path, grid)
        last = subject(witness, start(path, begin.t, normal(4)) / begin.gain, grid, PerSampleNoise(range(4)))
        if witness.batched:
            raise NotApplicable("it asks for several times at once")
        states = [*(one.x for one in witness.evaluations), last]
        still = [i for i, (a, b) in enumerate(pairwise(states)) if _same(a, b, still_to)]
        if len(still) > figure:
            figure = len(still)
            says = f"of {steps} steps, evaluation {still[-1] + 1} of {len(states) - 1}{subject.condition}"
    body = f"""\
{oracle(4)}for steps in (5, 10, 20):
    times, witness = {times(subject, "steps", clean=subject.ends_clean)}, Witness(oracle)
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
    last = subject(witness, _state(path, begin.t) / begin.gain, grid, witness.noise)
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
            figure = max(figure, _mismatch(Reading(one.t, *one.x[0].double().tolist()), path, stochastic))
    return figure


def _mismatch(reading: Reading, path: Path, stochastic: bool) -> float:
    """Log of the ratio between the state's sigma/alpha and that asked; of alphas where noise stands in for sigma."""
    alpha, sigma = float(path.alpha(reading.t)), float(path.sigma(reading.t))
    if stochastic:
        return _log_ratio(reading.alpha, alpha)
    if max(abs(reading.alpha), alpha) < 1e-4 * sigma:  # both are noise
        return _log_ratio(reading.sigma, sigma)
    return _log_ratio(
        reading.sigma / reading.alpha if reading.alpha else math.inf, sigma / alpha if alpha else math.inf
    )


def _responses(subject: Subject, path: Path, grid: Tensor) -> list[Tensor]:
    """Of every state and the output: its responses to the start and to each draw, on data that are all 0."""
    begin = subject.begins(path, grid)
    counting = Witness(Dirac(path))
    subject(counting, torch.zeros(1, 1, dtype=torch.float64), grid, counting.noise)
    rows = torch.arange(counting.draws + 1)

    def impulse(draw: int, like: Tensor) -> Tensor:
        return (rows == draw + 1).to(like)[:, None].expand_as(like)

    witness = Witness(Dirac(path))
    x = impulse(-1, torch.empty(len(rows), 1, dtype=torch.float64)) * (float(path.sigma(begin.t)) / begin.gain)
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
t, gain = {begins(subject, "first")}
x = torch.tensor([[path.alpha(t), path.sigma(t)]]).double() / gain
sampler(witness, x, times{", noise=witness.noise" if stochastic else ""})
largest = 0.0
for one in witness.evaluations:
    {state}
    largest = max(largest, abs(torch.tensor(state / asked).log().item()))
    print(f"asked at {{asked:.6g}}, a state at {{state:.6g}}")
print(largest)"""


def _variance_script(subject: Subject) -> str:
    return f"""\
times, first = {times(subject, 40)}, Witness(Dirac(path))  # data that are all 0
sampler(first, torch.ones(1, 1).double(), times, noise=first.noise)
rows, (t, gain) = torch.arange(first.draws + 1), ({begins(subject, "first")})

def unit(draw, like):
    return (rows == draw + 1).to(like)[:, None].expand_as(like)

witness = Witness(Dirac(path))
x = unit(-1, torch.empty(len(rows), 1).double()) * path.sigma(t) / gain
sampler(witness, x, times, noise=unit)
print(max(abs(float((one.x.square().sum().sqrt() / path.sigma(one.t)).log())) for one in witness.evaluations))"""
