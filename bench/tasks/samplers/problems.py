"""The problems that samplers solve: oracles with a known truth, and the exact start on a grid of times."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import scipy.integrate
import torch
from jaxtyping import Float
from torch import Tensor

from bench.task import Value
from bench.tasks.draws import generator, seed_of
from bench.tasks.returns import describe_return
from bench.tasks.samplers.grids import make_times
from bench.tasks.samplers.images import class_mixture
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.catalogue.entry import Entry, SamplerEntry, ScheduleEntry
from implementations.diffusion.artifact import Artifact
from implementations.diffusion.denoiser import CountingDenoiser
from implementations.diffusion.grid import Callback
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.oracle import GaussianOracle, MixtureOracle
from implementations.diffusion.path import Path

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import Budgeted

WARM_UP = 64  # samples from which an artifact is learnt
FINE = 120  # steps of the grid on which a method learns


def gaussian_law(dimension: int = 16) -> tuple[Tensor, Tensor]:
    """Means and variances of the Gaussian on which samplers are measured, one per mode.

    Means are in [-1, 1], and the square roots of the variances are log-spaced from 0.05 to 1.
    """
    deviations = torch.logspace(math.log10(0.05), 0, dimension, dtype=torch.float64)
    return torch.linspace(-1, 1, dimension, dtype=torch.float64), deviations**2


def gaussian(path: Path, device: str = "cpu") -> GaussianOracle:
    """The Gaussian on which samplers are measured (``gaussian_law``), whose flow is known in closed form."""
    return GaussianOracle(path, *gaussian_law()).to(device)


def eight_gaussians(path: Path, device: str = "cpu") -> MixtureOracle:
    """The mixture on which samplers are measured: eight labelled Gaussians of equal weight on a circle of radius 1.

    Their standard deviation is 0.1.
    """
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = torch.stack([angles.cos(), angles.sin()], dim=1).to(device)
    covariances = torch.full((8,), 0.01, dtype=torch.float64, device=device)
    weights = torch.full((8,), 1 / 8, dtype=torch.float64, device=device)
    return MixtureOracle(path, means, covariances, weights, labels=torch.arange(8, device=device))


def two_gaussians(path: Path, device: str = "cpu") -> MixtureOracle:
    """A nonlinear problem for orders: two Gaussians in the plane with different full covariances, as an oracle.

    They are mild enough that no path changes basin.
    """
    means = torch.tensor([[0.6, -0.3], [-0.6, 0.3]], dtype=torch.float64)
    covariances = torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.3, -0.15], [-0.15, 0.6]]], dtype=torch.float64)
    return MixtureOracle(path, means, covariances, torch.tensor([0.4, 0.6], dtype=torch.float64)).to(device)


def integrated_flow(oracle: MixtureOracle, x: Tensor, t_from: Tensor, t_to: Tensor) -> Tensor:
    """Carry ``x`` along the probability flow of an oracle from one time to another, by SciPy's DOP853 to 1e-13.

    Both times lie inside the path. In s = log sigma/alpha and y = x/alpha, the flow is ``dy/ds = (sigma/alpha) eps``.
    Raises FloatingPointError where that precision is not reached.
    """
    path = oracle.path

    def slope(s: float, y: Any) -> Any:
        t = path.time(-s).clamp(path.t_min, path.t_max)
        state = torch.from_numpy(y).reshape(x.shape).to(x.device) * float(path.alpha(t))
        return (math.exp(s) * oracle(state, t).eps).flatten().cpu().numpy()

    start = (x / float(path.alpha(t_from))).double().flatten().cpu().numpy()
    span = (-float(path.log_snr(t_from)), -float(path.log_snr(t_to)))
    found = scipy.integrate.solve_ivp(slope, span, start, method="DOP853", rtol=1e-13, atol=1e-13)
    if not found.success:
        raise FloatingPointError(f"the reference flow could not be integrated: {found.message}")
    return torch.from_numpy(found.y[:, -1]).reshape(x.shape).to(x) * float(path.alpha(t_to))


ORACLES: dict[str, Callable[[Path, str], Any]] = {
    "gaussian": gaussian,
    "mixture": eight_gaussians,
    "classes": class_mixture,
}


def sampler_of(parameters: Budgeted) -> SamplerEntry:
    """The catalogue's entry of the sampler, with what its function states of itself."""
    return SAMPLERS[parameters.sampler].load()


