"""diffusers' schedulers under the samplers' contract.

``mode="solver"`` runs a scheduler on the times of the call: its levels are set from the grid, in float64, and the
denoiser is asked at the level from which the scheduler then steps. A step to sigma = 0 is the scheduler's own
first-order one, where it has one; ``lower_order_final`` and the like are off elsewhere.
``mode="shipped"`` leaves the scheduler its ``set_timesteps``, with as many steps as the times have, its start
(``init_noise_sigma``) and its conditioning (rounded timesteps); options of its constructor (``timestep_spacing``,
``use_karras_sigmas``, ...) are options of the call. It runs on its home alone: a discrete path's table of betas, or for
some schedulers the straight, circular or exploding path. Data are not clipped in either mode unless ``clip_sample`` is
set.
"""

from __future__ import annotations

import inspect
import math
import types
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import diffusers
import torch
from torch import Tensor

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.discrete import DiscreteVP
from implementations.diffusion.grid import Point
from implementations.diffusion.path import EDM, Images, Path, RectifiedFlow, TrigFlow
from implementations.peers.bridge import Ask, Bridge, Frame, PeerSampler, Place
from implementations.samplers.contract import Problem

diffusers.logging.set_verbosity_error()  # a scheduler warns of arguments that a bench has reason to give


@dataclass(frozen=True)
class Peer:
    """A scheduler of diffusers, and how it is run on the times of a call.

    ``frame`` is the scaling of its states, ``place`` sets a grid in it, and ``head`` is what it takes as the network's
    output.
    """

    name: str
    frame: Frame
    place: Place
    head: Literal["eps", "x0", "v", "velocity", "preconditioned"] = "eps"
    config: Mapping[str, Any] = field(default_factory=dict)  # of the constructor, in both modes
    solver: Mapping[str, Any] = field(default_factory=dict)  # of the constructor, in solver mode
    options: Callable[..., tuple[dict[str, Any], dict[str, Any]]] = lambda: ({}, {})  # -> of constructor, of step
    home: type[Path] = DiscreteVP
    direction: Literal["down", "up"] = "down"
    stages: int = 1
    reaches_zero: bool = True
    shipped_stages: int | None = None  # where they differ from ``stages``
    extra: int = 0  # evaluations that any run of two steps or more has on top
    most_steps: int | None = None  # these two as ``PeerSampler``'s
    to_sigma_min: bool = False

    @property
    def settings(self) -> list[str]:
        """The names of the options of the scheduler's constructor."""
        known = inspect.signature(getattr(diffusers, self.name).__init__).parameters
        return [name for name in known if name not in ("self", "kwargs")]

    def fits(self, config: Mapping[str, Any]) -> bool:
        """Say whether a scheduler of this class has the algorithm of this peer, and its order where stages count."""
        algorithm = self.options()[0].get("algorithm_type")
        return config.get("algorithm_type", algorithm) == algorithm and (
            self.stages == 1 or config.get("solver_order", self.stages) == self.stages
        )

    def make(self, options: Mapping[str, Any]) -> Any:
        """Make the scheduler by its constructor; raises ValueError on an option that the constructor does not have."""
        if unknown := set(options) - set(self.settings):
            names = ", ".join(self.settings)
            raise ValueError(f"{', '.join(sorted(unknown))} is no option of {self.name}; there are {names}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated algorithms are peers all the same
            scheduler = getattr(diffusers, self.name)(**options)
        if hasattr(scheduler, "is_scale_input_called"):
            scheduler.is_scale_input_called = True
        return scheduler

    def count(self, touching: list[bool], mode: str = "solver", **_: Any) -> int:
        """Count evaluations of the denoiser.

        ``touching[i]`` says whether step i touches an end of the path, and costs one. As shipped it ends at sigma = 0,
        or spends its last step as if it did.
        """
        stages, extra = self.stages, self.extra * (len(touching) > 1)
        if mode == "shipped":
            stages, touching = self.shipped_stages or stages, [False] * (len(touching) - 1) + [True]
        return extra + sum(1 if end else stages for end in touching)

    def output(self, prediction: Prediction, y: Images, level: float, scheduler: Any) -> Images:
        """Give what the scheduler takes as the network's output at the state ``y``, made of a prediction."""
        if self.head == "v":
            return prediction.v / math.hypot(
                *(float(f(prediction.t)) for f in (prediction.path.alpha, prediction.path.sigma))
            )
        if self.head == "velocity":
            return prediction.combine(-1.0, 1.0)
        if self.head == "preconditioned":  # denoised = c_skip y + c_out output
            sigma = torch.tensor(level, dtype=torch.float64)
            if isinstance(scheduler, diffusers.CMStochasticIterativeScheduler):
                skip, out = scheduler.get_scalings_for_boundary_condition(sigma)
            else:
                one = torch.ones_like(sigma)
                skip, out = (scheduler.precondition_outputs(*pair, sigma) for pair in ((one, 0 * one), (0 * one, one)))
            return (prediction.x0 - y * skip) / out
        return getattr(prediction, self.head)  # type: ignore[no-any-return]


def _adapt(peer: Peer) -> PeerSampler:
    own = inspect.signature(peer.options).parameters

    def solve(problem: Problem, *, mode: str = "solver", **options: Any) -> Images:
        if mode not in ("solver", "shipped"):
            raise ValueError(f"mode must be solver or shipped, got {mode!r}")
        bridge = Bridge(problem, peer.frame, peer.direction)
        config, step = peer.options(**{name: options.pop(name) for name in own if name in options})
        if mode == "solver" and options:
            raise ValueError(f"{', '.join(options)} belongs to mode='shipped', or is no option of {peer.name}")
        run = _solve if mode == "solver" else _ship
        return run(peer, bridge, {**peer.config, **config, **options}, step)

    return PeerSampler(
        solve,
        partial(_bare, peer),
        doc=f"diffusers' ``{peer.name}``; in mode ``shipped`` any option of its constructor, too.",
        own=list(own.values()),
        open_ended=True,
        count=peer.count,
        head=peer.head if peer.head in ("v", "velocity") else "eps",
        home=peer.home,
        settings=peer.settings,
        from_noise=peer.frame == "straight",
        to_data="must" if peer.place is _set_few_steps else "may" if peer.reaches_zero else "never",
        most_steps=peer.most_steps,
        to_sigma_min=peer.to_sigma_min,
    )


def _solve(peer: Peer, bridge: Bridge, config: dict[str, Any], call: dict[str, Any]) -> Images:
    if bridge.clean and not peer.reaches_zero:
        raise ValueError(f"{peer.name} has no step to sigma = 0: the grid must end above it")
    if "final_sigmas_type" in inspect.signature(getattr(diffusers, peer.name).__init__).parameters:
        config["final_sigmas_type"] = "zero" if bridge.clean and peer.reaches_zero else "sigma_min"
    scheduler = peer.make({**config, **peer.solver})
    y = bridge.enter()
    step = _lend_draws(scheduler, bridge)
    for ask in peer.place(scheduler, bridge):
        prediction = bridge.predict(y, ask.point)
        if ask.begins:
            bridge.begin(prediction)
        y = step(peer.output(prediction, y, bridge.level(ask.point), scheduler), ask.timestep, y, **call).prev_sample
    return bridge.leave(y)


def _ship(peer: Peer, bridge: Bridge, config: dict[str, Any], call: dict[str, Any]) -> Images:
    path = bridge.grid.path
    if not isinstance(path, peer.home):
        raise ValueError(f"{peer.name} as shipped lives on {peer.home.__name__}, got {path!r}")
    if isinstance(path, DiscreteVP):
        config = {"num_train_timesteps": len(path.betas), "trained_betas": path.betas.tolist()} | config
    scheduler = peer.make(config)
    scheduler.set_timesteps(len(bridge.grid))
    if hasattr(scheduler, "noise_sampler"):
        scheduler.noise_sampler = bridge.brownian
    step = _lend_draws(scheduler, bridge)
    on_table = isinstance(path, DiscreteVP)
    if on_table:
        y = bridge.x / bridge.grid.points[0].radius * float(scheduler.init_noise_sigma)
    else:
        y = bridge.x / bridge.scale(bridge.grid.points[0])
    for timestep in scheduler.timesteps:
        time = _time_at_home(path, timestep, scheduler)
        scaled = scheduler.scale_model_input(y, timestep) if hasattr(scheduler, "scale_model_input") else y
        # a network on the table sees a variance-preserving state; elsewhere the state is the path's own
        prediction = bridge.problem.denoiser(scaled if on_table else y, time, bridge.problem.condition)
        bridge.begin(prediction)
        level = float(path.ratio(time))
        y = step(peer.output(prediction, y, level, scheduler), timestep, y, **call).prev_sample
    return bridge.leave(y)


def _bare(
    peer: Peer, x: Images, network: Callable[[Images], Images], steps: int, draw: Callable[[], Images], **options: Any
) -> Callable[[], Images]:
    """Make a run as a pipeline does, in the scheduler's own frame and head: ``set_timesteps`` and the steps."""
    config, call = peer.options(**options)
    scheduler = peer.make({k: v for k, v in {**peer.config, **config}.items() if k != "prediction_type"})
    step = _with_draws(scheduler, lambda *_, **__: draw())

    def run() -> Images:
        scheduler.set_timesteps(steps)
        if hasattr(scheduler, "noise_sampler"):
            scheduler.noise_sampler = lambda *_: draw()
        y = x
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(y, timestep) if hasattr(scheduler, "scale_model_input") else y
            y = step(network(scaled), timestep, y, **call).prev_sample
        return y

    return run


def _time_at_home(path: Path, timestep: Tensor, scheduler: Any) -> Tensor:
    """Give the path's time at which a network would be asked."""
    timestep = timestep.double()
    if isinstance(path, RectifiedFlow):
        return timestep / scheduler.config.num_train_timesteps
    if isinstance(path, TrigFlow):
        return timestep * (math.pi / 2)
    if isinstance(path, EDM):  # c_noise = log(sigma) / 4, in thousandths for consistency models
        return (timestep * (4e-3 if isinstance(scheduler, diffusers.CMStochasticIterativeScheduler) else 4)).exp()
    return timestep


def _lend_draws(scheduler: Any, bridge: Bridge) -> Callable[..., Any]:
    def draw(shape: Any, *_: Any, dtype: torch.dtype | None = None, **__: Any) -> Tensor:
        return bridge.draw(bridge.x).to(dtype or bridge.x.dtype)

    return _with_draws(scheduler, draw)


def _with_draws(scheduler: Any, draw: Callable[..., Tensor]) -> Callable[..., Any]:
    """Copy ``scheduler.step`` with ``draw`` for its ``randn_tensor``; the module itself stays as it is."""
    step = inspect.unwrap(type(scheduler).step)
    own = types.FunctionType(
        step.__code__, step.__globals__ | {"randn_tensor": draw}, step.__name__, step.__defaults__, step.__closure__
    )
    return types.MethodType(own, scheduler)


# How a grid is set in a scheduler


def _set_levels(scheduler: Any, bridge: Bridge) -> Iterable[Ask]:
    """Set ``sigmas``, with one evaluation per step."""
    return _set(scheduler, bridge, bridge.grid.points)


def _set(scheduler: Any, bridge: Bridge, points: list[Point]) -> Iterable[Ask]:
    steps = len(points) - 1
    _reset(scheduler, steps)
    scheduler.sigmas = torch.tensor([bridge.level(point) for point in points], dtype=torch.float64)
    scheduler.timesteps = torch.arange(steps, 0, -1, dtype=torch.float64)
    for k, point in enumerate(points[:-1]):
        if k == steps - 1 and bridge.clean and "lower_order_final" in scheduler.config:
            scheduler.register_to_config(
                lower_order_final=True
            )  # of the last step alone: what is set later is not read
        yield Ask(point, scheduler.timesteps[k], point in bridge.grid.points)


def _reset(scheduler: Any, steps: int) -> None:
    """Reset the scheduler to the first of ``steps``."""
    scheduler.set_timesteps(steps)
    scheduler.num_inference_steps = steps
    scheduler.set_begin_index(0)


def _insert(*shares: float) -> Place:
    """Set ``sigmas`` with points inside each step at these shares of its log-SNR, the stages of a single step."""

    def place(scheduler: Any, bridge: Bridge) -> Iterable[Ask]:
        points: list[Point] = []
        orders: list[int] = []
        for i, here in enumerate(bridge.grid.points[:-1]):
            whole = bridge.grid.points[i + 1].sigma > 0
            points += [here, *(bridge.divide(i, shares) if whole else [])]
            orders += range(1, len(shares) + 2) if whole else [1]
        asks = _set(scheduler, bridge, [*points, bridge.grid.points[-1]])
        for k, ask in enumerate(asks):
            if k == 0:
                scheduler.order_list = orders
            yield ask

    return place


def _double(scheduler: Any, bridge: Bridge) -> Iterable[Ask]:
    """Set the doubled ``sigmas`` of a scheduler of two stages, the second of which may lie between two levels."""
    levels, steps = bridge.levels, len(bridge.grid)
    here, there = levels[:-1], levels[1:]
    _reset(scheduler, steps)
    scheduler.sigmas = _twice(levels)
    seconds = there
    if isinstance(scheduler, diffusers.KDPM2DiscreteScheduler):
        seconds = (here.log() + there.log()).mul(0.5).exp()
        scheduler.sigmas_interpol = _twice(torch.cat([here[:1], seconds]))  # by the end of its step
    elif isinstance(scheduler, diffusers.KDPM2AncestralDiscreteScheduler):
        up = there * (1 - (there / here) ** 2).sqrt()
        down = (there**2 - up**2).sqrt()
        seconds = (here.log() + down.log()).mul(0.5).exp()
        for name, values in {"sigmas_up": up, "sigmas_down": down, "sigmas_interpol": seconds}.items():
            setattr(scheduler, name, _twice(torch.cat([values, values[-1:]])))  # by its start
    elif isinstance(scheduler, diffusers.schedulers.DPMSolverSDEScheduler):
        seconds = (here.log() + there.log()).mul(0.5).exp()
        scheduler.noise_sampler = bridge.brownian
    for i in range(steps):
        yield Ask(bridge.grid.points[i], torch.tensor(2.0 * i))
        if there[i] > 0:
            yield Ask(bridge.point(float(seconds[i])), torch.tensor(2.0 * i + 1), begins=False)


def _twice(values: Tensor) -> Tensor:
    """Repeat every value but the first."""
    return torch.cat([values[:1], values[1:].repeat_interleave(2)])


def _set_table(scheduler: Any, bridge: Bridge) -> Iterable[Ask]:
    """Set ``alphas_cumprod``: timestep k is the k-th point from the end, counted from the last above sigma = 0."""
    points, steps = bridge.grid.points, len(bridge.grid)
    bars = torch.tensor([(point.alpha / point.radius) ** 2 for point in points], dtype=torch.float64)
    _reset_table(scheduler, steps)
    scheduler.alphas_cumprod = (bars[:-1] if bridge.clean else bars).flip(0)
    scheduler.final_alpha_cumprod = scheduler.one = bars[-1]
    scheduler.timesteps = torch.arange(steps, 0, -1) - int(bridge.clean)
    return [Ask(point, t) for point, t in zip(points, scheduler.timesteps, strict=False)]


def _set_table_upwards(scheduler: Any, bridge: Bridge) -> Iterable[Ask]:
    """Set ``alphas_cumprod`` for the way to noise: step k, counted from 0, goes to timestep k + 1."""
    points, steps = bridge.grid.points, len(bridge.grid)
    _reset_table(scheduler, steps)
    scheduler.alphas_cumprod = torch.tensor(
        [(point.alpha / point.radius) ** 2 for point in points], dtype=torch.float64
    )
    return [Ask(point, torch.tensor(k + 1)) for k, point in enumerate(points[:-1])]


def _reset_table(scheduler: Any, steps: int) -> None:
    """Reset the scheduler so that one step is one timestep of its table."""
    scheduler.register_to_config(num_train_timesteps=steps)
    scheduler.set_timesteps(steps)


def _set_plms(scheduler: Any, bridge: Bridge) -> Iterable[Ask]:
    """Set the grid as ``_set_table``, and ask twice at the second point."""
    asks = list(_set_table(scheduler, bridge))
    return [*asks[:2], *([asks[1]._replace(begins=False)] if len(asks) > 1 else []), *asks[2:]]


def _set_few_steps(scheduler: Any, bridge: Bridge) -> Iterable[Ask]:
    """Set ``alphas_cumprod`` of a scheduler whose last step returns the predicted data, wherever the grid ends."""
    if not bridge.clean:
        raise ValueError(f"{type(scheduler).__name__} ends at the data predicted: the grid must end at sigma = 0")
    points, steps = bridge.grid.points, len(bridge.grid)
    bars = torch.tensor([(point.alpha / point.radius) ** 2 for point in points], dtype=torch.float64)
    scheduler.num_inference_steps, scheduler.alphas_cumprod = steps, bars.flip(0)
    scheduler.timesteps = torch.arange(steps, 0, -1)
    scheduler.set_begin_index(0)
    return [Ask(point, t) for point, t in zip(points, scheduler.timesteps, strict=False)]


def _set_angles(scheduler: Any, bridge: Bridge) -> Iterable[Ask]:
    """Set ``betas``, which are sines, and ``alphas``, which are cosines."""
    points = bridge.grid.points
    _reset(scheduler, len(bridge.grid))
    scheduler.betas = torch.tensor([point.sigma / point.radius for point in points], dtype=torch.float64)
    scheduler.alphas = torch.tensor([point.alpha / point.radius for point in points], dtype=torch.float64)
    return [Ask(point, torch.tensor(float(k))) for k, point in enumerate(points[:-1])]


# The peers

_X0 = {"prediction_type": "sample"}
_SIGMAS = {"lower_order_final": False}


_PEERS: list[Peer] = []


def _peer(name: str, frame: Frame, place: Place, **about: Any) -> PeerSampler:
    _PEERS.append(Peer(name, frame, place, **about))
    return _adapt(_PEERS[-1])


def find_peer(scheduler: Any) -> Peer | None:
    """Give the peer by which a scheduler that is one of diffusers' classes, or derived from one, is run; or None.

    Of the forms of DPM-Solver it is that of the scheduler's ``algorithm_type`` and, single-step, of its order.
    """
    fits = [peer for peer in _PEERS if isinstance(scheduler, getattr(diffusers, peer.name, ()))]
    return next((peer for peer in fits if peer.fits(scheduler.config)), None)


def _order(default: int, name: str = "solver_order") -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    def options(order: int = default) -> tuple[dict[str, Any], dict[str, Any]]:
        return {name: order}, {}

    return options


def _multistep(algorithm: str, order: int, **about: Any) -> PeerSampler:
    """Adapt the multistep DPM-Solver; ``solver_type`` is the form of its second order."""

    def options(solver_type: str = "midpoint") -> tuple[dict[str, Any], dict[str, Any]]:
        return {"solver_order": order, "solver_type": solver_type, "algorithm_type": algorithm}, {}

    about = {"head": "x0", "config": _X0, "solver": _SIGMAS, "options": options} | about
    return _peer("DPMSolverMultistepScheduler", "unit", _set_levels, **about)


def _singlestep(algorithm: str, order: int, *shares: float, **about: Any) -> PeerSampler:
    def options(solver_type: str = "midpoint") -> tuple[dict[str, Any], dict[str, Any]]:
        return {"solver_order": order, "solver_type": solver_type, "algorithm_type": algorithm}, {}

    about = {"head": "x0", "config": _X0, "options": options, "stages": order, "shipped_stages": 1} | about
    return _peer("DPMSolverSinglestepScheduler", "unit", _insert(*shares), **about)


def _unipc(form: str) -> PeerSampler:
    def options(order: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"solver_order": order, "solver_type": form}, {}

    return _peer("UniPCMultistepScheduler", "unit", _set_levels, head="x0", config=_X0, solver=_SIGMAS, options=options)


def _eta(eta: float = 0.0) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"eta": eta}


