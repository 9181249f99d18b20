"""The figures of subsets from one search are those of a search in each subset, to the bit."""

import pytest
import torch

from bench.evaluate import figures
from metrics import prdc, precision_recall
from metrics.catalogue import METRICS
from metrics.samples import subsets
from metrics.samples.subsets import Subsets


def features(kind, n, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator, dtype=torch.float64 if kind == "double" else torch.float32)
    if kind == "ties":  # many rows and distances are equal
        return x[:, :2].round(decimals=1)
    return torch.cat([x[: n // 2] * 0.05, x[n // 2 :]]) if kind == "clusters" else x


@pytest.mark.parametrize("kind", ["double", "single", "ties", "clusters"])
@pytest.mark.parametrize(("plain", "k", "closed"), [(prdc, 5, False), (precision_recall, 3, True)])
def test_subsets_have_the_figures_of_a_search_of_their_own(kind, plain, k, closed):
    x, y = features(kind, 260, 0), 0.8 * features(kind, 210, 1)
    shared = getattr(Subsets(x, y, k, closed, near=14), plain.__name__)
    everything = torch.cat([x, y])
    generator = torch.Generator().manual_seed(2)
    for n, m in ((260, 210), (130, 105), (65, 52), (20, 14)):  # of the last, most rows are searched for again
        a, b = torch.randperm(260, generator=generator)[:n], 260 + torch.randperm(210, generator=generator)[:m]
        real = torch.randperm(260, generator=generator)
        for left, right in ((a, b), (b, a), (real[: n // 2], real[n // 2 : n]), (b[: m // 2], b[m // 2 :])):
            assert shared(left, right) == plain(everything[left], everything[right])


@pytest.mark.parametrize("name", ["prdc", "precision_recall"])
def test_intervals_and_floors_are_those_of_single_searches(name, monkeypatch):
    real, generated = features("single", 300, 0), 1.1 * features("single", 260, 1)
    found, count = [], 0

    def advance():
        nonlocal count
        count += 1

    for least in (10**9, 100):
        monkeypatch.setattr(figures, "SHARED", least)
        found.append(figures.measure(METRICS[name], real, generated, seed=3, resamples=6, advance=advance))
    assert count % 2 == 0
    assert found[0] == found[1]
    assert all(one.interval and one.floor for one in found[0][0])


def test_where_balls_hold_too_much_each_subset_is_searched(monkeypatch):
    x, y = features("single", 300, 0), features("single", 260, 1)
    plain = figures.measure(METRICS["prdc"], x, y, seed=3, resamples=4, advance=int)
    monkeypatch.setattr(figures, "SHARED", 100)
    monkeypatch.setattr(subsets, "MOST", 100)
    assert figures.measure(METRICS["prdc"], x, y, seed=3, resamples=4, advance=int) == plain
    with pytest.raises(ValueError, match="balls hold more than 100 points"):
        Subsets(x, y, 5, closed=False)
    with pytest.raises(ValueError, match="k is 5 and there are 4 and 260 rows; more than k are accepted"):
        Subsets(x[:4], y, 5, closed=False)
