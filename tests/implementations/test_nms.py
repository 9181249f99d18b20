"""NMS: each method against a scalar loop over its paper's rule, and what all of them share."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from implementations.boxes import NMS
from implementations.boxes.nms import groups
from implementations.catalogue.entry import UnknownName

OWN = [name for name, entry in NMS.items() if entry.family != "peer"]
methods = pytest.mark.parametrize("name", OWN)
SUBSET = ["hard", "class_agnostic", "diou", "cluster", "fast"]  # scores and boxes stay as they are
FUSING = ["weighted_cluster", "nmw", "weighted_boxes_fusion"]
MODELS = {"weights": [2.0, 1.0, 0.5]}


# Scalar references: a group's boxes and scores as lists in, [(index, score, box)] out -------------------------------


def iou(a, b):
    inner = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = [max(0, box[2] - box[0]) * max(0, box[3] - box[1]) for box in (a, b)]
    return inner / (sum(area) - inner) if inner else 0.0


def centres(a, b):
    """Squared distance of the centres over the squared diagonal of the enclosing box."""
    rho2 = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    return rho2 / (width**2 + height**2) if rho2 else 0.0


def ranked(values):
    return sorted(range(len(values)), key=lambda i: (-values[i], i))


def mean(boxes, weights):
    return [sum(w * box[k] for w, box in zip(weights, boxes, strict=True)) / sum(weights) for k in range(4)]


def removals(boxes, order, threshold, measure=iou):
    """Greedy NMS: each box that stays with those that it removes, in turn."""
    left, clusters = list(order), {}
    while left:
        best, *left = left
        clusters[best] = [j for j in left if measure(boxes[best], boxes[j]) > threshold]
        left = [j for j in left if j not in clusters[best]]
    return clusters


def hard(boxes, scores, threshold, measure=iou):
    return [(i, scores[i], boxes[i]) for i in removals(boxes, ranked(scores), threshold, measure)]


def diou(boxes, scores, threshold, beta=1.0):
    return hard(boxes, scores, threshold, lambda a, b: iou(a, b) - centres(a, b) ** beta)


def iou_guided(boxes, scores, threshold, ious):
    clusters = removals(boxes, ranked(ious), threshold)
    return [(i, max(scores[j] for j in (i, *gone)), boxes[i]) for i, gone in clusters.items()]


def soft(boxes, scores, decay, score_threshold=1e-3):
    left, given = dict(enumerate(scores)), []
    while left:
        best = min(left, key=lambda i: (-left[i], i))
        score = left.pop(best)
        given += [(best, score, boxes[best])] if score >= score_threshold else []
        left = {j: s * decay(iou(boxes[best], boxes[j])) for j, s in left.items()}
    return given


def soft_linear(boxes, scores, threshold, score_threshold=1e-3):
    return soft(boxes, scores, lambda x: 1 - x if x > threshold else 1, score_threshold)


def soft_gaussian(boxes, scores, threshold, sigma=0.5, score_threshold=1e-3):
    return soft(boxes, scores, lambda x: math.exp(-(x**2) / sigma), score_threshold)


def matrix(boxes, scores, threshold, kernel="gaussian", sigma=0.5, score_threshold=1e-3):
    order, given = ranked(scores), []
    f = (lambda x: math.exp(-(x**2) / sigma)) if kernel == "gaussian" else (lambda x: 1 - x)
    covered = [max([iou(boxes[i], boxes[k]) for k in order[:rank]], default=0) for rank, i in enumerate(order)]
    for rank, j in enumerate(order):
        pairs = [(f(iou(boxes[i], boxes[j])), f(covered[at])) for at, i in enumerate(order[:rank])]
        score = scores[j] * min([value / under for value, under in pairs if under], default=1)
        given += [(j, score, boxes[j])] if score >= score_threshold else []
    return given


def standing(boxes, scores, threshold, iterations=None):
    """Cluster-NMS's matrix and the rows that stand, as ranks."""
    order = ranked(scores)
    n = len(order)
    x = [[iou(boxes[order[i]], boxes[order[j]]) if i < j else 0 for j in range(n)] for i in range(n)]
    rows = [1] * n
    for _ in range(n if iterations is None else iterations):
        before, rows = rows, [max([rows[i] * x[i][j] for i in range(n)]) <= threshold for j in range(n)]
        if rows == before:  # and so it stays
            break
    return order, x, rows


