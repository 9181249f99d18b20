"""``fidmap evaluate detections``: figures as the library has them, every part and format, and errors in one line."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as masks

from bench.data.scenes import scenes
from bench.errors import UsageError
from bench.evaluate.detection_report import WIDEST, describe_intervals
from bench.evaluate.detections import evaluate
from bench.tasks.metrics.detection import perturb
from metrics.detection.calibration import evaluate_calibration
from metrics.detection.coco import evaluate_coco
from metrics.detection.confusion import confusion_matrix
from metrics.detection.operating_point import find_best_f1
from metrics.detection.tide import evaluate_tide

FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
EVERYTHING = ["--per-class", "--tide", "--confusion", "--calibration"]
PICTURES = {
    "precision_recall.png", "precision_recall_by_class.png", "tide.png", "confusion.png", "reliability.png",
}  # fmt: skip

TRUTH = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
    ],
}
FOUND = [
    {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.9},
    {"image_id": 2, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.8},
]


def write(folder, truth=TRUTH, found=FOUND):
    folder.mkdir(exist_ok=True)
    for name, content in (("truth.json", truth), ("found.json", found)):
        (folder / name).write_text(json.dumps(content))
    return folder / "truth.json", folder / "found.json"


@pytest.fixture(scope="module")
def case():
    """Scenes with crowds, and detections with errors of several kinds, scores in [0, 1]."""
    truth = scenes(25, seed=1).coco
    both = perturb(truth, "class_swap", 0.2).join(perturb(truth, "score_noise", 0.1, seed=1))
    return truth, [{**entry, "score": min(max(entry["score"], 0.0), 1.0)} for entry in both.entries()]


def test_json_holds_the_figures_and_every_part(fidmap, tmp_path, case):
    truth, found = case
    files = write(tmp_path, truth, found)
    result = fidmap("evaluate", "detections", *files, *EVERYTHING, "--score-threshold", 0.6, "--resamples", 5, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    told = json.loads(result.stdout)
    coco = evaluate_coco(truth, found)
    assert list(told)[:12] == FIGURES
    assert {name: told[name] for name in FIGURES} == coco.figures
    assert told["counts"]["detections"] == len(found)
    assert told["counts"]["truths"] + told["counts"]["crowds"] == len(truth["annotations"])
    assert told["counts"]["crowds"] > 0
    assert {row["id"]: row["AP"] for row in told["per_class"]} == coco.per_class
    assert [row["name"] for row in told["per_class"]] == [entry["name"] for entry in truth["categories"]]

    tide = evaluate_tide(truth, found)
    assert told["tide"]["costs"] == tide.costs
    assert told["tide"]["numbers"] == tide.counts
    assert told["tide"]["costs_per_class"]["3"] == tide.per_class[3]
    confusion = confusion_matrix(truth, found, score_threshold=0.6)
    assert told["confusion"]["counts"] == confusion.counts.tolist()
    assert told["confusion"]["labels"][-1] == "background"
    calibration = evaluate_calibration(truth, found)
    assert (told["calibration"]["ece"], told["calibration"]["laece"]) == (calibration.ece, calibration.laece)
    assert told["best_f1"]["f1"] == find_best_f1(truth, found).overall.f1
    assert told["at_score"] == {"threshold": 0.6, **coco.at_score(0.6)}
    assert {name: tuple(bounds) for name, bounds in told["intervals"].items()} == coco.intervals(5)


def test_tables_and_pictures(fidmap, tmp_path, case):
    truth, found = case
    result = fidmap("evaluate", "detections", *write(tmp_path, truth, found), *EVERYTHING, "--plots", "pictures")
    assert result.returncode == 0, result.stderr
    titles = [line[3:] for line in result.stdout.splitlines() if line.startswith("## ")]
    assert titles == [
        "COCO's figures", "By class", "Errors by TIDE", "Confusion: rows are truths, columns detections", "Calibration",
    ]  # fmt: skip
    for name, value in evaluate_coco(truth, found).figures.items():
        assert any(line.startswith(f"| {name} ") and f"{value:.4f}" in line for line in result.stdout.splitlines())
    assert {file.name for file in (tmp_path / "pictures").iterdir()} == PICTURES
    for file in (tmp_path / "pictures").iterdir():
        pixels = np.asarray(Image.open(file).convert("L"))
        assert min(pixels.shape) > 300
        assert np.unique(pixels).size > 20  # something is drawn


def test_only_what_was_asked_for_is_told(tmp_path):
    plain = evaluate(*write(tmp_path), plots=tmp_path / "pictures")
    assert set(plain.as_dict()) == {*FIGURES, "per_threshold", "max_detections", "area_ranges", "counts", "best_f1"}
    assert plain.table().count("## ") == 1
    for part in ("per_class", "tide", "confusion", "calibration"):
        asked = evaluate(*write(tmp_path), **{part: True})
        assert part in asked.as_dict()
        assert asked.table().count("## ") == 2


def test_confusion_is_at_the_best_f1_unless_told(tmp_path):
    files = write(tmp_path, found=[*FOUND, {**FOUND[0], "score": 0.1, "bbox": [50, 50, 9, 9]}])
    assert evaluate(*files, confusion=True).as_dict()["confusion"]["score_threshold"] == 0.9
    assert evaluate(*files, confusion=True, score_threshold=0.85).as_dict()["confusion"]["score_threshold"] == 0.85
    wrong = write(tmp_path, found=FOUND[1:])
    confusion = evaluate(*wrong, confusion=True)
    assert confusion.as_dict()["confusion"]["score_threshold"] is None  # nothing is right: of all detections
    assert "of all detections" in confusion.table()


def test_many_classes_show_the_largest_confusions(tmp_path):
    n = WIDEST + 1
    boxes = [[20 * k, 0, 10, 10] for k in range(n)]
    truth = {
        "images": [{"id": 0}],
        "categories": [{"id": k, "name": f"k{k}|" if k else "a $very$ long name\nof a class"} for k in range(n)],
        "annotations": [
            {"id": k, "image_id": 0, "category_id": k, "bbox": box, "area": 100} for k, box in enumerate(boxes)
        ],
    }
    found = [
        {"image_id": 0, "category_id": k if k else 1, "bbox": box, "score": 0.9 - k / 100}
        for k, box in enumerate(boxes)
    ]
    result = evaluate(*write(tmp_path, truth, found), confusion=True, per_class=True, plots=tmp_path / "pictures")
    text = result.table()
    assert "| a $very$ long name of a class |" in text
    assert r"k1\|" in text
    assert f"Right: {n - 1}, of another class: 1, not found: 0, nothing there: 0" in text
    assert {file.name for file in (tmp_path / "pictures").iterdir()} == PICTURES


def test_limits_have_their_names(tmp_path):
    result = evaluate(*write(tmp_path, found=[FOUND[0]] * 4), max_detections="3,1,2")
    assert [name for name in result.coco.figures if name[2:].isdigit() and name[1] == "R"] == ["AR1", "AR2", "AR3"]
    assert result.counts["beyond_max_detections"] == 1


# What is odd, but no error -------------------------------------------------------------------------------------------


def told(tmp_path, truth=TRUTH, found=FOUND):
    notes = []
    result = evaluate(*write(tmp_path, truth, found), tell=notes.append)
    return result, " ".join(notes)


def test_categories_that_are_not_listed_are_counted(tmp_path):
    result, notes = told(tmp_path, found=[*FOUND, {**FOUND[0], "category_id": 9}, {**FOUND[0], "category_id": 9}])
    assert result.counts["unlisted_category"] == 2
    assert "found.json: left out 2 detections of categories" in notes
    assert result.coco.figures == evaluate_coco(TRUTH, FOUND).figures


def test_the_id_0_is_counted_and_changes_nothing(tmp_path):
    annotations = [{**entry, "id": entry["id"] - 1} for entry in TRUTH["annotations"]]
    result, notes = told(tmp_path, {**TRUTH, "annotations": annotations})
    assert result.counts["annotation_id_0"] == 1
    assert "truth.json: annotations with the id 0: 1" in notes
    assert result.coco.figures == evaluate_coco(TRUTH, FOUND).figures


@pytest.mark.parametrize("empty", ["detections", "truths", "everything"])
def test_nothing_found_and_nothing_to_find(fidmap, tmp_path, empty):
    truth = {**TRUTH, "annotations": []} if empty != "detections" else TRUTH
    truth = {"images": [], "annotations": [], "categories": []} if empty == "everything" else truth
    found = FOUND if empty == "truths" else []
    files = write(tmp_path, truth, found)
    result = fidmap("evaluate", "detections", *files, *EVERYTHING, "--plots", "pictures", "--json")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["AP"] == (0 if empty == "detections" else -1)
    assert ("no detections" in result.stderr) == (empty != "truths")
    assert ("no truths" in result.stderr) == (empty != "detections")
    assert evaluate(*files, per_class=True, tide=True, confusion=True, calibration=True).table().count("## ") == 5


# Errors --------------------------------------------------------------------------------------------------------------


def changed(index=0, **fields):
    return [{**entry, **fields} if i == index else entry for i, entry in enumerate(FOUND)]


def without(entries, key):
    return [{k: v for k, v in entry.items() if k != key} for entry in entries]


BAD = {
    "score": (TRUTH, changed(1, score=float("nan")), ["found.json", "detections[1]", "score nan"]),
    "width": (TRUTH, changed(bbox=[0, 0, -1, 5]), ["found.json", "detections[0]", "bbox [0, 0, -1, 5]"]),
    "image": (TRUTH, changed(image_id=7), ["found.json", "detections[0]", "image_id 7"]),
    "key": (TRUTH, without(FOUND, "bbox"), ["found.json", "detections[0]", "'bbox'"]),
    "ids": (TRUTH, changed(image_id=[1]), ["found.json", "detections[0]", "image_id [1]"]),
    "results": (TRUTH, {"results": FOUND}, ["found.json", "a list of image_id"]),
    "truth's key": ({**TRUTH, "annotations": without(TRUTH["annotations"], "bbox")}, FOUND, ["truth.json", "'bbox'"]),
    "truth's part": ({"images": [], "annotations": []}, FOUND, ["truth.json", "'categories'"]),
    "truth's width": (
        {**TRUTH, "annotations": [{**TRUTH["annotations"][0], "bbox": [0, 0, -3, 1]}]}, FOUND,
        ["truth.json", "annotations[0]", "-3"],
    ),
    "truth's ids": ({**TRUTH, "images": [{"id": 1}, {"id": "2"}]}, FOUND, ["truth.json", "images[1]", "'2'"]),
    "truth": ([], FOUND, ["truth.json", "images, annotations and categories"]),
}  # fmt: skip


@pytest.mark.unchecked
@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_in_a_file_is_named(tmp_path, what):
    truth, found, says = BAD[what]
    with pytest.raises(UsageError) as error:
        evaluate(*write(tmp_path, truth, found))
    assert all(words in str(error.value) for words in says), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"iou_type": "keypoints"}, ["--iou-type", "bbox, segm"]),
        ({"iou_type": "segm", "tide": True}, ["--tide needs boxes"]),
        ({"iou_type": "segm", "score_threshold": 0.5}, ["--score-threshold needs boxes"]),
        ({"max_detections": "0,100"}, ["--max-detections '0,100'", "positive", "1,10,100"]),
        ({"iou_thresholds": "50"}, ["--iou-thresholds '50'", "(0, 1]", ".5,.75"]),
        ({"iou_thresholds": "0.5,x"}, ["--iou-thresholds", "'x'"]),
        ({"iou_thresholds": "0.6,0.6"}, ["--iou-thresholds", "distinct"]),
        ({"area_ranges": "tiny:9"}, ["--area-ranges 'tiny:9'", "no name and two numbers"]),
        ({"area_ranges": "tiny:9:4"}, ["--area-ranges", "'tiny' is (9.0, 4.0)"]),
        ({"area_ranges": "all:0:4"}, ["--area-ranges", "'all'"]),
        ({"area_ranges": "50:0:4"}, ["--area-ranges", "'50'"]),
        ({"max_detections": "1,10,x"}, ["--max-detections"]),
        ({"score_threshold": float("nan")}, ["--score-threshold nan"]),
        ({"format": "kitti"}, ["--format 'kitti'", "auto, coco, voc, yolo"]),
        ({"format": "voc"}, ["truth.json", "takes a folder"]),
    ],
)
def test_options_that_cannot_be(tmp_path, options, says):
    with pytest.raises(UsageError) as error:
        evaluate(*write(tmp_path), **options)
    assert all(words in str(error.value) for words in says), error.value


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["truth.json", "nothing.json"], ["nothing.json", "no such file"]),
        (["truth.json", "torn.json"], ["torn.json", "not JSON"]),
        (["empty", "found.json"], ["empty", "neither VOC"]),
        (["truth.json", "nan.json"], ["nan.json", "detections[0]", "score nan"]),
        (["truth.json", "sure.json", "--calibration"], ["sure.json", "score 7", "[0, 1]"]),
        (["truth.json", "found.json", "--plots", "found.json"], ["found.json"]),
        (["truth.json"], ["detections"]),
        (["truth.json", "found.json", "--score-threshold", "x"], ["--score-threshold", "number"]),
    ],
    ids=" ".join,
)
def test_errors_are_one_line_and_exit_code_2(fidmap, tmp_path, arguments, says):
    write(tmp_path)
    (tmp_path / "torn.json").write_text('[{"image_id": 1, ')
    (tmp_path / "nan.json").write_text(json.dumps(changed(score=float("nan"))))
    (tmp_path / "sure.json").write_text(json.dumps(changed(score=7)))
    (tmp_path / "empty").mkdir()
    result = fidmap("evaluate", "detections", *arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    line = result.stderr.strip()
    assert "\n" not in line
    assert all(words.lower() in line.lower() for words in says), line


# Other formats, and masks --------------------------------------------------------------------------------------------


def write_voc(folder, truth):
    names = {entry["id"]: entry["name"] for entry in truth["categories"]}
    for image in truth["images"]:
        root = ET.Element("annotation")
        for entry in truth["annotations"]:
            if entry["image_id"] == image["id"]:
                item = ET.SubElement(root, "object")
                ET.SubElement(item, "name").text = names[entry["category_id"]]
                box = ET.SubElement(item, "bndbox")
                x, y, w, h = entry["bbox"]
                for key, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + w), ("ymax", y + h)):
                    ET.SubElement(box, key).text = str(value)
        (folder / f"{image['id']:06d}.xml").write_bytes(ET.tostring(root))


def write_voc_results(folder, truth, found):
    for category in truth["categories"]:
        rows = [
            (f"{e['image_id']:06d}", e["score"], x + 1, y + 1, x + w, y + h)
            for e in found if e["category_id"] == category["id"]
            for x, y, w, h in [e["bbox"]]
        ]  # fmt: skip
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        (folder / f"comp4_det_test_{category['name']}.txt").write_text(text)


def write_yolo(folder, truth, entries):
    for image in truth["images"]:
        lines = []
        for entry in entries:
            if entry["image_id"] == image["id"]:
                x, y, w, h = entry["bbox"]
                shares = [(x + w / 2) / 640, (y + h / 2) / 480, w / 640, h / 480]
                score = [entry["score"]] if "score" in entry else []
                lines.append(" ".join(map(str, [entry["category_id"] - 1, *shares, *score])))
        (folder / f"{image['id']:06d}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("format", ["voc", "yolo"])
def test_folders_give_the_figures_of_json(fidmap, tmp_path, case, format):
    """VOC and YOLO have no crowds, and the last bits of a share of the image may differ; the figures do not."""
    truth, found = case
    truth = {**truth, "annotations": [entry for entry in truth["annotations"] if not entry["iscrowd"]]}
    left, right = tmp_path / "set" / "labels", tmp_path / "results"
    pictures = tmp_path / "set" / "images"
    for folder in (left, right, pictures):
        folder.mkdir(parents=True)
    if format == "voc":
        write_voc(left, truth)
        write_voc_results(right, truth, found)
    else:
        write_yolo(left, truth, truth["annotations"])
        write_yolo(right, truth, found)
        for image in truth["images"]:
            Image.new("L", (640, 480)).save(pictures / f"{image['id']:06d}.png")
    expected = evaluate_coco(truth, found).figures
    told = evaluate(left, right, format=format)
    assert told.coco.figures == pytest.approx(expected, abs=1e-12)
    result = fidmap("evaluate", "detections", left, right, "--json")
    assert result.returncode == 0, result.stderr
    assert {name: json.loads(result.stdout)[name] for name in FIGURES} == told.coco.figures
    with pytest.raises(UsageError, match="takes a JSON file"):
        evaluate(left, right, format="coco")
    if format == "yolo":
        moved = pictures.rename(tmp_path / "elsewhere")
        assert evaluate(left, right, images=moved).coco.figures == told.coco.figures
        with pytest.raises(UsageError, match=r"000000\.txt has no image"):
            evaluate(left, right)
    else:
        with pytest.raises(UsageError, match="images= is for YOLO"):
            evaluate(left, right, images=pictures)


def test_masks_give_the_figures(fidmap, tmp_path):
    """Boxes as masks: polygons of the truths, RLE of the detections, as COCO has them."""

    def encoded(box):
        x, y, w, h = box
        picture = np.zeros((40, 40), np.uint8, order="F")
        picture[y : y + h, x : x + w] = 1
        return {"size": [40, 40], "counts": masks.encode(picture)["counts"].decode()}

    def outline(box):
        x, y, w, h = box
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]

    annotations = [{**entry, "segmentation": outline(entry["bbox"])} for entry in TRUTH["annotations"]]
    truth = {**TRUTH, "images": [{"id": i, "height": 40, "width": 40} for i in (1, 2)], "annotations": annotations}
    found = [{**entry, "segmentation": encoded(entry["bbox"])} for entry in FOUND]
    result = fidmap("evaluate", "detections", *write(tmp_path, truth, found), "--iou-type", "segm", "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert [told[name] for name in FIGURES] == pytest.approx(list(evaluate_coco(TRUTH, FOUND).figures.values()))
    by_class = evaluate(*write(tmp_path, truth, found), iou_type="segm", per_class=True).as_dict()["per_class"]
    assert [row["AP"] for row in by_class] == pytest.approx([1, 0])
    found[0]["segmentation"] = {"size": [1], "counts": 3}
    with pytest.raises(UsageError, match=r"found\.json: detections\[0\] has a bad segmentation: its RLE"):
        evaluate(*write(tmp_path, truth, found), iou_type="segm")


# One's own parameters ------------------------------------------------------------------------------------------------


def test_own_parameters_reach_every_part(fidmap, tmp_path, case):
    truth, found = case
    options = ["--iou-thresholds", ".6,.3", "--area-ranges", "tiny:0:900,rest:900:inf", "--max-detections", "1"]
    files = write(tmp_path, truth, found)
    result = fidmap("evaluate", "detections", *files, *EVERYTHING, *options, "--plots", "pictures", "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    own = {"iou_thresholds": (0.3, 0.6), "area_ranges": {"tiny": (0.0, 900.0), "rest": (900.0, float("inf"))}}
    coco = evaluate_coco(truth, found, **own, max_detections=1)
    names = ["AP", "APtiny", "APrest", "AR1", "ARtiny", "ARrest"]
    assert {name: told[name] for name in names} == coco.figures
    assert told["per_threshold"] == {"0.3": coco.per_threshold[0.3], "0.6": coco.per_threshold[0.6]}
    assert told["area_ranges"] == {"all": [0, 1e10], "tiny": [0, 900], "rest": [900, None]}
    assert told["max_detections"] == [1]
    assert told["tide"]["iou"] == told["confusion"]["iou"] == told["calibration"]["iou"] == 0.3
    assert told["best_f1"]["f1"] == find_best_f1(truth, found, iou_threshold=0.3, max_detections=1).overall.f1
    text = evaluate(*files, iou_thresholds="0.3,0.6", area_ranges="tiny:0:900", per_class=True).table()
    assert "mean over IoU 0.3, 0.6 and classes" in text
    assert "area of 0 to 900 pixels" in text
    assert "Best F1 at IoU 0.3" in text
    assert {file.name for file in (tmp_path / "pictures").iterdir()} == PICTURES


def test_class_agnostic_evaluation_of_the_command(fidmap, tmp_path, case):
    truth, found = case
    found = [*found, {**found[0], "category_id": 77, "score": 0.99}]
    result = fidmap("evaluate", "detections", *write(tmp_path, truth, found), *EVERYTHING, "--class-agnostic", "--json")
    told = json.loads(result.stdout)
    coco = evaluate_coco(truth, found, class_agnostic=True)
    assert {name: told[name] for name in FIGURES} == coco.figures
    assert [row["id"] for row in told["per_class"]] == ["all"]
    assert told["tide"]["numbers"]["classification"] == 0
    assert told["confusion"]["labels"] == ["all classes", "background"]
    assert told["counts"]["unlisted_category"] == 1


@pytest.mark.parametrize("area", [-4.0, 2.5e10])
def test_truths_that_no_figure_counts_are_told(tmp_path, area):
    annotations = [TRUTH["annotations"][0], {**TRUTH["annotations"][1], "area": area}]
    result, notes = told(tmp_path, {**TRUTH, "annotations": annotations})
    assert (result.counts["truths"], result.counts["area_out_of_range"]) == (1, 1)
    assert "truths whose area is below 0 or above 1e10: 1" in notes


@pytest.mark.parametrize("images", [1, 29, 30, 31, 49, 50, 51, 64, 80, 99])
def test_intervals_of_few_images_say_how_often_they_hold(images):
    said = describe_intervals(images)
    assert f"from these {images};" in said
    assert f"94% to 96% of intervals from {50 if images >= 50 else 30} images held them" in said
    assert (", of fewer less" in said) == (images < 30)


@pytest.mark.parametrize("images", [100, 101, 250, 5000, 40504])
def test_intervals_of_many_images_say_of_what_they_are(images):
    assert describe_intervals(images).endswith(f"very many such images would give, from these {images}")
