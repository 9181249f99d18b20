"""Conditional accuracy against counting, and its interval against Wilson's formula."""

from __future__ import annotations

import math

import pytest
import torch

from metrics import conditional_accuracy
from metrics.samples.accuracy import share


def test_counts_hits_of_each_class():
    predicted, condition = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 0, 2])
    found = conditional_accuracy(predicted, condition, classes=4)
    assert [(part.hits, part.n) for part in found.per_class] == [(1, 2), (1, 2), (2, 2), (0, 0)]
    assert (found.overall.value, found.overall.hits, found.overall.n) == (4 / 6, 4, 6)
    assert found.balanced == (0.5 + 0.5 + 1) / 3  # of the classes that have samples
    assert math.isnan(found.per_class[3].value)
    assert found.per_class[3][1:3] == (0, 1)


def test_scores_are_labels_by_the_first_of_the_highest():
    scores = torch.tensor([[0.0, 2, 1], [5, 5, 0], [1, 0, math.inf], [0, 7, 7]])
    condition = torch.tensor([1, 0, 2, 2])
    assert scores.argmax(1).tolist() == [1, 0, 2, 1]
    labels = scores.argmax(1).to(torch.uint8)
    assert conditional_accuracy(scores, condition) == conditional_accuracy(labels, condition, classes=3)
    assert conditional_accuracy(scores, condition).overall.value == 3 / 4


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (3, 7), (7, 7), (900, 1000)])
@pytest.mark.parametrize(("level", "z"), [(0.95, 1.959963984540054), (0.5, 0.6744897501960817)])
def test_the_interval_is_wilsons(hits: int, n: int, level: float, z: float):
    """Of the shares q, those within z deviations: (p - q)^2 <= z^2 q (1 - q) / n."""
    found = share(hits, n, level)
    for end in (found.low, found.high):
        assert (hits / n - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / n, rel=1e-9, abs=1e-15)
    assert found.low <= hits / n <= found.high


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    labels = torch.tensor([0, 1, 2])
    for wrong, message in [
        (lambda: conditional_accuracy(labels, labels[:2], classes=3), r"\(3,\) torch.int64 and \(2,\)"),
        (lambda: conditional_accuracy(labels, labels), "classes is None"),
        (lambda: conditional_accuracy(labels, labels * 0, classes=2), r"1 of 3 predictions lie outside \[0, 2\)"),
        (lambda: conditional_accuracy(labels, labels - 1, classes=3), r"1 of 3 conditions lie outside"),
        (lambda: conditional_accuracy(torch.eye(3), labels, classes=4), "classes is 4 and there are 3 scores"),
        (lambda: conditional_accuracy(torch.eye(3) / 0 * 0, labels), "3 of 3 rows of scores are NaN"),
        (lambda: conditional_accuracy(labels[:0], labels[:0], classes=3), "no samples"),
        (lambda: conditional_accuracy(labels, labels, classes=3, level=0.0), r"level is 0\.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
