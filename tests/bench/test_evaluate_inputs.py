"""Inputs that outside trials of ``fidmap evaluate detections`` misread: one truth of two found, or an error."""

from __future__ import annotations

import copy
import gzip
import json

import pytest
from PIL import Image

from bench.errors import UsageError
from bench.evaluate.detections import evaluate

HALF = 51 / 101  # precision 1 at the recalls 0, .01, ..., .5
LABEL, GUESS = "0 .5 .5 .2 .2\n", "0 .5 .5 .2 .2 .9\n"
OBJECT = (
    "<object><name>x</name>{}<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>30</ymax></bndbox></object>"
)
PLAIN = f"<annotation>{OBJECT.format('')}</annotation>"
TRUTH = {
    "images": [{"id": i, "file_name": f"p/{i}.jpg", "height": 40, "width": 40} for i in (1, 2)],
    "categories": [{"id": 1, "name": "x"}],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0} for i in (1, 2)
    ],
}
FOUND = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.9}]


def yolo(folder, labels, guesses, images=("a",), suffix=".png"):
    for name in ("labels", "images", "found"):
        (folder / name).mkdir()
    for name in images:
        Image.new("L", (100, 100)).save(folder / "images" / f"{name}{suffix}")
    for place, files in (("labels", labels), ("found", guesses)):
        for name, text in files.items():
            (folder / place / f"{name}.txt").write_text(text)
    return folder / "labels", folder / "found"


def voc(folder, second, results="a .9 11 11 30 30\n"):
    (folder / "truth").mkdir()
    (folder / "found").mkdir()
    for name, text in (("a", PLAIN), ("b", second)):
        (folder / "truth" / f"{name}.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "found" / "comp4_det_test_x.txt").write_text(results)
    return folder / "truth", folder / "found"


def coco(folder, truth=TRUTH, found=FOUND, name="found.json", pack=lambda data: data):
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / name).write_bytes(pack(json.dumps(found).encode()))
    return folder / "truth.json", folder / name


def truth(**changed):
    dataset = copy.deepcopy(TRUTH)
    dataset["annotations"][1] |= changed
    return dataset


def found(**changed):
    return [FOUND[0] | changed]


def bare(key):
    return TRUTH | {"annotations": [{k: v for k, v in e.items() if k != key} for e in TRUTH["annotations"]]}


RIGHT = {
    "a background image": (
        lambda p: yolo(p, {"a": LABEL}, {"a": GUESS[:-2] + "8", "b": GUESS}, ("a", "b")),
        0.5,
        "background",
    ),
    "JPG": (lambda p: yolo(p, {"a": LABEL}, {"a": GUESS}, suffix=".JPG"), 1, ""),
    "polygon": (lambda p: yolo(p, {"a": "0 .4 .4 .6 .4 .6 .6 .4 .6\n"}, {"a": GUESS}), 1, "polygons: 1"),
    "mark": (lambda p: yolo(p, {"a": "\ufeff" + LABEL}, {"a": GUESS}), 1, ""),
    "difficult": (
        lambda p: voc(p, f"<annotation>{OBJECT.format('<difficult>1</difficult>')}</annotation>"),
        HALF,
        "difficult: 1",
    ),
    "gzip": (lambda p: coco(p, name="found.json.gz", pack=gzip.compress), HALF, ""),
    "lines": (lambda p: coco(p, name="found.jsonl", pack=lambda data: data[1:-1]), HALF, ""),
    "annotations": (lambda p: coco(p, found={"annotations": FOUND}), HALF, ""),
    "no area": (lambda p: coco(p, bare("area")), HALF, "without an area: 2"),
    "ignore": (lambda p: coco(p, truth(ignore=1)), HALF, "ignore: 1"),
    "LVIS": (
        lambda p: coco(p, TRUTH | {"images": [e | {"neg_category_ids": [1]} for e in TRUTH["images"]]}),
        HALF,
        "LVIS",
    ),
    "file name": (lambda p: coco(p, found=found(image_id="p/1.jpg")), HALF, "names for image_id"),
}


@pytest.mark.parametrize("what", RIGHT)
def test_what_is_read_now(tmp_path, what):
    make, expected, note = RIGHT[what]
    notes = []
    result = evaluate(*make(tmp_path), tell=notes.append)
    assert result.coco.figures["AP50"] == pytest.approx(expected, abs=1e-9)
    assert [note in told for told in notes] == ([True] if note else [])


