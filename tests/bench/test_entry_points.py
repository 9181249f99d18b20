"""The ten groups of entry points, from an installed-looking package: each works by its name, by the real command."""

import json

import numpy as np
import pytest

from bench.records.store import Store

SOURCE = '''
"""One of each kind, as the README's table has them."""

from pathlib import Path

import torch

from bench.task import Measure, TaskParameters, task
from implementations.diffusion import SCHEDULES, VP
from implementations.guidance import GUIDANCE
from implementations.samplers import SAMPLERS

Path("imported").touch()


def sampler(denoiser, x, times, *, condition=None, noise=None, callback=None, weight=1.0):
    """Euler in t, of the package."""
    return SAMPLERS["euler"](denoiser, x, times, coordinate="t")


def schedule(path, steps, *, rho=3.0):
    """Karras's levels with another exponent."""
    return SCHEDULES["karras"](path, steps, rho=rho)


def guidance(denoiser, *, scale=2.0, further=0.5):
    """Classifier-free guidance that goes further."""
    return GUIDANCE["classifier_free"](denoiser, scale=scale + further)


class Path_(VP):
    """VP with a weaker end."""

    def __init__(self):
        super().__init__(beta_max=10.0)


def loss(pred, target):
    """Absolute differences."""
    return (pred - target).abs().sum(1)


def nms(boxes, scores, labels, *, iou_threshold, image):
    """Everything is kept, the best first."""
    order = scores.argsort(descending=True)
    return order, scores[order], boxes[order]


def metric(real, generated):
    """Distance of the means."""
    return (real.mean(0) - generated.mean(0)).norm()


def extractor(images):
    """Mean and deviation of each image."""
    flat = images.flatten(1)
    return torch.stack([flat.mean(1), flat.std(1, correction=0)], 1)


class Parameters(TaskParameters):
    """A word, whose letters are counted."""

    word: str
    times: int = 1


@task(entry="word", measures=[Measure("letters", "of the word", direction="target")])
def count_letters(parameters: Parameters, context):
    """Count letters."""
    return {"letters": len(parameters.word) * parameters.times}
'''
SUITE = """
name = "ep_suite"
title = "of the package"

[[block]]
task = "sampler_error"
settings = { samples = 20, nfe = 6 }
axes.sampler = ["ep_sampler", "euler"]
axes.schedule = ["ep_schedule"]
axes.path = ["ep_path"]

[[block]]
task = "guidance_truth"
settings = { samples = 20, points = 4, steps = 4 }
zip = { guidance = ["ep_guidance", "classifier_free"], scale = [1.5, 2.0] }

[[block]]
task = "iou_gradient"
settings = { points = 4 }
axes.loss = ["ep_loss"]

[[block]]
task = "nms_quality"
settings = { boxes = 20, images = 2 }
axes.nms = ["ep_nms"]

[[block]]
task = "metric_bias"
settings = { n = 100, draws = 2 }
axes.figure = ["ep_metric"]

[[block]]
task = "ep_task"
axes.word = ["one", "three"]
axes.times = [2]
"""
POINTS = {
    "samplers": "sampler", "schedules": "schedule", "guidance": "guidance", "paths": "Path_", "losses": "loss",
    "nms": "nms", "metrics": "metric", "extractors": "extractor", "tasks": "count_letters", "suites": "suite.toml",
}  # fmt: skip
SINGULAR = {kind: "nms" if kind == "nms" else kind.removesuffix("es" if kind == "losses" else "s") for kind in POINTS}


@pytest.fixture
def site(tmp_path):
    """A package that is installed as far as Python can tell: its folder, and beside it its entry points."""
    site = tmp_path / "site"
    (site / "ep_package").mkdir(parents=True)
    (site / "ep_package" / "__init__.py").write_text(SOURCE)
    (site / "ep_package" / "suite.toml").write_text(SUITE)
    info = site / "ep_package-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ep-package\nVersion: 1.2\n")
    lines = (f"[fidmap.{kind}]\nep_{SINGULAR[kind]} = ep_package:{name}\n" for kind, name in POINTS.items())
    (info / "entry_points.txt").write_text("\n".join(lines))
    return site


