"""Does the sampler behave: its cost, neighbours in a batch, precision, and few steps to the ends."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.audit.finding import Measured, NotApplicable
from bench.audit.script import RADIUS, begins, oracle, script, times
from bench.audit.subject import CONTINUOUS, LEVELS, TABLE, Subject, gaussian, normal, start
from implementations.catalogue import SCHEDULES
from implementations.diffusion.denoiser import CountingDenoiser, Network
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.path import Path

FEW = (1, 2, 3)


def cost(subject: Subject) -> Measured:
    """Evaluations counted at the model are those that it states: the largest difference."""
    entry = subject.entry
    if entry.adaptive:
        raise NotApplicable("it chooses its steps")
    function = entry._resolved
    if entry.source != "fidmap" and not (hasattr(function, "stages") or hasattr(function, "count") or entry.stages > 1):
        raise NotApplicable("it states no cost")
    path, figure, says = subject.path(), 0, ""
    for steps in (*FEW, 10):
        for clean in (True, False) if subject.ends_clean else (False,):
            grid = subject.times(path, steps, clean=clean)
            counting = CountingDenoiser(gaussian(path))
            try:
                subject(counting, start(path, grid[0], normal(2)), grid)
            except Exception:
                if steps in FEW:  # a step or two that it cannot take are the affair of ``few_steps``
                    continue
                raise
            stated = entry.evaluations(grid, path=path, **subject.options)
            if stated is None:
                raise NotApplicable("it states no cost")
            if abs(counting.calls - stated) > figure:
                figure = abs(counting.calls - stated)
                says = f"{counting.calls} evaluations in {steps} steps, stated are {stated}"
    options = f", **{dict(subject.options)!r}" if subject.options else ""
    body = f"""\
{oracle(2)}for steps in {(*FEW, 10)}:
    for clean in {(True, False) if subject.ends_clean else (False,)}:
        times, counting = {times(subject, "steps", True).replace("clean=True", "clean=clean")}, CountingDenoiser(oracle)
        sampler(counting, z, times)
        print(steps, counting.calls, SAMPLERS[{entry.name!r}].loaded().evaluations(times, path=path{options}))"""
    return Measured(figure, "0", figure == 0, says,
                    script(subject, body, names="GaussianOracle SCHEDULES CountingDenoiser"))  # fmt: skip


def batch(subject: Subject) -> Measured:
    """A sample does not depend on its neighbours: largest relative difference from the same sample alone."""
    path, limit = subject.path(), 1e-9  # sums over batches of other sizes differ in their last bits
    grid = subject.times(path, 10)
    x, truth = start(path, grid[0], normal(8)), gaussian(path)
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
    return Measured(figure, f"at most {limit:g}", figure <= limit, says, text)


def precision(subject: Subject) -> Measured:
    """The state keeps the precision of its start, float32 at least, whatever the network's: rounding, relative.

    Of every state on the way, from samples that lie close together: see ``bench.audit.rounding``.
    """
    path, limit = subject.path(), 1e-6 if subject.peer else 1e-11
    grid = subject.times(path, 8)
    imports = "from bench.audit.rounding import roughness, staircase"
    text = script(subject, _precision_script(subject), "", "SCHEDULES Told Witness", imports)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        network = Network(path, _Silent(dtype), head="v", dtype=dtype)  # a view that exists at both ends
        x = start(path, grid[0], normal(2)).to(dtype)
        found, wanted = subject(network, x, grid), torch.promote_types(dtype, torch.float32)
        if torch.promote_types(found.dtype, wanted) != found.dtype:
            says = f"{found.dtype} from {dtype}, not {wanted} at least"
            return Measured(math.inf, f"at most {limit:g}", False, says, text)
    figure = subject.rounding
    says = "" if figure <= limit else "the state is rounded"
    return Measured(figure, f"at most {limit:g}", figure <= limit, says, text)


def few_steps(subject: Subject) -> Measured:
    """One, two and three steps from end to end of every path are finite and keep the shape: how many are not."""
    failed, script_of = [], ""
    for name in subject.paths if subject.own_grid else [*CONTINUOUS, TABLE]:
        path = subject.path(name)
        if subject.entry.to_data == "must" and float(path.sigma(path.t_min)) > 0:
            continue  # a path without the end that it needs
        for steps in FEW:
            for schedule in ("uniform",) if subject.own_grid else ("uniform", "karras"):
                grid = _whole(subject, path, steps, schedule)
                if says := _failure(subject, path, grid):
                    failed.append(f"{name.partition('(')[0]}, {steps} {schedule}: {says}")
                    script_of = script_of or _few_script(subject, name, grid)
    return Measured(len(failed), "0", not failed, failed[0] if failed else "", script_of)


def _whole(subject: Subject, path: Path, steps: int, schedule: str) -> Tensor:
    """A grid over all of a path that the sampler takes: alpha = 0 and sigma = 0 where both have them."""
    clean = {"clean": subject.entry.to_data == "must"} if schedule == "karras" else {}
    grid = SCHEDULES[schedule](path, steps, **clean)
    if not subject.own_grid and not subject.entry.from_noise and float(path.alpha(grid[0])) == 0:
        grid[0] = path.time(-math.log(LEVELS["sigma_max"]))
    if not subject.own_grid and subject.entry.to_data == "never" and float(path.sigma(grid[-1])) == 0:
        grid[-1] = path.time(-math.log(LEVELS["sigma_min"]))
    return grid.flip(0) if subject.entry.ascending else grid  # type: ignore[no-any-return]


def _failure(subject: Subject, path: Path, grid: Tensor) -> str:
    x = path.prior(normal(3), float(grid[0]))
    try:
        found = subject(gaussian(path), x, grid)
    except Exception as error:  # whatever a sampler raises is what is reported
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    if found.shape != x.shape:
        return f"shape {tuple(found.shape)} of {tuple(x.shape)}"
    return "" if bool(found.isfinite().all()) else "not finite"


class _Silent(torch.nn.Module):
    """A network of one precision whose answer is a tenth of its input."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.1, dtype=dtype), requires_grad=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * self.scale


def _precision_script(subject: Subject) -> str:
    noise = ", noise={}.noise" if subject.takes("noise") else ""
    return f"""\
told = Told(path, torch.tensor([0.5, 1.0]), torch.tensor([1.0, -0.5]))  # data and noise
times, first, witness = {times(subject, 8)}, Witness(told), Witness(told)
y = sampler(first, torch.ones(1, 2).bfloat16(), times{noise.format("first")})
print(y.dtype, "from bfloat16")
t, gain = {begins(subject, "first")}
x = torch.tensor([[0.7, -0.9]]).double() * {RADIUS.format(t="t")} / gain
last = sampler(witness, x * staircase(), times{noise.format("witness")})
print(max(roughness(y) for y in (*(one.x for one in witness.evaluations), last)))  # of every state"""


def _few_script(subject: Subject, name: str, grid: Tensor) -> str:
    body = f"""\
{oracle(3)}times = torch.tensor({grid.tolist()}, dtype=torch.float64)
print(sampler(oracle, path.prior(z, float(times[0])), times))"""
    return script(subject, body, name, "GaussianOracle")
