"""Checks of noise levels: is every state at the level that the sampler takes it to be at?

Levels are read off the states and not off anything that the sampler states of itself. With ``ConstantDenoiser`` a state
of two numbers reads (alpha, sigma). For a sampler that draws noise, alpha is read from a run without noise, and sigma
is the root of the sum of the squared responses of the state to the start and to each draw.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from bench.audit.finding import Measurement, NotApplicable
from bench.audit.probe import ConstantDenoiser, Dirac, Reading, RecordingDenoiser
from bench.audit.script import first_state, oracle, script, times
from bench.audit.subject import Subject, normal, six_modes, state_at
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.path import Path

LIMIT = 1e-4  # difference of log(sigma/alpha); other libraries round their levels to float32
BETWEEN = 1e-3  # the same for schedulers as shipped, which interpolate sigma between timesteps, and the path its log
DATA, NOISE = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
START_STEPS = (10, 25, 50)
OWN_STEPS = (10, 40, 60, 120)  # for schedulers as shipped


def first_level(subject: Subject) -> Measurement:
    """The network is first evaluated at the level of ``times[0]``, for any number of steps.

    This is a check of a sampler's audit. The figure is the largest absolute log ratio of sigma/alpha between the two.
    """
    path, figure, says = subject.path(), 0.0, ""
    for steps in subject.counts(START_STEPS):
        grid = subject.times(path, steps)
        recorder = RecordingDenoiser(ConstantDenoiser(path, DATA, NOISE))
        subject(recorder, _state(path, float(grid[0])), grid, recorder.noise)
        if recorder.batched:
            raise NotApplicable("it asks for several times at once")
        first = recorder.calls[0]
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
    recorder = RecordingDenoiser(ConstantDenoiser(path, torch.zeros(1), torch.ones(1)))
    sampler(recorder, torch.ones(1, 1, dtype=torch.float64), times)
    asked = path.ratio(recorder.calls[0].t)
    print(steps, float(asked), "not", float(path.ratio(times[0])))
    largest = max(largest, float((asked / path.ratio(times[0])).log().abs()))
print(largest)"""
    holds = figure <= LIMIT
    return Measurement(figure, f"at most {LIMIT:g}", holds, "" if holds else says,
                       script(subject, body, names="SCHEDULES ConstantDenoiser RecordingDenoiser"))  # fmt: skip


def conditioning(subject: Subject) -> Measurement:
    """The network is always evaluated at the level of the state that it is given.

    This check of a sampler's audit reads the level sigma/alpha of a state off the state. The figure is the largest
    absolute log ratio between that and the level asked for.
    """
    path_name, path = _straight(subject)
    stochastic, limit = subject.draws_noise, BETWEEN if subject.as_shipped else LIMIT
    figure, says, steps = 0.0, "", 40
    for n in subject.counts(OWN_STEPS) if subject.as_shipped else (40,):
        *read, last = _readings(subject, path, n)
        largest, worst = max((_mismatch(one, path, stochastic), one) for one in read)
        if largest > figure:
            figure, steps = largest, n
            state = "alpha" if stochastic else "sigma/alpha"
            level = worst.alpha if stochastic else worst.sigma / worst.alpha if worst.alpha else math.inf
            asked = float((path.alpha if stochastic else path.ratio)(worst.t))
            says = f"of {n} steps a state at {state} {level:.4g} is asked for at {asked:.4g}"
    carried = _mismatch(last, path, stochastic) <= limit
    if figure > limit and not carried and not subject.as_shipped:
        # The states may be inexact even with ConstantDenoiser. Such an error of a step falls faster than its length; a
        # wrong level does not.
        coarse, fine = (_one_step_mismatch(subject, path, n, stochastic) for n in (20, 80))
        figure = 0.0 if fine <= max(LIMIT / 10, coarse / 8) else fine
    body = _conditioning_script(subject, steps, stochastic)
    text = script(subject, body, path_name, "SCHEDULES ConstantDenoiser RecordingDenoiser")
    if figure > limit:
        return Measurement(figure, f"at most {limit:g}", False, says, text)
    if stochastic:
        if not subject.entry.affine:
            return Measurement(figure, f"at most {limit:g}", True, "by alpha: not affine in its noise", text)
        if subject.as_shipped and getattr(subject.entry._resolved, "to_sigma_min", False):
            says = "by alpha: part of its states' noise is that of its network's answers, at sigma_min"
            return Measurement(figure, f"at most {limit:g}", True, says, text)
        coarse, fine = (_noise_mismatch(subject, path, n) for n in (10, 40))
        if fine > limit and fine > coarse / 2:  # if it falls with the number of steps, it is the solver's error
            text = script(subject, _variance_script(subject), path_name, "Dirac SCHEDULES RecordingDenoiser")
            return Measurement(fine, f"at most {limit:g}", False, "by the variance of its states", text)
        figure = max(figure, fine) if fine <= limit else figure
    return Measurement(figure, f"at most {limit:g}", True, "", text)