def cluster(boxes, scores, threshold, iterations=None):
    order, _, rows = standing(boxes, scores, threshold, iterations)
    return [(i, scores[i], boxes[i]) for i, stands in zip(order, rows, strict=True) if stands]


def fast(boxes, scores, threshold):
    return cluster(boxes, scores, threshold, iterations=1)


def spm_cluster(boxes, scores, threshold, sigma=0.2, beta=None, score_threshold=1e-3):
    order, x, rows = standing(boxes, scores, threshold)
    given = []
    for j, index in enumerate(order):
        score = scores[index]
        for i in (i for i in range(j) if rows[i] and x[i][j] > 0):
            factor = math.exp(-(x[i][j] ** 2) / sigma)
            score *= factor if beta is None else min(factor + centres(boxes[order[i]], boxes[index]) ** beta, 1)
        given += [(index, score, boxes[index])] if score >= score_threshold else []
    return given


def weighted_cluster(boxes, scores, threshold, member_threshold=None):
    order, x, rows = standing(boxes, scores, threshold)
    bound, given = threshold if member_threshold is None else member_threshold, []
    for i in (i for i in range(len(order)) if rows[i]):
        members = [j for j in range(i + 1, len(order)) if x[i][j] > bound]
        weights = [scores[order[i]], *(x[i][j] * scores[order[j]] for j in members)]
        box = mean([boxes[order[j]] for j in (i, *members)], weights)
        given.append((order[i], scores[order[i]], box))
    return given


def nmw(boxes, scores, threshold):
    members, given = {}, []
    for j in ranked(scores):
        overlaps = {i: iou(boxes[i], boxes[j]) for i in members}
        nearest = max(overlaps, key=overlaps.get, default=j)
        if overlaps.get(nearest, 0) > threshold:
            members[nearest].append((j, scores[j] * overlaps[nearest]))
        else:
            members[j] = [(j, scores[j])]
    for i, own in members.items():
        given.append((i, scores[i], mean([boxes[j] for j, _ in own], [weight for _, weight in own])))
    return given


def weighted_boxes_fusion(
    boxes, scores, threshold, model=None, weights=None, conf_type="avg", skip_box_thr=0.0, allows_overflow=False
):
    model = model or [0] * len(scores)
    weights = weights or [1.0] * (max(model) + 1)
    weighted = [s * weights[m] for s, m in zip(scores, model, strict=True)]
    clusters, fused, given = [], [], []
    for j in (j for j in ranked(weighted) if scores[j] >= skip_box_thr):
        overlaps = [iou(box, boxes[j]) for box in fused]
        if overlaps and max(overlaps) > threshold:
            at = overlaps.index(max(overlaps))
            clusters[at].append(j)
            fused[at] = mean([boxes[k] for k in clusters[at]], [weighted[k] for k in clusters[at]])
        else:
            clusters.append([j])
            fused.append(boxes[j])
    for members, box in zip(clusters, fused, strict=True):
        total, own = sum(weighted[j] for j in members), sum(weights[model[j]] for j in members)
        there = sum(weights[m] for m in {model[j] for j in members})
        absent, everything = sum(weights) - there, sum(weights)
        score = {
            "avg": total / own * min(own, everything) / everything,
            "max": max(weighted[j] for j in members) / max(weights),
            "box_and_model_avg": total / own * there / everything,
            "absent_model_aware_avg": total / (own + absent),
        }[conf_type]
        given.append((members[0], total / everything if allows_overflow and conf_type == "avg" else score, box))
    return given


