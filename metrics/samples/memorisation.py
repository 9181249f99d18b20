"""Whether samples copy the training set: the data-copying test C_T, authenticity, and the nearest-neighbour ratio.

All three use the distance to the nearest training sample, which falls as the training set grows: compare at equal
numbers of training samples. Intervals of the two shares come from halves (the default of
``metrics.uncertainty.bootstrap``), since a row that is drawn twice is a copy itself. C_T is a test statistic in units
of its own deviation and grows as sqrt(n): it is not resampled, and its null distribution is given beside it. All three
can be compared with held-out real data in the place of the generated samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from metrics.checks import takes_arrays
from metrics.samples.cells import cell_of, k_means
from metrics.samples.neighbours import find_nearest, unify


class DataCopying(NamedTuple):
    """The data-copying test C_T, its standard deviation under the null, and the share of the test samples that it uses.

    Far below 0, generated samples are copies of the training set. The share is that in the cells it is taken over.
    """

    statistic: float
    null_deviation: float
    used: float


class NeighbourRatio(NamedTuple):
    """The mean ratio of the distances to the nearest and the second training sample, and the share that is memorised.

    A generated sample is memorised if its ratio is below the threshold.
    """

    mean: float
    memorised: float


@takes_arrays("real", "fake", "test")
def data_copying(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    *,
    test: Float[Tensor, "l d"],
    cells: int = 3,
    components: int | None = 64,
    minimum: int = 20,
    seed: int = 0,
) -> DataCopying:
    """The data-copying test C_T (2004.05675): are generated samples nearer to the training set than held-out real ones?

        C_T = sum of P(c) Z(c) / sum of P(c),   Z = (U - m l / 2) / sqrt(m l (m + l + 1) / 12)

    over the cells c with more than ``minimum`` generated samples; ``real`` is the training set, ``fake`` the generated
    one, ``test`` the held-out one. P is the share of the test samples in the cell, and U is the Mann-Whitney statistic
    of the distances to the nearest training sample of the cell, of m generated against l test samples. A value far
    below 0 means copies; far above 0, samples farther from the training set than real data are; under the null it is
    N(0, null_deviation²). Cells are those of k-means on the training set, in its principal components where it has more
    than ``components`` features (None: never), as in dgm-eval; the authors' code adds 1/2 to U. Raises ValueError on
    features that are not (n, d) and finite, where a cell has no training or test sample, and where no cell has enough
    generated samples.
    """
    if cells < 1 or minimum < 0 or (components is not None and components < 1):
        given = f"cells is {cells}, components {components}, minimum {minimum}"
        raise ValueError(f"{given}; cells and components from 1 and minimum from 0 are accepted")
    train, generated, held_out = _principal(real, fake, test, components=components)
    centres = k_means(train, cells, seed=seed)
    homes = [cell_of(x, centres) for x in (train, generated, held_out)]
    total, weight, squares = 0.0, 0.0, 0.0
    for cell in range(cells):
        in_train, in_generated, in_test = (
            x[home == cell] for x, home in zip((train, generated, held_out), homes, strict=True)
        )
        if not len(in_train) or not len(in_test):
            given = f"{len(in_train)} training and {len(in_test)} test samples"
            raise ValueError(f"cell {cell} of {cells} has {given}; at least 1 each is accepted: take fewer cells")
        if len(in_generated) <= minimum:
            continue
        share = len(in_test) / len(held_out)
        distances = (find_nearest(x, in_train, 1).distances[:, 0] for x in (in_generated, in_test))
        total, weight, squares = total + share * _rank_score(*distances), weight + share, squares + share**2
    if not weight:
        raise ValueError(f"no cell has more than {minimum} of the {len(fake)} generated samples; take fewer cells")
    return DataCopying(total / weight, squares**0.5 / weight, weight)


@takes_arrays("real", "fake")
def authenticity(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> float:
    """Authenticity of generated samples: the share farther from the nearest training sample than that is from others.

        mean over j of [min over l != i of |x_i - x_l| < |x_i - y_j|]

    where ``x_i`` is the training sample nearest to ``y_j`` (2102.08921; AuthPct of FLS and dgm-eval is 100 times this);
    0 for copies. Raises ValueError on features that are not (n, d) and finite, and below two training samples.
    """
    real, fake = unify(real, fake)
    closest = find_nearest(fake, real, 1)
    among_real = find_nearest(real, real, 1, exclude_self=True).distances[:, 0]
    return _share(among_real[closest.rows[:, 0]] < closest.distances[:, 0])


@takes_arrays("real", "fake")
def nearest_neighbour_ratio(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], *, threshold: float = 1 / 3
) -> NeighbourRatio:
    """Distance ratio of the nearest and the second training sample, ``|y_j - x_(1)| / |y_j - x_(2)|``, from 0 to 1.

    It tells memorised samples. A generated sample whose ratio is below the threshold (1/3 in 2310.02664) counts as
    memorised. Where the training set contains an image twice, the copies of that image are not seen (both neighbours
    are equally near) unless they are exact: 0 / 0 is taken for 0. Raises ValueError on features that are not (n, d) and
    finite, below two training samples, and on thresholds outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; a number above 0 and at most 1 is accepted")
    first, second = find_nearest(fake, real, 2).distances.double().unbind(1)
    ratio = torch.where(first > 0, first / second, 0.0)
    return NeighbourRatio(float(ratio.mean()), _share(ratio < threshold))


def _rank_score(generated: Float64[Tensor, " m"], test: Float64[Tensor, " l"]) -> float:
    """Z of Mann and Whitney's U (1947): the pairs whose generated distance is larger, and half of the equal ones."""
    m, l = len(generated), len(test)  # noqa: E741 (the paper's letters)
    ordered = test.sort().values
    below, up_to = (torch.searchsorted(ordered, generated, right=right).sum() for right in (False, True))
    return (int(below + up_to) / 2 - m * l / 2) / (m * l * (m + l + 1) / 12) ** 0.5


def _principal(*sets: Float[Tensor, "_ d"], components: int | None) -> list[Float64[Tensor, "_ c"]]:
    """Each set in the principal components of the first, where that has more features than ``components``."""
    doubles = [x.double() for x in sets]
    train = doubles[0]
    if components is None or train.ndim != 2 or train.shape[1] <= components:
        return doubles
    centred = train - train.mean(0)
    axes = torch.linalg.eigh(centred.mT @ centred).eigenvectors[:, -components:]
    return [(x - train.mean(0)) @ axes for x in doubles]


def _share(hits: Bool[Tensor, " n"]) -> float:
    return int(hits.sum()) / len(hits)
