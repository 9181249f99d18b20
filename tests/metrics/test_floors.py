"""A figure against its floor, in words: by its range and its interval, and seldom wrong on a perfect model."""

import numpy as np
import pytest

from metrics.floors import Floor, tell_from_floor
from metrics.uncertainty import prediction_interval

FLOOR = Floor(1.0, 0.5, 1.5)


@pytest.mark.parametrize(
    ("value", "interval", "said"),
    [
        (1.6, None, "above the floor"),
        (1.6, (1.2, 2.0), "above the floor"),
        (1.6, (0.9, 2.3), "not told apart"),  # so wide that it holds the floor's mean
        (1.5, None, "not told apart"),
        (1.4, (1.3, 1.5), "not told apart"),
        (0.4, (0.3, 0.5), "below the floor"),
        (0.4, (0.3, 1.1), "not told apart"),
        (float("nan"), None, "not told apart"),
    ],
)
def test_words(value, interval, said):
    assert tell_from_floor(value, FLOOR, interval) == said


def test_a_perfect_model_is_told_apart_in_5_percent_and_a_worse_one_more_often():
    rng = np.random.default_rng(0)
    told = {0: 0, 4: 0}
    for _ in range(1000):
        floor = prediction_interval(rng.normal(size=20).tolist())
        for worse in told:
            told[worse] += tell_from_floor(worse + rng.normal(), floor) != "not told apart"
    assert 30 <= told[0] <= 72  # of 1,000, at 5 %: six in a thousand tests are outside
    assert told[4] > 900