REFERENCES = {
    "hard": hard, "class_agnostic": hard, "diou": diou, "iou_guided": iou_guided, "soft_linear": soft_linear,
    "soft_gaussian": soft_gaussian, "matrix": matrix, "fast": fast, "cluster": cluster, "spm_cluster": spm_cluster,
    "weighted_cluster": weighted_cluster, "nmw": nmw, "weighted_boxes_fusion": weighted_boxes_fusion,
}  # fmt: skip

VARIANTS = [  # an option, and a value whose result differs from the default's
    ("diou", {"beta": 0.6}),
    ("soft_linear", {"score_threshold": 0.2}),
    ("soft_gaussian", {"sigma": 0.1}),
    ("soft_gaussian", {"score_threshold": 0.2}),
    ("matrix", {"kernel": "linear"}),
    ("matrix", {"sigma": 0.1}),
    ("matrix", {"score_threshold": 0.2}),
    ("cluster", {"iterations": 1}),
    ("cluster", {"iterations": 2}),
    ("spm_cluster", {"sigma": 0.5}),
    ("spm_cluster", {"beta": 0.6}),
    ("spm_cluster", {"score_threshold": 0.2}),
    ("weighted_cluster", {"member_threshold": 0.8}),
    ("weighted_boxes_fusion", {"model": True}),
    ("weighted_boxes_fusion", {"model": True, **MODELS}),
    ("weighted_boxes_fusion", {"model": True, **MODELS, "conf_type": "max"}),
    ("weighted_boxes_fusion", {"model": True, **MODELS, "conf_type": "box_and_model_avg"}),
    ("weighted_boxes_fusion", {"model": True, **MODELS, "conf_type": "absent_model_aware_avg"}),
    ("weighted_boxes_fusion", {"model": True, **MODELS, "allows_overflow": True}),
    ("weighted_boxes_fusion", {"skip_box_thr": 0.4}),
]


# Cases ----------------------------------------------------------------------------------------------------------------


def crowd(n, seed=0, dtype=torch.float64):
    """Boxes jittered about a twelfth as many objects: chains of overlaps, and boxes that several others overlap."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    objects = max(1, n // 12)
    corner, sides = 6 * uniform(objects, 2), 1 + uniform(objects, 2)
    which = torch.randint(objects, (n,), generator=generator)
    low, high = (edge[which] + 0.5 * (uniform(n, 2) - 0.5) for edge in (corner, corner + sides))
    return torch.cat([low, high], 1).to(dtype), (0.05 + 0.95 * uniform(n)).to(dtype)


def needs(name, n, seed=0):
    """What the method must be given besides: a value a box."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return {key: torch.rand(n, dtype=torch.float64, generator=generator) for key in NMS[name].columns}


def with_models(options, n):
    return options | ({"model": torch.arange(n) * 7 % 3} if "model" in options else {})


def plain(options, rows):
    """Options as the scalar references take them."""
    return {key: value[rows].tolist() if torch.is_tensor(value) else value for key, value in options.items()}


def by_the_loop(name, boxes, scores, group, threshold, options):
    """What the scalar reference gives, group by group, best first: indices, scores, boxes."""
    expected = []
    for number in group.unique():
        rows = (group == number).nonzero().flatten()
        given = REFERENCES[name](boxes[rows].tolist(), scores[rows].tolist(), threshold, **plain(options, rows))
        expected += [(int(rows[i]), score, box) for i, score, box in given]
    expected.sort(key=lambda each: (-each[1], each[0]))
    return tuple(zip(*expected, strict=True))


@functools.cache
def of_a_crowd(name, threshold, seed, n):
    """The same of one group, once for all ways of computing it."""
    return by_the_loop(name, *crowd(n, seed), torch.zeros(n), threshold, needs(name, n, seed))


def check(name, boxes, scores, group, kept, threshold, options):
    """Hold the result against the reference."""
    equal(kept, by_the_loop(name, boxes, scores, group, threshold, options))


