"""Fréchet distance of two sets of features, each taken for a Gaussian (1706.08500, eq. 6).

    d² = |m1 - m2|² + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

The last term is the nuclear norm of ``R1 R2'`` for any roots ``R'R = S``: by singular values nothing turns complex, no
rounding is magnified by a square root, and rank-deficient covariances are right. It is named after its extractor
(``fd_fmnist``); only Inception features with the original weights give ``fid``. Its bias falls with n: compare at equal
n, beside the distance of real data to real data.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Float64
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

ROWS = 8192  # made float64 and centred at a time


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Count, mean and scatter of features, with what the features are of; ``+`` merges shards.

    ``scatter`` is ``sum (x - mean)(x - mean)'``: sums of x x' would lose as many digits as the mean is far from 0.
    ``extractor`` is name@hash, ``resize`` the interpolation before it, ``data`` the hash of the images.
    """

    count: int
    mean: Float64[Tensor, " d"]
    scatter: Float64[Tensor, "d d"]
    extractor: str = ""
    resize: str = ""
    data: str = ""

    @classmethod
    def from_features(
        cls, features: Float[Tensor, "n d"], *, extractor: str = "", resize: str = "", data: str = ""
    ) -> FeatureStatistics:
        """Those of features, in float64; raises ValueError on another shape and on values that are not finite."""
        _check(features)
        blocks = (cls(*_moments(rows.double()), extractor, resize, data) for rows in features.split(ROWS))
        return functools.reduce(operator.add, blocks)

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        """The statistics of both sets together (Chan, Golub and LeVeque, 1983).

        ``M = M_a + M_b + n_a n_b / n (m_b - m_a)(m_b - m_a)'``. Raises ValueError where extractor, resize, data or
        the number of features differ.
        """
        _require_same(self, other, ("extractor", "resize", "data"))
        count, apart = self.count + other.count, other.mean - self.mean
        share = other.count / max(count, 1)
        scatter = self.scatter + other.scatter + self.count * share * torch.outer(apart, apart)
        return replace(self, count=count, mean=self.mean + share * apart, scatter=scatter)

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        """The sample covariance, over n - 1; raises ValueError below two samples."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples; there are {self.count}")
        return self.scatter / (self.count - 1)

    def save(self, file: str | Path) -> None:
        """Write one safetensors file; its metadata hold the count, extractor, resize and data."""
        metadata = {"count": str(self.count), "extractor": self.extractor, "resize": self.resize, "data": self.data}
        save_file({"mean": self.mean.contiguous(), "scatter": self.scatter.contiguous()}, file, metadata)

    @classmethod
    def load(cls, file: str | Path) -> FeatureStatistics:
        """Read what ``save`` wrote; raises ValueError on a safetensors file of something else."""
        with safe_open(file, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
            metadata = dict(stored.metadata() or {})
        if set(tensors) != {"mean", "scatter"} or set(metadata) != {"count", "extractor", "resize", "data"}:
            raise ValueError(
                f"{file} holds no feature statistics: tensors {sorted(tensors)}, metadata {sorted(metadata)}"
            )
        return cls(int(metadata.pop("count")), **tensors, **metadata)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The squared distance d² of two statistics, in squared units of the features.

    Raises ValueError where the extractor, the resize mode or the number of features differ, and below two samples.
    """
    _require_same(a, b, ("extractor", "resize"))
    return _distance(a.mean, _root(a), b.mean, _root(b))


def frechet_distance_from_features(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """The squared distance d² of two sets of features, without ever squaring them into a covariance.

    The root of each covariance is the triangle of the centred features' QR decomposition (for n < d, those features):
    the more accurate way, and the fast one for n < d. Raises ValueError as ``frechet_distance`` does.
    """
    _check(x)
    _check(y)
    x, y = x.double(), y.double()
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"the sets have {x.shape[1]} and {y.shape[1]} features; equal numbers are accepted")
    return _distance(x.mean(0), _triangle(x), y.mean(0), _triangle(y))


def _distance(
    mean_a: Float64[Tensor, " d"],
    root_a: Float64[Tensor, "r d"],
    mean_b: Float64[Tensor, " d"],
    root_b: Float64[Tensor, "s d"],
) -> float:
    cross = torch.linalg.svdvals(root_a @ root_b.mT).sum()
    squared = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * cross
    return max(float(squared), 0.0)  # rounding may leave -1e-16 of the traces


def _root(statistics: FeatureStatistics) -> Float64[Tensor, "r d"]:
    """R with R'R = S and a row a positive eigenvalue.

    Those within rounding are taken for 0: the square root of a spurious 1e-16 would be 1e-8. The rounding of the
    eigenvalues is of d eps, that of a sum of n terms walks as sqrt(n) eps, both of the largest.
    """
    values, vectors = torch.linalg.eigh(statistics.covariance)
    rounding = (len(values) + statistics.count**0.5) * torch.finfo(values.dtype).eps
    kept = values > rounding * values[-1]
    return values[kept].sqrt()[:, None] * vectors[:, kept].mT


def _triangle(x: Float64[Tensor, "n d"]) -> Float64[Tensor, "r d"]:
    n, d = x.shape
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 samples; there are {n}")
    centred = (x - x.mean(0)) / (n - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R if n > d else centred


def _moments(x: Float64[Tensor, "n d"]) -> tuple[int, Float64[Tensor, " d"], Float64[Tensor, "d d"]]:
    """Count, mean and scatter; zeros of no rows."""
    mean = x.sum(0) / max(len(x), 1)
    centred = x - mean
    return len(x), mean, centred.mT @ centred


def _check(features: Float[Tensor, "n d"]) -> None:
    if features.ndim != 2:
        raise ValueError(f"features have the shape {tuple(features.shape)}; (n, d) is accepted")
    wrong = int((~torch.isfinite(features).all(1)).sum())
    if wrong:
        raise ValueError(f"{wrong} of {len(features)} rows of features are not finite")


def _require_same(a: FeatureStatistics, b: FeatureStatistics, fields: tuple[str, ...]) -> None:
    for name in fields:
        if getattr(a, name) != getattr(b, name):
            raise ValueError(f"the statistics differ in {name}: {getattr(a, name)!r} and {getattr(b, name)!r}")
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"the statistics have {len(a.mean)} and {len(b.mean)} features; equal numbers are accepted")
