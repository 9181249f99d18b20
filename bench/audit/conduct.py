"""Four checks of how a sampler behaves: its cost, its batch, its precision, and one to three steps from end to end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.audit.finding import Measurement, NotApplicable
from bench.audit.script import RADIUS, first_state, oracle, script, times
from bench.audit.subject import CONTINUOUS, LEVELS, STABLE_DIFFUSION, Subject, normal, six_modes, state_at
from implementations.catalogue import SCHEDULES
from implementations.diffusion.denoiser import CountingDenoiser, Network
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.path import Path

FEW = (1, 2, 3)


def cost(subject: Subject) -> Measurement:
    """The number of evaluations is the number that the sampler states; the figure is the largest difference.

    This check of a sampler's audit counts the calls of the network in runs of one to three steps and of ten.
    """
    entry = subject.entry
    if entry.adaptive:
        raise NotApplicable("it chooses its steps")
    function = entry._resolved
    counts = getattr(function, "count", None) is not None
    if entry.source != "fidmap" and not (hasattr(function, "stages") or counts or entry.stages > 1):
        raise NotApplicable("it states no cost")
    path, figure, says = subject.path(), 0, ""
    for steps in (*FEW, 10):
        for clean in (True, False) if subject.ends_clean else (False,):
            grid = subject.times(path, steps, clean=clean)
            counting = CountingDenoiser(six_modes(path))
            try:
                subject(counting, state_at(path, grid[0], normal(2)), grid)
            except Exception:
                if steps in FEW:  # that it cannot take so few steps is for the check ``few_steps`` to report
                    continue
                raise
            stated = entry.evaluations(grid, path=path, **subject.options)
            if stated is None:
                raise NotApplicable("it states no cost")
            if abs(counting.calls - stated) > figure:
                figure = abs(counting.calls - stated)
                says = (
                    f"{counting.calls} evaluations in {steps} step{'s' * (steps > 1)}, "
                    f"stated {'are' if stated > 1 else 'is'} {stated}"
                )
                if clean and entry.stages > 1 and not counts:  # what was stated is not the number that is printed
                    says += f" (stages = {entry.stages}, but 1 in a step to sigma = 0; a `count` may state another)"
    options = f", **{dict(subject.options)!r}" if subject.options else ""
    body = f"""\
{oracle(2)}for steps in {(*FEW, 10)}:
    for clean in {(True, False) if subject.ends_clean else (False,)}:
        times, counting = {times(subject, "steps", True).replace("clean=True", "clean=clean")}, CountingDenoiser(oracle)
        sampler(counting, z, times)
        print(steps, counting.calls, SAMPLERS[{entry.name!r}].load().evaluations(times, path=path{options}))"""
    return Measurement(figure, "0", figure == 0, says,
                       script(subject, body, names="GaussianOracle SCHEDULES CountingDenoiser"))  # fmt: skip


def batch(subject: Subject) -> Measurement:
    """A sample does not depend on its neighbours.

    This check of a sampler's audit runs eight samples together and each alone, with the same noise; the figure is the
    largest relative difference.
    """
    path, limit = subject.path(), 1e-9  # not 0: sums over batches of different size differ in their last bits
    grid = subject.times(path, 10)
    x, truth = state_at(path, grid[0], normal(8)), six_modes(path)
    together = subject(truth, x, grid, PerSampleNoise(range(8)))
    alone = torch.cat([subject(truth, x[i : i + 1], grid, PerSampleNoise([i])) for i in range(8)])
    figure = float((alone - together).abs().max() / together.abs().max())
    noise = [", noise=PerSampleNoise(range(8))", ", noise=PerSampleNoise([i])"] if subject.takes("noise") else ["", ""]
    extra = "from implementations.diffusion.noise import PerSampleNoise" if noise[0] else ""
    body = f"""\
{oracle(8)}times = {times(subject, 10)}
x = z * {RADIUS.format(t="times[0]")}
together = sampler(oracle, x, times{noise[0]})
alone = torch.cat([sampler(oracle, x[i : i + 1], times{noise[1]}) for i in range(8)])
print(float((alone - together).abs().max() / together.abs().max()))"""
    says = "" if figure <= limit else "neighbours enter a sample"
    text = script(subject, body, "", "GaussianOracle SCHEDULES", extra)
    return Measurement(figure, f"at most {limit:g}", figure <= limit, says, text)


def precision(subject: Subject) -> Measurement:
    """The state keeps the precision of its start, and float32 at least, whatever the precision of the network.

    This check of a sampler's audit measures how coarsely the states on the way are rounded, relative to their size, on
    samples that lie close together (``bench.audit.rounding``); that is the figure.
    """
    path, limit = subject.path(), 1e-6 if subject.peer else 1e-11
    grid = subject.times(path, 8)
    imports = "from bench.audit.rounding import roughness, staircase"
    text = script(subject, _precision_script(subject), "", "SCHEDULES ConstantDenoiser RecordingDenoiser", imports)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        network = Network(path, _Silent(dtype), head="v", dtype=dtype)  # a view that exists at both ends
        x = state_at(path, grid[0], normal(2)).to(dtype)
        found, wanted = subject(network, x, grid), torch.promote_types(dtype, torch.float32)
        if torch.promote_types(found.dtype, wanted) != found.dtype:
            says = f"{found.dtype} from {dtype}, not {wanted} at least"
            return Measurement(math.inf, f"at most {limit:g}", False, says, text)
    figure = subject.rounding
    says = "" if figure <= limit else "the state is rounded"
    return Measurement(figure, f"at most {limit:g}", figure <= limit, says, text)


def few_steps(subject: Subject) -> Measurement:
    """One, two and three steps from end to end of every path give finite samples.

    This check of a sampler's audit counts the runs that do not; that is the figure.
    """
    failed, script_of = [], ""
    for name in subject.paths if subject.as_shipped else [*CONTINUOUS, STABLE_DIFFUSION]:
        path = subject.path(name)
        if subject.entry.to_data == "must" and float(path.sigma(path.t_min)) > 0:
            continue  # the path does not reach sigma = 0, where this sampler must end
        for steps in FEW:
            for schedule in ("uniform",) if subject.as_shipped else ("uniform", "karras"):
                grid = _whole(subject, path, steps, schedule)
                if says := _failure(subject, path, grid):
                    failed.append(f"{name.partition('(')[0]}, {steps} {schedule}: {says}")
                    script_of = script_of or _few_script(subject, name, grid)
    return Measurement(len(failed), "0", not failed, failed[0] if failed else "", script_of)


def _whole(subject: Subject, path: Path, steps: int, schedule: str) -> Tensor:
    """A grid over as much of the path as the sampler takes, with alpha = 0 and sigma = 0 where the path has them."""
    clean = {"clean": subject.entry.to_data == "must"} if schedule == "karras" else {}
    grid = SCHEDULES[schedule](path, steps, **clean)
    if not subject.as_shipped and not subject.entry.from_noise and float(path.alpha(grid[0])) == 0:
        grid[0] = path.time(-math.log(LEVELS["sigma_max"]))
    if not subject.as_shipped and subject.entry.to_data == "never" and float(path.sigma(grid[-1])) == 0:
        grid[-1] = path.time(-math.log(LEVELS["sigma_min"]))
    return grid.flip(0) if subject.entry.ascending else grid  # type: ignore[no-any-return]


def _failure(subject: Subject, path: Path, grid: Tensor) -> str:
    x = path.prior(normal(3), float(grid[0]))
    try:
        found = subject(six_modes(path), x, grid)
    except Exception as error:  # whatever the sampler raises is reported
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    if found.shape != x.shape:
        return f"shape {tuple(found.shape)} of {tuple(x.shape)}"
    return "" if bool(found.isfinite().all()) else "not finite"


class _Silent(torch.nn.Module):
    """A network with weights of one dtype; its answer is a tenth of its input."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.1, dtype=dtype), requires_grad=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * self.scale


def _precision_script(subject: Subject) -> str:
    noise = ", noise={}.noise" if subject.takes("noise") else ""
    return f"""\
constant = ConstantDenoiser(path, torch.tensor([0.5, 1.0]), torch.tensor([1.0, -0.5]))  # data and noise
times, first, recorder = {times(subject, 8)}, RecordingDenoiser(constant), RecordingDenoiser(constant)
y = sampler(first, torch.ones(1, 2).bfloat16(), times{noise.format("first")})
print(y.dtype, "from bfloat16")
t, gain = {first_state(subject, "first")}
x = torch.tensor([[0.7, -0.9]]).double() * {RADIUS.format(t="t")} / gain
last = sampler(recorder, x * staircase(), times{noise.format("recorder")})
print(max(roughness(y) for y in (*(one.x for one in recorder.calls), last)))  # of every state"""


def _few_script(subject: Subject, name: str, grid: Tensor) -> str:
    body = f"""\
{oracle(3)}times = torch.tensor({grid.tolist()}, dtype=torch.float64)
print(sampler(oracle, path.prior(z, float(times[0])), times))"""
    return script(subject, body, name, "GaussianOracle")
