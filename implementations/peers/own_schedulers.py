"""A scheduler of one's own, of diffusers' form, under the samplers' contract.

It is an object with ``set_timesteps(steps)``, ``timesteps`` and ``step(output, timestep, sample)``, or a class that
makes one without arguments. One object serves every call, as in a pipeline, so that one that forgets to reset shows.

``mode="solver"`` runs it on the times of the call. One of a class of diffusers, or derived from one, is given them as
that class is (``diffusers_schedulers``). Another must have ``sigmas``: after ``set_timesteps``, its k-th largest level
is replaced by the k-th of the call, and its k-th step is from ``sigmas[k]``. One that has ``alphas_cumprod`` alone gets
a table with an entry per time of the call. ``mode="shipped"`` leaves it its own timesteps on a discrete path, whose
table replaces its ``alphas_cumprod``; one that does not follow other tables knows no other mode.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.discrete import DiscreteVP
from implementations.diffusion.grid import Grid
from implementations.diffusion.path import Images, RectifiedFlow, Time
from implementations.peers.bridge import Ask, Bridge, Frame, PeerSampler, Place, Run
from implementations.peers.draws import LentDraws
from implementations.samplers.contract import Count, Problem

FORM = "a class or an object with set_timesteps(steps), timesteps and step(output, timestep, sample) is accepted"
HEADS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow_prediction": "velocity"}  # of prediction_type
FOLLOWS = 3.0  # by ``_miss``: the noise of three states that a scheduler draws itself, and a tenth of it in the data
TABLES = ("betas", "alphas", "alphas_cumprod", "final_alpha_cumprod", "one")  # of diffusers, set for given levels
Output = Callable[[Prediction, Images, float], Tensor]  # (prediction, state, level) -> the network's output


@dataclass(frozen=True)
class Manner:
    """How a scheduler is run on given levels: the frame of its states, its network's output, how a grid is set."""

    frame: Frame
    output: Output
    place: Place
    to_data: Literal["may", "must", "never"] = "may"  # whether a grid ends at sigma = 0
    count: Count | None = None  # of its evaluations, where they are not one per timestep
    config: Mapping[str, Any] = field(default_factory=dict)  # of the scheduler, while it runs on given levels


def as_sampler(found: Any, name: str) -> PeerSampler:
    """Make a sampler of a scheduler, an object or a class that needs no arguments; ``name`` is what messages call it.

    Its frame, the scaling of its states, and what it takes as the network's output are those of its class in diffusers
    or of its ``prediction_type``; what it does not state is measured: of all frames and outputs, those by which known
    data and noise are carried to the next levels. Raises ImportError where it is no scheduler, cannot be made, or can
    be given neither levels nor a table.
    """
    scheduler, tried = _make(found, name)
    head = HEADS.get(str(_setting(tried, "prediction_type")))
    manner = _manner_of_diffusers(scheduler, head) or _find_manner(tried, head, name) or _find_tabled(tried, head)
    tabled = hasattr(tried, "alphas_cumprod")
    modes = (*(("solver",) if manner else ()), *(("shipped",) if tabled else ()))
    if not modes:
        raise ImportError(
            f"scheduler {name!r} has neither sigmas nor alphas_cumprod after set_timesteps: one of them is accepted, "
            "by which it is given the levels of a run"
        )

    def solve(problem: Problem, *, mode: str = modes[0], **options: Any) -> Images:
        if options:
            raise ValueError(f"{', '.join(options)} is no option of {name}, whose settings are its constructor's")
        if mode not in modes:
            raise ValueError(f"mode must be {' or '.join(modes)} for {name}, got {mode!r}")
        bridge = Bridge(problem, manner.frame if manner else "unit")
        if mode == "solver" and manner is not None:
            return _run(scheduler, manner, bridge)
        return _ship(scheduler, head or "eps", bridge)

    def bare(x: Images, network: Callable[[Images], Images], steps: int, draw: Callable[[], Images], **_: Any) -> Run:
        """Make a run as a pipeline does: ``set_timesteps`` and the steps."""

        def run() -> Images:
            scheduler.set_timesteps(steps)
            y = x
            for timestep in scheduler.timesteps:
                output = network(_scale_input(scheduler, y, timestep))
                y = _step(scheduler, output, timestep, y, lambda _: draw())
            return y

        return run

    def count(touching: list[bool], **_: Any) -> int:
        scheduler.set_timesteps(len(touching))
        return len(scheduler.timesteps)

    sampler: Any = PeerSampler(
        solve,
        bare,
        doc=f"The scheduler {name}, through the bridge.",
        count=(manner and manner.count) or count,
        home=DiscreteVP,
        from_noise=manner is not None and manner.frame == "straight",
        to_data=manner.to_data if manner else "may",
    )
    sampler.family = "peer"  # its tables may be in float32, as those of other libraries
    order = _setting(tried, "solver_order")
    if isinstance(order, int):
        sampler.order = order
    return sampler  # type: ignore[no-any-return]


