"""The fingerprint of machine, software and source, so that a number can be traced and re-derived."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import bench
from bench.errors import UsageError

# Packages whose version can move a number; each is recorded if it is installed.
PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "torchmetrics", "pycocotools", "faster-coco-eval",
    "diffusers", "transformers", "torchdiffeq", "zuko", "k-diffusion",
)  # fmt: skip
BASE = ("torch", "torchvision", "numpy", "scipy")  # those in every cell's hash


@cache
def versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of the named distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def python() -> str:
    """Implementation and version of the interpreter."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def code() -> dict[str, Any]:
    """Version, commit and whether the tree was dirty; what git does not tell is None, which is not clean."""
    root = Path(bench.__file__).resolve().parent.parent
    commit = changes = None
    if (root / ".git").exists():
        # Variables of git's, as a hook sets them, name another repository.
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        commit = _run("git", "-C", str(root), "rev-parse", "HEAD", env=own)
        changes = _run("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no", env=own)
    return {"version": bench.__version__, "commit": commit, "dirty": None if changes is None else bool(changes)}


@cache
def processor() -> str:
    """The CPU's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return (_run("sysctl", "-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else None) or (
        platform.processor() or platform.machine()
    )


def machine() -> dict[str, Any]:
    """Operating system, CPU, memory, Python and package versions; needs no torch."""
    import psutil

    return {
        "os": f"{platform.system()} {platform.release()}",
        "cpu": processor(),
        "cores": os.cpu_count(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": python(),
        "packages": versions(),
        "gpus": gpus(),
    }


@cache
def gpus() -> list[dict[str, str]]:
    """What nvidia-smi says of each GPU: name, memory, driver, clocks, power limit, throttle reasons."""
    fields = ("name", "memory.total", "driver_version", "clocks.sm", "clocks.max.sm", "power.limit",
              "clocks_throttle_reasons.active")  # fmt: skip
    out = _run("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
    return [dict(zip(fields, (v.strip() for v in line.split(",")), strict=False)) for line in (out or "").splitlines()]


def torch_state() -> dict[str, Any]:
    """Thread settings and numerical flags of this process's torch."""
    import torch

    state: dict[str, Any] = {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if torch.cuda.is_available():
        state["tf32"] = torch.backends.cudnn.allow_tf32
    return state


def check_device(device: str) -> None:
    """Raise UsageError where ``--device`` names none of this machine."""
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise UsageError(f"--device {device!r}: expected cpu, cuda or cuda:N")
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
            raise UsageError(f"--device {device}: torch sees {torch.cuda.device_count()} CUDA devices here")


def device_identity(device: str) -> str:
    """The hardware behind a device name: records of one are never used for another."""
    if device == "cpu":
        return processor()
    import torch

    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device


def _run(*command: str, env: dict[str, str] | None = None) -> str | None:
    """What a program prints, None where it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=env)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
