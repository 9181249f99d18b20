"""Energy distance of two sets of features (Székely and Rizzo, 2013): a kernel distance without a bandwidth."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from metrics.checks import takes_arrays
from metrics.samples.kernel import maximum_mean_discrepancy
from metrics.uncertainty import Estimate

# Where |x - y|² is below this share of |x|² + |y|², its product form has lost six of sixteen digits; it is replaced.
_CLOSE, _AT_ONCE = 1e-6, 2**22


@takes_arrays("x", "y")
def energy_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, unbiased: bool = True) -> Estimate:
    """Energy distance of two sets of features, ``2 E|x - y| - E|x - x'| - E|y - y'|``, in units of the features.

    It is 0 only for equal distributions (Székely and Rizzo, 2013). ``unbiased`` gives the U-statistic, which may lie
    below 0; otherwise it is the V-statistic, which includes the pairs of a row with itself (in one dimension the square
    of SciPy's ``energy_distance``). The standard error and what is raised are as in ``maximum_mean_discrepancy``.
    """
    return maximum_mean_discrepancy(x, y, lambda a, b: -distances(a, b), unbiased=unbiased)


def distances(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> Float64[Tensor, "n m"]:
    """Euclidean distances ``|x - y|`` of all pairs of rows, to at least ten digits.

    They are computed by a matrix product, and by differences for pairs that lie close.
    """
    middle = y.mean(0)
    x, y = x - middle, y - middle
    scale = x.square().sum(1)[:, None] + y.square().sum(1)
    squares = torch.addmm(scale, x, y.mT, alpha=-2)
    i, j = (squares <= _CLOSE * scale).nonzero(as_tuple=True)
    for part in torch.arange(len(i), device=i.device).split(max(1, _AT_ONCE // x.shape[1])):
        squares[i[part], j[part]] = (x[i[part]] - y[j[part]]).square().sum(1)
    return squares.sqrt_()
