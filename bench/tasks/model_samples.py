"""Samples of a learned model, drawn in batches whose time is taken, and the model's own converged solution.

All samplers begin at the same starts, one stream per sample, so that they can be compared sample by sample and with the
converged solution. The distance to that solution is the error of the solver alone; the distance to data has that of the
model in it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bench.task import Context, Value
from bench.tasks.draws import seed_of
from bench.tasks.samplers.problems import (
    Setup,
    check_budget,
    cost_measures,
    require_samples,
    sampler_of,
    set_up,
)
from bench.timing import clock_for, median_interval
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion.denoiser import CountingDenoiser, Denoiser, Prediction
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.path import Images, Time
from metrics.uncertainty import bootstrap

if TYPE_CHECKING:
    from bench.tasks.budget import Budgeted

REFERENCE = 80  # steps of order four of the converged solution; its error is the difference from half as many
TIMED = 7  # batches at least: the range of seven times covers their median in 98 % of repetitions


class Conditioned(Denoiser):
    """A denoiser with the conditions of one batch; a batch of another length gets the first of them, repeated."""

    def __init__(self, denoiser: Denoiser, rows: Tensor | None):
        self.denoiser, self.path, self.rows = denoiser, denoiser.path, rows

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        return self.denoiser(x, t, self._of(x))

    def flow_map(self, x: Images, t: Time, s: float | Tensor, condition: Any = None) -> Images:
        """Carry ``x`` from ``t`` to ``s`` by the denoiser's own flow map, with the batch's conditions."""
        return self.denoiser.flow_map(x, t, s, self._of(x))

    def _of(self, x: Images) -> Tensor | None:
        return None if self.rows is None else self.rows[torch.arange(len(x), device=self.rows.device) % len(self.rows)]


class Drawing(Conditioned):
    """A denoiser that draws rows of the data, as what learns before a run does of an oracle."""

    def __init__(self, denoiser: Denoiser, rows: Tensor | None, data: Float[Tensor, " n *shape"] | None):
        super().__init__(denoiser, rows)
        self.data = data  # on the device of the denoiser

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, " n *shape"]:
        """Draw n rows of the data with replacement; raises ValueError where there are none."""
        if self.data is None:
            raise ValueError("this sampler or schedule learns from data before it runs; give --data with rows")
        return self.data[torch.randint(len(self.data), (n,), generator=generator)]


class Start(NamedTuple):
    """Which samples are drawn: of which denoiser, with which conditions (a row each), their shape, number and seed."""

    denoiser: Denoiser  # on the device
    conditions: Tensor | None
    shape: tuple[int, ...]
    n: int
    seed: int
    device: str
    batch: int

    def rows(self, part: range) -> Tensor | None:
        """The conditions of some of the samples; None without conditions."""
        return None if self.conditions is None else self.conditions[part.start : part.stop].to(self.device)

    def parts(self) -> list[range]:
        """The samples in batches."""
        return [range(i, min(i + self.batch, self.n)) for i in range(0, self.n, self.batch)]

    def noise(self, part: range) -> PerSampleNoise:
        """The noise of some of the samples, which depends on neither batch nor sampler."""
        base = seed_of(self.seed, "start") << 32  # no two seeds share a sample's noise
        return PerSampleNoise(range(base + part.start, base + part.stop))

    def states(self, part: range, t: Tensor) -> Float[Tensor, " n *shape"]:
        """Where some of the samples start at time ``t``."""
        drawn = self.noise(part)(0, torch.empty(len(part), *self.shape))
        return self.denoiser.path.prior(drawn, t).to(self.device)


class Drawn(NamedTuple):
    """Samples on the CPU, what one of them cost, and the seconds of each whole batch but the first, which warms up."""

    samples: Float[Tensor, " n *shape"]
    calls: int  # of the denoiser that the sampler asks, at most
    rows: float  # evaluations of the model per sample: more than the calls where guidance joins several in one
    seconds: list[float]
    setup: Setup

    @property
    def costs(self) -> dict[str, float | Value]:
        """The cost of the samples as measures: the calls, and those of what was learnt before."""
        return cost_measures(self.calls, self.setup.artifacts)

    def latency(self, seed: int) -> Value:
        """The median time of a batch in ms, with its interval."""
        low, high = median_interval(self.seconds, seed=seed)
        middle = float(torch.tensor(self.seconds, dtype=torch.float64).quantile(0.5))
        return Value(1e3 * middle, (1e3 * low, 1e3 * high), n=len(self.seconds))


Wrap = Callable[[Denoiser, range], Denoiser]  # of the model, and of which samples: what the sampler asks


@torch.no_grad()
def draw(
    start: Start, budget: Budgeted, data: Float[Tensor, " rows *shape"] | None = None,
    wrap: Wrap = lambda denoiser, part: denoiser, *, others: Sequence[CountingDenoiser] = (), timed: int = TIMED,
) -> Drawn:  # fmt: skip
    """Draw all samples in batches, and the first batch again until ``timed`` whole ones are timed.

    A sampler or a schedule that learns does so from rows of the ``data``. ``others`` are further models that are asked,
    whose evaluations count too. Raises ValueError where the sampler exceeds its budget, and FloatingPointError where
    samples are not finite.
    """
    first = start.rows(range(min(start.batch, start.n)))
    seen = None if data is None else data.to(start.device)
    setup = set_up(budget, Drawing(start.denoiser, first, seen), start.seed)
    entry, clock = sampler_of(budget), clock_for(start.device)
    handles, found, calls, asked_of = [], [], 0, 0
    rows = -sum(other.rows for other in others)

    def call(part: range) -> Tensor:
        nonlocal calls, rows, asked_of
        model = CountingDenoiser(start.denoiser)
        counted = CountingDenoiser(Conditioned(wrap(model, part), start.rows(part)))
        x = start.states(part, setup.times[0])
        drawn: Tensor = x

        def solve() -> None:
            nonlocal drawn
            drawn = entry(counted, x, setup.times, noise=start.noise(part), **setup.options)

        handles.append(clock.start(solve, 1))
        calls, rows, asked_of = max(calls, check_budget(budget, counted)), rows + model.rows, asked_of + len(part)
        return require_samples(drawn, x).cpu()

    parts = start.parts()
    for part in parts:
        found.append(call(part))
    whole = sum(len(part) == start.batch for part in parts)
    for _ in range(timed + 1 - whole if timed else 0):
        call(parts[0])
    seconds = clock.read(handles)
    if whole < len(parts):  # the last batch is smaller
        del seconds[len(parts) - 1]
    rows += sum(other.rows for other in others)
    return Drawn(torch.cat(found), calls, rows / asked_of, seconds[1:], setup)


def pair(samples: Tensor, start: Start, times: Tensor, context: Context) -> tuple[Value, float]:
    """The RMS distance of samples to where the converged solution takes their starts, per coordinate, and its error.

    Its interval is that over the starts; their squares are kept as the array ``squares``.
    """
    end, error = converged(start._replace(n=len(samples)), float(times[0]), float(times[-1]))
    squares = (samples - end).double().square().flatten(1).mean(1)
    context.keep("squares", squares)

    def rms(rows: Tensor) -> float:
        return float(rows.mean().sqrt())

    interval = bootstrap(rms, squares, resamples=200, seed=context.seed, kind="percentile")
    return Value(rms(squares), interval, n=len(squares)), error


@lru_cache(maxsize=4)
@torch.no_grad()
def converged(start: Start, first: float, last: float) -> tuple[Float[Tensor, " n *shape"], float]:
    """Where the model's own probability flow takes the starts from time ``first`` to ``last``, and the error of this.

    It is solved by steps of order four; the error is the RMS difference from half as many.
    """
    fine, coarse = (
        torch.cat([_solve_finely(start, part, first, last, steps) for part in start.parts()])
        for steps in (REFERENCE, REFERENCE // 2)
    )
    return fine, float((fine - coarse).double().square().mean().sqrt())


def _solve_finely(start: Start, part: range, first: float, last: float, steps: int) -> Tensor:
    path = start.denoiser.path
    high, low = float(path.ratio(first)), float(path.ratio(last))
    options = {} if low == 0 else {"sigma_min": low, "clean": False}
    grid = SCHEDULES["karras"](path, steps, sigma_max=min(high, 1e4), **options)
    grid[0], grid[-1] = first, last
    x = start.states(part, grid[0])
    found: Tensor = SAMPLERS["rk4"](Conditioned(start.denoiser, start.rows(part)), x, grid, coordinate="angle")
    return found.cpu()
