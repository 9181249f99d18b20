"""Seventeen bugs that a metric could have, each planted in one line of the real module and found by a named check.

A check states a value that is worked out by hand or by a loop. It passes on the module as it is, and fails on the
module whose line is replaced.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import sys
import types
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import metrics.detection.coco as coco
import metrics.detection.voc as voc
import metrics.extractors.resize as resize
import metrics.samples.balls as manifold
import metrics.samples.frechet as frechet
import metrics.samples.kernel as kernel_distance
import metrics.uncertainty as uncertainty
from tests.exact import normal

pytestmark = pytest.mark.unchecked  # the planted modules are compiled without the shape checker


def truth(box: list[float], image: int = 0, number: int = 1, **fields) -> dict:
    entry = {"id": number, "image_id": image, "category_id": 0, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
    return {**entry, **fields}


def found(box: list[float], score: float, image: int = 0) -> dict:
    return {"image_id": image, "category_id": 0, "bbox": box, "score": score}


def evaluated(truths: list[dict], detections: list[dict], **options):
    data = {"images": [{"id": 0}, {"id": 1}], "categories": [{"id": 0, "name": "a"}], "annotations": truths}
    return coco.evaluate_coco(data, detections, **options)


BOX, OTHER, NOWHERE = [0.0, 0, 50, 50], [100.0, 0, 50, 50], [300.0, 300, 50, 50]


def check_covariance_is_over_n_minus_1():
    x = normal(9, 3)
    covariance = frechet.FeatureStatistics.from_features(x).covariance
    assert np.allclose(covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-12)


def check_distance_in_one_dimension():
    """(m1 - m2)² + (s1 - s2)², with the sample deviations of unequal numbers."""
    x, y = normal(5, 1), 2 * normal(11, 1, seed=1) + 1
    by_hand = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert frechet.frechet_distance_from_features(x, y) == pytest.approx(float(by_hand), rel=1e-10)


def kernel_mean(a: Tensor, b: Tensor, *, same: bool) -> float:
    pairs = itertools.product(range(len(a)), range(len(b)))
    values = [float(a[i] @ b[j] / a.shape[1] + 1) ** 3 for i, j in pairs if not (same and i == j)]
    return sum(values) / len(values)


def check_kid_leaves_out_pairs_of_a_row_with_itself():
    x, y = normal(6, 2), normal(8, 2, seed=1)
    by_hand = kernel_mean(x, x, same=True) + kernel_mean(y, y, same=True) - 2 * kernel_mean(x, y, same=False)
    assert kernel_distance.kid(x, y).value == pytest.approx(by_hand, rel=1e-10)


def check_error_is_the_jackknifes():
    x, y = normal(6, 2), normal(8, 2, seed=1)
    variance = 0.0
    for left in (
        [kernel_distance.kid(x[torch.arange(6) != i], y).value for i in range(6)],
        [kernel_distance.kid(x, y[torch.arange(8) != i]).value for i in range(8)],
    ):
        variance += (len(left) - 1) * float(np.var(left))
    assert kernel_distance.kid(x, y).standard_error == pytest.approx(variance**0.5, rel=1e-10)


LINE = torch.arange(8.0, dtype=torch.float64)[:, None]  # the third neighbour of an inner point is 2 away


def check_balls_of_improved_precision_are_closed():
    """Points of the line's right end: 9 is 2 from 7, whose third neighbour is 3 away; 10 lies on its edge."""
    fake = torch.tensor([[9.0], [10.0], [10.5], [30.0], [40.0]], dtype=torch.float64)
    assert manifold.precision_recall(LINE, fake).precision == 2 / 5


def check_radii_leave_out_the_point_itself():
    """With it the third neighbour of 7 would be 2 away, and 9.5 outside."""
    fake = torch.tensor([[9.5], [9.6], [50.0], [60.0]], dtype=torch.float64)
    assert manifold.precision_recall(LINE, fake).precision == 1 / 2


def check_density_of_a_set_far_inside_is_over_k():
    """All balls of k = 7 neighbours reach over the whole set of 8: each of 10 points lies in 8 of them."""
    fake = 3.5 + 0.01 * torch.arange(10.0, dtype=torch.float64)[:, None]
    assert manifold.prdc(LINE, fake, neighbours=7).density == pytest.approx(8 / 7)


