"""``fidmap evaluate images REAL A B ...``: differences as the library has them, floors in words, numbers, bad input."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import fashion_mnist
from bench.evaluate.image_comparison import compare
from bench.evaluate.images import evaluate
from metrics.samples.frechet import frechet_distance_from_features
from metrics.samples.kernel import kid
from metrics.samples.paired import compare_samples


def draw(shift, n=120, seed=0):
    return shift + np.random.default_rng(seed).standard_normal((n, 3))


@pytest.fixture
def files(tmp_path):
    sets = {"real": draw(0), "good": draw(0.2, seed=1), "bad": draw(1.0, seed=2), "near": draw(0.2, seed=3)}
    for name, rows in (
        sets | {"more": draw(0.2, n=150, seed=4), "few": draw(0, n=20), "wide": np.zeros((50, 4))}
    ).items():
        np.save(tmp_path / f"{name}.npy", rows)
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    return tmp_path


def test_json_has_the_differences_verdicts_and_floors(fidmap, files):
    names = ("real", "good", "bad", "near")
    real, *others = (torch.from_numpy(np.load(files / f"{name}.npy")) for name in names)
    result = fidmap("evaluate", "images", *(f"{name}.npy" for name in names), "--metrics", "fd,kid", "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    sets = dict(zip(names[1:], others, strict=True))
    rows = {(d["figure"], d["set"], d["against"]): d for d in told["differences"]}
    for figure, function in (("fd", frechet_distance_from_features), ("kid", kid)):
        for pair, each in compare_samples(function, real, sets).items():
            row = rows.pop((figure, *pair))
            assert (row["difference"], tuple(row["interval"]), row["p_value"]) == each[:3]
            assert row["verdict"] == each.verdict(pair, "lower")
            assert row["verdict"] == ("good is better" if pair[0] == "bad" else "not told apart")
    assert not rows
    for name, rows_of_set in sets.items():
        fd = told["sets"][name]["figures"][0]
        assert fd["value"] == frechet_distance_from_features(real, rows_of_set)
        assert fd["against_floor"] == ("above the floor" if name == "bad" else fd["against_floor"])
        assert fd["floor"]["n"] == [120, 120]


def test_tables_say_it_in_words(fidmap, files):
    result = fidmap(
        "evaluate", "images", "real.npy", "good.npy", "bad.npy", "near.npy", "--metrics", "kid", "--names", "v1,v2,v3",
        "--all-pairs",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    said = [line[2:].partition(" (")[0] for line in result.stdout.splitlines() if line.startswith("- kid: ")]
    assert said == ["kid: v1 is better than v2", "kid: v3 and v1 are not told apart", "kid: v3 is better than v2"]
    assert "against the floor" in result.stdout
    assert "above the floor" in result.stdout


def test_unequal_numbers_leave_out_what_depends_on_them(files):
    report = compare(*[str(files / "real.npy"), [str(files / f"{name}.npy") for name in ("good", "more")]])
    assert {each.figure for each in report.differences} == {"kid"}
    (note,) = [note for note in report.notes if note.startswith("fd: ")]
    assert note == "fd: no differences, as its bias depends on n and the sets have 120, 150 images"
    assert {figure.name for figure in report.figures["more"]} > {"fd", "kid"}


def test_folders_of_images_have_the_figures_of_one_evaluation(tmp_path, monkeypatch):
    monkeypatch.setenv("FIDMAP_CACHE", str(tmp_path / "cache"))
    images = fashion_mnist.load("test")[0][:120]
    for name, part in (("real", images[:40]), ("a", images[40:80]), ("b", images[80:])):
        (tmp_path / name).mkdir()
        for i, image in enumerate(part.numpy()):
            Image.fromarray(image).save(tmp_path / name / f"{i:03d}.png")
    real, a, b = (str(tmp_path / name) for name in ("real", "a", "b"))
    report = compare(real, [a, b], metrics="fd", save_stats=tmp_path / "real.safetensors")
    assert (tmp_path / "real.safetensors").is_file()
    assert [each.figure for each in report.differences] == ["fd_fmnist"]
    for name, folder in (("a", a), ("b", b)):
        alone = evaluate(real, folder, metrics="fd", resamples=2)
        assert report.figures[name][0].value == alone.figures[0].value
        assert report.figures[name][0].floor == alone.figures[0].floor
        assert report.generated[name] == alone.generated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good.npy", "good.npy"], "good.npy is given twice"),
        (["good.npy", "bad.npy", "--names", "a,a"], "--names 'a,a': 2 different names"),
        (["good.npy", "bad.npy", "--resamples", "3"], "--resamples is for one set of generated images; 2 are compared"),
        (["good.npy", "bad.npy", "--record", "kept"], "--record is for one set"),
        (["good.npy", "bad.npy", "--metrics", "x"], "--metrics: no metric 'x'"),
        (["good.npy", "--all-pairs"], "--all-pairs is for several sets of generated images; there is one"),
        (["good.npy", "--names", "a"], "--names is for several sets"),
        (["good.npy", "stats.npz"], "stats.npz: statistics have no intervals"),
        (["good.npy", "missing.npy"], "missing.npy: no such file, folder or data set"),
        (["good.npy", "wide.npy"], "the sides have 3 and 4 features"),
        (["good.npy", "bad.npy", "--save-stats", "x.npz"], "--save-stats x.npz"),
    ],
)
def test_bad_input_is_one_line(command, files, arguments, message):
    code, out, err = command("evaluate", "images", "real.npy", *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_too_few_images_are_noted(files):
    report = compare(str(files / "real.npy"), [str(files / "few.npy"), str(files / "good.npy")], metrics="kid")
    assert report.differences == []
    assert any("20 rows in the smallest sample; 2 sets and 40 rows are accepted" in note for note in report.notes)
