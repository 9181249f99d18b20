"""The Inception network that defines ``fid``: TensorFlow's of 2015-12-05, 2048 features (1706.08500).

It differs from torchvision's Inception v3 (1512.00567) in four ways: it has 1008 classes; average pools leave the
padding out of their mean; the last block pools by the maximum; and its input is (x - 128) / 128 of pixels x in 0..255.
Weights of another Inception give another distance, so that the extractor of any file but the published one is called
``inception_other``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from metrics.extractors.extractor import Extractor, weights_hash
from metrics.extractors.weights import place, read_weights

FILE = "pt_inception-2015-12-05-6726825d.pth"  # ends, as torch.hub's files do, with the start of its sha256
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"

# A branch is its convolutions in order, each (channels, kernel) or (channels, kernel, stride); "fork" is a 1x3 and a
# 3x1 side by side. Before the convolutions of "branch_pool" comes the block's pool.
Branches = dict[str, list[tuple]]
_HALVES: Branches = {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)], "branch_pool": []}
_HALVES_AGAIN: Branches = {
    "branch3x3": [(192, 1), (320, 3, 2)],
    "branch7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)],
    "branch_pool": [],
}
_WIDE: Branches = {
    "branch1x1": [(320, 1)],
    "branch3x3": [(384, 1), (384, "fork")],
    "branch3x3dbl": [(448, 1), (384, 3), (384, "fork")],
    "branch_pool": [(192, 1)],
}


def _small(pooled: int) -> Branches:
    return {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
        "branch_pool": [(pooled, 1)],
    }


def _crossed(c: int) -> Branches:
    return {
        "branch1x1": [(192, 1)],
        "branch7x7": [(c, 1), (c, (1, 7)), (192, (7, 1))],
        "branch7x7dbl": [(c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7))],
        "branch_pool": [(192, 1)],
    }


# name, branches, channels that come in, pool
_BLOCKS = [
    ("Mixed_5b", _small(32), 192, "mean"),
    ("Mixed_5c", _small(64), 256, "mean"),
    ("Mixed_5d", _small(64), 288, "mean"),
    ("Mixed_6a", _HALVES, 288, "halve"),
    ("Mixed_6b", _crossed(128), 768, "mean"),
    ("Mixed_6c", _crossed(160), 768, "mean"),
    ("Mixed_6d", _crossed(160), 768, "mean"),
    ("Mixed_6e", _crossed(192), 768, "mean"),
    ("Mixed_7a", _HALVES_AGAIN, 768, "halve"),
    ("Mixed_7b", _WIDE, 1280, "mean"),
    ("Mixed_7c", _WIDE, 2048, "max"),
]


class FidInception(nn.Module):
    """The Inception network that defines FID, TensorFlow's of 2015-12-05, with the published file's parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        for name, branches, channels, pool in _BLOCKS:
            self.add_module(name, _Block(channels, branches, pool))
        self.fc = nn.Linear(2048, 1008)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2048"]:
        """The 2048 features of images in [0, 1], 299 x 299 pixels: the mean over positions after the last block."""
        x = (255 * images - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2)))
        x = functional.max_pool2d(x, 3, 2)
        for name, *_ in _BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))

    def head(self, features: Float[Tensor, "n 2048"]) -> Float[Tensor, "n 1008"]:
        """The 1008 class logits without their bias, of which the Inception score was defined (1606.03498's code)."""
        return features @ self.fc.weight.mT


def load(weights: str | Path | None = None, device: str = "cpu") -> Extractor:
    """Load FID's Inception extractor: 2048 features of images of 299 pixels by TensorFlow's resize.

    Weights are a file or in torch's hub cache. Raises FileNotFoundError, with the command that gets the file, where it
    is in neither.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    file = Path(weights) if weights is not None else cached
    if weights is None and not file.is_file():
        raise FileNotFoundError(
            f"extractor inception needs {FILE}, which is not in {cached.parent}: "
            f"curl -L --create-dirs -o {cached} {URL}"
        )
    network = FidInception()
    read_weights(network, file)
    place(network, device)
    published = hashlib.sha256(file.read_bytes()).hexdigest().startswith(FILE[-12:-4])
    base = "inception" if published else "inception_other"
    return Extractor(base, weights_hash(network.state_dict()), "bilinear-tf-299", network, network.head, device)


class _Convolution(nn.Module):
    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Branches side by side, their channels joined."""

    def __init__(self, channels: int, branches: Branches, pool: str) -> None:
        super().__init__()
        self.pool = pool
        self.branches: dict[str, list[tuple[str, ...]]] = {}  # the names of the layers, two where they fork
        for branch, layers in branches.items():
            names = [branch if len(layers) == 1 else f"{branch}_{i}" for i in range(1, len(layers) + 1)]
            before, steps = channels, []
            for name, (out, kernel, *stride) in zip(names, layers, strict=True):
                forks = {name + "a": (1, 3), name + "b": (3, 1)} if kernel == "fork" else {name: kernel}
                for fork, size in forks.items():
                    height, width = size if isinstance(size, tuple) else (size, size)
                    padding = (0, 0) if stride else (height // 2, width // 2)
                    convolution = _Convolution(before, out, (height, width), stride[0] if stride else 1, padding)
                    self.add_module(fork, convolution)
                steps.append(tuple(forks))
                before = out
            self.branches[branch] = steps

    def forward(self, x: Tensor) -> Tensor:
        joined = []
        for branch, steps in self.branches.items():
            y = self.pooled(x) if branch == "branch_pool" else x
            for names in steps:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            joined.append(y)
        return torch.cat(joined, 1)

    def pooled(self, x: Tensor) -> Tensor:
        if self.pool == "mean":
            return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return functional.max_pool2d(x, 3, 2) if self.pool == "halve" else functional.max_pool2d(x, 3, 1, 1)