def check_precision_at_101_recalls():
    """Right, wrong, right of two truths: 1 at the recalls up to .5 (51 of them), then 2/3."""
    truths = [truth(BOX), truth(OTHER, number=2)]
    result = evaluated(truths, [found(BOX, 0.9), found(NOWHERE, 0.8), found(OTHER, 0.7)])
    assert pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12) == result.AP50


def check_best_scores_come_first():
    result = evaluated([truth(BOX)], [found(NOWHERE, 0.1), found(BOX, 0.9)])
    assert pytest.approx(1) == result.AP50


def check_equal_scores_keep_the_order_of_the_input():
    for first, expected in ((BOX, 1.0), (NOWHERE, 0.5)):
        second = NOWHERE if first is BOX else BOX
        result = evaluated([truth(BOX)], [found(first, 0.5), found(second, 0.5)])
        assert pytest.approx(expected) == result.AP50


def check_both_ends_belong_to_an_area_range():
    """32 x 32 is small and medium."""
    result = evaluated([truth([0.0, 0, 32, 32])], [found([0.0, 0, 32, 32], 0.5)])
    assert (result.APs, result.APm, result.APl) == (pytest.approx(1), pytest.approx(1), -1)


def check_a_crowd_is_no_truth_to_be_found():
    """Nor are detections within it false."""
    truths = [truth(BOX), truth([100.0, 100, 200, 200], number=2, iscrowd=1)]
    result = evaluated(truths, [found([120.0, 120, 50, 50], 0.9), found([180.0, 120, 50, 50], 0.8), found(BOX, 0.7)])
    assert (pytest.approx(1), pytest.approx(1)) == (result.AP50, result.AR100)


def check_an_iou_on_a_threshold_meets_it():
    """10 x 6 of 10 x 10 is .6, and 10 x 7 is .7; in float32 the threshold .6 is above."""
    for height, position in ((6.0, 2), (7.0, 4)):
        result = evaluated([truth([0.0, 0, 10, 10])], [found([0.0, 0, 10, height], 0.5)])
        assert list(result.per_threshold.values())[position] == pytest.approx(1)


def check_voc_reads_eleven_recalls():
    """One of two truths: 1 at the recalls 0 to .5, six of eleven."""
    boxes = torch.tensor([[0.0, 0, 50, 50], [100, 0, 150, 50]])
    truths = [{"boxes": boxes, "labels": torch.zeros(2, dtype=torch.int64)}]
    detections = [{"boxes": boxes[:1], "labels": torch.zeros(1, dtype=torch.int64), "scores": torch.tensor([0.5])}]
    assert pytest.approx(6 / 11) == voc.evaluate_voc(truths, detections, points="11").map


def check_a_smaller_image_averages():
    """Stripes of one pixel in four have the mean everywhere; two pixels of four, as without averaging, miss them."""
    stripes = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    stripes[..., ::4] = 200
    small = resize.Resize.parse("bilinear-antialias-16-grey")(stripes)
    assert float((small[..., 2:-2] - 50 / 255).abs().max()) < 0.02


def check_an_interval_of_a_mean_is_as_wide_as_the_normals():
    x = normal(900, 1)
    low, high = uncertainty.bootstrap(lambda rows: float(rows[: len(rows)].mean()), x[:801], resamples=300)
    assert high - low == pytest.approx(2 * 1.96 * float(x[:801].std()) / 801**0.5, rel=0.2)


def check_the_range_of_few_draws_is_students():
    """Of 0 and 2: 1 ± 12.7062 sqrt 2 sqrt 1.5."""
    assert uncertainty.prediction_interval([0.0, 2.0]).high == pytest.approx(1 + 12.7062 * 3**0.5, rel=1e-4)


