"""`--record`: an evaluation becomes a record with the figures that the command prints, which compare judges."""

import json

import numpy as np
import pytest

from bench.records.store import Store
from tests.bench.test_merge import content

BOXES = [[10 * i, 5, 40, 50] for i in range(1, 7)]


@pytest.fixture
def files(tmp_path):
    """A truth of six images, detections that are right, slightly wrong and wrong; and features of images."""
    truth = {
        "images": [{"id": i, "width": 200, "height": 100} for i in range(6)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": box, "area": 2000, "iscrowd": 0}
            for i, box in enumerate(BOXES)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for name, shift, last in (("right", 0, 0), ("near", 0.001, 0), ("wrong", 4, 30)):
        found = [
            {"image_id": i, "category_id": 1, "bbox": [x + (last if i == 5 else shift), *rest], "score": 0.5 + i / 20}
            for i, (x, *rest) in enumerate(BOXES)
        ]
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.json").write_text(json.dumps(found))
    truth["annotations"][0]["bbox"] = [0, 0, 40, 50]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "truth.json").write_text(json.dumps(truth))
    draws = np.random.default_rng(0)
    for name, shift in (("real", 0.0), ("fake", 0.1), ("worse", 0.5)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "features.npy", draws.normal(shift, size=(60, 4)))
    return tmp_path


def test_a_record_holds_the_figures_that_are_printed(files, command):
    arguments = ("evaluate", "detections", "truth.json", "wrong/mine.json")
    for options, names in (((), {"AP", "AP50", "AR100", "APs"}), (("--protocol", "voc"), {"mAP", "mAP11"})):
        code, printed, said = command(*arguments, *options, "--json", "--record", "store")
        assert code == 0, said
        record = Store(files / "store").records()[-1]
        shown = json.loads(printed)
        assert names <= {measure.name for measure in record.measures}
        assert all(measure.value == shown[measure.name] for measure in record.measures)
        assert (record.cell.task, record.cell.entry, record.cell.suite) == ("evaluate_detections", "mine", "evaluate")
        assert {measure.direction for measure in record.measures} == {"higher"}
    assert len(Store(files / "store").records()) == 2  # of two protocols
    _, table, _ = command("table", "--out", "store")
    assert "evaluate_detections" in table
    assert command("import", "store", "--out", "merged")[0] == 0
    assert command("compare", "store", "merged")[0] == 0


def test_a_detector_is_held_against_an_earlier_version_of_itself(files, command):
    for name in ("right", "near", "wrong"):
        command("evaluate", "detections", "truth.json", f"{name}/mine.json", "--record", f"runs/{name}")
    command("evaluate", "detections", "elsewhere/truth.json", "right/mine.json", "--record", "runs/other")
    ends = {name: command("compare", "runs/right", f"runs/{name}") for name in ("right", "near", "wrong", "other")}
    assert [code for code, _, _ in ends.values()] == [0, 0, 1, 1]
    assert "worse        evaluate_detections/mine" in ends["wrong"][1]
    assert "incomparable" in ends["other"][1]
    assert "reference differs" in ends["other"][1]
    # Into one folder, a new evaluation of the same files takes the place of the earlier one.
    command("evaluate", "detections", "truth.json", "wrong/mine.json", "--record", "runs/right")
    (record,) = Store(files / "runs" / "right").records()
    assert record.measure("AP").value < 1


def test_images_are_held_against_an_earlier_version_of_themselves(files, command):
    """Of features, for which no network is loaded."""
    for name in ("fake", "worse"):
        code, printed, said = command(
            "evaluate", "images", "real/features.npy", f"{name}/features.npy", "--metrics", "fd,kid",
            "--resamples", "5", "--json", "--record", f"runs/{name}",
        )  # fmt: skip
        assert code == 0, said
        (record,) = Store(files / "runs" / name).records()
        shown = {figure["name"]: figure for figure in json.loads(printed)["figures"]}
        assert {measure.name: measure.value for measure in record.measures} == {k: v["value"] for k, v in shown.items()}
        assert [list(m.interval) if m.interval else None for m in record.measures] == [
            v["interval"] for v in shown.values()
        ]
    assert command("compare", "runs/fake", "runs/fake")[0] == 0
    code, printed, _ = command("compare", "runs/fake", "runs/worse")
    assert code == 1
    assert printed.count("worse        evaluate_images/features") == 2


def test_evaluations_kept_at_the_same_time_are_all_there(files, command, monkeypatch):
    """Before each file that one of them writes, another one begins and ends."""
    names = [f"detector{number}" for number in range(5)]
    for name in names:
        (files / f"{name}.json").write_bytes((files / "right" / "mine.json").read_bytes())
    waiting, kept = iter(names), []
    put = Store.put

    def keep():
        if name := next(waiting, None):
            assert command("evaluate", "detections", "truth.json", f"{name}.json", "--record", "store")[0] == 0
            kept.append(name)

    def put_last(store, *arguments):
        with monkeypatch.context() as plain:
            plain.setattr(Store, "put", put)
            keep()
        put(store, *arguments)

    monkeypatch.setattr(Store, "put", put_last)
    keep()
    assert len(kept) > 2
    assert {record.cell.entry for record in Store(files / "store").records()} == set(kept)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["detections", "truth.json", "right/mine.json", "--record", "truth.json"], "truth.json is a file"),
        (["images", "real/features.npy", "fake/features.npy", "--record", "truth.json"], "truth.json is a file"),
        (["detections", "truth.json", "nothing.json", "--record", "store"], "nothing.json"),
        (["detections", "truth.json", "right/mine.json", "--record"], "--record"),
    ],
    ids=str,
)
def test_errors_of_use_are_one_line_and_nothing_is_written(files, command, arguments, says):
    before = content(files)
    code, printed, said = command("evaluate", *arguments)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert says in said
    assert content(files) == before
