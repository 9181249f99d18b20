"""``fidmap evaluate images`` beside pytorch-fid: images read per second, and the time of both commands.

    python tests/benchmarks/images_beside_pytorch_fid.py read      a network that costs nothing, as many workers
    python tests/benchmarks/images_beside_pytorch_fid.py fid       two folders of 300 PNGs of 256 x 256, on the CPU
    python tests/benchmarks/images_beside_pytorch_fid.py fmnist    two folders of 60,000 images of 28 x 28, by fmnist

Rounds are interleaved; medians are printed, with the ratio to pytorch-fid. Nothing is downloaded: both get the same
weights, which are random. Nothing else should run meanwhile.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from bench.data import fashion_mnist
from metrics.extractors.inception import FILE, FidInception
from metrics.images import list_images
from metrics.reading import load_files

ROOT = Path(__file__).parents[2]
BATCH = 50  # pytorch-fid's own


def draw_pictures(folder: Path, count: int, size: int, seed: int) -> None:
    """Smooth pictures with some noise, as PNGs of about the size that photographs have."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((size, size), Image.BICUBIC)
        noisy = np.asarray(coarse).astype(int) + rng.integers(-6, 7, (size, size, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:05d}.png")


def copy_clothes(folder: Path, count: int, shift: int) -> None:
    """Fashion-MNIST's test set, each image as often as it takes, moved by a few pixels."""
    folder.mkdir(parents=True)
    images = fashion_mnist.load("test")[0].numpy()
    for i in range(count):
        moved = np.roll(images[i % len(images)], ((i // len(images)) % 3 - 1, shift), (0, 1))
        Image.fromarray(moved).save(folder / f"{i:05d}.png")


def save_weights(file: Path) -> None:
    """Random weights in the published layout, such that features vary."""
    torch.manual_seed(0)
    network = FidInception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)


def compare(runs: dict, rounds: int, unit: str = "s") -> None:
    """Run each in turn, and print the median and the range of each, and the ratio of the first to the last."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - begin)
    last = statistics.median(list(taken.values())[-1])
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"{name:<36} {median:8.2f} {unit} ({min(seconds):.2f} to {max(seconds):.2f}), ratio {median / last:.2f}",
              flush=True)  # fmt: skip


def read(folder: Path, workers: int, rounds: int) -> None:
    """Images per second with a network that costs nothing, ours and those of pytorch-fid's own loader."""
    import torchvision.transforms
    from pytorch_fid.fid_score import ImagePathDataset

    for count, size in ((6000, 28), (3000, 64), (600, 256)):
        place = folder / str(size)
        copy_clothes(place, count, 0) if size == 28 else draw_pictures(place, count, size, 0)
        files = list_images(place)[0]

        def ours(files: list = files) -> None:
            images = (found.image for found in load_files(files, Counter(), workers=workers, ahead=BATCH))
            while part := list(islice(images, BATCH)):
                torch.stack(part)

        def theirs(files: list = files) -> None:
            data = ImagePathDataset(files, transforms=torchvision.transforms.ToTensor())
            for _ in torch.utils.data.DataLoader(data, batch_size=BATCH, num_workers=workers):
                pass

        print(f"{count} PNGs of {size} x {size}, {workers} workers")
        compare({"fidmap": ours, "pytorch-fid": theirs}, rounds)


def fid(folder: Path, count: int, rounds: int) -> None:
    """The two commands on the same folders with the same weights, without the cache of features."""
    weights = folder / "torch" / "hub" / "checkpoints" / FILE
    save_weights(weights)
    sides = [str(folder / name) for name in ("real", "generated")]
    for seed, side in enumerate(sides):
        draw_pictures(Path(side), count, 256, seed)
    environment = os.environ | {"TORCH_HOME": str(folder / "torch"), "PYTHONPATH": str(ROOT)}

    def command(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", *arguments], env=environment, check=True, capture_output=True, text=True
        )

    own = ("bench", "evaluate", "images", *sides, "--extractor", "inception", "--weights", str(weights), "--no-cache")
    peer = ("pytorch_fid", *sides, "--device", "cpu")
    print(f"two folders of {count} PNGs of 256 x 256")
    compare(
        {
            "fidmap, default metrics": lambda: command(*own),
            "fidmap, --metrics fd": lambda: command(*own, "--metrics", "fd"),
            "pytorch-fid": lambda: command(*peer),
        },
        rounds,
    )  # fmt: skip


def fmnist(folder: Path, count: int, metrics: list[str]) -> None:
    """Two folders of small images by the shipped extractor, without the cache of features."""
    sides = [str(folder / name) for name in ("real", "generated")]
    for shift, side in enumerate(sides):
        copy_clothes(Path(side), count, shift)
    for names in metrics:
        begin = time.perf_counter()
        found = subprocess.run(
            [sys.executable, "-m", "bench", "evaluate", "images", *sides, "--no-cache", "--json", "--metrics", names],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - begin
        figures = {figure["name"]: round(figure["value"], 4) for figure in json.loads(found.stdout)["figures"]}
        print(f"two folders of {count} images of 28 x 28, --metrics {names}: {seconds:.1f} s {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["read", "fid", "fmnist"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, help="per folder")
    parser.add_argument("--metrics", nargs="+", default=["fd", "fd,kid,prdc"])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fidmap-"))
    try:
        if options.part == "read":
            read(folder, options.workers, options.rounds)
        elif options.part == "fid":
            fid(folder, options.images or 300, options.rounds)
        else:
            fmnist(folder, options.images or 60_000, options.metrics)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
