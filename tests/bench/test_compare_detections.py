"""``fidmap evaluate detections GT A B ...``: differences as the library has them, names, one picture, bad input."""

import json

import numpy as np
import pytest
from PIL import Image

from bench.data.scenes import scenes
from bench.errors import UsageError
from bench.evaluate.detector_comparison import compare
from bench.evaluate.labels import label_sources
from bench.tasks.metrics.detection import perturb
from metrics.detection.coco import evaluate_coco
from metrics.detection.paired import compare_detections


@pytest.fixture(scope="module")
def case():
    """Scenes, and three detectors: two that differ by much, and one that differs from the first by little."""
    truth = scenes(40, seed=1).coco
    good, bad, near = (
        perturb(truth, "jitter", 0.1),
        perturb(truth, "jitter", 0.3),
        perturb(truth, "jitter", 0.1, seed=9),
    )
    return truth, {"good": good.entries(), "bad": bad.entries(), "near": near.entries()}


@pytest.fixture
def files(tmp_path, case):
    truth, found = case
    for name, content in (("truth", truth), *found.items()):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_json_has_the_differences_and_verdicts(fidmap, files, case):
    truth, found = case
    result = fidmap(
        "evaluate", "detections", "truth.json", "good.json", "bad.json", "near.json", "--per-class", "--json"
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    told = json.loads(result.stdout)
    expected = compare_detections(truth, found)
    assert list(told["detectors"]) == ["good", "bad", "near"]
    for name, entries in found.items():
        assert told["detectors"][name]["figures"] == evaluate_coco(truth, entries).figures
    of_ap = {(d["detector"], d["against"]): d for d in told["differences"] if d["figure"] == "AP"}
    assert list(of_ap) == [("bad", "good"), ("near", "good")]
    for pair, row in of_ap.items():
        each = expected.figures[pair]["AP"]
        assert (row["difference"], tuple(row["interval"]), row["p_value"]) == each[:3]
        assert row["verdict"] == each.verdict(pair, "higher")
    assert of_ap["bad", "good"]["verdict"] == "good is better"
    by_class = {(d["detector"], d["id"]): d["difference"] for d in told["classes"]}
    assert by_class == {(b, id): d.mean for (b, _), of in expected.classes.items() for id, d in of.items()}


def test_tables_one_picture_names_and_all_pairs(fidmap, files):
    result = fidmap(
        "evaluate", "detections", "truth.json", "good.json", "bad.json", "near.json", "--names", "v1,v2,v3",
        "--all-pairs", "--per-class", "--plots", "pictures", "--iou-thresholds", ".5,.75",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    titles = [line[3:] for line in lines if line.startswith("## ")]
    assert titles == ["COCO's figures", "Differences on the same images", "Differences in AP by class"]
    said = [line for line in lines if line.startswith("- AP: ")]
    assert [line.partition(" (")[0] for line in said] == [
        "- AP: v1 is better than v2", "- AP: v3 and v1 are not told apart", "- AP: v3 is better than v2",
    ]  # fmt: skip
    (file,) = (files / "pictures").iterdir()
    assert file.name == "precision_recall.png"
    pixels = np.asarray(Image.open(file).convert("L"))
    assert min(pixels.shape) > 300
    assert np.unique(pixels).size > 20


def test_without_truths_there_are_no_differences_and_no_picture(files, case):
    (files / "empty.json").write_text(json.dumps({**case[0], "annotations": []}))
    report = compare(files / "empty.json", [files / "good.json", files / "bad.json"], plots=files / "pictures")
    assert report.as_dict()["differences"] == []
    assert "no interval" in report.table()
    assert not (files / "pictures").exists()


def test_labels_tell_files_apart(tmp_path):
    assert label_sources(["a/one.json", "b/two.json.gz"], None) == ["one", "two"]
    assert label_sources(["a/best.json", "b/best.json"], None) == ["a/best", "b/best"]
    (tmp_path / "run.v2").mkdir()
    assert label_sources([tmp_path / "run.v2", "run.v1"], None) == ["run.v2", "run"]
    assert label_sources(["x", "x"], "old , new") == ["old", "new"]
    with pytest.raises(UsageError, match="x is given twice"):
        label_sources(["x", "x"], None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good.json", "good.json"], "good.json is given twice, or has the name of another; --names tells them apart"),
        (["good.json", "bad.json", "--names", "a"], "--names 'a': 2 different names with commas between are accepted"),
        (["good.json", "bad.json", "--names", "a,a"], "--names 'a,a': 2 different names"),
        (["good.json", "bad.json", "--names", "a,"], "--names 'a,': 2 different names"),
        (["good.json", "bad.json", "--tide"], "--tide is for one detector; 2 are compared"),
        (["good.json", "bad.json", "--resamples", "9"], "--resamples is for one detector; 2 are compared"),
        (["good.json", "bad.json", "--iou-type", "segm"], "--iou-type is for one detector"),
        (["good.json", "bad.json", "--protocol", "voc"], "2 detectors are compared with --protocol coco"),
        (["good.json", "bad.json", "--record", "kept"], "--record is for one detector"),
        (["good.json", "--all-pairs"], "--all-pairs is for several detectors; there is one"),
        (["good.json", "--names", "a"], "--names is for several detectors; there is one"),
        (["good.json", "missing.json"], "missing.json"),
        (["good.json", "truth.json", "--area-ranges", "x"], "--area-ranges 'x'"),
    ],
)
def test_bad_input_is_one_line(command, files, arguments, message):
    code, out, err = command("evaluate", "detections", "truth.json", *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
