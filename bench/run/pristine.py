"""The global state of a worker, which code under test may change: saved once and restored before each cell."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any


class ProcessState:
    """A snapshot of this process's global state, taken when the object is made, which ``restore`` brings back.

    It covers the flags, threads and default types of torch and NumPy, environment variables, working directory, import
    path, warning filters and recursion limit.
    """

    def __init__(self) -> None:
        self.flags = [(put, get()) for get, put in _flags()]
        self.variables, self.folder, self.path = dict(os.environ), os.getcwd(), list(sys.path)
        self.filters, self.recursion = list(warnings.filters), sys.getrecursionlimit()

    def restore(self, seed: int) -> None:
        """Restore the saved state, and seed the global generators of Python, NumPy and torch with ``seed``.

        Random numbers that an earlier cell drew therefore do not matter.
        """
        import numpy
        import torch

        for put, value in self.flags:
            put(value)
        if dict(os.environ) != self.variables:
            os.environ.clear()
            os.environ.update(self.variables)
        os.chdir(self.folder)
        sys.path[:] = self.path
        sys.setrecursionlimit(self.recursion)
        warnings.resetwarnings()  # modules forget which warnings they have shown
        warnings.filters[:] = self.filters  # type: ignore[index]
        random.seed(seed)
        numpy.random.seed(seed)
        torch.manual_seed(seed)


Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # its getter and its setter


def _flags() -> list[Setting]:
    """The getter and setter of each global setting of torch and NumPy."""
    import numpy
    import torch

    return [
        (torch.get_default_dtype, torch.set_default_dtype),
        (lambda: None, torch.set_default_device),  # None is torch's own default; reading it gives a device
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        *_attributes(torch.utils.deterministic, "fill_uninitialized_memory"),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        (lambda: False, torch.set_flush_denormal),
        _autocast("cpu"),
        _autocast("cuda"),
        *_attributes(torch.backends.cudnn, "enabled", "benchmark", "deterministic", "allow_tf32"),
        *_attributes(torch.backends.cuda.matmul, "allow_tf32"),
        (numpy.geterr, lambda saved: numpy.seterr(**saved)),
        (numpy.geterrcall, numpy.seterrcall),
    ]


def _attributes(owner: Any, *names: str) -> list[Setting]:
    return [(partial(getattr, owner, name), partial(setattr, owner, name)) for name in names]


def _autocast(device: str) -> Setting:
    import torch

    return partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device)
