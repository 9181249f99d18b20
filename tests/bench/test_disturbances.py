"""Faults of image sets: each does what it says, more of it at a greater level, and nothing at level 0."""

import pytest
import torch

from bench.data import fashion_mnist
from bench.data.disturbances import DISTURBANCES, disturb


@pytest.fixture(scope="module")
def sets():
    images, labels = fashion_mnist.load("test")
    return images[:500], labels[:500], images[500:900]


@pytest.mark.parametrize("name", DISTURBANCES)
def test_level_0_is_nothing_and_every_level_repeats(sets, name):
    images, labels, reference = sets
    assert torch.equal(disturb(images, labels, name, 0.0, reference=reference), images)
    first, again, other = (disturb(images, labels, name, 0.5, reference=reference, seed=s) for s in (1, 1, 2))
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "blur")  # the one without chance
    assert not torch.equal(first, images)


def test_blur_keeps_the_mean_and_takes_the_edges(sets):
    images, labels, reference = sets
    before = images.float()
    for low, high in ((0.2, 0.5), (0.5, 1.0)):
        edges = [
            disturb(images, labels, "blur", x, reference=reference).float().diff(dim=2).abs().mean()
            for x in (low, high)
        ]
        assert before.diff(dim=2).abs().mean() > edges[0] > edges[1]
    soft = disturb(images, labels, "blur", 0.3, reference=reference).float()
    assert soft.mean().item() == pytest.approx(before.mean().item(), rel=0.02)  # reflected at the borders


def test_noise_has_its_deviation_where_nothing_is_cut(sets):
    images, labels, reference = sets
    grey = torch.full_like(images, 128)
    noisy = disturb(grey, labels, "noise", 0.5, reference=reference).float() - 128
    assert noisy.std().item() == pytest.approx(255 / 8, rel=0.01)  # 392,000 pixels


def test_classes_go_from_the_last(sets):
    images, labels, reference = sets
    among = {tuple(image.flatten().tolist()): int(label) for image, label in zip(images, labels, strict=True)}
    for level, classes in ((1 / 3, 7), (1.0, 1)):
        left = disturb(images, labels, "class_drop", level, reference=reference)
        assert {among[tuple(image.flatten().tolist())] for image in left} == set(range(classes))


def test_modes_shrink_towards_their_means(sets):
    images, labels, reference = sets
    spreads = []
    for level in (0.0, 0.5, 1.0):
        left = disturb(images, labels, "mode_drop", level, reference=reference)
        spreads.append(left.float().flatten(1).std(0).mean().item())
        assert len(left.flatten(1).unique(dim=0)) == pytest.approx((1 - 0.9 * level) * 500, abs=6)  # rounded by class
    assert spreads[0] > spreads[1] > spreads[2]


def test_the_memorised_share_is_the_references_own(sets):
    images, labels, reference = sets
    copied = disturb(images, labels, "memorised", 0.3, reference=reference)
    own = {tuple(image.flatten().tolist()) for image in reference}
    assert sum(tuple(image.flatten().tolist()) in own for image in copied) == 150


def test_bad_input_is_named(sets):
    images, labels, reference = sets
    with pytest.raises(ValueError, match="'fog' is not one of blur"):
        disturb(images, labels, "fog", 0.5, reference=reference)
    with pytest.raises(ValueError, match="level is 2"):
        disturb(images, labels, "blur", 2.0, reference=reference)
