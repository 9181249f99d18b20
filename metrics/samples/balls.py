"""Precision, recall, density and coverage: which samples lie in the balls around the samples of the other set.

The radius of a ball is the distance to the k-th neighbour within its own set. Two conventions are in use, which give
different values for the same features, so that a result has to say which one it follows. ``kynkaanniemi`` (1904.06991
and its authors' code, StyleGAN, ADM's evaluator, torch-fidelity): k = 3 and closed balls. ``prdc`` (the package of
2002.09797, dgm-eval): k = 5 and open balls, most often with 10,000 samples per side.

All four depend on n: compare at equal n, beside ``metrics.uncertainty.floor``. A row that is drawn twice has a
neighbour at distance 0, which shrinks the radii; intervals must come from halves (the default of
``metrics.uncertainty.bootstrap``) and not from draws with replacement.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from metrics.checks import takes_arrays
from metrics.samples.neighbours import Inside, count_inside, find_nearest, unify

_SCHOOLS = {"kynkaanniemi": (3, True), "prdc": (5, False)}  # neighbours, closed balls


class PrecisionRecall(NamedTuple):
    """Improved precision and recall: the share of generated samples within the real balls, and the reverse.

    A ball around a sample reaches to its k-th neighbour within its own set.
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density, the mean number of real balls around a generated sample over k, and coverage.

    Coverage is the share of real balls that hold a generated sample. A ball around a real sample reaches to its k-th
    neighbour among the real ones.
    """

    density: float
    coverage: float


class Prdc(NamedTuple):
    """Precision, recall, density and coverage of generated samples, with one k and open balls."""

    precision: float
    recall: float
    density: float
    coverage: float


@takes_arrays("real", "fake")
def precision_recall(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    *,
    school: Literal["kynkaanniemi", "prdc"] = "kynkaanniemi",
    neighbours: int | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> PrecisionRecall:
    """Improved precision and recall of generated samples, by balls around samples (1904.06991, eqs. 1 and 2).

    ``school`` is the convention: ``kynkaanniemi`` has k = 3 and closed balls, ``prdc`` k = 5 and open balls.

        precision = mean over j of [there is an i with |x_i - y_j| <= r_i]

    where r_i is the distance of the real x_i to its k-th neighbour among the other real samples; recall is the same
    with the sides exchanged. ``neighbours`` replaces the k of the ``school``; where a side has more than ``samples``
    rows, as many are drawn from it. Raises ValueError on an unknown school, on features that are not (n, d) and finite,
    and where a side has no more rows than neighbours.
    """
    if school not in _SCHOOLS:
        raise ValueError(f"school is {school!r}; {sorted(_SCHOOLS)} are accepted")
    k, closed = _SCHOOLS[school]
    of_real, of_fake, _ = _balls(real, fake, k if neighbours is None else neighbours, closed, samples, seed)
    return PrecisionRecall(_share(of_real.points), _share(of_fake.points))


@takes_arrays("real", "fake")
def density_coverage(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    *,
    neighbours: int = 5,
    samples: int | None = None,
    seed: int = 0,
) -> DensityCoverage:
    """Density and coverage of generated samples (2002.09797, sec. 3), with open balls around the real ones.

        density = 1 / (k m) sum over i, j of [|x_i - y_j| < r_i]
        coverage = mean over i of [there is a j with |x_i - y_j| < r_i]

    r_i is the distance of the real x_i to its k-th neighbour among the other real samples, k = ``neighbours``; the y_j
    are generated. Raises ValueError as ``precision_recall`` does.
    """
    found = prdc(real, fake, neighbours=neighbours, samples=samples, seed=seed)
    return DensityCoverage(found.density, found.coverage)


@takes_arrays("real", "fake")
def prdc(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    *,
    neighbours: int = 5,
    samples: int | None = None,
    seed: int = 0,
) -> Prdc:
    """Precision, recall, density and coverage with open balls, counted as the package ``prdc`` does.

    All four come from one set of distances. Raises ValueError as ``precision_recall`` does.
    """
    of_real, of_fake, k = _balls(real, fake, neighbours, False, samples, seed)
    density = int(of_real.points.sum()) / (k * len(of_real.points))
    return Prdc(_share(of_real.points), _share(of_fake.points), density, _share(of_real.balls))


def _balls(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], k: int, closed: bool, samples: int | None, seed: int
) -> tuple[Inside, Inside, int]:
    """Numbers of points in the real balls and in the generated ones, and k."""
    if samples is not None:
        if samples < 1:
            raise ValueError(f"samples is {samples}; a number from 1 is accepted")
        generator = torch.Generator().manual_seed(seed)
        real, fake = (x[torch.randperm(len(x), generator=generator)[:samples].to(x.device)] for x in (real, fake))
    real, fake = unify(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        given = f"{len(real)} real and {len(fake)} generated samples"
        raise ValueError(f"neighbours is {k} and there are {given}; from 1 and below both numbers is accepted")
    x_radii, y_radii = (find_nearest(x, x, k, exclude_self=True).distances[:, -1] for x in (real, fake))
    return *count_inside(real, fake, x_radii=x_radii, y_radii=y_radii, closed=closed), k


def _share(counts: Tensor) -> float:
    return int((counts > 0).sum()) / len(counts)