def _make(found: Any, name: str) -> tuple[Any, Any]:
    """The scheduler, and a copy of it that has been set once: what is tried on the copy leaves no trace in a run."""
    if not all(callable(getattr(found, method, None)) for method in ("set_timesteps", "step")):
        raise ImportError(f"{name!r} is no scheduler: {FORM}")
    try:
        scheduler = found() if isinstance(found, type) else found
        tried = copy.deepcopy(scheduler)
        tried.set_timesteps(4)
    except Exception as error:  # the user's own code
        says = " ".join(f"{type(error).__name__}: {error}".split())
        raise ImportError(f"cannot make and set the scheduler {name!r}: {says}; {FORM}") from error
    if not hasattr(tried, "timesteps"):
        raise ImportError(f"scheduler {name!r} has no timesteps after set_timesteps: {FORM}")
    return scheduler, tried


def _setting(scheduler: Any, name: str) -> Any:
    """A setting of a scheduler, of its ``config`` or its own."""
    config: Any = getattr(scheduler, "config", None)
    found = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
    return getattr(scheduler, name, None) if found is None else found


# How it is run on given levels


def _manner_of_diffusers(scheduler: Any, head: str | None) -> Manner | None:
    """The manner of the class of diffusers that a scheduler is of, or None."""
    if "diffusers" not in sys.modules:
        return None
    from implementations.peers.diffusers_schedulers import find_peer

    peer = find_peer(scheduler)
    if peer is None:
        return None
    own: Any = peer.head if peer.head == "preconditioned" else head or peer.head
    taken = replace(peer, head=own)
    return Manner(
        peer.frame,
        lambda prediction, y, level: taken.output(prediction, y, level, scheduler),
        peer.place,
        "may" if peer.reaches_zero else "never",
        peer.count,
        {name: value for name, value in peer.solver.items() if name in scheduler.config},
    )


def _find_manner(scheduler: Any, head: str | None, name: str) -> Manner | None:
    """The manner of a scheduler that has ``sigmas``, measured where it is not stated; None for one without."""
    if not hasattr(scheduler, "sigmas"):
        return None
    own = _floats(scheduler.sigmas)
    frames: tuple[Frame, ...] = ("straight",) if max(own) <= 1 else ("unit", "exploding")
    heads = (head,) if head else ("velocity", "x0", "eps") if max(own) <= 1 else ("eps", "x0", "v")
    # Of four steps: with four levels, the last step goes to sigma = 0; with two calls in a step, the last one has one.
    to_data: Literal["may", "must"] = "must" if len(set(own)) == 4 or len(scheduler.timesteps) > 4 else "may"
    tried: list[tuple[float, Manner]] = []
    failed: list[str] = []
    for frame in frames:
        for one in heads:
            manner = Manner(frame, _output_of(frame, one), _set_by_rank, to_data)
            try:
                tried.append((_miss(scheduler, manner), manner))
            except Exception as error:  # the user's own code
                failed.append(" ".join(f"{type(error).__name__}: {error}".split()))
    if not tried:
        raise ImportError(f"scheduler {name!r} cannot be run on given sigmas: {failed[0]}")
    return min(tried, key=lambda each: each[0])[1]


def _find_tabled(scheduler: Any, head: str | None) -> Manner | None:
    """The manner of a scheduler that has ``alphas_cumprod`` alone; None where it does not step by a given table."""
    if not hasattr(scheduler, "alphas_cumprod") or hasattr(scheduler, "sigmas"):
        return None
    ends: tuple[Literal["may", "must"], ...] = ("may", "must")
    tried: list[tuple[float, Manner]] = []
    for to_data in ends:  # the first of two that miss by as much
        manner = Manner("unit", _output_of("unit", head or "eps"), _set_table, to_data)
        with contextlib.suppress(Exception):  # of the user's own code
            tried.append((round(_miss(scheduler, manner), 6), manner))
    followed = [each for each in tried if each[0] < FOLLOWS]
    return min(followed, key=lambda each: each[0])[1] if followed else None