def equal(kept, expected):
    indices, values, given = expected
    assert kept.indices.tolist() == list(indices)
    # Rounding of sums and products in another order; the numbers are of order 1 to 10.
    torch.testing.assert_close(kept.scores, torch.tensor(values, dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(kept.boxes, torch.tensor(given, dtype=torch.float64), rtol=0, atol=1e-13)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(params=[None, 64], ids=["at once", "by blocks"])
def blocks(request, monkeypatch):
    """All pairs of a group in one piece, or a few rows at a time."""
    if request.param:
        monkeypatch.setattr(groups, "PAIRS", request.param)
        monkeypatch.setattr(groups, "BOXES", request.param)


# Tests ----------------------------------------------------------------------------------------------------------------


@methods
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_equals_the_scalar_loop(name, threshold, blocks):
    for seed, n in enumerate((1, 2, 7, 40, 90)):
        boxes, scores = crowd(n, seed)
        options = needs(name, n, seed)
        kept = NMS[name](boxes, scores, iou_threshold=threshold, **options)
        equal(kept, of_a_crowd(name, threshold, seed, n))


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_every_option_equals_the_scalar_loop_and_does_something(name, options, blocks):
    boxes, scores = crowd(90, 11)
    options = with_models(options, 90)
    kept = NMS[name](boxes, scores, **options)
    check(name, boxes, scores, torch.zeros(90), kept, 0.5, options)
    last = list(options)[-1]
    assert not same(kept, NMS[name](boxes, scores, **{key: options[key] for key in options if key != last}))


def test_every_option_is_among_those_tested():
    shown = {(name, option) for name in OWN for option in NMS[name].resolve().__signature__.parameters}
    shown -= {(name, each) for name in OWN for each in ("boxes", "scores", "labels", "iou_threshold", "image")}
    tested = {(name, option) for name, options in VARIANTS for option in options} | {("iou_guided", "ious")}
    assert shown == tested


@methods
def test_images_and_labels_are_apart(name, blocks):
    boxes, scores = crowd(120, 3)
    generator = torch.Generator().manual_seed(4)
    image, labels = torch.randint(-2, 3, (2, 120), generator=generator)
    options = needs(name, 120)
    kept = NMS[name](boxes, scores, labels, image=image, **options)
    group = image * 10 + (0 if name == "class_agnostic" else labels)
    check(name, boxes, scores, group, kept, 0.5, options)
    scattered = NMS[name](boxes, scores, labels * 2**60, image=(image * 2**61).contiguous(), **options)
    assert same(kept, scattered)  # numbers of classes and images may be any


@methods
def test_groups_of_all_sizes_in_one_call(name):
    sizes = [0, 1, 1, 1, 2, 3, 5, 9, 40]
    image = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    order = torch.randperm(len(image), generator=torch.Generator().manual_seed(5))
    boxes, scores = crowd(len(image), 6)
    options = needs(name, len(image))
    kept = NMS[name](boxes, scores, image=image[order], **options)
    check(name, boxes, scores, image[order], kept, 0.5, options)


@methods
def test_order_of_the_input_does_not_matter(name):
    boxes, scores = crowd(80, 7)
    options, shuffle = needs(name, 80), torch.randperm(80, generator=torch.Generator().manual_seed(8))
    kept = NMS[name](boxes, scores, **options)
    other = NMS[name](boxes[shuffle], scores[shuffle], **{key: value[shuffle] for key, value in options.items()})
    assert same(kept, other._replace(indices=shuffle[other.indices]))


@methods
def test_equal_scores_go_by_index(name):
    boxes, _ = crowd(60, 9)
    options = {key: torch.full((60,), 0.5, dtype=torch.float64) for key in NMS[name].columns}
    kept = NMS[name](boxes, torch.full((60,), 0.5, dtype=torch.float64), **options)
    assert kept.indices[0] == 0
    check(name, boxes, torch.full((60,), 0.5, dtype=torch.float64), torch.zeros(60), kept, 0.5, options)


@methods
def test_best_first(name):
    boxes, scores = crowd(200, 10)
    kept = NMS[name](boxes, scores, torch.arange(200) % 3, **needs(name, 200))
    assert (kept.scores.diff() <= 0).all()
    assert len(kept.indices.unique()) == len(kept.indices) > 0
    if name in SUBSET:
        assert torch.equal(kept.scores, scores[kept.indices])
    if name not in FUSING:
        assert torch.equal(kept.boxes, boxes[kept.indices])


def test_what_is_the_same_by_the_papers():
    boxes, scores = crowd(300, 12)
    labels = torch.arange(300) % 4
    for threshold in (0.2, 0.5, 0.8):
        kept = NMS["hard"](boxes, scores, labels, iou_threshold=threshold)
        assert same(NMS["cluster"](boxes, scores, labels, iou_threshold=threshold), kept)
        assert same(NMS["cluster"](boxes, scores, labels, iou_threshold=threshold, iterations=300), kept)
        # A distance of less than .9 to the power of 500 is nothing.
        assert same(NMS["diou"](boxes, scores, labels, iou_threshold=threshold, beta=500.0), kept)
        for name in ("weighted_cluster", "nmw"):
            assert torch.equal(NMS[name](boxes, scores, labels, iou_threshold=threshold).indices, kept.indices)
        # Ranked by the scores themselves, the best score of a cluster is its box's own.
        assert same(NMS["iou_guided"](boxes, scores, labels, iou_threshold=threshold, ious=scores), kept)
        fast = NMS["fast"](boxes, scores, labels, iou_threshold=threshold)
        assert same(NMS["cluster"](boxes, scores, labels, iou_threshold=threshold, iterations=1), fast)
        assert set(fast.indices.tolist()) <= set(kept.indices.tolist())  # it removes at least as much
        agnostic = NMS["class_agnostic"](boxes, scores, labels, iou_threshold=threshold)
        assert same(agnostic, NMS["hard"](boxes, scores, iou_threshold=threshold))


@methods
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_none_and_one(name, dtype):
    boxes, scores = crowd(1, 13, dtype)
    for n in (0, 1):
        label = torch.zeros(n, dtype=torch.int64)
        kept = NMS[name](boxes[:n], scores[:n], label, image=label, **needs(name, n))
        assert kept.indices.tolist() == list(range(n))
        assert torch.equal(kept.scores, scores[:n].to(kept.scores.dtype))
        assert torch.equal(kept.boxes, boxes[:n].to(kept.boxes.dtype))


@methods
def test_identical_boxes(name):
    boxes = torch.tensor([[0.0, 0, 2, 1]] * 5 + [[5.0, 5, 6, 6]] * 3, dtype=torch.float64)
    scores = torch.tensor([0.5, 0.9, 0.6, 0.9, 0.7, 0.3, 0.3, 0.8], dtype=torch.float64)
    options = needs(name, 8)
    kept = NMS[name](boxes, scores, **options)
    check(name, boxes, scores, torch.zeros(8), kept, 0.5, options)
    # Means of equal numbers round.
    assert {tuple(box) for box in kept.boxes.round(decimals=12).tolist()} == {tuple(box) for box in boxes.tolist()}


@methods
def test_boxes_without_area_and_inverted_ones_overlap_nothing(name):
    boxes = torch.tensor(
        [[0, 0, 4, 4], [1, 1, 1, 3], [2, 2, 2, 2], [3, 3, 1, 1], [1, 3, 3, 1]] * 2, dtype=torch.float64
    )
    scores = torch.linspace(0.9, 0.1, 10, dtype=torch.float64)
    options = needs(name, 10)
    kept = NMS[name](boxes, scores, **options)
    check(name, boxes, scores, torch.zeros(10), kept, 0.5, options)
    assert set(kept.indices.tolist()) > {1, 2, 3, 4, 6, 7, 8, 9}


@methods
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_box_that_is_not_finite_stays_and_disturbs_no_other(name, bad):
    boxes, scores = crowd(60, 14)
    options = needs(name, 60)
    spoilt = boxes.clone()
    spoilt[20, 2] = spoilt[41, 1] = bad
    others = torch.tensor([i for i in range(60) if i not in (20, 41)])
    kept = NMS[name](spoilt, scores, **options)
    alone = NMS[name](boxes[others], scores[others], **{key: value[others] for key, value in options.items()})
    good = ~torch.isin(kept.indices, torch.tensor([20, 41]))
    assert (~good).sum() == 2
    assert torch.equal(kept.boxes[~good], spoilt[kept.indices[~good]]) or math.isnan(bad)
    assert torch.equal(kept.indices[good], others[alone.indices])
    assert torch.equal(kept.scores[good], alone.scores)
    # A mean is a product of matrices, whose order of summation depends on their sizes.
    torch.testing.assert_close(kept.boxes[good], alone.boxes, rtol=0, atol=1e-13)


@methods
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_tiny_and_huge_boxes_leave_finite_results(name, size):
    boxes, scores = crowd(60, 15, torch.float32)
    kept = NMS[name](boxes * size, scores, **needs(name, 60))  # areas vanish, or overflow
    assert kept.boxes.isfinite().all()
    assert kept.scores.isfinite().all()
    assert len(kept.indices) == 60


@methods
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    boxes, scores = crowd(60, 16, dtype)
    options = needs(name, 60)
    kept = NMS[name](boxes, scores, **options)
    assert kept.scores.dtype == kept.boxes.dtype == torch.float32
    assert same(kept, NMS[name](boxes.float(), scores.float(), **options))
    assert same(kept, NMS[name](boxes.float(), scores, **options))


@methods
def test_input_is_left_alone_and_keeps_no_gradient(name):
    boxes, scores = crowd(50, 17)
    boxes.requires_grad_()
    before = boxes.detach().clone(), scores.clone()
    kept = NMS[name](boxes, scores, **needs(name, 50))
    assert same(before, (boxes, scores))
    assert not kept.boxes.requires_grad


def test_equal_to_the_threshold_stays():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 6]])  # an IoU of .6, which in float32 is more than in float64
    scores = torch.tensor([0.9, 0.8])
    for name in ("hard", "class_agnostic", "cluster", "fast", "iou_guided", "weighted_cluster", "nmw"):
        for dtype in (torch.float32, torch.float64):
            options = {"ious": scores} if name == "iou_guided" else {}
            kept = NMS[name](boxes.to(dtype), scores.to(dtype), iou_threshold=0.6, **options)
            over = float(torch.tensor(6, dtype=dtype) / 10) > 0.6
            assert len(kept.indices) == 2 - over


