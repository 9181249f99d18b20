"""k-diffusion's samplers under the contract, in the frame x / alpha against sigma / alpha in which they are written.

``mode``: ``solver`` runs a sampler on the times of the call; ``shipped`` on a grid of k-diffusion's own with as many
steps, between the same noise levels and then to 0: ``spacing`` is the name of one of its ``get_sigmas_`` functions.
Only its modules of samplers and helpers are loaded: the package itself imports its training code, which has many
requirements.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images
from implementations.peers.bridge import Bridge, PeerSampler, Run
from implementations.samplers.contract import Problem

ALIAS = "_k_diffusion_without_training"  # a package of these two modules; k_diffusion itself stays unimported


@functools.cache
def sampling() -> types.ModuleType:
    """Load the module k_diffusion.sampling alone; raises ImportError where k-diffusion is not installed."""
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("k-diffusion is not installed: pip install --no-deps k-diffusion; pip install torchsde")
    package = types.ModuleType(ALIAS)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules.setdefault(ALIAS, package)
    return importlib.import_module(f"{ALIAS}.sampling")


class _Torch:
    """torch with another ``randn_like``."""

    def __init__(self, draw: Callable[[Tensor], Tensor]):
        self.randn_like = draw

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _lend_draws(function: Callable[..., Any], draw: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Copy a sampler with ``draw`` for its ``randn_like``; the module itself stays as it is."""
    raw = inspect.unwrap(function)
    copy = types.FunctionType(raw.__code__, raw.__globals__ | {"torch": _Torch(draw)}, raw.__name__, raw.__defaults__)
    return torch.no_grad()(copy)


def _adapt(
    peer: str,
    options: Mapping[str, Any] | None = None,
    stages: int = 1,
    sampler_of_noise: bool = False,
    adaptive: bool = False,
) -> PeerSampler:
    """Adapt ``sample_<peer>``; one that is ``adaptive`` takes the ends of the grid alone."""
    defaults: dict[str, Any] = {"disable": True, **(options or {})}
    own = list(options or {})

    def solve(problem: Problem, *, mode: str = "solver", spacing: str | None = None, **options: Any) -> Images:
        bridge = Bridge(problem, "exploding")
        if unknown := set(options) - set(own):
            raise ValueError(
                f"{', '.join(sorted(unknown))} is no option of {peer}; there are {', '.join(own) or 'none'}"
            )
        levels = _levels(bridge, mode, spacing)
        eps = 4 * torch.finfo(bridge.x.dtype).eps  # the level reaches the model in the state's dtype
        latest: list[Prediction] = []

        def model(y: Tensor, sigma: Tensor) -> Tensor:
            latest[:] = [bridge.predict(y, bridge.point(float(sigma.flatten()[0]), eps))]
            if adaptive and not bridge.begun:  # its steps are its own affair: a callback hears of the whole alone
                bridge.begin(latest[0])
            return latest[0].x0

        arguments = {**defaults, **options}
        if sampler_of_noise:
            arguments["noise_sampler"] = bridge.brownian
        function = _lend_draws(getattr(sampling(), f"sample_{peer}"), bridge.draw)
        if not adaptive:
            arguments["callback"] = lambda _: bridge.begin(latest[0])
            return bridge.leave(function(model, bridge.enter(), levels.to(bridge.x), **arguments))
        if bridge.clean:
            raise ValueError(f"{peer} never reaches sigma = 0: the grid must end above it")
        return bridge.leave(function(model, bridge.enter(), float(levels[-1]), float(levels[0]), **arguments))

    def bare(
        x: Images, network: Callable[[Images], Images], steps: int, draw: Callable[[], Images], **options: Any
    ) -> Run:
        """Make a run as a user makes it: a Karras grid, and the sampler on a model of the data."""
        function = _lend_draws(getattr(sampling(), f"sample_{peer}"), lambda _: draw())
        arguments = {**defaults, **options}
        if sampler_of_noise:
            arguments["noise_sampler"] = lambda *_: draw()
        grid = sampling().get_sigmas_karras
        return lambda: function(lambda y, _: network(y), x, grid(steps, 0.01, 80.0, device=x.device), **arguments)

    def count(touching: list[bool], **_: Any) -> int:
        return sum(1 if end else stages for end in touching)  # a step to sigma = 0 is its first-order one

    return PeerSampler(
        solve,
        bare,
        doc=f"k-diffusion's ``sample_{peer}``, whose options are its own.",
        own=[inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=v) for n, v in (options or {}).items()],
        count=None if adaptive else count,
        head="x0",
        settings=[] if adaptive else ["spacing"],
        to_data="never" if adaptive else "may",
    )


def _levels(bridge: Bridge, mode: str, spacing: str | None) -> Tensor:
    """Give the sigmas that the peer steps through."""
    if mode == "solver":
        if spacing is not None:
            raise ValueError(f"spacing is an option of mode='shipped', got {spacing!r}")
        return bridge.levels
    if mode != "shipped":
        raise ValueError(f"mode must be solver or shipped, got {mode!r}")
    spacing = spacing or "karras"
    if spacing not in ("karras", "exponential", "polyexponential"):
        raise ValueError(f"spacing must be karras, exponential or polyexponential, got {spacing!r}")
    levels = bridge.levels
    least = float(levels[levels > 0].min())
    return getattr(sampling(), f"get_sigmas_{spacing}")(len(bridge.grid), least, float(levels[0])).double()


_CHURN = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": float("inf"), "s_noise": 1.0}
_ETA = {"eta": 1.0, "s_noise": 1.0}

euler = _adapt("euler", _CHURN)
heun = _adapt("heun", _CHURN, stages=2)
dpm_2 = _adapt("dpm_2", _CHURN, stages=2)
lms = _adapt("lms", {"order": 4})
euler_ancestral = _adapt("euler_ancestral", _ETA, sampler_of_noise=True)
dpm_2_ancestral = _adapt("dpm_2_ancestral", _ETA, stages=2, sampler_of_noise=True)
dpm_adaptive = _adapt(
    "dpm_adaptive",
    {"order": 3, "rtol": 0.05, "atol": 0.0078, "h_init": 0.05, "eta": 0.0, "s_noise": 1.0},
    sampler_of_noise=True,
    adaptive=True,
)
dpmpp_2s_ancestral = _adapt("dpmpp_2s_ancestral", _ETA, stages=2, sampler_of_noise=True)
dpmpp_sde = _adapt("dpmpp_sde", _ETA | {"r": 0.5}, stages=2, sampler_of_noise=True)
dpmpp_2m = _adapt("dpmpp_2m")
dpmpp_2m_sde = _adapt("dpmpp_2m_sde", _ETA | {"solver_type": "midpoint"}, sampler_of_noise=True)
dpmpp_3m_sde = _adapt("dpmpp_3m_sde", _ETA, sampler_of_noise=True)
