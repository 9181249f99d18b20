"""The class numbers of YOLO's predictions against truths whose numbers may mean other classes."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from metrics.detection.coco import evaluate_coco
from metrics.detection.formats.yolo_names import read_names
from metrics.detection.formats.yolo_text import read_yolo_truth
from metrics.detection.inputs import read_inputs

NAMES = ["cat", "dog", "owl", "elk"]
BOXES = [(10, 10, 40, 40), (60, 10, 30, 30), (10, 60, 30, 30), (60, 60, 20, 30)]  # xywh, one per class of NAMES


def _coco(path, ids):
    path.write_text(json.dumps({
        "images": [{"id": "a", "width": 100, "height": 100}],
        "categories": [{"id": i, "name": name} for i, name in zip(ids, NAMES, strict=True)],
        "annotations": [
            {"id": n, "image_id": "a", "category_id": i, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, (i, box) in enumerate(zip(ids, BOXES, strict=True), 1)
        ],
    }))  # fmt: skip
    return path


def _yolo(folder, names, *, score="", listed=True):
    """A prediction or truth on each of BOXES, its class numbered as in ``names``, which classes.txt lists or not."""
    folder.mkdir(exist_ok=True, parents=True)
    lines = [
        f"{names.index(name)} {(x + w / 2) / 100} {(y + h / 2) / 100} {w / 100} {h / 100}{score}"
        for name, (x, y, w, h) in zip(NAMES, BOXES, strict=True)
    ]
    (folder / "a.txt").write_text("\n".join(lines))
    (folder / "classes.txt").unlink(missing_ok=True)
    if listed:
        (folder / "classes.txt").write_text("\n".join(names))
    return folder


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("L", (100, 100)).save(tmp_path / "images" / "a.png")
    return tmp_path / "images"


def _ap50(truth, predictions, images, tell=lambda note: None):
    return evaluate_coco(read_inputs(truth, predictions, images=images, tell=tell), None).figures["AP50"]


@pytest.mark.parametrize("ids", [[1, 2, 3, 4], [0, 2, 1, 7], [3, 2, 1, 4], ["cat", "dog", "owl", "elk"]])
def test_numbers_are_no_category_ids_without_names(tmp_path, images, ids):
    predictions = _yolo(tmp_path / "out" / "p", NAMES, score=" .9", listed=False)
    with pytest.raises(ValueError, match=r"p: YOLO numbers its classes from 0, .*classes\.txt.*is accepted"):
        _ap50(_coco(tmp_path / "t.json", ids), predictions, images)


def test_numbers_are_category_ids_where_these_count_from_0(tmp_path, images):
    predictions = _yolo(tmp_path / "out" / "p", NAMES, score=" .9", listed=False)
    assert _ap50(_coco(tmp_path / "t.json", [0, 1, 2, 3]), predictions, images) == pytest.approx(1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.integers(0, 90), min_size=4, max_size=4, unique=True),
    numbered=st.permutations([*NAMES, "extra"]),
    of_truth=st.permutations(NAMES),
)
def test_named_classes_are_matched_by_name(tmp_path, images, ids, numbered, of_truth):
    """Predictions that are all right have AP 1, whatever the order of the names on either side."""
    predictions = _yolo(tmp_path / "out" / "p", numbered, score=" .9")
    assert _ap50(_coco(tmp_path / "t.json", ids), predictions, images) == pytest.approx(1)
    assert _ap50(_yolo(tmp_path / "in" / "t", of_truth), predictions, images) == pytest.approx(1)


def test_another_spelling_keeps_its_number_and_is_told(tmp_path, images):
    predictions, told = _yolo(tmp_path / "out" / "p", NAMES, score=" .9"), []
    (predictions / "classes.txt").write_text("Cat\ndog\nowl\nelk")
    assert _ap50(_yolo(tmp_path / "in" / "t", NAMES), predictions, images, told.append) == pytest.approx(1)
    assert any("class 0 is 'Cat' here and 'cat' in the truth; classes are matched by number" in note for note in told)


def test_a_class_beyond_the_names_is_refused(tmp_path, images):
    predictions = _yolo(tmp_path / "out" / "p", NAMES, score=" .9")
    (predictions / "classes.txt").write_text("cat\ndog")
    with pytest.raises(ValueError, match=r"p: image a has class 2, which is none of the 2 of .*classes\.txt"):
        _ap50(_coco(tmp_path / "t.json", [1, 2, 3, 4]), predictions, images)


def test_a_label_file_without_its_image_names_the_option(tmp_path):
    with pytest.raises(ValueError, match=r"the folder of the images \(images=, --images\)"):
        read_yolo_truth(_yolo(tmp_path / "t", NAMES))


@pytest.mark.parametrize("names", [["cat", "dog", "cat", "elk"], ["owl", "", "cat", "1"], ["a", "b b", "b  b"]])
@pytest.mark.parametrize("file", ["classes.txt", "data.yaml"])
def test_two_classes_of_one_name_are_refused(tmp_path, names, file):
    lines = names if file == "classes.txt" else [f"names: {json.dumps(names)}"]
    (tmp_path / file).write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"{file} names class \d and class \d '.*'; one class of a name is accepted"):
        read_names(tmp_path)
