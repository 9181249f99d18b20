"""Does the sampler behave: its cost, neighbours in a batch, precision, repetition, and few steps to the ends."""

from __future__ import annotations

import math
import random
import warnings

import numpy as np
import torch
from torch import Tensor

from bench.audit.finding import Measured, NotApplicable
from bench.audit.probe import Told
from bench.audit.script import RADIUS, oracle, script, times
from bench.audit.subject import CONTINUOUS, TABLE, Subject, gaussian, normal, start, table
from implementations.diffusion import SCHEDULES, CountingDenoiser, Network, Path
from implementations.samplers.noise import PerSampleNoise

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
            subject(counting, start(path, grid[0], normal(2)), grid)
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
    extra = "from implementations.samplers.noise import PerSampleNoise" if noise[0] else ""
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

    Samples that differ by 1/256 % each: what a cubic through them leaves is the rounding of the state.
    """
    path, limit = subject.path(), 1e-6 if subject.peer else 1e-11
    grid = subject.times(path, 8)
    text = script(subject, _precision_script(subject), names="SCHEDULES Told")
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        network = Network(path, _Silent(dtype), head="eps", dtype=dtype)
        x = start(path, grid[0], normal(2)).to(dtype)
        found, wanted = subject(network, x, grid), torch.promote_types(dtype, torch.float32)
        if torch.promote_types(found.dtype, wanted) != found.dtype:
            says = f"{found.dtype} from {dtype}, not {wanted} at least"
            return Measured(math.inf, f"at most {limit:g}", False, says, text)
    told = Told(path, torch.tensor([0.5, 1.0]), torch.tensor([1.0, -0.5]))
    x = start(path, grid[0], torch.tensor([[0.7, -0.9]]).double()) * _stairs(torch.float64)
    figure = _roughness(subject(told, x, grid, lambda _, like: torch.zeros_like(like)))
    says = "" if figure <= limit else "the state is rounded"
    return Measured(figure, f"at most {limit:g}", figure <= limit, says, text)


def determinism(subject: Subject) -> Measured:
    """The same call gives the same bits, leaves its arguments and the global generators alone: largest difference.

    A sampler that its caller gives no noise may draw from torch's global generator, and ``torch.manual_seed`` repeats
    it; with noise given, no seed changes anything.
    """
    path = subject.path()
    grid = subject.times(path, 8)
    x, touched, figure = start(path, grid[0], normal(4)), "", 0.0
    before = x.clone(), grid.clone()
    given = {"noise": PerSampleNoise(range(4))} if subject.takes("noise") else {}
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for noise, seeds in (({}, (1, 1)), (given, (1, 2))):
            found = []
            for seed in seeds:
                torch.manual_seed(seed)
                states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
                found.append(subject.entry(gaussian(path), x, grid, **noise, **subject.options))
                after = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
                may_draw = given and not noise
                if states[1:] != after[1:] or not (may_draw or torch.equal(states[0], after[0])):
                    touched = "it draws from a global generator"
            difference = float((found[0] - found[1]).abs().max())
            figure = max(figure, difference if difference == difference else math.inf)
    if not (torch.equal(x, before[0]) and torch.equal(grid, before[1])):
        touched = "it changes its arguments"
    noise_given = "{'noise': PerSampleNoise(range(4))}" if given else "{}"
    body = f"""\
{oracle(4)}times = {times(subject, 8)}
x = z * {RADIUS.format(t="times[0]")}
before, figure = x.clone(), 0.0
for given, seeds in (({{}}, (1, 1)), ({noise_given}, (1, 2))):
    found = []
    for seed in seeds:
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        found.append(sampler(oracle, x, times, **given))
        print("arguments kept:", torch.equal(x, before), "generator kept:", torch.equal(torch.get_rng_state(), state))
    figure = max(figure, float((found[0] - found[1]).abs().max()))
print(figure)"""
    extra = "from implementations.samplers.noise import PerSampleNoise" if given else ""
    return Measured(figure, "0", figure == 0 and not touched, touched or ("" if figure == 0 else "two calls differ"),
                    script(subject, body, "", "GaussianOracle SCHEDULES", extra))  # fmt: skip


def few_steps(subject: Subject) -> Measured:
    """One, two and three steps from end to end of every path are finite and keep the shape: how many are not."""
    failed, refused, script_of = [], 0, ""
    for name in subject.paths if subject.own_grid else [*CONTINUOUS, TABLE]:
        path = table() if name == TABLE else CONTINUOUS[name]()
        for steps in FEW:
            for schedule in ("uniform",) if subject.own_grid else ("uniform", "karras"):
                says = _failure(subject, path, grid := _whole(subject, path, steps, schedule))
                if says.startswith("ValueError") and subject.peer:  # it says what it does not take
                    refused += 1
                elif says:
                    failed.append(f"{name.partition('(')[0]}, {steps} {schedule}: {says}")
                    script_of = script_of or _few_script(subject, name, grid, steps, schedule)
    says = f"{failed[0]}" if failed else f"{refused} refused by name" if refused else ""
    return Measured(len(failed), "0", not failed, says, script_of)


def _whole(subject: Subject, path: Path, steps: int, schedule: str) -> Tensor:
    """A grid over all of a path, alpha = 0 and sigma = 0 where it has them."""
    grid = SCHEDULES[schedule](path, steps, **({"clean": False} if schedule == "karras" else {}))
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


def _stairs(dtype: torch.dtype, n: int = 64) -> Tensor:
    return 1 + torch.arange(n, dtype=dtype)[:, None] / 25600


def _roughness(y: Tensor) -> float:
    """Root mean square, of their largest, of what a cubic through the samples leaves."""
    n = len(y)
    basis = torch.linalg.qr(torch.linspace(-1, 1, n, dtype=torch.float64)[:, None] ** torch.arange(4)).Q
    rest = y.double() - basis @ (basis.T @ y.double())
    return float(rest.square().mean().sqrt() / y.double().abs().max())


def _precision_script(subject: Subject) -> str:
    noise = ", noise=lambda _, like: torch.zeros_like(like)" if subject.takes("noise") else ""
    return f"""\
told = Told(path, torch.tensor([0.5, 1.0]), torch.tensor([1.0, -0.5]))  # data and noise
times = {times(subject, 8)}
x = torch.tensor([[0.7, -0.9]]).double() * {RADIUS.format(t="times[0]")}
y = sampler(told, x * (1 + torch.arange(64).double()[:, None] / 25600), times{noise})
print(y.dtype, sampler(told, x.bfloat16(), times{noise}).dtype)
basis = torch.linalg.qr(torch.linspace(-1, 1, 64).double()[:, None] ** torch.arange(4)).Q
rest = y.double() - basis @ (basis.T @ y.double())  # a cubic through the samples leaves the rounding of the state
print(float(rest.square().mean().sqrt() / y.double().abs().max()))"""


def _few_script(subject: Subject, name: str, grid: Tensor, steps: int, schedule: str) -> str:
    clean = ", clean=False" if schedule == "karras" else ""
    turned = ".flip(0)" if subject.entry.ascending else ""
    body = f"""\
{oracle(3)}times = SCHEDULES["{schedule}"](path, {steps}{clean}){turned}
print(sampler(oracle, path.prior(z, float(times[0])), times))"""
    return script(subject, body, name, "GaussianOracle SCHEDULES")
