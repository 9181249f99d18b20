"""Machine, software and source as a record describes them, so that a number can be traced and re-derived."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import bench
from bench.errors import UsageError

# Packages on whose version a number may depend; each is recorded if it is installed.
PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "torchmetrics", "pycocotools", "faster-coco-eval",
    "diffusers", "transformers", "torchdiffeq", "zuko", "k-diffusion",
)  # fmt: skip
BASE = ("torch", "torchvision", "numpy", "scipy")  # those whose versions are in every cell's hash


@cache
def versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of the named packages, by name; packages that are not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def import_from_here() -> None:
    """Let Python find modules in the working folder; last, so that they hide none of fidmap's."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def python() -> str:
    """Implementation and version of the Python interpreter, such as ``CPython 3.12.1``."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def code() -> dict[str, Any]:
    """The state of fidmap's source: ``version``, git ``commit``, and ``dirty``, whether tracked files were changed.

    Commit and dirty are None where git does not answer; None does not mean that the tree is clean.
    """
    root = Path(bench.__file__).resolve().parent.parent
    commit = changes = None
    if (root / ".git").exists():
        # Git's own variables, which a hook sets, may name another repository.
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        commit = _run("git", "-C", str(root), "rev-parse", "HEAD", env=own)
        changes = _run("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no", env=own)
    return {"version": bench.__version__, "commit": commit, "dirty": None if changes is None else bool(changes)}


@cache
def processor() -> str:
    """The model name of the CPU, or its architecture where the system does not tell the model."""
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
    """The machine and its software: system, CPU, cores, memory in GiB, Python, package versions and GPUs.

    Torch is not imported.
    """
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
    """For each GPU, the answers of nvidia-smi by field: name, memory, driver, clocks, power limit, throttle reasons.

    Empty where nvidia-smi is missing or fails.
    """
    fields = ("name", "memory.total", "driver_version", "clocks.sm", "clocks.max.sm", "power.limit",
              "clocks_throttle_reasons.active")  # fmt: skip
    out = _run("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
    return [dict(zip(fields, (v.strip() for v in line.split(",")), strict=False)) for line in (out or "").splitlines()]


def torch_state() -> dict[str, Any]:
    """The settings of torch in this process on which numbers and times depend: threads, precision, determinism."""
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


def find_compiler() -> str | None:
    """The path of the C++ compiler that torch.compile uses on a CPU; None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def compiling_lacks(device: str) -> str:
    """What torch.compile lacks on this machine to compile for a device, in words; empty where it lacks nothing."""
    if device.startswith("cuda") and importlib.util.find_spec("triton") is None:
        return "the package triton"
    if find_compiler() is None:
        return "a C++ compiler"
    return "" if (Path(sysconfig.get_path("include")) / "Python.h").is_file() else "Python's header files"


def check_device(device: str) -> None:
    """Raise UsageError unless ``device`` is ``cpu``, or ``cuda`` or ``cuda:N`` with a GPU that torch sees."""
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise UsageError(f"--device {device!r}: expected cpu, cuda or cuda:N")
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
            raise UsageError(f"--device {device}: torch sees {torch.cuda.device_count()} CUDA devices here")


def device_identity(device: str) -> str:
    """The model of the CPU or GPU behind a device name.

    It is part of a cell's hash, so that a record from one model is never reused on another.
    """
    if device == "cpu":
        return processor()
    import torch

    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device


def _run(*command: str, env: dict[str, str] | None = None) -> str | None:
    """The standard output of a program, or None where it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=env)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