def end(subject: Subject) -> Measurement:
    """No noise is left where sigma = 0; the figure is the standard deviation of what remains.

    This is a check of a sampler's audit, on data without any spread, whose last state would have none.
    """
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
        begin = subject.first_state(path, grid)
        last = subject(ConstantDenoiser(path, DATA, NOISE), _state(path, begin.t) / begin.gain, grid)
        figure = abs(float(last[0, 1]))
        body = f"""\
times = {times(subject, 10, clean=True)}
# data (1, 0) and noise (0, 1): a state reads (alpha, sigma)
constant = ConstantDenoiser(path, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
begin = RecordingDenoiser(constant)
sampler(begin, torch.ones(1, 2).double(), times)
t, gain = {first_state(subject, "begin")}
alpha, sigma = sampler(constant, torch.tensor([[path.alpha(t), path.sigma(t)]]).double() / gain, times)[0]
print(abs(float(sigma)))"""
        names, extra = "SCHEDULES ConstantDenoiser RecordingDenoiser", ""
    says = "" if figure <= limit else "noise is left at the end"
    return Measurement(
        figure, f"at most {limit:g}", figure <= limit, says, script(subject, body, path_name, names, extra)
    )


def idle(subject: Subject) -> Measurement:
    """Every evaluation is followed by another state; the figure is how many are not.

    This check of a sampler's audit finds steps that cost an evaluation and do nothing, such as one of a repeated level.
    """
    if subject.entry.adaptive:
        raise NotApplicable("it takes steps that it rejects from the same state")
    path, figure, says = subject.path(), 0, ""
    still_to = 1e-6 if subject.peer else 1e-10  # relative; other libraries round their levels to float32
    for steps in (5, 10, 20):
        grid = subject.times(path, steps, clean=subject.ends_clean)
        recorder = RecordingDenoiser(six_modes(path))
        begin = subject.first_state(path, grid)
        last = subject(recorder, state_at(path, begin.t, normal(4)) / begin.gain, grid, PerSampleNoise(range(4)))
        if recorder.batched:
            raise NotApplicable("it asks for several times at once")
        states = [*(one.x for one in recorder.calls), last]
        still = [i for i, (a, b) in enumerate(pairwise(states)) if _same(a, b, still_to)]
        if len(still) > figure:
            figure = len(still)
            says = f"of {steps} steps, evaluation {still[-1] + 1} of {len(states) - 1}{subject.condition}"
    body = f"""\
{oracle(4)}for steps in (5, 10, 20):
    times, recorder = {times(subject, "steps", clean=subject.ends_clean)}, RecordingDenoiser(oracle)
    last = sampler(recorder, z, times)
    states = [*(one.x for one in recorder.calls), last]
    print(steps, sum(torch.allclose(a, b, rtol={still_to}, atol={still_to}) for a, b in zip(states, states[1:])))"""
    return Measurement(
        figure, "0", figure == 0, says, script(subject, body, names="GaussianOracle SCHEDULES RecordingDenoiser")
    )


def _straight(subject: Subject) -> tuple[str, Path]:
    """The path on which ConstantDenoiser is exact also for solvers in t, if the sampler runs on it."""
    name = "RectifiedFlow()" if "RectifiedFlow()" in subject.paths else subject.path_name
    return name, subject.path(name)


def _state(path: Path, t: float) -> Tensor:
    return torch.tensor([[float(path.alpha(t)), float(path.sigma(t))]], dtype=torch.float64)


def _readings(subject: Subject, path: Path, steps: int) -> list[Reading]:
    """The level of every state at which the network is evaluated, and of the output.

    Of parallel sweeps, the last counts.
    """
    grid = subject.times(path, steps)
    begin = subject.first_state(path, grid)
    recorder = RecordingDenoiser(ConstantDenoiser(path, DATA, NOISE))
    last = subject(recorder, _state(path, begin.t) / begin.gain, grid, recorder.noise)
    evaluations = recorder.calls
    if recorder.batched:
        evaluations = list({one.t: one for one in evaluations}.values())
    read = [Reading(one.t, *one.x[0].double().tolist()) for one in evaluations]
    return [*read, Reading(float(grid[-1]), *last[0].double().tolist())]