def test_a_large_group_makes_no_matrix_of_its_pairs(monkeypatch):
    boxes, scores = crowd(3000, 18, torch.float32)
    monkeypatch.setattr(groups, "PAIRS", 2**14)
    largest, zeros = 0, torch.Tensor.triu_

    def watched(self, *arguments):
        nonlocal largest
        largest = max(largest, self.numel())
        return zeros(self, *arguments)

    monkeypatch.setattr(torch.Tensor, "triu_", watched)
    for name in OWN:
        NMS[name](boxes, scores, **needs(name, 3000))
    assert 0 < largest <= 2**14


def fused_alone(score, weight, *others):
    """The fused score of boxes of one place, given as (score, model), beside models that see nothing there."""
    scores, model = torch.tensor(score, dtype=torch.float64).T
    boxes = torch.tensor([[0.1, 0.1, 0.2, 0.2]], dtype=torch.float64).repeat(len(score), 1)
    kept = NMS["weighted_boxes_fusion"](boxes, scores.contiguous(), model=model.long(), weights=weight, **dict(others))
    assert len(kept.indices) == 1
    return kept.scores.item()


def test_a_fused_score_does_not_exceed_1():
    """The case of the authors' issues 10 and 40, where their code gives 4/3."""
    assert fused_alone([(1.0, 0), (1.0, 0)], [2.0, 1.0]) == pytest.approx(1.0)
    assert fused_alone([(1.0, 0), (1.0, 0)], [2.0, 1.0], ("allows_overflow", True)) == pytest.approx(4 / 3)