def _output_of(frame: Frame, head: str) -> Output:
    def output(prediction: Prediction, y: Images, level: float) -> Tensor:
        if head == "v":  # of the state at unit variance
            alpha, sigma = (float(f(prediction.t)) for f in (prediction.path.alpha, prediction.path.sigma))
            return prediction.v / float(np.hypot(alpha, sigma))
        if head == "velocity":
            return prediction.combine(-1.0, 1.0)
        return getattr(prediction, head)  # type: ignore[no-any-return]

    return output


class _Told(Denoiser):
    """A denoiser that answers data (1, 0) and noise (0, 1), so that a state reads (alpha, sigma)."""

    path = RectifiedFlow()

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        x0, eps = (torch.tensor([answer], dtype=x.dtype) for answer in ([1.0, 0.0], [0.0, 1.0]))
        return Prediction(self.path, x, t, x0=x0, eps=eps)


def _miss(scheduler: Any, manner: Manner) -> float:
    """How far known data and noise are from the levels to which a run in this manner should carry them.

    The data count most, since the noise of a scheduler that draws some is partly that which it draws, here 0.
    """
    times = torch.tensor([0.8, 0.7, 0.6, 0.5, *([0.0] if manner.to_data == "must" else [])])
    grid = Grid(_Told.path, times.double())
    x = torch.tensor([[0.2, 0.8]], dtype=torch.float64)
    reached: list[Images] = []

    def listen(i: int, t: Tensor, y: Images, prediction: Prediction) -> None:
        reached.append(y)

    _run(scheduler, manner, Bridge(Problem(_Told(), grid, x, lambda _, like: torch.zeros_like(like), None, listen),
                                   manner.frame))  # fmt: skip
    states = zip(reached, grid.points[1:4], strict=False)
    return sum(10 * abs(float(y[0, 0]) - p.alpha) + abs(float(y[0, 1]) - p.sigma) for y, p in states)


def _set_by_rank(scheduler: Any, bridge: Bridge) -> Iterable[Ask]:
    """Set ``sigmas``: the k-th largest of its own levels becomes the k-th level of the call."""
    steps, levels = len(bridge.grid), bridge.levels.tolist()
    scheduler.set_timesteps(steps)
    own = _floats(scheduler.sigmas)
    ranks = {level: k for k, level in enumerate(sorted(set(own), reverse=True))}
    if len(ranks) not in (steps, steps + 1):
        raise ValueError(
            f"{type(scheduler).__name__} has {len(ranks)} different sigmas in {steps} steps: {steps + 1} are accepted, "
            f"or {steps} where it ends at sigma = 0"
        )
    if len(ranks) == steps and not bridge.clean:
        raise ValueError(f"{type(scheduler).__name__} ends at sigma = 0: the grid must end there")
    placed = [levels[ranks[level]] for level in own]
    scheduler.sigmas = _like(scheduler.sigmas, placed)
    for k, timestep in enumerate(scheduler.timesteps):
        # of two evaluations at one level, the second begins a step
        begins = k + 1 >= len(placed) or placed[k] != placed[k + 1]
        yield Ask(bridge.point(placed[k]), timestep, begins)


def _set_table(scheduler: Any, bridge: Bridge) -> Iterator[Ask]:
    """Set ``alphas_cumprod``: timestep k is the k-th point from the end, counted from the last above sigma = 0."""
    points, steps = bridge.grid.points, len(bridge.grid)
    bars = [(point.alpha / point.radius) ** 2 for point in points]
    times = [k - int(bridge.clean) for k in range(steps, 0, -1)]
    before = _set_setting(scheduler, "num_train_timesteps", steps)  # so that a step is one timestep
    try:
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) != steps:
            raise ValueError(f"{type(scheduler).__name__} has {len(scheduler.timesteps)} timesteps in {steps} steps")
        table = bars[:-1] if bridge.clean else bars
        scheduler.alphas_cumprod = _like(scheduler.alphas_cumprod, table[::-1])
        for name in ("final_alpha_cumprod", "one"):
            if hasattr(scheduler, name):
                setattr(scheduler, name, torch.tensor(bars[-1], dtype=torch.float64))
        own = scheduler.timesteps
        scheduler.timesteps = torch.tensor(times) if isinstance(own, Tensor) else np.array(times)
        yield from (Ask(point, timestep) for point, timestep in zip(points[:-1], scheduler.timesteps, strict=True))
    finally:
        _set_setting(scheduler, "num_train_timesteps", before)