def test_each_entry_point_is_listed_and_runs_by_its_name(fidmap, site, tmp_path):
    listed = json.loads(fidmap("list", "--json", site=site).stdout)
    for kind in POINTS:
        (own,) = [entry for entry in listed[kind] if entry["source"] == "ep-package 1.2"]
        assert own["name"] == f"ep_{SINGULAR[kind]}"
    assert not (tmp_path / "imported").exists(), "listing imported it"
    ran = fidmap("run", "ep_suite", "--out", "store", site=site)
    assert ran.returncode == 0, ran.stderr
    records = Store(tmp_path / "store").records()
    assert {record.status for record in records} == {"ok"}
    values = {record.cell.entry: record for record in records}
    names = {"ep_sampler", "euler", "ep_guidance", "classifier_free", "ep_loss", "ep_nms", "ep_metric", "one", "three"}
    assert set(values) == names
    further, plain = values["ep_guidance"], values["classifier_free"]
    assert further.value("purity") == plain.value("purity")  # the same samples: 1.5 and further by 0.5
    assert values["ep_sampler"].cell.parameters["path"] == "ep_path"
    assert values["ep_sampler"].cell.parameters["schedule"] == "ep_schedule"
    assert values["three"].cell.task == "ep_task"
    assert values["three"].value("letters") == 10
    source = site / "ep_package" / "__init__.py"
    assert " 0 to run" in fidmap("run", "ep_suite", "--out", "store", "--dry-run", site=site).stderr
    source.write_text(source.read_text() + "\nCHANGED = True\n")
    changed = len(names) - 1  # all but classifier_free, whose cell names nothing of the package
    assert f" {changed} to run" in fidmap("run", "ep_suite", "--out", "store", "--dry-run", site=site).stderr


def test_each_entry_point_is_described(fidmap, site):
    says = {
        "sampler": ["Euler in t, of the package.", "weight", "optional"], "schedule": ["another exponent", "rho"],
        "path": ["VP with a weaker end"],
        "guidance": ["goes further", "scale", "further"],
        "loss": ["Absolute differences"], "nms": ["Everything is kept"],
        "metric": ["Distance of the means", "fidmap evaluate images REAL GENERATED --metrics ep_metric"],
        "extractor": ["Mean and deviation"], "suite": ["fidmap run ep_suite"],
        "task": ["letters", "of the word", "times", "task = \"ep_task\""],
    }  # fmt: skip
    for name, words in says.items():
        described = fidmap("describe", f"ep_{name}", site=site)
        assert described.returncode == 0, described.stderr
        assert "ep-package 1.2" in described.stdout or name == "task"
        assert all(word in described.stdout for word in words), described.stdout


def test_metrics_and_extractors_of_a_package_evaluate_images(fidmap, site, tmp_path):
    rng = np.random.default_rng(0)
    sides = {"x": rng.integers(0, 256, (40, 8, 8)), "y": rng.integers(0, 128, (40, 8, 8))}
    for name, images in sides.items():
        np.save(tmp_path / f"{name}.npy", images.astype(np.uint8))
    options = ("--extractor", "ep_extractor", "--metrics", "ep_metric,fd", "--resamples", "0", "--json")
    result = fidmap("evaluate", "images", "x.npy", "y.npy", *options, site=site)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    flat = {name: images.reshape(40, -1) / 255 for name, images in sides.items()}
    means = {name: np.array([one.mean(1).mean(), one.std(1).mean()]) for name, one in flat.items()}
    value = {figure["name"]: figure["value"] for figure in found["figures"]}
    assert value["ep_metric"] == pytest.approx(np.linalg.norm(means["x"] - means["y"]), rel=1e-5)
    assert "fd_ep_extractor" in value
    assert found["extractor"].startswith("ep_extractor@")


def test_a_sampler_of_a_package_is_audited_by_its_name(fidmap, site):
    result = fidmap("audit", "ep_sampler", "--check", "end", "--check", "cost", site=site)
    assert (result.returncode, "pass  end" in result.stdout) == (0, True), result.stdout + result.stderr


@pytest.mark.parametrize(
    ("kind", "target", "says"),
    [
        ("suites", "ep_package:nothing.toml", "'ep_package:nothing.toml' is not there; PACKAGE:FILE.toml is accepted"),
        ("tasks", "ep_package:Parameters", "a task made with bench.task.task is accepted"),
        ("paths", "ep_package:loss", "block 0"), ("schedules", "ep_package:nms", "block 0"),
    ],
)  # fmt: skip
def test_an_entry_point_that_is_none_of_its_kind_is_one_line(kind, target, says, fidmap, site):
    points = site / "ep_package-1.2.dist-info" / "entry_points.txt"
    own = f"ep_{SINGULAR[kind]} = ep_package:{POINTS[kind]}\n"
    assert own in points.read_text()
    points.write_text(points.read_text().replace(own, own.partition("=")[0] + f"= {target}\n"))
    result = fidmap("run", "ep_suite", "--out", "store", "--dry-run", site=site)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert says in result.stderr
