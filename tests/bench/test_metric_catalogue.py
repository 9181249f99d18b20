"""One table of metrics: what ``fidmap list metrics`` shows is what ``fidmap evaluate`` runs, name by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bench.__main__ import main
from bench.catalogue import kinds
from bench.errors import UsageError
from bench.evaluate import figures
from metrics.catalogue import METRICS
from metrics.extractors.extractor import Extractor

OF_IMAGES = [name for name, entry in kinds()["metrics"].items() if entry.of == "images"]
OF_DETECTIONS = [name for name, entry in kinds()["metrics"].items() if entry.of == "detections"]
# The key of the JSON under which a figure of detections stands.
KEYS = {
    "coco_ap": "AP50", "best_f1": "best_f1", "voc_ap": "mAP11", "tide": "tide", "detection_calibration": "calibration",
    "confusion_matrix": "confusion",
}  # fmt: skip
# Names that `fidmap list metrics` or `--metrics` had when they were two tables.
BEFORE = """
    frechet_distance fd_infinity debiased_frechet_distance spatial_statistics kid kid_subsets cmmd energy_distance
    sliced_wasserstein sliced_wasserstein_of_sketches exact_wasserstein c2st inception_score conditional_accuracy
    bits_per_dim precision_recall density_coverage prdc data_copying authenticity nearest_neighbour_ratio vendi_score
    vendi_scores fit_order coco_ap voc_ap tide detection_calibration confusion_matrix best_f1
    fd fd_debiased energy sliced_w2 w2 is vendi neighbour_ratio
""".split()  # noqa: SIM905 (a list of them takes the room of a page)


@pytest.fixture(scope="module")
def sides():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(60, 8, generator=generator, dtype=torch.float64).abs() + 0.1 for _ in range(2)]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert not end.value.code, err
    return out


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_metric_of_images_that_is_listed_runs(name, sides):
    """``clip`` by its name, and a head, so that no metric has a reason to refuse."""
    extractor = Extractor("clip", "0" * 16, "none", lambda x: x, head=lambda x: x)
    metric = figures.choose(name)[name]
    assert figures.explain_refusal(metric, extractor, *sides) is None
    found, missing = figures.measure(metric, *sides, seed=0, resamples=0, advance=lambda: None)
    assert [figure.name for figure in found] == [quantity.name for quantity in metric.quantities.values()]
    assert all(np.isfinite(figure.value) for figure in found)
    assert not missing


def test_every_metric_that_runs_is_listed(tmp_path, sides, capsys):
    files = []
    for name, features in zip(("x", "y"), sides, strict=True):
        files.append(tmp_path / f"{name}.safetensors")
        save_file({"features": features}, files[-1])
    out = json.loads(run(capsys, "evaluate", "images", *files, "--metrics", "all", "--resamples", 0, "--json"))
    left_out = {note.split()[2] for note in out["notes"] if note.startswith("left out: ")}
    by_quantity = {q.name: name for name in OF_IMAGES for q in METRICS[name].quantities.values()}
    assert {by_quantity[figure["name"]] for figure in out["figures"]} | left_out == set(OF_IMAGES)
    assert left_out == {"cmmd", "is"}  # features that somebody extracted: neither CLIP's nor a classifier's
    with pytest.raises(UsageError) as error:
        figures.choose("no_such_metric")
    assert str(error.value).rpartition("there are ")[2].split(", ") == OF_IMAGES


@pytest.mark.parametrize("name", OF_DETECTIONS)
def test_every_figure_of_detections_that_is_listed_is_in_the_report(name, tmp_path, capsys):
    truth = {
        "images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}],
    }  # fmt: skip
    found = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.9}]
    for side, content in (("truth", truth), ("found", found)):
        (tmp_path / f"{side}.json").write_text(json.dumps(content))
    command, first, second, *options = kinds()["metrics"][name].command.removeprefix("fidmap evaluate ").split()
    assert (command, first, second) == ("detections", "TRUTH", "DETECTIONS")
    files = tmp_path / "truth.json", tmp_path / "found.json"
    assert KEYS[name] in json.loads(run(capsys, "evaluate", "detections", *files, *options, "--json"))
    without = json.loads(run(capsys, "evaluate", "detections", *files, "--json"))
    assert (KEYS[name] in without) == (not options)


def test_names_of_earlier_versions_are_accepted():
    for name in BEFORE:
        own = next((entry.name for entry in METRICS.values() if name in (entry.name, *entry.others)), None)
        assert own is not None, name
        if METRICS[own].of == "images":
            assert list(figures.choose(name)) == [own]
    others = [other for entry in METRICS.values() for other in entry.others]
    assert len({*METRICS, *others}) == len(METRICS) + len(others)  # one name, one metric


def test_every_entry_resolves_to_a_function_that_the_package_hands_out():
    import metrics

    for entry in kinds()["metrics"].values():
        function = entry.resolve()
        assert getattr(metrics, function.__name__, None) is function or entry.name == "fd", entry.name


def test_the_list_says_what_each_metric_is_of(capsys):
    listed = json.loads(run(capsys, "list", "metrics", "--json"))["metrics"]
    assert [(one["name"], one["of"]) for one in listed] == [(name, entry.of) for name, entry in METRICS.items()]
