"""``fidmap doctor``: what this machine has of all that fidmap uses, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench import environment


@dataclass(frozen=True)
class Requirement:
    """Something that fidmap uses, whether this machine has it, and the remedy if not.

    ``needed`` is False where fidmap works without it.
    """

    name: str
    found: bool
    detail: str
    remedy: str = ""
    needed: bool = False


def examine() -> list[Requirement]:
    """Look for the hardware, packages, data and tools that fidmap uses; torch is imported only to ask for GPUs."""
    machine = environment.machine()
    hardware = f"{machine['cpu']} x {machine['cores']}, {machine['ram_gib']} GiB, {machine['os']}"
    found = [
        Requirement("machine", True, hardware),
        Requirement("python", True, machine["python"]),
        _disk(),
    ]
    found += [_package(name, needed=True) for name in ("fidmap", *_requirements(None))]
    found += [_package(name, needed=False) for name in (*_requirements("peers"), "k-diffusion")]
    return [*found, _cuda(), _compiler(), _training_set()]


def _requirements(extra: str | None) -> list[str]:
    """Names of the packages that fidmap, or one of its extras, requires according to its metadata."""
    try:
        lines = metadata.requires("fidmap") or []
    except metadata.PackageNotFoundError:
        return []
    names = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        if (f"extra == '{extra}'" in marker.replace('"', "'")) if extra else ("extra" not in marker):
            names.append(requirement.strip().split(">")[0].split("=")[0].split("<")[0].split("[")[0].strip())
    return names


def _package(name: str, *, needed: bool) -> Requirement:
    remedy = f"pip install {name if name != 'fidmap' else '--editable .'}" if needed else "pip install 'fidmap[peers]'"
    if name == "k-diffusion":
        remedy = "pip install --no-deps k-diffusion (what it requires is for training)"
    try:
        return Requirement(name, True, metadata.version(name), needed=needed)
    except metadata.PackageNotFoundError:
        return Requirement(name, False, "not installed", remedy, needed)


def _cuda() -> Requirement:
    if importlib.util.find_spec("torch") is None:
        return Requirement("cuda", False, "torch is not installed", "pip install torch")
    import torch

    if not torch.cuda.is_available():
        remedy = "GPU cells are not measured here; all else runs on the CPU"
        return Requirement("cuda", False, f"no CUDA device (torch {torch.__version__})", remedy)
    return Requirement("cuda", True, ", ".join(gpu["name"] for gpu in environment.gpus()) or "present")


def _compiler() -> Requirement:
    compiler = environment.find_compiler()
    remedy = "apt-get install g++ (torch.compile uses it; eager code is used without)"
    return Requirement("C++ compiler", bool(compiler), Path(compiler).name if compiler else "none found", remedy)


def _training_set() -> Requirement:
    from bench.data.fashion_mnist import find_split

    where = find_split("train")
    remedy = "apt-get install dataset-fashion-mnist, or set FIDMAP_DATA (only training needs it)"
    return Requirement("Fashion-MNIST training set", where is not None, "found" if where else "not found", remedy)


def _disk() -> Requirement:
    free = shutil.disk_usage(".").free / 2**30
    return Requirement("free disk here", free > 1, f"{free:.0f} GiB", "a run of `quick` needs about 0.1 GiB", True)
