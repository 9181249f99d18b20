"""The data set: its counts and order, its two conventions, and where the training set is looked for."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.datasets import FashionMNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from bench.data import fashion_mnist

NAMES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the training set and without a network."""

    def refuse(self: FashionMNIST) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(FashionMNIST, "download", refuse)
    monkeypatch.setattr(fashion_mnist, "_DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FIDMAP_DATA", raising=False)
    return tmp_path


def test_the_embedded_set_is_what_torchvision_reads(tmp_path: Path):
    images, labels = fashion_mnist.load()
    for file in fashion_mnist._files("test"):
        (tmp_path / file[:-3]).write_bytes(gzip.decompress((Path(fashion_mnist.__file__).parent / file).read_bytes()))
    first, second = (str(tmp_path / file[:-3]) for file in fashion_mnist._files("test"))
    assert torch.equal(images, read_image_file(first))
    assert torch.equal(labels, read_label_file(second))
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [1000] * len(fashion_mnist.CLASSES)


def test_unit_is_inverted_exactly_and_clamped():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    for dtype in (torch.float32, torch.float64):
        unit = fashion_mnist.to_unit(images, dtype)
        assert (unit.min(), unit.max(), unit.dtype, unit.shape) == (-1, 1, dtype, (1, 1, 16, 16))
        assert torch.equal(fashion_mnist.from_unit(unit)[:, 0], images)
        assert torch.equal(fashion_mnist.from_unit(unit + 0.0039)[:, 0], images)  # within half a level, 1/255
    assert fashion_mnist.from_unit(torch.tensor([[[[-9.0, 9.0]]]])).flatten().tolist() == [0, 255]


def test_hashing_needs_no_torch_and_follows_the_content(nowhere: Path):
    code = "import sys; from bench.data import fashion_mnist as f; print(f.data_hash(), 'torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert shown == [fashion_mnist.data_hash("test"), "False"]
    _write_training_set(nowhere / "a", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIDMAP_DATA", str(nowhere / "a"))
        one = fashion_mnist.data_hash("train")
        _write_training_set(nowhere / "a", 1)
        assert fashion_mnist.data_hash("train") != one != shown[0]


@pytest.mark.parametrize("place", ["data", "data/fashion-mnist", "debian", "cache/fidmap/FashionMNIST/raw"])
def test_the_training_set_is_found_in_each_place(nowhere: Path, monkeypatch: pytest.MonkeyPatch, place: str):
    monkeypatch.setenv("FIDMAP_DATA", str(nowhere / "data"))
    assert fashion_mnist.find_split("train") is None
    _write_training_set(nowhere / place, 0)
    assert fashion_mnist.find_split("train") == nowhere / place
    images, labels = fashion_mnist.load("train")
    assert images.shape == (60_000, 28, 28)
    assert labels.shape == (60_000,)


def test_an_absent_training_set_says_where_it_was_sought_and_how_to_get_it(nowhere: Path):
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist") as caught:
        fashion_mnist.load("train")
    for part in (str(nowhere / "debian"), str(nowhere / "cache"), "FIDMAP_DATA", "no network"):
        assert part in str(caught.value)


@pytest.mark.unchecked
def test_damaged_files_and_unknown_splits_are_refused(nowhere: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FIDMAP_DATA", str(nowhere))
    _write_training_set(nowhere, 0)
    whole = (nowhere / NAMES[0]).read_bytes()
    (nowhere / NAMES[0]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        fashion_mnist.load("train")
    (nowhere / NAMES[0]).write_bytes((nowhere / NAMES[1]).read_bytes())
    with pytest.raises(ValueError, match="is not the IDX file"):
        fashion_mnist.load("train")
    with pytest.raises(ValueError, match="no split 'valid'"):
        fashion_mnist.load("valid")


def _write_training_set(folder: Path, value: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (60_000, 28, 28))
    (folder / NAMES[0]).write_bytes(gzip.compress(header + bytes([value]) * 60_000 * 784, 1))
    header = bytes([0, 0, 8, 1]) + (60_000).to_bytes(4, "big")
    (folder / NAMES[1]).write_bytes(gzip.compress(header + bytes(60_000), 1))