# module, a line of it, what stands there instead, the check that finds it
BUGS: dict[str, tuple[str, str, str, Callable[[], None]]] = {
    "n for n - 1 in a covariance": (
        "samples.frechet", "self.scatter / (self.count - 1)", "self.scatter / self.count",
        check_covariance_is_over_n_minus_1,
    ),
    "n for n - 1 in a root": (
        "samples.frechet", "(x - x.mean(0)) / (n - 1) ** 0.5", "(x - x.mean(0)) / n**0.5",
        check_distance_in_one_dimension,
    ),
    "diagonal in KID": (
        "samples.kernel", "values.fill_diagonal_(0).sum(1)", "values.sum(1)",
        check_kid_leaves_out_pairs_of_a_row_with_itself,
    ),
    "jackknife's factor": ("samples.kernel", "(k - 1) / k *", "1 / k *", check_error_is_the_jackknifes),
    "< for <= at a ball's edge": (
        "samples.balls", "closed=closed), k", "closed=False), k", check_balls_of_improved_precision_are_closed
    ),
    "a point is its own neighbour": (
        "samples.balls", "exclude_self=True", "exclude_self=False", check_radii_leave_out_the_point_itself
    ),
    "density without k": (
        "samples.balls", "/ (k * len(of_real.points))", "/ len(of_real.points)",
        check_density_of_a_set_far_inside_is_over_k,
    ),
    "wrong recall grid": (
        "detection.curves", "np.linspace(0.0, 1.0, 101)", "np.linspace(0.0, 1.0, 11)", check_precision_at_101_recalls
    ),
    "unsorted scores": (
        "detection.matching", "np.argsort(-detections.score[index], kind",
        "np.argsort(0 * detections.score[index], kind",
        check_best_scores_come_first,
    ),
    "tie order": (
        "detection.matching", 'index[np.argsort(-detections.score[index], kind="stable")]',
        'index[::-1][np.argsort(-detections.score[index[::-1]], kind="stable")]',
        check_equal_scores_keep_the_order_of_the_input,
    ),
    "area rule": ("detection.params", "(area < ranges", "(area <= ranges", check_both_ends_belong_to_an_area_range),
    "missing crowd": (
        "detection.matching", "unused = truths.crowd | ", "unused = (truths.crowd & False) | ",
        check_a_crowd_is_no_truth_to_be_found,
    ),
    "float32 thresholds": (
        "detection.params", "np.linspace(0.5, 0.95, 10).tolist()",
        "np.linspace(0.5, 0.95, 10, dtype=np.float32).tolist()",
        check_an_iou_on_a_threshold_meets_it,
    ),
    "ten recalls for eleven": (
        "detection.voc", "np.arange(11) / 10", "np.arange(1, 11) / 10", check_voc_reads_eleven_recalls
    ),
    "resize without antialias": (
        "extractors.resize", "antialias=True", "antialias=False", check_a_smaller_image_averages
    ),
    "halves without their factor": (
        "uncertainty", "reach *= (n // 2 / (n - n // 2)) ** 0.5", "reach *= 2**-0.5",
        check_an_interval_of_a_mean_is_as_wide_as_the_normals,
    ),
    "a normal's range of two draws": (
        "uncertainty", "stdtrit(k - 1, (1 + level) / 2)", "stdtrit(1e9, (1 + level) / 2)",
        check_the_range_of_few_draws_is_students,
    ),
}  # fmt: skip


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch):
    """Puts a changed copy of a module's functions and classes in the place of its own, wherever they are imported."""

    def replace(name: str, line: str, instead: str) -> None:
        module = importlib.import_module(f"metrics.{name}")
        source = inspect.getsource(module)
        assert source.count(line) == 1, f"{line!r} stands {source.count(line)} times in metrics/{name}.py"
        changed = types.ModuleType(module.__name__)
        changed.__file__ = module.__file__
        monkeypatch.setitem(sys.modules, module.__name__, changed)  # dataclasses look their module up
        exec(compile(source.replace(line, instead), str(module.__file__), "exec"), changed.__dict__)
        own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
        others = [m for key, m in sys.modules.items() if key.startswith("metrics.") and m is not changed]
        for user in [module, *others]:
            for key, value in own.items():
                if vars(user).get(key) is value:
                    monkeypatch.setattr(user, key, getattr(changed, key))

    return replace


@pytest.mark.parametrize("bug", BUGS)
def test_a_check_passes_and_finds_the_planted_bug(bug: str, plant):
    name, line, instead, check = BUGS[bug]
    check()
    plant(name, line, instead)
    with pytest.raises(AssertionError):
        check()