class Setup(NamedTuple):
    """The setup of a sampler's run: a grid of times, options, and what sampler and schedule have learnt for them."""

    times: Float[Tensor, " steps+1"]
    options: dict[str, Any]
    artifacts: tuple[Artifact, ...] = ()


class Solution(NamedTuple):
    """The samples that a sampler makes of exact draws at the first time of its grid, and what they cost."""

    start: Float[Tensor, " n *shape"]
    samples: Float[Tensor, " n *shape"]
    setup: Setup
    evaluations: int

    @property
    def times(self) -> Float[Tensor, " steps+1"]:
        """The time grid that the samples were made on."""
        return self.setup.times

    @property
    def costs(self) -> dict[str, float | Value]:
        """The cost of the samples as measures: the evaluations of the run, and those of what was learnt before it."""
        return cost_measures(self.evaluations, self.setup.artifacts)


def solve(parameters: Budgeted, oracle: Any, n: int, seed: int, callback: Callback | None = None) -> Solution:
    """Run a sampler within its budget, from n exact draws of the oracle's noised data at the first time of its grid.

    The grid is the one with the most steps that the budget allows. No mismatch with the prior enters the error. Raises
    ValueError where the sampler exceeds ``nfe`` or returns another shape or an integer dtype, and FloatingPointError
    where its output is not finite.
    """
    setup = set_up(parameters, oracle, seed)
    x = marginal(oracle, setup.times[0], n, generator(seed, "start"))
    base = seed_of(seed, "noise") << 32  # no two seeds share a sample's noise
    counted = CountingDenoiser(oracle)
    options: dict[str, Any] = {"noise": PerSampleNoise(range(base, base + n)), **setup.options}
    found = sampler_of(parameters)(counted, x, setup.times, **options | ({"callback": callback} if callback else {}))
    return Solution(x, require_samples(found, x), setup, check_budget(parameters, counted))


def check_budget(parameters: Budgeted, counted: CountingDenoiser) -> int:
    """The number of evaluations that a run has taken; raises ValueError where it exceeds the budget ``nfe``."""
    if parameters.nfe is not None and counted.calls > parameters.nfe:
        raise ValueError(
            f"{parameters.sampler} made {counted.calls} evaluations, allowed are {parameters.nfe}: "
            "does it state its `stages`?"
        )
    return counted.calls


def cost_measures(evaluations: int, artifacts: tuple[Artifact, ...]) -> dict[str, float | Value]:
    """The cost of a run as measures: its evaluations, and those by which artifacts were learnt.

    The latter are recorded with the hashes of the artifacts.
    """
    measures: dict[str, float | Value] = {"evaluations": evaluations}
    if artifacts:
        learnt = ", ".join(f"{one.method}@{one.hash[:16]}" for one in artifacts)
        price = sum(one.evaluations for one in artifacts)
        measures["prepare_evaluations"] = Value(price, n=WARM_UP, reference=learnt)
    return measures


def set_up(parameters: Budgeted, oracle: Any, seed: int) -> Setup:
    """Prepare a sampler's run: choose the grid that its budget allows, and let sampler and schedule learn beforehand.

    They learn on a batch of their own.
    """
    schedule = SCHEDULES[parameters.schedule]
    learnt: list[Artifact] = []
    schedule_options = parameters.schedule_options
    if schedule.prepare and "artifact" not in schedule_options:
        fine = SCHEDULES["karras"](oracle.path, FINE)
        learnt.append(_prepare(schedule, oracle, fine, seed))
        schedule_options = schedule_options | {"artifact": learnt[-1]}
    times = affordable(parameters, oracle.path, schedule_options)
    options = parameters.options
    if sampler_of(parameters).prepare and "artifact" not in options:
        learnt.append(learn_artifact(sampler_of(parameters), oracle, times, seed))
        options = options | {"artifact": learnt[-1]}
    return Setup(times, options, tuple(learnt))


def learn_artifact(entry: SamplerEntry, oracle: Any, times: Float[Tensor, " points"], seed: int) -> Artifact:
    """Learn what a sampler needs of the oracle before it runs, from exact draws at the first of ``times``.

    It learns on these times or, where its entry says so, on finer ones.
    """
    return _prepare(entry, oracle, finer(oracle.path, times) if entry.finely else times, seed)


