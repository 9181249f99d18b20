"""Counts of precision, recall, density and coverage against the package prdc, whole numbers all."""

from __future__ import annotations

import contextlib
import io

import pytest
import torch
from prdc import compute_prdc
from torch import Tensor

from metrics import prdc
from metrics.samples import neighbours


def counts(real: Tensor, fake: Tensor, k: int) -> tuple[dict[str, int], dict[str, int]]:
    """Ours and theirs, as whole numbers."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the numbers of samples
        peer = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    of = {"precision": len(fake), "recall": len(real), "density": k * len(fake), "coverage": len(real)}
    found = prdc(real, fake, neighbours=k)._asdict()
    return tuple({name: round(float(values[name]) * n) for name, n in of.items()} for values in (found, peer))


def features(kind: str, n: int, m: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, d, generator=generator)

    x, y = normal(n), 1.05 * normal(m) + 0.05
    centres = 3 * normal(12)
    return {
        "normal": (x, y),
        "clustered": tuple(
            0.5 * z + centres[torch.randint(12, (len(z),), generator=generator)] for z in (x, y)
        ),
        "rectified": (x.relu() + x.abs() ** 3, y.relu() + y.abs() ** 3),
        "offset": (x + 1e3, y + 1e3),
        "grid": ((2 * x).round(), (2 * y).round()),
        "copies": (x, torch.cat([x[: n // 3], y[: m - n // 3]])),
        "itself": (x, x),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("kind", ["normal", "clustered", "rectified", "offset", "grid", "copies", "itself"])
def test_float32(kind: str, k: int):
    for seed, (n, m, d) in enumerate([(7, 9, 2), (100, 130, 16), (600, 500, 128)]):
        ours, theirs = counts(*features(kind, n, m, d, seed), k)
        assert ours == theirs


@pytest.mark.parametrize("kind", ["normal", "clustered", "rectified", "offset", "grid"])
def test_float64(kind: str):
    """Copies off a grid are left to float32: in float64 prdc's products round the same difference in several ways."""
    for seed, (n, m, d) in enumerate([(7, 9, 2), (100, 130, 16), (600, 500, 128)]):
        x, y = features(kind, n, m, d, seed)
        ours, theirs = counts(x.double(), y.double(), 5)
        assert ours == theirs


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_the_fewest_samples(n: int):
    """prdc needs one more than k + 1; so its k = n - 2 is the most, ours goes to n - 1."""
    x, y = features("normal", n, n, 3, n)
    ours, theirs = counts(x, y, n - 2)
    assert ours == theirs
    assert prdc(x, y, neighbours=n - 1).density >= prdc(x, y, neighbours=n - 2).density * (n - 2) / (n - 1)


def test_many_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "ROWS", 64)
    monkeypatch.setattr(neighbours, "COLUMNS", 100)
    ours, theirs = counts(*features("clustered", 500, 450, 64, 9), 5)
    assert ours == theirs
