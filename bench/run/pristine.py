"""What a process holds that code of others may change for all that runs after it: taken once, brought back per cell."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any


class ProcessState:
    """The state of this process when it was made: default types, flags, threads, filters, folder and variables."""

    def __init__(self) -> None:
        self.flags = [(put, get()) for get, put in _flags()]
        self.variables, self.folder, self.path = dict(os.environ), os.getcwd(), list(sys.path)
        self.filters, self.recursion = list(warnings.filters), sys.getrecursionlimit()

    def restore(self, seed: int) -> None:
        """Bring it back, and seed every global generator; what another cell drew before does not count."""
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
        warnings.resetwarnings()  # each module forgets what it has warned of
        warnings.filters[:] = self.filters  # type: ignore[index]
        random.seed(seed)
        numpy.random.seed(seed)
        torch.manual_seed(seed)


Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # how it is read, how it is set


def _flags() -> list[Setting]:
    """Torch's and NumPy's global settings."""
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
