"""The oracle of a finite data set: the prediction of a network that has memorised it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from implementations.diffusion.checks import as_tensor, check_integer
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.oracle import Oracle, check_labels, floating
from implementations.diffusion.path import Images, Path, Time


class EmpiricalOracle(Oracle):
    r"""The optimal denoiser of a finite data set, ``x0 = sum_i w_i y_i``.

    ``w_i ~ exp(-|x - alpha y_i|^2 / 2 sigma^2)``, summing to 1. ``data`` (N, \*shape) are the y_i; ``labels`` (N,) are
    ints by which an integer condition restricts the data to a class. Data are taken ``chunk`` at a time, with an online
    softmax: memory is n x chunk. Raises ValueError at sigma = 0.
    """

    def __init__(
        self,
        path: Path,
        data: Images,
        labels: Int[Tensor, " N"] | None = None,
        chunk: int = 2048,
    ):
        data = as_tensor(data)
        if data.ndim < 1 or len(data) == 0:
            raise ValueError(f"data must hold at least one sample, got shape {tuple(data.shape)}")
        self.chunk = check_integer("chunk", chunk, 1)
        self.path, self.shape, self.dtype = path, tuple(data.shape[1:]), floating(data.dtype)
        self._data = data.reshape(len(data), -1).double()
        self._norms = self._data.square().sum(1)
        self.labels = check_labels(labels, len(data), data.device)

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        flat = self._flat(x)
        alpha, sigma = self._positive_scales(x, t)
        top = torch.full((len(x), 1), torch.finfo(torch.float64).min, dtype=torch.float64, device=x.device)
        mass, mean = torch.zeros_like(top), torch.zeros_like(flat)
        for part, logits in self._logits(flat, alpha, sigma, condition):
            new_top = torch.maximum(top, logits.detach().amax(1, keepdim=True))
            weights = logits.sub_(new_top).exp_()
            decay = (top - new_top).exp()
            mass = mass * decay + weights.sum(1, keepdim=True)
            mean = mean * decay + _weighted_sum(weights, self._data[part])
            top = new_top
        x0 = mean / mass
        eps = (flat - alpha * x0) / sigma
        dtype = floating(x.dtype)
        views = {"x0": x0, "eps": eps, "score": -eps / sigma}
        return Prediction(self.path, x, t, **{name: view.reshape(x.shape).to(dtype) for name, view in views.items()})

    def log_density(self, x: Images, t: Time, condition: Any = None) -> Float[Tensor, " n"]:
        """Log-density ``log p_t(x)`` of the noised data, (n,) in nats; of the class where a condition is given."""
        flat = self._flat(x)
        alpha, sigma = self._positive_scales(x, t)
        parts = [logits.logsumexp(1) for _, logits in self._logits(flat, alpha, sigma, condition)]
        outside = self._outside(condition, len(x))
        count = torch.tensor(len(self._data)) if outside is None else (~outside).sum(1)
        constants = (flat / sigma).square().sum(1) / 2 + flat.shape[1] * (2 * math.pi * sigma**2).log().squeeze(1) / 2
        return (torch.stack(parts).logsumexp(0) - constants - count.double().log()).to(floating(x.dtype))

    def sample(self, n: int, generator: torch.Generator | None = None, condition: Any = None) -> Images:
        """Draw n of the data, without noise and with replacement; of the class where a condition is given."""
        pick = self._picks(n, torch.ones_like(self._norms), condition, generator)
        return self._data[pick].reshape(n, *self.shape).to(self.dtype)

    def _positive_scales(self, x: Images, t: Time) -> tuple[Tensor, Tensor]:
        alpha, sigma = self._scales(x, t)
        if not bool((sigma > 0).all()):
            raise ValueError(f"at sigma = 0 (t = {t}) the data are points without a density; stay at sigma > 0")
        return alpha, sigma

    def _logits(self, flat: Tensor, alpha: Tensor, sigma: Tensor, condition: Any) -> Iterator[tuple[slice, Tensor]]:
        """Give ``(alpha x.y - alpha^2 |y|^2 / 2) / sigma^2``, the exponent's part that depends on y, chunk by chunk."""
        outside = self._outside(condition, len(flat))
        pull = flat * (alpha / sigma**2)
        for start in range(0, len(self._data), self.chunk):
            part = slice(start, start + self.chunk)
            logits = torch.addmm(self._norms[part] * (-((alpha / sigma) ** 2) / 2), pull, self._data[part].T)
            yield part, logits if outside is None else logits.masked_fill_(outside[:, part], -math.inf)


def _weighted_sum(weights: Float[Tensor, "n m"], data: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
    """``weights @ data`` without the data of negligible weight, which at small sigma are nearly all."""
    kept = (weights.detach().sum(0) > 1e-25).nonzero().squeeze(1)  # far below float64's rounding of the mean
    return weights @ data if 2 * len(kept) > len(data) else weights[:, kept] @ data[kept]