LONG = int("9" * 401)
REFUSED = {
    "pixels": (lambda p: yolo(p, {"a": "0 50 50 20 20\n"}, {"a": GUESS}), "labels/a.txt: line 1 has cx 50; a share"),
    "found in pixels": (lambda p: yolo(p, {"a": LABEL}, {"a": "0 50 50 20 20 .9\n"}), "found/a.txt: line 1 has cx 50"),
    "score second": (lambda p: yolo(p, {"a": LABEL}, {"a": "0 .9 .5 .5 .2 .2\n"}), "read as class score cx cy w h"),
    "w 128": (lambda p: yolo(p, {"a": LABEL}, {"a": "0 .5 .5 128 .2 .9\n"}), "found/a.txt: line 1 has w 128"),
    "score 90": (lambda p: yolo(p, {"a": LABEL}, {"a": "0 .5 .5 .2 .2 90\n"}), "found/a.txt: line 1 has score 90"),
    "wrapped root": (lambda p: voc(p, f"<data>{PLAIN}</data>"), "b.xml has the root <data>"),
    "namespace": (
        lambda p: voc(p, f"<v:annotation xmlns:v='u'>{OBJECT.format('')}</v:annotation>"), "b.xml has the root <v:",
    ),
    "another tool": (lambda p: voc(p, "<annotations><image/></annotations>"), "b.xml has the root <annotations>"),
    "encoding": (lambda p: voc(p, "<?xml version='1.0' encoding='nope'?>" + PLAIN), "b.xml is not XML of VOC: unknown"),
    "gbk": (lambda p: voc(p, "<?xml version='1.0' encoding='gbk'?>" + PLAIN), "b.xml is not XML of VOC: multi-byte"),
    "iscrowd": (lambda p: coco(p, truth(iscrowd="0")), "truth.json: annotations[1] has iscrowd '0'; 0 or 1"),
    "iscrowd null": (lambda p: coco(p, truth(iscrowd=None)), "truth.json: annotations[1] has iscrowd None"),
    "area text": (lambda p: coco(p, truth(area="100")), "truth.json: annotations[1] has area '100'"),
    "score text": (lambda p: coco(p, found=found(score="0.9")), "found.json: detections[0] has score '0.9'"),
    "score null": (lambda p: coco(p, found=found(score=None)), "found.json: detections[0] has score None"),
    "score true": (lambda p: coco(p, found=found(score=True)), "found.json: detections[0] has score True"),
    "score infinite": (lambda p: coco(p, found=found(score=float("inf"))), "found.json: detections[0] has score inf"),
    "score of 401 digits": (lambda p: coco(p, found=found(score=LONG)), "found.json: detections[0] has score 999"),
    "side of 401 digits": (lambda p: coco(p, found=found(bbox=[0, 0, 9, LONG])), "found.json: detections[0] has bbox"),
    "bbox text": (lambda p: coco(p, found=found(bbox="0123")), "found.json: detections[0] has bbox '0123'"),
    "bbox true": (lambda p: coco(p, found=found(bbox=[True, 0, 9, 9])), "found.json: detections[0] has bbox [True"),
    "category text": (lambda p: coco(p, found=found(category_id="1")), "detections[0] has category_id '1', a text"),
    "image text": (lambda p: coco(p, found=found(image_id="1")), "found.json: detections[0] has image_id '1', a text"),
    "image twice": (
        lambda p: coco(p, TRUTH | {"images": [*TRUTH["images"], {"id": 1}]}), "images[2] has id 1, as images[0]",
    ),
    "category twice": (
        lambda p: coco(p, TRUTH | {"categories": [*TRUTH["categories"], {"id": 1}]}), "categories[1] has id 1",
    ),
}  # fmt: skip


@pytest.mark.unchecked
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_now(tmp_path, what):
    make, says = REFUSED[what]
    with pytest.raises(UsageError) as error:
        evaluate(*make(tmp_path))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.unchecked
def test_masks(tmp_path):
    outline = [[0, 0, 10, 0, 10, 10, 0, 10]]
    annotations = [e | {"segmentation": outline} for e in TRUTH["annotations"]]
    masked = TRUTH | {"annotations": annotations}
    bad = found(segmentation={"size": [40, 40], "counts": "zz9"})
    with pytest.raises(UsageError, match=r"found.json: detections\[0\] has a bad segmentation"):
        evaluate(*coco(tmp_path, masked, bad), iou_type="segm")
    sizeless = masked | {"images": [{"id": 1}, {"id": 2}]}
    with pytest.raises(UsageError, match=r"truth.json: images\[0\] has no 'height'"):
        evaluate(*coco(tmp_path, sizeless, found(segmentation=outline)), iou_type="segm")
    result = evaluate(*coco(tmp_path, masked, found(segmentation=outline)), iou_type="segm")
    assert result.coco.figures["AP50"] == pytest.approx(HALF)


def test_the_library_warns(tmp_path):
    """What the command says on stderr is a warning to those who call."""
    from metrics.detection.coco import evaluate_coco

    with pytest.warns(UserWarning, match=r"truth.json: annotations without an area: 2"):
        evaluate_coco(*coco(tmp_path, bare("area")))
