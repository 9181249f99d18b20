"""Behind all lines of a report stands one reading of the files; on detections, one matching too."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from contextlib import contextmanager
from unittest import mock

import pytest
from PIL import Image

from bench.evaluate import detections, images, voc_figures
from metrics.detection import coco, voc
from metrics.detection.inputs import read_inputs

PROTOCOLS = {
    "coco": lambda *sides: detections.evaluate(
        *sides, per_class=True, tide=True, confusion=True, calibration=True, resamples=3, score_threshold=0.5
    ),
    "voc": lambda *sides: voc_figures.evaluate(*sides, per_class=True),
}  # fmt: skip


@pytest.fixture(scope="module")
def events():
    """A function ``watch(folder)``: a context in which files opened and folders listed below it are counted."""
    seen, under = Counter(), []

    def hook(event, arguments):  # it cannot be taken out again
        if under and event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(under[0]):
            seen[str(arguments[0])] += 1

    sys.addaudithook(hook)

    @contextmanager
    def watch(folder):
        seen.clear()
        under.append(str(folder))
        try:
            yield seen
        finally:
            under.clear()

    return watch


def write_coco(folder):
    truth = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": k, "image_id": k, "category_id": k, "bbox": [1, 1, 20, 20], "area": 400, "iscrowd": 0}
            for k in (1, 2)
        ],
    }
    found = [{"image_id": k, "category_id": k, "bbox": [1, 1, 20, 19], "score": 0.9} for k in (1, 2)]
    (folder / "truth").write_text(json.dumps(truth))
    (folder / "found").write_text(json.dumps(found))


def write_voc(folder):
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>21</xmax><ymax>21</ymax></bndbox>"
    for side, score in (("truth", ""), ("found", "<score>.9</score>")):
        (folder / side).mkdir()
        for name, kind in (("a", "cat"), ("b", "dog")):
            text = f"<annotation><object><name>{kind}</name>{score}{box}</object></annotation>"
            (folder / side / f"{name}.xml").write_text(text)


def write_yolo(folder):
    (folder / "images").mkdir()
    (folder / "classes.txt").write_text("cat\ndog\n")  # of both sides
    for side, score in (("truth", ""), ("found", " .9")):
        (folder / side).mkdir()
        for k, name in enumerate("ab"):
            (folder / side / f"{name}.txt").write_text(f"{k} .3 .3 .4 .4{score}\n")
            Image.new("L", (50, 50)).save(folder / "truth" / f"{name}.png")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("write", [write_coco, write_voc, write_yolo], ids=["coco", "voc", "yolo"])
def test_a_file_is_opened_once_a_folder_listed_once_and_a_matching_made_once(tmp_path, events, write, protocol):
    (tmp_path / "set").mkdir()
    write(tmp_path / "set")
    module, name = (coco, "match_inputs") if protocol == "coco" else (voc, "match_voc")
    with mock.patch.object(module, name, wraps=getattr(module, name)) as match, events(tmp_path / "set") as seen:
        PROTOCOLS[protocol](tmp_path / "set" / "truth", tmp_path / "set" / "found")
    assert match.call_count == 1
    places = [path for path in (tmp_path / "set").rglob("*") if path.name != "images"]
    assert seen == dict.fromkeys(map(str, places), 1)


@pytest.mark.parametrize("workers", [1, 3])
def test_an_image_is_opened_once_to_be_hashed_and_decoded_and_once_more_to_be_found(
    tmp_path, events, workers, monkeypatch
):
    monkeypatch.setenv("FIDMAP_CACHE", str(tmp_path / "cache"))
    for side in ("real", "fake"):
        (tmp_path / "sides" / side / "more").mkdir(parents=True)
        for k in range(20):
            image = Image.effect_noise((28, 28), 40 + k)
            image.save(tmp_path / "sides" / side / ("more" if k % 3 else "") / f"{k}.png")
    paths = [str(path) for path in (tmp_path / "sides").rglob("*") if path.parent != tmp_path / "sides"]
    sides = [str(tmp_path / "sides" / side) for side in ("real", "fake")]
    found = []
    for cache in (True, True, False):  # extracted, from the cache by its hash, extracted
        with events(tmp_path / "sides") as seen:
            found.append(images.evaluate(*sides, metrics="fd", resamples=0, workers=workers, cache=cache))
        assert seen == dict.fromkeys([*paths, *sides], 1)
    assert found[0] == found[1] == found[2]
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in sorted((tmp_path / "sides/fake").rglob("*.png"))]
    assert found[0].generated.data == hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def test_other_images_in_files_of_the_same_sizes_are_told_apart(tmp_path, monkeypatch):
    """Also where the first of them is the same, so that the cache seems to have them."""
    monkeypatch.setenv("FIDMAP_CACHE", str(tmp_path / "cache"))
    found = []
    for side, shift in (("a", 0), ("b", 9), ("c", 9)):
        (tmp_path / side).mkdir()
        for k in range(12):
            level = 10 * k + shift * (k > 0 or side == "c")
            Image.new("L", (28, 28), level).save(tmp_path / side / f"{k:02d}.bmp")
        found.append(images.evaluate(str(tmp_path / "a"), str(tmp_path / side), metrics="fd", resamples=0))
    assert len({each.generated.data for each in found}) == 3
    assert len({each.figures[0].value for each in found}) == 3


class Entry(dict):
    """A COCO entry that counts how often the value of each of its keys is asked for."""

    def __init__(self, fields):
        super().__init__(fields)
        self.asked = Counter()

    def __getitem__(self, key):
        self.asked[key] += 1
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.asked[key] += 1
        return super().get(key, default)


def test_each_key_of_each_entry_is_checked_once(tmp_path):
    write_coco(tmp_path)
    truth, found = (json.loads((tmp_path / side).read_text(), object_hook=Entry) for side in ("truth", "found"))
    read_inputs(truth, found)
    entries = [*truth["images"], *truth["categories"], *truth["annotations"], *found]
    assert {n for entry in entries for n in entry.asked.values()} == {1}
    assert set(found[0].asked) == set(found[0])
    assert set(truth["annotations"][0].asked) >= set(truth["annotations"][0])
