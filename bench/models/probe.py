"""A model asked at three levels on noised data: whether its loss is what the level allows, else by which convention.

The loss is that of x0. A level allows that of the best linear denoiser of the data's means and variances, per
coordinate ``s^2 sigma^2 / (alpha^2 s^2 + sigma^2)``, which a trained model undercuts. And no reading of an optimal
denoiser's output has a lower loss than the right one. So the output is read by the other conventions too: another head,
its negative, another time given to the network, another range of the data. Where one of these is clearly better, the
model was probably trained on it.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import HEADS, Network, Prediction

if TYPE_CHECKING:
    from implementations.diffusion.denoiser import Denoiser
    from implementations.diffusion.path import Path

LEVELS = (0.2, 1.0, 5.0)  # sigma/alpha in units of the data's standard deviation
FAR = 2.0  # times the loss of the best linear denoiser
BETTER = 1.25  # the factor in loss, a mean over the levels, by which a reading must be better to be named
ALIKE = 1.1  # readings within this factor of the best: the one with the fewest changes is named
RANGES = ((-1.0, 1.0), (0.0, 1.0))

Range = tuple[float, float]


class Level(NamedTuple):
    """Noised data at one time: the state, the clean data, the time, and the best linear denoiser's loss."""

    x: Float[Tensor, " n *shape"]
    x0: Float[Tensor, " n *shape"]
    t: Tensor
    noise: float  # sigma/alpha
    allowed: float


class Probe(NamedTuple):
    """What a model's answers at three levels say: its losses, the time of a call, and a warning if they are odd."""

    levels: tuple[float, ...]  # sigma/alpha
    losses: tuple[float, ...]  # of x0, in units of the best linear denoiser's
    seconds: float  # per call on the batch that was asked, median
    warning: str = ""


class Reading(NamedTuple):
    """A convention by which a network's output may be read: its losses, and how it differs from the one given."""

    losses: tuple[float, ...]
    changes: tuple[str, ...]

    @property
    def score(self) -> float:
        """The mean over the levels of the logarithm of the loss, in units of the best linear denoiser's."""
        return statistics.fmean(math.log(max(loss, 1e-12)) if math.isfinite(loss) else 100.0 for loss in self.losses)


@torch.no_grad()
def probe(
    denoiser: Denoiser,
    data: Float[Tensor, " n *shape"],
    *,
    range: Range | None = None,
    condition: Any = None,
    seed: int = 0,
) -> Probe:
    """Ask a denoiser at three levels on noised ``data``, and name the likely convention where the loss is off.

    ``range`` is that of the data where they are images, None for points. ``condition`` has a row per row of the data.
    """
    levels = list(_noised(denoiser.path, data, seed))
    seconds, losses = [], []
    for level in levels:
        began = time.perf_counter()
        found = _loss(denoiser(level.x, level.t, condition), level)  # reading the loss waits for a GPU
        seconds.append(time.perf_counter() - began)
        losses.append(found)
    given = Reading(tuple(losses), ())
    noises = tuple(level.noise for level in levels)
    warning = _warn(denoiser, given, _readings(denoiser, data, levels, range, condition, seed), noises)
    return Probe(noises, given.losses, statistics.median(seconds), warning)


def _noised(path: Path, data: Tensor, seed: int) -> Iterator[Level]:
    """The data at three levels within the path, each with noise of its own."""
    generator = torch.Generator().manual_seed(seed)
    variances = data.double().var(0)
    deviation = float(variances.mean().sqrt())
    for times in LEVELS:
        t = path.time(-math.log(times * deviation)).clamp(path.t_min, path.t_max)
        if path.t_max > 100 and path.t_min == -1:  # a table's network may know whole timesteps alone
            t = t.round().clamp(0, path.t_max)
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        noise = torch.randn(data.shape, generator=generator, dtype=torch.float64)
        allowed = float((variances * sigma**2 / (alpha**2 * variances + sigma**2)).mean())
        yield Level((alpha * data + sigma * noise.to(data)), data, t, sigma / max(alpha, 1e-12), allowed)


