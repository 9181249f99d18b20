"""Fréchet distance of two sets of features, each modelled by a Gaussian (1706.08500, eq. 6).

    d² = |m1 - m2|² + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

with the means m and the covariances S. The last trace is the nuclear norm of ``R1 R2'`` for any roots ``R'R = S``. It
is computed by singular values, so that nothing becomes complex, no rounding is magnified by a square root, and
rank-deficient covariances are handled exactly. For large covariances that are far from singular it is computed as the
sum of ``sqrt(eigenvalues of L' S2 L)`` with ``L L' = S1``, which is several times as fast; a bound on the error decides
whether they are far enough. Exchanging the two arguments changes no bit of the result.

A distance is named after its extractor (``fd_fmnist``); only Inception features with the original weights give ``fid``.
It is biased upwards, the more the smaller n: compare at equal n, beside the distance of real data to real data
(``metrics.floor``). ``metrics.bootstrap`` gives an interval of the mean distance at this n, which seldom contains the
distance of the distributions; ``metrics.debiased_frechet_distance`` estimates that one, with an interval that does.
"""

from __future__ import annotations

import functools
import itertools
import operator
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.linalg import eigvalsh, lapack
from torch import Tensor

from metrics.checks import check_features, takes_arrays

ROWS = 8192  # converted to float64 and centred at a time
# With fewer features than this the singular values cost little; with more, eigenvalues are used if the bound on their
# error is below this share of the traces. Over seven spectra in four relations the bound was at least 7 times the error
# (at most 6e-14 of the traces where it held).
_LARGE, _TOLERANCE = 256, 1e-9


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Mean and scatter of features, of which a Fréchet distance is computed, and where they come from.

    ``+`` merges shards. ``scatter`` is ``sum (x - mean)(x - mean)'``: sums of x x' would lose digits where the mean is
    far from 0. ``count`` is the number of rows; where that is not known, as in the files of other programs, it is None,
    and ``scatter`` is the covariance itself. ``extractor`` is name@hash, ``resize`` the interpolation before it,
    ``data`` the hash of the images.
    """

    count: int | None
    mean: Float64[Tensor, " d"]
    scatter: Float64[Tensor, "d d"]
    extractor: str = ""
    resize: str = ""
    data: str = ""

    @classmethod
    @takes_arrays("features")
    def from_features(
        cls, features: Float[Tensor, "n d"], *, extractor: str = "", resize: str = "", data: str = ""
    ) -> FeatureStatistics:
        """Count, mean and scatter of features (n, d), in float64.

        Raises ValueError on another shape and on values not finite.
        """
        check_features(features)
        blocks = (cls(*_moments(rows.double()), extractor, resize, data) for rows in features.split(ROWS))
        return functools.reduce(operator.add, blocks)

    @classmethod
    def from_images(
        cls,
        data: Any,
        extractor: Callable[..., Tensor],
        *,
        batch: int = 64,
        workers: int | None = None,
        name: str = "",
        resize: str = "",
    ) -> FeatureStatistics:
        """Statistics of the features of images: of a folder, a file .npy or .npz, an array, or a loader's batches.

        ``extractor`` is an ``Extractor``, or a function of a list of uint8 images (c, h, w) that gives (n, d), with its
        ``name`` and ``resize``, which an ``Extractor`` has itself. It gets ``batch`` images at a time; the next
        ones of a folder are read by ``workers`` threads (None: one per core, 8 at most). Raises ValueError on data
        without images, as ``metrics.images.read_images`` does, and as ``from_features`` does.
        """
        from metrics.images import read_images

        label = {
            "extractor": name or str(getattr(extractor, "label", "")),
            "resize": resize or str(getattr(extractor, "resize", "")),
        }
        images, found = read_images(data, workers=workers, ahead=batch), None
        while part := list(itertools.islice(images, batch)):
            own = cls.from_features(extractor(part), **label)
            found = own if found is None else found + own
        if found is None:
            raise ValueError("there are no images; at least 1 is accepted")
        return found

    @classmethod
    def from_moments(
        cls,
        mean: np.ndarray,
        covariance: np.ndarray,
        *,
        count: int | None = None,
        extractor: str = "",
        resize: str = "",
    ) -> FeatureStatistics:
        """Statistics of a mean (d,) and a covariance (d, d), as pytorch-fid, clean-fid and torch-fidelity store them.

        Raises ValueError on other shapes, values that are not finite, and a matrix that is no covariance.
        """
        mean, covariance = (np.asarray(each) for each in (mean, covariance))
        if (
            mean.ndim != 1
            or covariance.shape != (len(mean),) * 2
            or {mean.dtype.kind, covariance.dtype.kind} - {*"fiu"}
        ):
            raise ValueError(
                f"the mean is {mean.dtype} {mean.shape}, the covariance {covariance.dtype} {covariance.shape}; numbers"
                " (d,) and (d, d) are accepted"
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError("the mean or the covariance has values that are not finite")
        covariance = covariance.astype(np.float64)
        apart = np.abs(covariance - covariance.T).max(initial=0)
        if apart > 1e-6 * np.abs(covariance).max(initial=0) or (np.diag(covariance) < 0).any():
            raise ValueError("the covariance is not symmetric, or has a variance below 0")
        scatter = torch.from_numpy((covariance + covariance.T) / 2 * (1 if count is None else count - 1))
        return cls(count, torch.from_numpy(mean.astype(np.float64)), scatter, extractor, resize)

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        """The statistics of both sets together (Chan, Golub and LeVeque, 1983).

        ``M = M_a + M_b + n_a n_b / n (m_b - m_a)(m_b - m_a)'``. Raises ValueError where extractor, resize, data or the
        number of features differ, and where a number of rows is not known.
        """
        if self.count is None or other.count is None:
            raise ValueError("statistics of an unknown number of rows cannot be merged")
        _require_same(self, other, ("extractor", "resize", "data"))
        count, apart = self.count + other.count, other.mean - self.mean
        share = other.count / max(count, 1)
        scatter = self.scatter + other.scatter + self.count * share * torch.outer(apart, apart)
        return replace(self, count=count, mean=self.mean + share * apart, scatter=scatter)

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        """The sample covariance of the features, scatter / (n - 1); raises ValueError below two samples."""
        if self.count is None:
            return self.scatter
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples; there are {self.count}")
        return self.scatter / (self.count - 1)

    def save(self, file: str | Path) -> None:
        """Write the statistics as one safetensors file, whole or not at all.

        Its metadata hold the count, extractor, resize and data.
        """
        count = "" if self.count is None else str(self.count)
        metadata = {"count": count, "extractor": self.extractor, "resize": self.resize, "data": self.data}
        file = Path(file)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            save_file({"mean": self.mean.contiguous(), "scatter": self.scatter.contiguous()}, partial, metadata)
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, file: str | Path) -> FeatureStatistics:
        """Read statistics that ``save`` wrote; raises ValueError on a file that is cut off or holds something else."""
        try:
            with safe_open(file, "pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
                metadata = dict(stored.metadata() or {})
        except SafetensorError as error:
            raise ValueError(f"{file} is no whole safetensors file: {error}") from error
        if set(tensors) != {"mean", "scatter"} or set(metadata) != {"count", "extractor", "resize", "data"}:
            raise ValueError(
                f"{file} holds no feature statistics: tensors {sorted(tensors)}, metadata {sorted(metadata)}"
            )
        count, mean, scatter = metadata.pop("count"), tensors["mean"], tensors["scatter"]
        if (
            not (count.isdecimal() or not count)
            or scatter.shape != (len(mean),) * 2
            or {mean.dtype, scatter.dtype} != {torch.float64}
        ):
            given = f"a count of {count!r}, a mean {tuple(mean.shape)} and a scatter {tuple(scatter.shape)}"
            raise ValueError(f"{file} holds {given}; a whole number, (d,) and (d, d) in float64 are accepted")
        if not (torch.isfinite(mean).all() and torch.isfinite(scatter).all()):
            raise ValueError(f"{file} holds values that are not finite")
        return cls(int(count) if count else None, mean, scatter, **metadata)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Squared Fréchet distance of two sets of features as Gaussians (1706.08500, eq. 6).

    ``|m1 - m2|² + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)`` with the means m and the covariances S, in squared units of the
    features; 0 for equal statistics. Raises ValueError where the extractor, the resize mode or the number of features
    differ, and below two samples.
    """
    _require_same(a, b, ("extractor", "resize"))
    (mean_a, s_a, n_a), (mean_b, s_b, n_b) = ((z.mean, z.covariance, z.count or 0) for z in (a, b))
    order = _compare(mean_a, mean_b) or _compare(s_a, s_b)
    if order > 0:
        (mean_a, s_a, n_a), (mean_b, s_b, n_b) = (mean_b, s_b, n_b), (mean_a, s_a, n_a)
    if not order:
        return 0.0
    cross = _by_eigenvalues(s_a, s_b, max(n_a, n_b)) if len(s_a) >= _LARGE else None
    if cross is None:
        cross = _by_singular_values(_root(s_a, n_a), _root(s_b, n_b))
    return _distance(mean_a - mean_b, float(s_a.trace()) + float(s_b.trace()), cross)