def _variance(variance: str = "small") -> tuple[dict[str, Any], dict[str, Any]]:
    return {"variance_type": f"fixed_{variance}"}, {}


def _churn(
    s_churn: float = 0.0, s_tmin: float = 0.0, s_tmax: float = math.inf, s_noise: float = 1.0
) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"s_churn": s_churn, "s_tmin": s_tmin, "s_tmax": s_tmax, "s_noise": s_noise}


def _tau(tau: float = 1.0, predictor_order: int = 2, corrector_order: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    orders = {"predictor_order": predictor_order, "corrector_order": corrector_order}
    return {"tau_func": lambda _: tau} | orders, {}


def _lms_order(order: int = 4) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"order": order}


_UNCLIPPED = {"clip_sample": False}
_SHORT = {"num_train_timesteps": 50}  # on a grid of ours the table is not read, and a long one takes long to set up
_EPS = {"head": "eps", "config": {"final_sigmas_type": "sigma_min"}, "reaches_zero": False}

ddim = _peer("DDIMScheduler", "unit", _set_table, config=_UNCLIPPED, options=_eta)
ddim_inversion = _peer("DDIMInverseScheduler", "unit", _set_table_upwards, config=_UNCLIPPED, direction="up")
ddpm = _peer("DDPMScheduler", "unit", _set_table, config=_UNCLIPPED, options=_variance)
plms = _peer("PNDMScheduler", "unit", _set_plms, config={"skip_prk_steps": True}, extra=1)
ipndm = _peer("IPNDMScheduler", "unit", _set_angles, head="v", home=TrigFlow)
euler = _peer("EulerDiscreteScheduler", "exploding", _set_levels, options=_churn)
euler_ancestral = _peer("EulerAncestralDiscreteScheduler", "exploding", _set_levels)
heun = _peer("HeunDiscreteScheduler", "exploding", _double, solver=_SHORT, stages=2)
dpm_2 = _peer("KDPM2DiscreteScheduler", "exploding", _double, solver=_SHORT, stages=2)
dpm_2_ancestral = _peer("KDPM2AncestralDiscreteScheduler", "exploding", _double, solver=_SHORT, stages=2)
lms = _peer("LMSDiscreteScheduler", "exploding", _set_levels, options=_lms_order)
dpmpp_sde = _peer("DPMSolverSDEScheduler", "exploding", _double, solver=_SHORT, stages=2)
deis = _peer("DEISMultistepScheduler", "unit", _set_levels, solver=_SIGMAS, options=_order(2), reaches_zero=False)
dpm_solver_multistep_2 = _multistep("dpmsolver", 2, **_EPS)
dpm_solver_multistep_3 = _multistep("dpmsolver", 3, **_EPS)
dpmpp_2m = _multistep("dpmsolver++", 2)
dpmpp_3m = _multistep("dpmsolver++", 3)
dpmpp_2m_sde = _multistep("sde-dpmsolver++", 2)
dpmpp_3m_sde = _multistep("sde-dpmsolver++", 3)
dpm_solver_2 = _singlestep("dpmsolver", 2, 1 / 2, **_EPS)
dpm_solver_3 = _singlestep("dpmsolver", 3, 1 / 3, 2 / 3, **_EPS)
dpmpp_2s = _singlestep("dpmsolver++", 2, 1 / 2)
dpmpp_3s = _singlestep("dpmsolver++", 3, 1 / 3, 2 / 3)
unipc_bh1 = _unipc("bh1")
unipc_bh2 = _unipc("bh2")
edm_euler = _peer("EDMEulerScheduler", "exploding", _set_levels, head="preconditioned", options=_churn, home=EDM)
edm_dpmpp_2m = _peer(
    "EDMDPMSolverMultistepScheduler", "exploding", _set_levels, head="preconditioned", solver=_SIGMAS, home=EDM
)
flow_euler = _peer("FlowMatchEulerDiscreteScheduler", "straight", _set_levels, head="velocity", home=RectifiedFlow)
flow_heun = _peer("FlowMatchHeunDiscreteScheduler", "straight", _double, head="velocity", stages=2, home=RectifiedFlow)
flow_stochastic = _peer(
    "FlowMatchEulerDiscreteScheduler", "straight", _set_levels, head="velocity", config={"stochastic_sampling": True},
    home=RectifiedFlow,
)  # fmt: skip
sa_solver = _peer(
    "SASolverScheduler", "unit", _set_levels, head="x0", config=_X0, solver=_SIGMAS, options=_tau, reaches_zero=False
)
consistency = _peer(
    "CMStochasticIterativeScheduler", "exploding", _set_levels, head="preconditioned", config={"clip_denoised": False},
    solver={"num_train_timesteps": 4000, "sigma_min": 0.0, "sigma_max": 1e9}, home=EDM,
    most_steps=40, to_sigma_min=True,
)  # fmt: skip
# a scaling of the timestep this large leaves nothing of the boundary condition: denoised is the data predicted
lcm = _peer(
    "LCMScheduler", "unit", _set_few_steps, config=_UNCLIPPED, solver={"timestep_scaling": 1e12}, most_steps=50
)  # fmt: skip
