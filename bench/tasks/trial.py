"""A trial call of what the command line names, before a suite begins: a wrong return is one line, and not one per cell.

A call that raises is no wrong return: it may lack an option that a block has, and the cells say why they fail.
"""

from __future__ import annotations

from typing import Any

import torch

from bench.data.crowds import crowds
from bench.tasks.boxes.calls import call_nms, check_kept, check_loss
from bench.tasks.metrics.calls import read_result
from bench.tasks.samplers.problems import require_shape
from implementations.catalogue import LOSSES, SAMPLERS, SCHEDULES
from implementations.diffusion.oracle import GaussianOracle
from implementations.diffusion.path import VP
from metrics.catalogue import find_metric


class _Wrong(Exception):
    """What is wrong with an entry beside its return, with its name."""


def find_wrong_return(kind: str, name: str) -> str | None:
    """What is wrong with what an entry of this kind returns, with what is accepted; None where nothing is."""
    with torch.random.fork_rng(devices=[]):
        try:
            found = _call(kind, name)
        except _Wrong as error:
            return str(error)
        except Exception:
            return None
        except SystemExit as error:
            return f"{name} ended Python (SystemExit {error.code}) in a trial call"
        try:
            _check(kind, name, found)
        except ValueError as error:
            return str(error) if str(error).startswith(name) else f"{name}: {error}"
    return None


def _call(kind: str, name: str) -> Any:
    if kind == "samplers":
        return SAMPLERS[name](GaussianOracle(VP(), torch.zeros(4), 0.25), _start(), SCHEDULES["karras"](VP(), 3))
    if kind == "losses":
        pair = (_boxes() + torch.tensor([0.1, 0.2, 0.3, 0.1])).requires_grad_(), _boxes()
        before = [side.detach().clone() for side in pair]
        found = LOSSES[name](*pair)
        if not all(map(torch.equal, pair, before)):  # copies would count in its time
            raise _Wrong(f"{name} writes into its boxes; a loss that leaves them as they are is accepted")
        return found
    if kind == "nms":
        return call_nms(name, crowds(20, 2), 0.5, {})
    if kind == "metrics":
        metric = find_metric(name)
        real, generated = torch.randn(2, 64, 8, dtype=torch.float64)
        sides = (generated,) if metric.sides == "generated" else (real, generated)
        return metric.resolve()(*sides, **({"seed": 0} if metric.seeded else {}))
    return None


def _check(kind: str, name: str, found: Any) -> None:
    if kind == "samplers":
        require_shape(found, _start())
        if bool(found.isnan().all()):
            raise ValueError("the sampler returned NaN alone in three steps on a Gaussian; finite samples are accepted")
    elif kind == "losses":
        values = check_loss(name, found, _boxes().requires_grad_())
        if not bool(values.isfinite().all()):
            raise ValueError(f"{name} returned {values.tolist()} for four ordinary pairs; finite losses are accepted")
    elif kind == "nms":
        check_kept(name, found, 40)
    elif kind == "metrics":
        read_result(find_metric(name), found)


def _start() -> torch.Tensor:
    return torch.ones(3, 4)


def _boxes() -> torch.Tensor:
    return torch.tensor([[0.0, 0.0, 1.0, 2.0]]).expand(4, 4).clone()
