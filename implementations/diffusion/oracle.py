"""Oracles: denoisers in closed form, for data whose noised density is known exactly.

They compute in float64; results have the dtype of ``x``, float32 at least.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from implementations.diffusion.checks import as_tensor
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images, Path, Time, Values

Oracle_ = TypeVar("Oracle_", bound="Oracle")
UNCONDITIONAL = -1


class Oracle(Denoiser):
    """Base of the denoisers in closed form, whose data have a known law.

    ``shape`` is that of a sample, without the batch axis, and ``dtype`` that of the samples it draws. ``labels`` has
    the class of each component, by which a condition restricts the data; None where there are no classes.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype  # of the samples it draws
    labels: Int[Tensor, " k"] | None = None

    def to(self: Oracle_, device: torch.device | str) -> Oracle_:
        """Give the same oracle on another device."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    @property
    def unconditional(self) -> Any:
        """The label -1, where there are classes."""
        return None if self.labels is None else UNCONDITIONAL

    def score(self, x: Images, t: Time, condition: Any = None) -> Images:
        """The exact score of the noised data, ``grad log p_t(x)``, of the shape of x."""
        return self(x, t, condition).score

    def _flat(self, x: Images) -> Float[Tensor, "n d"]:
        if x.ndim == 0 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x must be of shape (n, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        return x.reshape(len(x), math.prod(self.shape)).double()

    def _scales(self, x: Images, t: Time) -> tuple[Float[Tensor, "#n 1"], Float[Tensor, "#n 1"]]:
        t = self.path.inside(t)
        if t.ndim and t.shape != x.shape[:1]:
            raise ValueError(f"t must be a scalar or of shape ({len(x)},), got {tuple(t.shape)}")
        alpha, sigma = (f(t).to(x.device).reshape(-1, 1) for f in (self.path.alpha, self.path.sigma))
        return alpha, sigma

    def _outside(self, condition: Any, n: int) -> Tensor | None:
        """Give a mask (n or 1, k) of the components that the condition rules out; None where there is no condition."""
        if condition is None:
            return None
        if self.labels is None:
            raise ValueError(f"this oracle has no labels; condition must be None, got {condition!r}")
        wanted = torch.as_tensor(condition, device=self.labels.device).reshape(-1, 1)
        if wanted.is_floating_point() or len(wanted) not in (1, n):
            raise ValueError(f"condition must be an int or {n} ints, got {condition!r}")
        known = torch.isin(wanted, self.labels) | (wanted == UNCONDITIONAL)
        if not bool(known.all()):
            classes = self.labels.unique().tolist()
            raise ValueError(
                f"condition {wanted[~known][0].item()} is none of the labels {classes} (-1: unconditional)"
            )
        return (self.labels != wanted) & (wanted != UNCONDITIONAL)

    def _picks(self, n: int, weights: Tensor, condition: Any, generator: torch.Generator | None) -> Tensor:
        """Draw the indices of n components by their weights, among those that the condition allows."""
        outside = self._outside(condition, n)
        table = weights.expand(1, -1) if outside is None else weights.masked_fill(outside, 0.0)
        cumulative = table.cumsum(1)
        where = torch.rand(n, 1, generator=generator, dtype=torch.float64, device=_home(generator, self))
        where = where.to(weights.device) * cumulative[:, -1:]
        return torch.searchsorted(cumulative.expand(n, -1).contiguous(), where, right=True).squeeze(1)

    def _normal(self, n: int, d: int, generator: torch.Generator | None) -> Float[Tensor, "n d"]:
        draw = torch.randn(n, d, generator=generator, dtype=torch.float64, device=_home(generator, self))
        return draw.to(self._anchor.device)

    @property
    def _anchor(self) -> Tensor:
        """Any tensor of the oracle, for its device."""
        return next(value for value in vars(self).values() if isinstance(value, Tensor))


class MixtureOracle(Oracle):
    r"""The optimal denoiser of a mixture of Gaussians, ``sum_k w_k N(m_k, C_k)``.

    With noise, the data are a mixture of ``N(alpha m_k, alpha^2 C_k + sigma^2)``. ``means`` (k, \*shape);
    ``covariances`` (k,) isotropic, (k, \*shape) diagonal or (k, d, d) full; ``weights`` (k,) positive, normalised here;
    ``labels`` (k,) ints. With labels, ``condition`` (an int, or n ints) restricts the components; -1 leaves them all.
    Regular at both ends unless a covariance is singular: a full one is where an eigenvalue is within ``d eps`` of the
    largest, with the eps of its dtype. Raises ValueError on wrong shapes, and on covariances that are not symmetric and
    positive semi-definite.
    """

    def __init__(
        self,
        path: Path,
        means: Images,
        covariances: Tensor,
        weights: Float[Tensor, " k"] | Sequence[float],
        labels: Int[Tensor, " k"] | None = None,
    ):
        means, covariances, weights = (as_tensor(value) for value in (means, covariances, weights))
        self.path, self.shape = path, tuple(means.shape[1:])
        self.dtype = floating(means.dtype)
        k = len(means)
        if weights.shape != (k,) or not bool((weights > 0).all()) or not bool(weights.isfinite().all()):
            raise ValueError(f"weights must be {k} positive numbers, got {weights.tolist()}")
        self._log_weights = (weights.double() / weights.double().sum()).log()
        self.means = means.reshape(k, -1).double()
        self.spectra, self._bases = _spectra(covariances, k, self.shape)
        self.labels = check_labels(labels, k, means.device)

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        alpha, sigma = self._scales(x, t)
        z, variance, log_joint = self._components(x, t, condition)
        share = torch.softmax(log_joint, 1)[..., None]
        whitened = z / variance
        pull = self._rotate(share * whitened).sum(1)  # sum_k r_k C_k(t)^-1 (x - alpha m_k), minus the score
        x0 = (share * self.means).sum(1) + alpha * self._rotate(share * self.spectra * whitened).sum(1)
        views = {"x0": x0, "eps": sigma * pull, "score": -pull}
        dtype = floating(x.dtype)
        return Prediction(self.path, x, t, **{name: view.reshape(x.shape).to(dtype) for name, view in views.items()})

    def log_density(self, x: Images, t: Time, condition: Any = None) -> Float[Tensor, " n"]:
        """Log-density ``log p_t(x)`` of the noised data, (n,) in nats; of the class where a condition is given."""
        log_joint = self._components(x, t, condition)[2]
        outside = self._outside(condition, len(x))
        total = 0.0 if outside is None else self._log_weights.masked_fill(outside, -math.inf).logsumexp(1)
        return (log_joint.logsumexp(1) - total).to(floating(x.dtype))

    def sample(self, n: int, generator: torch.Generator | None = None, condition: Any = None) -> Images:
        """Draw n samples of the data, without noise; of the class where a condition is given."""
        pick = self._picks(n, self._log_weights.exp(), condition, generator)
        noise = self._normal(n, self.means.shape[1], generator) * self.spectra.sqrt().expand_as(self.means)[pick]
        if self._bases is not None:
            noise = torch.einsum("nde,ne->nd", self._bases[pick], noise)
        return (self.means[pick] + noise).reshape(n, *self.shape).to(self.dtype)

    def _components(self, x: Images, t: Time, condition: Any) -> tuple[Tensor, Tensor, Float[Tensor, "n k"]]:
        """Deviations in the eigenbases (n, k, d), their variances (n or 1, k, d or 1), log joints (n, k)."""
        alpha, sigma = (scale[..., None] for scale in self._scales(x, t))
        variance = alpha**2 * self.spectra + sigma**2
        if not bool((variance > 0).all()):
            raise ValueError(f"at sigma = 0 (t = {t}) a singular covariance has no density; stay at sigma > 0")
        z = self._flat(x)[:, None] - alpha * self.means
        if self._bases is not None:
            z = torch.einsum("kde,nkd->nke", self._bases, z)
        constants = (2 * math.pi * variance).log().expand(-1, -1, z.shape[-1]).sum(-1)
        log_joint = self._log_weights - (z.square() / variance).sum(-1) / 2 - constants / 2
        outside = self._outside(condition, len(x))
        return z, variance, log_joint if outside is None else log_joint.masked_fill(outside, -math.inf)

    def _rotate(self, z: Float[Tensor, "n k d"]) -> Float[Tensor, "n k d"]:
        """Rotate back from the eigenbases."""
        return z if self._bases is None else torch.einsum("kde,nke->nkd", self._bases, z)


class GaussianOracle(MixtureOracle):
    r"""The optimal denoiser of Gaussian data ``N(mean, C)``: it is linear, so that its flow is known too.

    ``mean`` has the shape (\*shape), C is a scalar, (\*shape) diagonal or (d, d) full. Raises ValueError on wrong
    shapes, and on a C that is not symmetric and positive semi-definite.
    """

    def __init__(self, path: Path, mean: Values, covariance: float | Tensor):
        mean, covariance = as_tensor(mean), as_tensor(covariance)
        covariance = covariance.to(mean.device)
        super().__init__(path, mean[None], covariance[None], torch.ones(1, dtype=torch.float64, device=mean.device))

    def flow(self, x: Images, t_from: Time, t_to: Time) -> Images:
        """Carry ``x`` from ``t_from`` to ``t_to`` along the probability flow exactly.

        ``x - alpha m`` grows by ``sqrt((alpha'^2 l + sigma'^2) / (alpha^2 l + sigma^2))`` along an eigenvector of the
        covariance with eigenvalue l; m is the mean, and a prime is ``t_to``.
        """
        z, variance, _ = self._components(x, t_from, None)
        alpha, sigma = (scale[..., None] for scale in self._scales(x, t_to))
        z = z * ((alpha**2 * self.spectra + sigma**2) / variance).sqrt()
        return (alpha * self.means + self._rotate(z)).reshape(x.shape).to(floating(x.dtype))

    def flow_map(self, x: Images, t: Time, s: float | Tensor, condition: Any = None) -> Images:
        """Carry ``x`` from ``t`` to ``s`` along the exact flow, as a few-step model of these data would learn to."""
        self._outside(condition, len(x))  # one class has no condition
        return self.flow(x, t, s)


def _spectra(covariances: Tensor, k: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    """Give eigenvalues (k, d or 1) and eigenvectors (k, d, d), which are None where they are the axes."""
    d, eps = math.prod(shape), torch.finfo(floating(covariances.dtype)).eps
    covariances = covariances.double()
    if not bool(covariances.isfinite().all()):
        raise ValueError("covariances must be finite")
    if covariances.shape in ((k,), (k, *shape)):
        spectra, bases = covariances.reshape(k, -1), None
    elif covariances.shape == (k, d, d):
        asymmetry = (covariances - covariances.mT).abs().max() / covariances.abs().max()
        if asymmetry > 1e-6:  # room for a covariance computed in float32
            raise ValueError(
                f"a covariance must be symmetric; two halves differ by {asymmetry:.3g} of its largest entry"
            )
        spectra, bases = torch.linalg.eigh((covariances + covariances.mT) / 2)
        # a zero eigenvalue shows as the rounding of the matrix, of either sign: kept, it would be a score of 1e15
        rounding = d * eps * spectra.abs().amax(1, keepdim=True)
        spectra = torch.where(spectra.abs() <= rounding, 0.0, spectra)
    else:
        raise ValueError(
            f"covariances must be of shape {(k,)}, {(k, *shape)} or {(k, d, d)}, "
            f"the leading axis over components; got {tuple(covariances.shape)}"
        )
    if bool((spectra < 0).any()):
        raise ValueError(f"a covariance must be positive semi-definite; it has an eigenvalue {spectra.min():.6g}")
    return spectra, bases


def check_labels(labels: Any, k: int, device: torch.device) -> Int[Tensor, " k"] | None:
    """Give class labels of a mixture's k components; raises ValueError unless there are k, none negative."""
    if labels is None:
        return None
    labels = torch.as_tensor(labels, device=device)
    if labels.shape != (k,) or labels.is_floating_point() or bool((labels < 0).any()):
        raise ValueError(f"labels must be {k} ints, none negative (-1 means unconditional), got {tuple(labels.shape)}")
    return labels.long()


def floating(dtype: torch.dtype) -> torch.dtype:
    """Give the dtype of an oracle's results for an input of ``dtype``: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _home(generator: torch.Generator | None, oracle: Oracle) -> torch.device:
    return oracle._anchor.device if generator is None else generator.device