@pytest.mark.unchecked  # the checks take longer than the fusion
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_fused_score_does_not_exceed_its_best_member(data):
    """And it is the authors' wherever no model has two boxes in a cluster."""
    weights = data.draw(st.lists(st.floats(0.1, 8), min_size=1, max_size=5))
    members = data.draw(
        st.lists(st.tuples(st.floats(0.01, 1), st.integers(0, len(weights) - 1)), min_size=1, max_size=7)
    )
    best = max(score for score, _ in members)
    for conf_type in ("avg", "max", "box_and_model_avg", "absent_model_aware_avg"):
        assert fused_alone(members, weights, ("conf_type", conf_type)) <= best * (1 + 1e-12)
    weighted = [score * weights[model] for score, model in members]
    if len({model for _, model in members}) == len(members) or len(set(weights)) == 1:
        authors = sum(weighted) / len(members) * min(len(members), len(weights)) / sum(weights)
        assert fused_alone(members, weights) == pytest.approx(authors)


BOXES, SCORES, LABELS = torch.zeros(3, 4), torch.ones(3), torch.zeros(3, dtype=torch.int64)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"),
    [
        ("hard", (torch.zeros(3, 5), SCORES), {}, r"boxes has shape \(3, 5\).*\(n, 4\)"),
        ("hard", (BOXES.long(), SCORES), {}, "boxes is torch.int64; accepted is a floating"),
        ("hard", (BOXES, SCORES[:2]), {}, r"scores has shape \(2,\); accepted is \(3,\)"),
        ("hard", (BOXES, LABELS), {}, "scores is torch.int64; accepted is a floating"),
        ("hard", (BOXES, SCORES * math.nan), {}, r"scores\[0\] is nan; accepted is a finite"),
        ("hard", (BOXES, SCORES, SCORES), {}, "labels is torch.float32; accepted is an integer"),
        ("class_agnostic", (BOXES, SCORES, LABELS[:2]), {}, r"labels has shape \(2,\)"),
        ("hard", (BOXES, SCORES), {"image": LABELS > 0}, "image is torch.bool; accepted is an integer"),
        ("hard", (BOXES, SCORES), {"image": LABELS.to("meta")}, "image is on meta; accepted is .* cpu"),
        ("hard", (BOXES, SCORES), {"iou_threshold": 1.5}, "iou_threshold is 1.5; accepted is a number from 0 to 1"),
        ("hard", (BOXES, SCORES), {"iou_threshold": math.nan}, "iou_threshold is nan"),
        ("diou", (BOXES, SCORES), {"beta": 0.0}, "beta is 0.0; accepted is a positive"),
        ("iou_guided", (BOXES, SCORES), {"ious": SCORES[:2]}, r"ious has shape \(2,\)"),
        ("iou_guided", (BOXES, SCORES), {"ious": SCORES * math.inf}, r"ious\[0\] is inf"),
        ("soft_gaussian", (BOXES, SCORES), {"sigma": -1.0}, "sigma is -1.0"),
        ("soft_linear", (BOXES, SCORES), {"score_threshold": -0.1}, "score_threshold is -0.1; accepted .* at least 0"),
        ("soft_linear", (BOXES, -SCORES), {}, r"scores\[0\] is -1.0; accepted by soft_linear is at least 0"),
        ("matrix", (BOXES, SCORES), {"kernel": "cubic"}, "kernel is 'cubic'; accepted are 'gaussian', 'linear'"),
        ("cluster", (BOXES, SCORES), {"iterations": 0}, "iterations is 0"),
        ("spm_cluster", (BOXES, SCORES), {"beta": -1.0}, "beta is -1.0"),
        ("weighted_cluster", (BOXES, SCORES), {"member_threshold": 2.0}, "member_threshold is 2.0"),
        ("weighted_boxes_fusion", (BOXES, SCORES), {"conf_type": "sum"}, "conf_type is 'sum'; accepted are 'avg'"),
        (
            "weighted_boxes_fusion",
            (BOXES, SCORES),
            {"model": LABELS + 2, "weights": [1, 1]},
            "2 to 2; accepted are 0 to 1",
        ),
        ("weighted_boxes_fusion", (BOXES, SCORES), {"model": LABELS - 1}, "model has numbers -1 to -1"),
        ("weighted_boxes_fusion", (BOXES, SCORES), {"weights": [0.0]}, r"weights are \[0.0\]; accepted are positive"),
        ("weighted_boxes_fusion", (BOXES, SCORES), {"skip_box_thr": -1.0}, "skip_box_thr is -1.0"),
    ],
)
def test_bad_input_is_named(name, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        NMS[name](*arguments, **options)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", list(NMS))
def test_arguments_in_torchvision_s_places(name):
    """``batched_nms(boxes, scores, idxs, iou_threshold)`` works; ``nms(boxes, scores, iou_threshold)`` is refused."""
    boxes, scores = crowd(30)
    labels, columns = torch.arange(30) % 3, needs(name, 30)
    by_name = NMS[name](boxes, scores, labels, iou_threshold=0.3, **columns)
    for threshold in (0.3, np.float64(0.3), torch.tensor(0.3, dtype=torch.float64)):
        by_place = NMS[name](boxes, scores, labels, threshold, **columns)
        assert all(torch.equal(one, other) for one, other in zip(by_name, by_place, strict=True))
    for number in (0.3, 1, np.float32(0.3)):
        with pytest.raises(ValueError, match=r"labels is .* integer tensor \(30,\).*iou_threshold="):
            NMS[name](boxes, scores, number, **columns)
    with pytest.raises(ValueError, match=r"labels has shape \(\); accepted is \(30,\), one per box"):
        NMS[name](boxes, scores, torch.tensor(0), **columns)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", list(NMS))
def test_what_is_not_a_tensor_is_refused(name):
    boxes, scores = crowd(5)
    labels = torch.arange(5) % 2
    makes = [np.asarray, Tensor.tolist, lambda column: None, lambda column: "boxes", iter]
    for make, which in itertools.product(makes, ["boxes", "scores", "labels", "image"]):
        columns = {"boxes": boxes, "scores": scores, "labels": labels, "image": labels} | needs(name, 5)
        columns[which] = make(columns[which])
        if columns[which] is None and which in ("labels", "image"):
            continue  # one class, one image
        with pytest.raises(ValueError, match=rf"^{which} is of type \S+; accepted is a torch.Tensor"):
            NMS[name](columns.pop("boxes"), columns.pop("scores"), columns.pop("labels"), **columns)


@pytest.mark.unchecked
@pytest.mark.parametrize("threshold", ["0.4", None, True, [0.4], torch.tensor([0.4]), 1j, -0.1, math.inf])
def test_a_threshold_is_a_number(threshold):
    with pytest.raises(ValueError, match=r"^iou_threshold is .*; accepted is a number"):
        NMS["hard"](BOXES, SCORES, LABELS, threshold)


def test_unknown_options_and_names():
    with pytest.raises(TypeError, match="hard has no option 'sigma'; it has none of its own"):
        NMS["hard"](BOXES, SCORES, sigma=1.0)
    with pytest.raises(TypeError, match="soft_linear has no option 'sigma', 'kernel'; its options are score_threshold"):
        NMS["soft_linear"](BOXES, SCORES, sigma=1.0, kernel="linear")
    with pytest.raises(TypeError, match="ious"):
        NMS["iou_guided"](BOXES, SCORES)
    with pytest.raises(UnknownName, match="no NMS named 'hrad'; did you mean hard"):
        NMS["hrad"]


def test_an_outside_method_is_listed(fidmap, outside):
    site = outside("mynms", "def nms(*a, **o): ...\n", nms="mine = mynms:nms")
    listed = fidmap("list", "nms", site=site).stdout
    assert f"nms ({len(NMS) + 1})" in listed
    assert "mine" in listed
