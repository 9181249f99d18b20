from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from bench.data.fashion_mnist import CLASSES
from bench.data.scenes import LARGE, SMALL, scenes
from bench.errors import UsageError
from metrics.detection.coco import evaluate_coco

MANY = scenes(400, seed=11)


def extents(changed):
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]


def annotations(data, image):
    return [a for a in data.coco["annotations"] if a["image_id"] == image]


def test_boxes_are_the_extents_of_each_object_rendered_alone():
    data = scenes(25, seed=1)
    for i in range(data.n):
        background = data.image(i, only=()).numpy()
        for index, annotation in enumerate(annotations(data, i)):
            assert extents(data.image(i, only=(index,)).numpy() != background) == annotation["bbox"]


def test_no_object_is_hidden():
    """Leaving one object out of a scene changes it: some of the object is seen, 20 % of it but in crowded scenes."""
    data = scenes(25, seed=2)
    shares = []
    for i in range(data.n):
        whole, indices = data.image(i).numpy(), range(len(annotations(data, i)))
        for index, patch in enumerate(data.patches(i)):
            without = data.image(i, only=set(indices) - {index}).numpy()
            shares.append((whole != without).sum() / patch.mask.sum())
    assert min(shares) > 0
    assert np.quantile(shares, 0.01) > 0.2
    assert min(shares) < 0.9  # and some are occluded


def test_scenes_are_as_described():
    coco, (height, width) = MANY.coco, MANY.size
    objects = [a for a in coco["annotations"] if not a["iscrowd"]]
    crowds = [a for a in coco["annotations"] if a["iscrowd"]]
    box = np.array([a["bbox"] for a in coco["annotations"]])
    assert (box[:, :2] >= 0).all()
    assert (box[:, 0] + box[:, 2] <= width).all()
    assert (box[:, 1] + box[:, 3] <= height).all()
    counts = np.bincount([a["image_id"] for a in objects], minlength=MANY.n)
    assert (counts.min(), counts.max()) == (1, 12)
    assert 0.05 < len(crowds) / MANY.n < 0.15  # one in ten; 400 scenes: three standard deviations are .045

    share = np.array([a["area"] for a in objects]) / (height * width)
    n, parts = len(share), [share < SMALL, (share > SMALL) & (share < LARGE), share > LARGE]
    deviation = np.sqrt(n * 2 / 9)  # of a binomial count with p = 1/3
    assert all(abs(part.sum() - n / 3) < 4 * deviation for part in parts)
    assert sum(part.sum() for part in parts) == n  # none on a bound, where COCO counts an object twice

    ratio = np.log([a["bbox"][2] / a["bbox"][3] for a in objects]) / np.log(4)
    assert (np.abs(ratio) <= 1).all()
    # Log-uniform on [-1, 1]: quarters at +-.5, within four standard errors of about .02 and a pixel's rounding.
    np.testing.assert_allclose(np.quantile(ratio, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.1)

    classes = np.bincount([a["category_id"] for a in objects], minlength=11)[1:]
    assert (np.abs(classes - n / 10) < 4 * np.sqrt(n * 0.09)).all()


def test_annotations_are_coco():
    coco = json.loads(json.dumps(MANY.coco))
    assert set(coco) == {"info", "licenses", "images", "annotations", "categories"}
    assert [c["name"] for c in coco["categories"]] == list(CLASSES)
    assert [a["id"] for a in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
    assert all(a["area"] == a["bbox"][2] * a["bbox"][3] for a in coco["annotations"])
    keys = ("image_id", "category_id", "bbox")
    truth = [{key: a[key] for key in keys} | {"score": 1.0} for a in coco["annotations"] if not a["iscrowd"]]
    assert evaluate_coco(coco, truth).figures["AP"] == pytest.approx(1, abs=1e-15)  # pycocotools' spacing(1)


def test_scene_depends_on_seed_and_index_alone():
    few, more = scenes(3, seed=5), scenes(6, seed=5)
    assert more.coco["annotations"][: len(few.coco["annotations"])] == few.coco["annotations"]
    np.testing.assert_array_equal(few.image(2), more.image(2))
    assert scenes(3, seed=6).coco["annotations"] != few.coco["annotations"]
    assert (scenes(3, seed=6).image(2) != few.image(2)).any()


def test_other_sizes():
    data = scenes(8, seed=0, size=(200, 160))
    assert data.image(0).shape == (200, 160)
    assert all(
        a["bbox"][0] + a["bbox"][2] <= 160 and a["bbox"][1] + a["bbox"][3] <= 200 for a in data.coco["annotations"]
    )


def test_save(tmp_path):
    data = scenes(2, seed=4)
    data.save(tmp_path / "scenes")
    assert sorted(p.name for p in (tmp_path / "scenes").iterdir()) == ["000000.png", "000001.png", "annotations.json"]
    assert json.loads((tmp_path / "scenes" / "annotations.json").read_text()) == data.coco
    for i, entry in enumerate(data.coco["images"]):
        picture = np.asarray(Image.open(tmp_path / "scenes" / entry["file_name"]))
        np.testing.assert_array_equal(picture, data.image(i))
        assert picture.shape == (entry["height"], entry["width"])


def test_an_interrupted_save_leaves_no_torn_file(tmp_path, monkeypatch):
    data = scenes(2, seed=4)
    data.save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        scenes(2, seed=5).save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_annotations_are_quick():
    started = time.perf_counter()
    assert len(scenes(50, seed=9).coco["annotations"]) > 0
    assert time.perf_counter() - started < 5  # .2 s alone on a core; the rest is for a busy machine


@pytest.mark.unchecked
@pytest.mark.parametrize("bad", [{"n": -1}, {"seed": -1}, {"size": (100, 640)}, {"size": (160, 700)}])
def test_bad_calls(bad):
    with pytest.raises(ValueError, match=r"negative|accepted"):
        scenes(**{"n": 1, **bad})


def test_no_such_scene():
    with pytest.raises(IndexError, match="scene 2 is not among the 2"):
        scenes(2).image(2)
