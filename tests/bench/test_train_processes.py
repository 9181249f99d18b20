"""Two processes that share a batch take the step of one, dropped labels included."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bench.train import train
from tests.conftest import ROOT

RECIPE = """
name = "mine"
task = "denoiser"
data = "{data}"
steps = 1
batch = 128
ema = [0.1]
[optimiser]
name = "{optimiser}"
rate = 0.1
clip = 1.0
[model]
network = "unet"
path = "edm"
head = "x0"
sigma_data = 0.5
configuration = {{ widths = [8], depth = 1, attention = false, middle_attention = false, groups = 4 }}
[objective]
name = "edm"
timesteps = "logit_normal"
stratified = true
dropped = 0.5
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A small network on 256 images of 8 x 8 in two classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 8, 8), dtype=np.uint8)
    for number, image in enumerate(pixels):
        where = tmp_path / "images" / "ab"[number % 2]
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(where / f"{number:03d}.png")
    file = tmp_path / "mine.toml"
    file.write_text(RECIPE.format(data=tmp_path / "images", optimiser="sgd"))
    return file


def test_a_step_of_two_processes_is_that_of_one(fidmap, recipe: Path, tmp_path: Path):
    pytest.importorskip("accelerate")
    found = {}
    for processes in ("1", "2"):
        ran = fidmap("train", recipe, "--out", tmp_path / processes, "--processes", processes)
        assert ran.returncode == 0, ran.stderr
        found[processes] = load_file(tmp_path / processes / "mine.safetensors")
    for name, one in found["1"].items():
        torch.testing.assert_close(found["2"][name], one, rtol=0, atol=1e-6)
    assert any(tensor.abs().max() > 0.01 for tensor in found["1"].values())


def test_a_process_killed_at_a_random_moment_resumes_to_the_same_weights(recipe: Path, tmp_path: Path):
    """By SIGKILL, somewhere between the first checkpoint and the end."""
    recipe.write_text(recipe.read_text().replace("steps = 1\n", "steps = 150\ncheckpoint_every = 7\n"))
    call = f"from bench.train import train; train({str(recipe)!r}, {str(tmp_path / 'killed')!r}, progress=False)"
    checkpoint = tmp_path / "killed" / "mine.checkpoint"
    with subprocess.Popen([sys.executable, "-c", call], cwd=ROOT) as process:
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(random.random() * 0.3)
        process.kill()
    assert not (tmp_path / "killed" / "mine.safetensors").exists(), "it ended before it was killed"
    assert 0 < torch.load(checkpoint, weights_only=True)["step"] < 150
    hashes = [train(recipe, tmp_path / name, progress=False)["weights_hash"] for name in ("killed", "whole")]
    assert hashes[0] == hashes[1]


def test_a_batch_that_does_not_divide_and_a_missing_package_are_one_line(
    command, recipe: Path, monkeypatch: pytest.MonkeyPatch
):
    code, _, err = command("train", str(recipe), "--processes", "3")
    assert (code, err) == (2, "fidmap: batch is 128; a multiple of the 3 processes is accepted\n")
    monkeypatch.setitem(__import__("sys").modules, "accelerate", None)
    code, _, err = command("train", str(recipe), "--processes", "2")
    assert (code, err) == (2, "fidmap: several processes need the package accelerate: pip install 'fidmap[train]'\n")
