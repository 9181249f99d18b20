"""VOC's average precision by hand and against a loop of the development kit's rules; the three file formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data.detections_at_scale import detections_at_scale
from metrics.detection.coco import evaluate_coco
from metrics.detection.formats.voc_xml import read_voc_detections, read_voc_truth
from metrics.detection.formats.yolo_text import read_yolo_detections, read_yolo_truth
from metrics.detection.voc import evaluate_voc


def side(*rows, scores=None):
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float64).reshape(-1, 4)
    labels = torch.ones(len(rows), dtype=torch.long)
    return [{"boxes": boxes, "labels": labels} | ({"scores": torch.tensor(scores)} if scores is not None else {})]


TWO = [(0, 0, 10, 10), (50, 0, 60, 10)]
FAR = (200, 0, 210, 10)


def test_by_hand():
    """True, false, true over two truths: 1 up to recall 1/2, 2/3 beyond; six of the eleven recalls are up to it."""
    found = side(TWO[0], FAR, TWO[1], scores=[0.9, 0.8, 0.7])
    assert evaluate_voc(side(*TWO), found).map == pytest.approx((1 + 2 / 3) / 2)
    assert evaluate_voc(side(*TWO), found, points="11").map == pytest.approx((6 + 5 * 2 / 3) / 11)
    recall, precision = evaluate_voc(side(*TWO), found).curves[1]
    assert (recall.tolist(), precision.tolist()) == ([0.5, 0.5, 1], [1, 0.5, 2 / 3])


def test_a_duplicate_is_false():
    found = side(TWO[0], TWO[0], TWO[1], scores=[0.9, 0.8, 0.7])
    assert evaluate_voc(side(*TWO), found).map == pytest.approx((1 + 2 / 3) / 2)


def test_the_threshold_is_inclusive():
    half = side((0, 0, 5, 10), scores=[1.0])
    assert evaluate_voc(side(TWO[0]), half).map == 1
    assert evaluate_voc(side(TWO[0]), half, iou=0.51).map == 0


def test_the_most_overlapped_truth_is_asked_even_if_it_is_taken():
    """Where COCO goes on to the next free truth, VOC counts a duplicate."""
    truth = side((0, 0, 10, 10), (2, 0, 12, 10))
    found = side((0, 0, 10, 10), (0.9, 0, 10.9, 10), scores=[0.9, 0.8])
    assert evaluate_voc(truth, found).map == 0.5
    assert evaluate_coco(truth, found).figures["AP50"] == pytest.approx(1)


def voc_dataset(boxes, difficult):
    annotations = [
        {"id": i, "image_id": 0, "category_id": 1, "bbox": b, "area": b[2] * b[3], "difficult": d}
        for i, (b, d) in enumerate(zip(boxes, difficult, strict=True))
    ]
    return {"images": [{"id": 0}], "categories": [{"id": 1}], "annotations": annotations}


def test_difficult_truths_are_left_out():
    truth = voc_dataset([[0, 0, 10, 10], [50, 0, 10, 10]], [0, 1])
    both = side(TWO[1], TWO[1], TWO[0], scores=[0.9, 0.8, 0.7])
    assert evaluate_voc(truth, (np.zeros(3), *(both[0][k] for k in ("boxes", "labels", "scores")))).map == 1
    assert np.isnan(evaluate_voc(voc_dataset([[0, 0, 9, 9]], [1]), []).map)


def kit(truth, found, category, points):
    """``VOCevaldet``'s loop on boxes whose ends are inside."""
    gts = [(i, b, d) for i, b, c, d in truth if c == category]
    npos = sum(not d for *_, d in gts)
    dets = sorted((x for x in found if x[2] == category), key=lambda x: -x[3])
    taken, tp, fp = set(), [], []
    for image, (x1, y1, x2, y2), _, _ in dets:
        best, at = -np.inf, None
        for j, (i, (u1, v1, u2, v2), _) in enumerate(gts):
            w, h = min(x2, u2) - max(x1, u1) + 1, min(y2, v2) - max(y1, v1) + 1
            if i == image and w > 0 and h > 0:
                union = (x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1) - w * h
                if w * h / union > best:
                    best, at = w * h / union, j
        right = best >= 0.5 and not gts[at][2] and at not in taken
        left = best >= 0.5 and gts[at][2]
        tp.append(right)
        fp.append(not right and not left)
        taken |= {at} if right else set()
    tp, fp = np.cumsum(tp), np.cumsum(fp)
    rec, prec = tp / npos, tp / np.maximum(tp + fp, 1)
    if points == "11":
        return sum(prec[rec >= t / 10].max(initial=0) for t in range(11)) / 11
    mrec, mpre = np.r_[0, rec, 1], np.r_[0, prec, 0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    i = np.flatnonzero(mrec[1:] != mrec[:-1]) + 1
    return ((mrec[i] - mrec[i - 1]) * mpre[i]).sum()


def write_voc(folder, truth, found, images):
    """The folders of a random case in VOC's formats."""
    for name in images:
        objects = "".join(
            f"<object><name>{c}</name><difficult>{int(d)}</difficult><part><name>head</name></part><bndbox>"
            f"<xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
            for i, b, c, d in truth
            if i == name
        )
        text = f"<annotation><size><width>500</width><height>400</height></size>{objects}</annotation>"
        (folder / "truth" / f"{name}.xml").write_text(text)
    for category in {c for _, _, c, _ in found}:
        lines = [f"{i} {s!r} {b[0]} {b[1]} {b[2]} {b[3]}" for i, b, c, s in found if c == category]
        (folder / "found" / f"comp4_det_test_{category}.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("points", ["all", "11"])
@pytest.mark.parametrize("seed", range(5))
def test_files_equal_a_loop_of_the_kit(tmp_path, seed, points):
    rng = np.random.default_rng(seed)
    images, names = [f"{i:06d}" for i in range(4)], ["cat", "dining_table"]

    def boxes(n):
        corner = rng.integers(1, 60, (n, 2))
        return np.c_[corner, corner + rng.integers(5, 60, (n, 2))].tolist()

    truth = [(str(rng.choice(images)), b, str(rng.choice(names)), bool(rng.random() < 0.2)) for b in boxes(30)]
    shifted = [(i, (np.array(b) + rng.integers(-3, 4)).tolist(), c) for i, b, c, _ in truth * 2]
    other = [(str(rng.choice(images)), b, str(rng.choice(names))) for b in boxes(30)]
    found = [(*x, float(rng.random())) for x in shifted + other]
    (tmp_path / "truth").mkdir()
    (tmp_path / "found").mkdir()
    write_voc(tmp_path, truth, found, images)
    result = evaluate_voc(tmp_path / "truth", tmp_path / "found", points=points)
    expected = {c: kit(truth, found, c, points) for c in names}
    assert result.per_class == pytest.approx(expected, abs=1e-12)
    assert result.map == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
    assert 0.1 < result.map < 0.95


XML = (
    "<annotation><object><name>a</name><bndbox>"
    "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>{}</ymax>"
    "</bndbox></object></annotation>"
)


def test_a_pixel_of_voc_is_a_pixel(tmp_path):
    (tmp_path / "one.xml").write_text(XML.format(2))
    (tmp_path / "none.xml").write_text("<annotation/>")
    dataset = read_voc_truth(tmp_path)
    assert dataset["annotations"][0]["bbox"] == [0, 1, 3, 1]
    assert [image["id"] for image in dataset["images"]] == ["none", "one"]
    assert dataset["categories"] == [{"id": "a", "name": "a"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (XML.format(1), r"one.xml: object\[0\] has the box"),
        (XML.format("two"), r"one.xml: object\[0\] has ymax 'two', which is not a finite number"),
        (XML.format("inf"), r"ymax 'inf'"),
        ("<annotation><object><name>a</name></object></annotation>", r"object\[0\] \(a\) has no bndbox"),
        ("<annotation><object><bndbox/></object></annotation>", r"object\[0\] has no name"),
        ("<annotation><object><name>a</name><bndbox/></object></annotation>", "has no bndbox/xmin"),
        ("<annotation><object>", "one.xml is not XML of VOC"),
        ('<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>', "one.xml is not XML of VOC: it declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/hostname"><a/>', "declares a document type"),
    ],
)
def test_bad_xml_is_named(tmp_path, text, message):
    (tmp_path / "one.xml").write_text(text)
    with pytest.raises(ValueError, match=message):
        evaluate_voc(tmp_path, [])


def test_bad_result_files_are_named(tmp_path):
    path = tmp_path / "comp3_det_val_a.txt"
    for text, message in (
        ("one .5 1 2 3", "line 1 has 5 words"),
        ("one .5 1 2 3 4\n\none nan 1 2 3 4", "line 3 has score 'nan'"),
        ("one .5 9 2 3 4", "has the box"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_voc_detections(tmp_path)
    for read in (read_voc_truth, read_voc_detections, read_yolo_truth, read_yolo_detections):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="empty holds no"):
            read(tmp_path / "empty")
    with pytest.raises(ValueError, match="empty holds neither"):
        evaluate_coco(tmp_path / "empty", [])


def write_yolo(folder, case, which):
    folder.mkdir(parents=True)
    size = np.array([640, 480, 640, 480])
    for i in range(case.n_images):
        at = case.image[which] == i
        box = np.c_[case.box[which][at, :2] + case.box[which][at, 2:] / 2, case.box[which][at, 2:]] / size
        scores = case.score[at] if which else [None] * at.sum()
        lines = [
            " ".join(map(repr, [int(k), *b, *([float(s)] if which else [])]))
            for k, b, s in zip(case.label[which][at], box.tolist(), scores, strict=True)
        ]
        (folder / f"{i:03d}.txt").write_text("\n".join(lines))


def test_yolo_folders_equal_tensors(tmp_path):
    """Sizes of the images beside the labels; the shares of powers of two pixels are rounded by less than matters."""
    case = detections_at_scale(images=12, truths=80, detections=500, classes=3, seed=4)
    write_yolo(tmp_path / "labels" / "val", case, 0)
    write_yolo(tmp_path / "found", case, 1)
    (tmp_path / "images" / "val").mkdir(parents=True)
    for i in range(12):
        Image.new("L", (640, 480)).save(tmp_path / "images" / "val" / f"{i:03d}.png")
    (tmp_path / "labels" / "classes.txt").write_text("shirt\nankle boot\nbag\n")
    expected = evaluate_coco(case.targets, case.outputs)
    detections = read_yolo_detections(tmp_path / "found", images=tmp_path / "images" / "val")
    result = evaluate_coco(tmp_path / "labels" / "val", detections)
    assert result.figures == pytest.approx(expected.figures, abs=1e-9)
    assert result.names == {0: "shirt", 1: "ankle boot", 2: "bag"}
    assert detections == read_yolo_detections(tmp_path / "found", size=(480, 640))
    by_size = read_yolo_truth(tmp_path / "labels" / "val", size=(480, 640))
    assert evaluate_voc(by_size, detections).map == pytest.approx(
        evaluate_voc(case.targets, case.outputs).map, abs=1e-9
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 .5 .5 .1", "one.txt: line 2 has 4 columns; class cx cy w h is accepted"),
        ("0 .5 .5 .1 .1 .9", "line 2 has 6 columns"),
        ("0 .5 .5 -.1 .1", "line 2 has w -0.1, h 0.1; neither may be negative"),
        ("0 .5 nan .1 .1", "line 2 has cy 'nan'"),
        ("dog .5 .5 .1 .1", "line 2 has class 'dog'"),
        ("1.5 .5 .5 .1 .1", "line 2 has class '1.5'; a whole number"),
    ],
)
def test_bad_yolo_lines_are_named(tmp_path, line, message):
    (tmp_path / "one.txt").write_text(f"0 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_yolo_truth(tmp_path, size=(10, 10))


def test_yolo_needs_the_size_of_an_image(tmp_path):
    (tmp_path / "one.txt").write_text("0 .5 .5 .1 .1\n")
    with pytest.raises(ValueError, match=r"one.txt has no image one.\* in .*; .*images=, --images"):
        read_yolo_truth(tmp_path)
    (tmp_path / "one.png").write_bytes(b"\x89PNG torn")
    with pytest.raises(ValueError, match=r"one.png is no image"):
        read_yolo_truth(tmp_path)
    (tmp_path / "one.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"one.txt is not text"):
        read_yolo_truth(tmp_path, size=(10, 10))


@pytest.mark.unchecked
def test_bad_options():
    for options, message in (({"iou": 0.0}, "iou 0.0 is not in"), ({"points": "101"}, "points '101' is not one of")):
        with pytest.raises(ValueError, match=message):
            evaluate_voc(side(*TWO), side(TWO[0], scores=[1.0]), **options)
