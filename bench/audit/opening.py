"""Before the checks: does the sampler run at all, and is its second call like its first?

What stops a sampler from being measured is found here, so that it is said once and not by every check.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import torch

from bench.audit.subject import Subject, WrongReturn, normal, six_modes, state_at

KEPT = "it keeps state between calls"


class Opening(NamedTuple):
    """What two equal calls of a sampler show, the first ones that are made of it.

    ``fault`` is why no check can run; ``kept`` is how the second call shows that the sampler
    keeps state, and ``difference`` by how much it differs from the first. All are empty for a sampler that runs.
    """

    fault: str = ""
    kept: str = ""
    difference: float | None = None


def open_audit(subject: Subject) -> Opening:
    """Call a sampler twice alike, in five steps of the first path that it takes; ImportError is raised on."""
    refused = ""
    for name in subject.candidates:
        path = subject.path(name)
        grid = subject.times(path, 5)
        x = state_at(path, grid[0], normal(2))
        generators = _global_generators()
        try:
            first = subject(six_modes(path), x.clone(), grid.clone())
        except ImportError:
            raise
        except WrongReturn as error:
            return Opening(str(error))
        except (ValueError, TypeError, NotImplementedError) as error:  # it may not take this path
            refused = refused or f"on {name}: {_describe(error)}"
            continue
        except FloatingPointError:
            return Opening()  # where it diverges is for the checks to find
        except Exception as error:
            return Opening(_describe(error))
        try:
            second = subject(six_modes(path), x.clone(), grid.clone())
        except Exception as error:
            return Opening(kept=f"the second call raises {_describe(error)}, the first does not: {KEPT}")
        if torch.equal(first.nan_to_num(), second.nan_to_num()) or generators != _global_generators():
            return Opening()  # of a generator that it draws from, the check of determinism tells
        difference = float((second - first).abs().max())
        return Opening(kept=f"the second call differs from the first: {KEPT}", difference=difference)
    return Opening(refused)


def _global_generators() -> tuple[str, str]:
    """The states of the generators of NumPy and of Python; torch's is set before each call."""
    return str(np.random.get_state()), str(random.getstate())


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