def _one_step_mismatch(subject: Subject, path: Path, steps: int, stochastic: bool) -> float:
    """The largest mismatch over all steps of a grid, each taken alone from an exact state."""
    grid, figure = subject.times(path, steps), 0.0
    for i in range(steps):
        recorder = RecordingDenoiser(ConstantDenoiser(path, DATA, NOISE))
        subject(recorder, _state(path, float(grid[i])), grid[i : i + 2], recorder.noise)
        for one in recorder.calls:
            figure = max(figure, _mismatch(Reading(one.t, *one.x[0].double().tolist()), path, stochastic))
    return figure


def _mismatch(reading: Reading, path: Path, stochastic: bool) -> float:
    """Absolute log ratio between the sigma/alpha of a state and that asked for.

    With noise, it is that of the alphas.
    """
    alpha, sigma = float(path.alpha(reading.t)), float(path.sigma(reading.t))
    if stochastic:
        return _log_ratio(reading.alpha, alpha)
    if max(abs(reading.alpha), alpha) < 1e-4 * sigma:  # both are nearly pure noise
        return _log_ratio(reading.sigma, sigma)
    return _log_ratio(
        reading.sigma / reading.alpha if reading.alpha else math.inf, sigma / alpha if alpha else math.inf
    )


def _responses(subject: Subject, path: Path, grid: Tensor) -> list[Tensor]:
    """For every state and the output: its responses to the start and to each draw of noise, on data that are all 0."""
    begin = subject.first_state(path, grid)
    counting = RecordingDenoiser(Dirac(path))
    subject(counting, torch.zeros(1, 1, dtype=torch.float64), grid, counting.noise)
    rows = torch.arange(counting.draws + 1)

    def impulse(draw: int, like: Tensor) -> Tensor:
        return (rows == draw + 1).to(like)[:, None].expand_as(like)

    recorder = RecordingDenoiser(Dirac(path))
    x = impulse(-1, torch.empty(len(rows), 1, dtype=torch.float64)) * (float(path.sigma(begin.t)) / begin.gain)
    last = subject(recorder, x, grid, impulse)
    return [*(one.x for one in recorder.calls), last]


def _noise_mismatch(subject: Subject, path: Path, steps: int) -> float:
    """Largest absolute log ratio between the standard deviation of a state and the sigma asked for."""
    grid = subject.times(path, steps)
    recorder = RecordingDenoiser(Dirac(path))
    subject(recorder, torch.zeros(1, 1, dtype=torch.float64), grid, recorder.noise)
    if recorder.batched:
        raise NotApplicable("it asks for several times at once")
    deviations = [float(x.square().sum().sqrt()) for x in _responses(subject, path, grid)[:-1]]
    asked = [float(path.sigma(one.t)) for one in recorder.calls]
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
# data (1, 0) and noise (0, 1): a state reads (alpha, sigma)
constant = ConstantDenoiser(path, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
times, first, recorder = {times(subject, steps)}, RecordingDenoiser(constant), RecordingDenoiser(constant)
sampler(first, torch.ones(1, 2).double(), times{", noise=first.noise" if stochastic else ""})
t, gain = {first_state(subject, "first")}
x = torch.tensor([[path.alpha(t), path.sigma(t)]]).double() / gain
sampler(recorder, x, times{", noise=recorder.noise" if stochastic else ""})
largest = 0.0
for one in recorder.calls:
    {state}
    largest = max(largest, abs(torch.tensor(state / asked).log().item()))
    print(f"asked at {{asked:.6g}}, a state at {{state:.6g}}")
print(largest)"""


def _variance_script(subject: Subject) -> str:
    return f"""\
times, first = {times(subject, 40)}, RecordingDenoiser(Dirac(path))  # data that are all 0
sampler(first, torch.ones(1, 1).double(), times, noise=first.noise)
rows, (t, gain) = torch.arange(first.draws + 1), ({first_state(subject, "first")})

def unit(draw, like):
    return (rows == draw + 1).to(like)[:, None].expand_as(like)

recorder = RecordingDenoiser(Dirac(path))
x = unit(-1, torch.empty(len(rows), 1).double()) * path.sigma(t) / gain
sampler(recorder, x, times, noise=unit)
print(max(abs(float((one.x.square().sum().sqrt() / path.sigma(one.t)).log())) for one in recorder.calls))"""