def _loss(prediction: Prediction, level: Level) -> float:
    try:
        return float((prediction.x0 - level.x0).double().square().mean()) / level.allowed
    except ValueError:  # a view that does not exist there
        return math.inf


def _readings(
    denoiser: Denoiser, data: Tensor, levels: list[Level], range: Range | None, condition: Any, seed: int
) -> Iterator[Reading]:
    """The model's answers read by other conventions; of a denoiser that is no network, by another range alone."""
    for other in RANGES if range in RANGES else ():
        if other != range and range is not None:
            scale = (other[1] - other[0]) / (range[1] - range[0])
            moved = list(_noised(denoiser.path, other[0] + (data - range[0]) * scale, seed))
            losses = tuple(_loss(denoiser(level.x, level.t, condition), level) for level in moved)
            yield Reading(losses, (f"data in {other[0]:g} to {other[1]:g}, not {range[0]:g} to {range[1]:g}",))
    if not isinstance(denoiser, Network):
        return
    for said, own in _times(denoiser, levels):
        asked = copy.copy(denoiser)
        asked.time = own
        try:
            answers = [getattr(asked(level.x, level.t, condition), denoiser.head) for level in levels]
        except Exception:  # a network may not know such a time at all
            continue
        for head in HEADS:
            for sign in (1.0, -1.0):
                changes = (
                    *([f"time {said} given to the network"] if said else []),
                    *([f"head {head}, not {denoiser.head}"] if head != denoiser.head else []),
                    *(["the opposite sign"] if sign < 0 else []),
                )
                views = [
                    Prediction(denoiser.path, level.x, level.t, **{head: sign * answer})
                    for level, answer in zip(levels, answers, strict=True)
                ]
                if changes:
                    yield Reading(tuple(map(_loss, views, levels)), changes)


def _times(denoiser: Network, levels: list[Level]) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """The times that a network may have been trained on, as functions of the path's, those first that it is given."""
    path, last = denoiser.path, denoiser.path.t_max
    known: dict[str, Callable[[Tensor], Tensor]] = {
        "t": lambda t: t,
        "999 t": lambda t: 999 * t,
        "t / 999": lambda t: t.clamp(min=0) / 999,
        "1 - t": lambda t: last - t,
        "log(sigma) / 4": lambda t: path.sigma(t).log() / 4,
        "sigma": path.sigma,
    }
    t = torch.stack([level.t for level in levels])
    given = denoiser.time(t).double()
    tried = [given]
    yield "", denoiser.time
    for name, function in known.items():
        own = function(t).double()
        if (name == "999 t" and last > 10) or (name == "t / 999" and last < 100) or (name == "1 - t" and last != 1):
            continue
        if not any(torch.allclose(own, other, rtol=1e-3) for other in tried):
            tried.append(own)
            yield name, function


def _warn(denoiser: Denoiser, given: Reading, readings: Iterator[Reading], noises: tuple[float, ...]) -> str:
    """What is odd about a model's losses, in one line; empty where nothing is."""
    others = [reading for reading in readings if max(reading.losses) <= FAR]
    best = min((reading.score for reading in others), default=math.inf)
    where = f"at sigma/alpha = {', '.join(f'{noise:.2g}' for noise in noises)}"
    loss = f"its loss {where} is {_join(given.losses)} times that of the best linear denoiser of the data"
    if given.score - best > math.log(BETTER):
        near = [reading for reading in others if reading.score <= best + math.log(ALIKE)]
        likely = min(near, key=lambda reading: (len(reading.changes), reading.score))
        return f"{loss}, and {_join(likely.losses)} times by another convention: {' and '.join(likely.changes)}"
    if not max(given.losses) <= FAR:
        tried = "head, sign, time and range" if isinstance(denoiser, Network) else "range"
        return f"{loss}; at most {FAR:g} is expected, and no other {tried} explains it"
    return ""


def _join(losses: tuple[float, ...]) -> str:
    return ", ".join(f"{loss:.2g}" for loss in losses)
