"""The denoiser by which the tests measure is the oracle, to rounding."""

import pytest
import torch

from implementations.diffusion import GaussianOracle
from tests.exact import PATHS, gaussian, label, normal


@pytest.mark.parametrize("path", PATHS, ids=label)
def test_the_short_form_is_the_oracle(path):
    short, whole = gaussian(path), gaussian(path, kind=GaussianOracle)
    middle = [path.t_min + share * (path.t_max - path.t_min) for share in (1e-6, 0.1, 0.5, 0.9)]
    each = torch.tensor(middle, dtype=torch.float64)
    for t in (path.t_min, *middle, path.t_max, each[1], each):
        for x in (10 * normal(4, 6), normal(4, 6).float()):
            left, right = short(x, t), whole(x, t)
            for view in ("x0", "eps", "score"):
                found, expected = getattr(left, view), getattr(right, view)
                assert found.dtype == expected.dtype
                rounding = 1e-13 if x.dtype == torch.float64 else 1e-6
                torch.testing.assert_close(found, expected, rtol=rounding, atol=rounding)