def _set_setting(scheduler: Any, name: str, value: Any) -> Any:
    """Set a setting of a scheduler where it has it, in its ``config`` or as its own, and give what was there."""
    before = _setting(scheduler, name)
    config = getattr(scheduler, "config", None)
    if isinstance(config, dict) and name in config:
        config[name] = value
    elif hasattr(config, name):
        setattr(config, name, value)
    if hasattr(scheduler, name):
        setattr(scheduler, name, value)
    return before


def _floats(levels: Any) -> list[float]:
    return [float(level) for level in levels]


def _like(own: Any, values: list[float]) -> Any:
    """Values in the container of a scheduler's own, in float64."""
    if isinstance(own, Tensor):
        return torch.tensor(values, dtype=torch.float64)
    return np.array(values) if isinstance(own, np.ndarray) else values


# A run


def _run(scheduler: Any, manner: Manner, bridge: Bridge) -> Images:
    name = type(scheduler).__name__
    if bridge.clean and manner.to_data == "never":
        raise ValueError(f"{name} has no step to sigma = 0: the grid must end above it")
    y = bridge.enter()
    with _configured(scheduler, manner, bridge.clean):
        for ask in manner.place(scheduler, bridge):
            prediction = bridge.predict(y, ask.point)
            if ask.begins:
                bridge.begin(prediction)
            _scale_input(scheduler, y, ask.timestep)  # some count their steps there
            output = manner.output(prediction, y, bridge.level(ask.point))
            y = _step(scheduler, output, ask.timestep, y, bridge.draw)
    return bridge.leave(y)


@contextlib.contextmanager
def _configured(scheduler: Any, manner: Manner, clean: bool) -> Iterator[None]:
    """Configure a scheduler of diffusers for given levels; afterwards it has its own configuration and tables again."""
    own = {name: getattr(scheduler, name) for name in ("_internal_dict", *TABLES) if hasattr(scheduler, name)}
    if hasattr(scheduler, "register_to_config"):
        known = (
            {"final_sigmas_type": "zero" if clean else "sigma_min"} if "final_sigmas_type" in scheduler.config else {}
        )
        scheduler.register_to_config(**manner.config, **known)
    try:
        yield
    finally:
        for name, value in own.items():
            setattr(scheduler, name, value)


def _ship(scheduler: Any, head: str, bridge: Bridge) -> Images:
    """Run it as a pipeline does, on its own timesteps of the table of the path."""
    path, name = bridge.grid.path, type(scheduler).__name__
    if not isinstance(path, DiscreteVP):
        raise ValueError(f"{name} on its own timesteps lives on DiscreteVP, got {path!r}")
    table = torch.cumprod(1 - path.betas, 0).tolist()
    if len(scheduler.alphas_cumprod) != len(table):
        raise ValueError(f"{name} has a table of {len(scheduler.alphas_cumprod)} timesteps, the path of {len(table)}")
    scheduler.alphas_cumprod = _like(scheduler.alphas_cumprod, table)
    scheduler.set_timesteps(len(bridge.grid))
    output = _output_of("unit", head)
    y = bridge.x / bridge.grid.points[0].radius * float(getattr(scheduler, "init_noise_sigma", 1.0))
    for timestep in scheduler.timesteps:
        time = torch.as_tensor(timestep, dtype=torch.float64)
        prediction = bridge.problem.denoiser(_scale_input(scheduler, y, timestep), time, bridge.problem.condition)
        bridge.begin(prediction)
        y = _step(scheduler, output(prediction, y, float(path.ratio(time))), timestep, y, bridge.draw)
    return bridge.leave(y)


def _scale_input(scheduler: Any, y: Images, timestep: Any) -> Images:
    scale = getattr(scheduler, "scale_model_input", None)
    return y if scale is None else scale(y, timestep)


def _step(scheduler: Any, output: Tensor, timestep: Any, y: Images, draw: Callable[[Images], Images]) -> Images:
    """One step of a scheduler, which draws its noise by ``draw``; raises TypeError on another answer than a state."""
    with LentDraws(draw, y):
        answer = scheduler.step(output, timestep, y)
    found = answer.get("prev_sample") if isinstance(answer, dict) else getattr(answer, "prev_sample", answer)
    if isinstance(found, tuple) and found:
        found = found[0]
    if not isinstance(found, Tensor) or found.shape != y.shape:
        came = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"{type(found).__name__}"
        raise TypeError(
            f"step of {type(scheduler).__name__} returned {came}; the next state is accepted, of the shape of the "
            "sample, as .prev_sample, as the first of a tuple or alone"
        )
    return found