@takes_arrays("x", "y")
def frechet_distance_from_features(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Squared Fréchet distance of two sets of features as Gaussians, without forming their covariances.

    ``|m1 - m2|² + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)`` of the means and covariances. The root of each covariance is the
    triangular factor of a QR decomposition of the centred features (for n < d, the centred features themselves): more
    accurate than the covariance, and faster for n < d. Raises ValueError as ``frechet_distance`` does.
    """
    check_features(x)
    check_features(y)
    x, y = x.double(), y.double()
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"the sets have {x.shape[1]} and {y.shape[1]} features; equal numbers are accepted")
    if (len(x) - len(y) or _compare(x, y)) > 0:
        x, y = y, x
    root_x, root_y = _triangle(x), _triangle(y)
    squares = float(root_x.square().sum()) + float(root_y.square().sum())
    return _distance(x.mean(0) - y.mean(0), squares, _by_singular_values(root_x, root_y))


def _distance(apart: Float64[Tensor, " d"], traces: float, cross: float) -> float:
    return max(float(apart.square().sum()) + traces - 2 * cross, 0.0)  # rounding may leave -1e-16 of the traces


def _compare(a: Float64[Tensor, "*shape"], b: Float64[Tensor, "*shape"]) -> int:
    """The sign of the first difference, by which the two arguments are put in an order of their own."""
    unequal = (a != b).flatten()
    first = int(unequal.to(torch.uint8).argmax()) if len(unequal) else 0
    return int((a - b).flatten()[first].sign()) if unequal.any() else 0


def _by_singular_values(root_a: Float64[Tensor, "r d"], root_b: Float64[Tensor, "s d"]) -> float:
    return float(torch.linalg.svdvals(root_a @ root_b.mT).sum())


def _by_eigenvalues(s_a: Float64[Tensor, "d d"], s_b: Float64[Tensor, "d d"], count: int) -> float | None:
    """``tr (S_a S_b)^(1/2)`` from the eigenvalues of ``M = L' S_b L``, or None where they may not be accurate enough.

    An error E of M changes ``2 sum sqrt(m_i)`` by ``sum E_ii / sqrt(m_i)``, which is at most ``|E| |M^(-1/2)|`` in
    Frobenius norms. An error F of S_a, from its factor, changes it by ``tr F T``, where T is the map that takes one
    Gaussian to the other; ``T S_a T = S_b`` gives ``|T|² <= tr S_b |S_a^-1| <= tr S_b |S_b| |M^-1|``. With a rounding
    of ``eps |S_a|`` in S_a and ``eps |S_a| |S_b|`` in M, both are at most ``eps |S_a| sqrt(tr S_b |S_b|) |M^(-1/2)|``.
    This bound must be small against the traces, and E against the least m_i. Both covariances must be so well
    conditioned that ``_root`` would take none of their eigenvalues for rounding.
    """
    factor = _factor(s_a, count)
    if factor is None or _factor(s_b, count) is None:
        return None
    product, _ = lapack.dsygst(s_b.cpu().numpy().T, factor, itype=2, lower=1)  # half of M, a quarter of the products
    values = torch.from_numpy(eigvalsh(product, driver="evd", overwrite_a=True, check_finite=False)).to(s_a.device)
    eps, trace = torch.finfo(values.dtype).eps, s_b.trace()
    if values[0] <= 8 * eps * s_a.norm() * s_b.norm():
        return None
    error = eps * s_a.norm() * (trace * s_b.norm()).sqrt() * values.rsqrt().norm()
    return float(values.sqrt().sum()) if error <= _TOLERANCE * (s_a.trace() + trace) else None


def _factor(covariance: Float64[Tensor, "d d"], count: int) -> np.ndarray | None:
    """Cholesky's lower factor, or None where the least eigenvalue may be within the rounding of the largest.

    The quotient of the two is at least the reciprocal condition number in the 1-norm. LAPACK's estimate of that is
    seldom more than three times too large; a factor of ten is allowed for.
    """
    matrix = covariance.cpu().numpy().T  # symmetric, so that .T is LAPACK's order at no cost
    factor, failed = lapack.dpotrf(matrix, lower=1)
    if failed:
        return None
    condition, _ = lapack.dpocon(factor, np.abs(matrix).sum(0).max(), uplo="L")
    return factor if condition > 10 * _rounding(len(matrix), count) else None


def _rounding(d: int, count: int) -> float:
    """The rounding of eigenvalues relative to the largest: d eps of their own, and sqrt(n) eps of a sum of n terms."""
    return (d + count**0.5) * torch.finfo(torch.float64).eps


def _root(covariance: Float64[Tensor, "d d"], count: int) -> Float64[Tensor, "r d"]:
    """R with R'R = S, one row per positive eigenvalue.

    Eigenvalues within rounding are taken for 0, since the square root of a spurious 1e-16 would be 1e-8.
    """
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > _rounding(len(values), count) * values[-1]
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


def _require_same(a: FeatureStatistics, b: FeatureStatistics, fields: tuple[str, ...]) -> None:
    for name in fields:
        if getattr(a, name) != getattr(b, name):
            raise ValueError(f"the statistics differ in {name}: {getattr(a, name)!r} and {getattr(b, name)!r}")
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"the statistics have {len(a.mean)} and {len(b.mean)} features; equal numbers are accepted")
