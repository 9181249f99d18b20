"""The fit of an order: exact on power laws, equal to NumPy's fit on others, and clear about what it leaves out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics import fit_order

STEPS = [10, 20, 40, 80]


@given(order=st.floats(0.1, 8), scale=st.floats(1e-6, 1e6))
def test_a_power_law_is_recovered(order: float, scale: float):
    fit = fit_order(STEPS, [scale * n**-order for n in STEPS])
    assert fit.slope == pytest.approx(order, abs=1e-12)  # logarithms of up to 60 in float64, over a range of 2
    assert math.exp(fit.intercept) == pytest.approx(scale, rel=1e-11)
    assert fit.residual < 1e-13
    assert fit.below_floor == ()


def test_is_the_least_squares_line_with_its_rms_residual():
    errors = [3e-2, 1.1e-2, 2.2e-3, 8e-4]
    fit = fit_order(STEPS, errors)
    (slope, intercept), (squares,), *_ = np.polyfit(np.log(STEPS), np.log(errors), 1, full=True)
    assert (fit.slope, fit.intercept) == pytest.approx((-slope, intercept), rel=1e-12)
    assert fit.residual == pytest.approx(math.sqrt(squares / 4), rel=1e-9)


def test_the_order_of_the_points_does_not_matter():
    errors = dict(zip(STEPS, [3e-2, 1.1e-2, 2.2e-3, 8e-4], strict=True))
    turned = sorted(STEPS, reverse=True)
    assert fit_order(turned, [errors[n] for n in turned]).slope == pytest.approx(
        fit_order(STEPS, [*errors.values()]).slope
    )


def test_errors_at_the_floor_are_left_out_and_named():
    fit = fit_order([*STEPS, 160, 320], [n**-2.0 for n in STEPS] + [1e-15, 0.0], floor=1e-12)
    assert fit.slope == pytest.approx(2, abs=1e-12)
    assert fit.below_floor == (160, 320)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("steps", "errors", "message"),
    [
        ([10, 20], [1.0], "2 step counts and 1 errors"),
        ([10, 10], [1.0, 0.5], r"step counts are \[10, 10\]"),
        ([0, 10], [1.0, 0.5], r"step counts are \[0, 10\]"),
        ([10, 20], [1.0, math.nan], "error at 20 steps is nan"),
        ([10, 20], [1.0, -0.5], r"error at 20 steps is -0\.5"),
        ([10, 20], [1.0, 0.0], "fewer than two"),
    ],
)
def test_bad_input_is_refused_by_name(steps: list[int], errors: list[float], message: str):
    with pytest.raises(ValueError, match=message):
        fit_order(steps, errors)