def _prepare(entry: SamplerEntry | ScheduleEntry, oracle: Any, times: Tensor, seed: int) -> Artifact:
    x = marginal(oracle, times[0], WARM_UP, generator(seed, "warm-up"))
    return Entry(entry.name, entry.prepare)(oracle, x, times)  # type: ignore[no-any-return]


def finer(path: Path, times: Float[Tensor, " points"]) -> Float[Tensor, " more"]:
    """A fine time grid with the ends of ``times``, for a sampler to learn on.

    It has ``FINE`` equal steps of log-SNR over the part that lies inside the path. Where no interval of ``times`` lies
    inside, one of length 1 in log-SNR is taken.
    """
    inside = (path.alpha(times) > 0) & (path.sigma(times) > 0)
    inner = times[inside]
    if len(inner) < 2:
        first = path.log_snr(inner) if len(inner) else torch.tensor([-0.5], dtype=torch.float64)
        inner = path.time(torch.cat([first, first + 1]))
    first, last = path.log_snr(inner[[0, -1]])
    between = path.time(first + torch.linspace(0, 1, FINE + 1, dtype=torch.float64)[1:-1] * (last - first))
    ends = (times[:1][~inside[:1]], times[-1:][~inside[-1:]])
    return torch.cat([ends[0], inner[:1], between, inner[-1:], ends[1]])


def affordable(
    parameters: Budgeted, path: Path, schedule_options: dict[str, Any] | None = None
) -> Float[Tensor, " steps+1"]:
    """The time grid with the most steps that the sampler's budget ``nfe`` allows; at least one step.

    For a sampler that chooses its steps it has two.
    """
    entry, schedule = sampler_of(parameters), partial(make_times, parameters.schedule)
    own = parameters.schedule_options if schedule_options is None else schedule_options
    if parameters.nfe is None:
        return schedule(path, 2, own)  # an adaptive method needs the ends alone
    for steps in range(parameters.nfe, 1, -1):  # a step costs at least one evaluation
        times = schedule(path, steps, own)
        cost = entry.evaluations(times, path=path, **parameters.options)
        if cost is not None and entry.source != "fidmap" and getattr(entry.resolve(), "count", None) is None:
            cost = entry.stages * steps  # without a count of its own, it is not known to spend less at the ends
        if cost is None or cost <= parameters.nfe:
            return times
    return schedule(path, 1, own)


def marginal(oracle: Any, t: float | Tensor, n: int, source: torch.Generator) -> Float[Tensor, " n *shape"]:
    """Exact draws of an oracle's noised data at time ``t``: n samples of the data, scaled, with noise added."""
    return draw_at_level(oracle, oracle.path.alpha(t), oracle.path.sigma(t), n, source)


def draw_at_level(
    oracle: Any, alpha: Tensor, sigma: Tensor, n: int, source: torch.Generator
) -> Float[Tensor, " n *shape"]:
    """Exact draws of an oracle's noised data ``alpha x_0 + sigma eps``, which need no more of the path than these."""
    data = oracle.sample(n, generator=source)
    noise = standard_normal(data, source)
    return alpha.to(data) * data + sigma.to(data) * noise


def standard_normal(like: Tensor, source: torch.Generator) -> Tensor:
    """Standard normals with the shape, dtype and device of ``like``, drawn in float64 on the CPU."""
    return torch.randn(like.shape, generator=source, dtype=torch.float64).to(like)


def require_shape(found: Any, x: Tensor) -> Tensor:
    """Give a sampler's output ``found``; raises ValueError on anything but floats of the shape of its start."""
    if not isinstance(found, Tensor) or found.shape != x.shape or not found.is_floating_point():
        shape = tuple(x.shape)
        raise ValueError(
            f"the sampler returned {describe_return(found)}; floats of the start's shape, {shape}, are accepted"
        )
    return found


def require_samples(found: Any, x: Tensor) -> Tensor:
    """Give a sampler's output ``found``; raises ValueError as ``require_shape``.

    Raises FloatingPointError on values that are not finite.
    """
    bad = int((~torch.isfinite(require_shape(found, x))).sum())
    if bad:
        raise FloatingPointError(f"{bad} of {found.numel()} values of the samples are not finite")
    return found
