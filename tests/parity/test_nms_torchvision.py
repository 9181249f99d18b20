"""Hard NMS keeps exactly torchvision's set, ties with the threshold and among scores included."""

import pytest
import torch
from torchvision import ops

from implementations.boxes import NMS

THRESHOLDS = (0.3, 0.5, 0.6, 0.7)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def many(n_sets, make, dtype):
    """Sets of 1 to 60 boxes as one input with an image number; a fifth of the scores occurs more than once."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 61, (n_sets,), generator=generator)
    image = torch.arange(n_sets).repeat_interleave(sizes)
    scores = torch.rand(len(image), dtype=torch.float64, generator=generator)
    scores = torch.where(torch.rand(len(image), generator=generator) < 0.2, (scores * 8).round() / 8, scores)
    return make(len(image), generator).to(dtype), scores.to(dtype), image


def random(n, generator):
    corner, sides = torch.rand(2, n, 2, dtype=torch.float64, generator=generator)
    return torch.cat([40 * corner, 40 * corner + 5 + 40 * sides], 1)


def on_a_grid(n, generator):
    """Whole coordinates of few values: IoUs are ratios of small numbers, many of them exactly a threshold."""
    corner, sides = (torch.randint(low, high, (n, 2), generator=generator) for low, high in ((0, 6), (4, 13)))
    return torch.cat([corner, corner + sides], 1)


@dtypes
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize(("n_sets", "make"), [(1000, random), (300, on_a_grid)], ids=["random", "grid"])
def test_keeps_torchvision_s_set(n_sets, make, threshold, dtype):
    boxes, scores, image = many(n_sets, make, dtype)
    kept = NMS["hard"](boxes, scores, image=image, iou_threshold=threshold)
    for number in range(n_sets):
        rows = (image == number).nonzero().flatten()
        theirs = rows[ops.nms(boxes[rows], scores[rows], threshold)]
        assert torch.equal(kept.indices[image[kept.indices] == number], theirs)  # in their order too


@dtypes
@pytest.mark.parametrize("threshold", [0.5, 0.6])
def test_grid_meets_the_threshold(threshold, dtype):
    """The sets above tell other comparisons from torchvision's only where IoUs equal the threshold."""
    boxes, _, image = many(300, on_a_grid, dtype)
    sets = [boxes[image == number] for number in range(300)]
    assert sum(bool(((ops.box_iou(own, own) - threshold).abs() < 1e-6).any()) for own in sets) > 150


@pytest.mark.parametrize("n", [900, 10_000])
@pytest.mark.parametrize("peer", ["torchvision_nms", "torchvision_batched_nms"])
def test_peers_agree_over_classes_and_images(peer, n):
    generator = torch.Generator().manual_seed(1)
    boxes, scores = random(n, generator).float(), torch.rand(n, generator=generator)
    labels, image = torch.randint(20, (n,), generator=generator), torch.randint(4, (n,), generator=generator)
    ours, theirs = (NMS[name](boxes, scores, labels, image=image) for name in ("hard", peer))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("peer", ["torchvision_nms", "torchvision_batched_nms"])
def test_peers_take_no_boxes(peer):
    assert len(NMS[peer](torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)).indices) == 0


def test_batched_nms_of_few_boxes_mixes_classes_at_negative_coordinates():
    """It parts classes by the largest coordinate + 1, here 0; above 1,000 boxes it goes class by class."""
    boxes, scores, labels = torch.tensor([[-9.0, -9, -1, -1]] * 2), torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
    for name, number in (("hard", 2), ("torchvision_nms", 2), ("torchvision_batched_nms", 1)):
        assert len(NMS[name](boxes, scores, labels).indices) == number


def test_batched_nms_of_few_boxes_rounds_coordinates():
    """Shifted by a class number times 1,001, tenths are others: a pair at the threshold may fall to either side."""
    generator = torch.Generator().manual_seed(2)
    differ = 0
    for _ in range(100):
        boxes, scores = on_a_grid(60, generator) / 10, torch.rand(60, generator=generator)
        boxes[0] = torch.tensor([990.0, 990.0, 1000.0, 1000.0])
        labels = torch.randint(50, 80, (60,), generator=generator)
        hard, apart, shifted = (
            NMS[name](boxes, scores, labels).indices for name in ("hard", "torchvision_nms", "torchvision_batched_nms")
        )
        assert torch.equal(hard, apart)
        differ += not torch.equal(hard, shifted)
    assert differ > 0
