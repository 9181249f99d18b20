"""The recipes that come with fidmap, in a few small steps on a few images: from data to weights, card and picture."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bench.data import fashion_mnist
from bench.errors import UsageError
from bench.train import loop, train
from bench.train.jobs.pairs import read_pairs, starts
from bench.train.recipe import load_recipe, recipes
from implementations.diffusion.noise import PerSampleNoise
from implementations.samplers import SAMPLERS
from implementations.weights import build, hash_weights, load, read

WIDTHS = {"edm": [12, 16], "flow": [12, 16], "weak": [8, 8], "flow-2": [12, 16], "consistency": [12, 16]}
IN_ORDER = ["edm", "flow", "noisy-classifier", "weak", "flow-pairs", "flow-2", "consistency"]


@pytest.fixture(scope="module", autouse=True)
def few_images():
    """Two hundred of the test images, in the place of either split."""
    images, labels = fashion_mnist.load("test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fashion_mnist, "load", lambda split: (images[:200], labels[:200]))
        yield


def shrink(name: str, folder: Path, **changes: object) -> Path:
    """A shipped recipe with a narrower network, in four small steps."""
    recipe = load_recipe(f"fmnist-{name}").model_dump(exclude_defaults=True)
    if recipe.get("model", {}).get("network") == "unet":
        recipe["model"]["configuration"] |= {"widths": WIDTHS[name], "groups": 4, "time_width": 16}
    recipe |= {"steps": 4, "batch": 16, "threads": 1, "checkpoint_every": 2, **changes}
    if "look_every" in recipe:
        recipe["look_every"] = 2
    if "sampling" in recipe:
        recipe["sampling"] |= {"steps": 2, "n": 100, "look": 100}
    file = folder / f"{name}.toml"
    file.write_text("\n".join(_toml(recipe)))
    return file


def _toml(table: dict, name: str = "") -> list[str]:
    values = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"[{name}]"] if name else []
    lines += [f"{key} = {json.dumps(list(v) if isinstance(v, tuple) else v)}" for key, v in values.items()]
    for key in table.keys() - values.keys():
        lines += _toml(table[key], f"{name}.{key}".strip("."))
    return lines


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, few_images) -> Path:
    """The folder in which all were trained, each from those before it."""
    folder = tmp_path_factory.mktemp("trained")
    for name in IN_ORDER:
        train(shrink(name, folder), folder, progress=False)
    return folder


def test_every_recipe_gives_weights_card_and_picture(trained: Path):
    assert {f"fmnist-{name}" for name in IN_ORDER} <= set(recipes())
    for name in set(IN_ORDER) - {"flow-pairs"}:
        file = trained / f"fmnist-{name}.safetensors"
        card = json.loads(file.with_suffix(".json").read_text())
        stored = load_file(file)
        assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
        assert card["weights_hash"] == hash_weights(stored)
        assert card["data"]["n"] == 200
        assert card["curve"][-1]["step"] == 4
        assert card["weights_hash"] in file.with_suffix(".md").read_text()
        if name == "noisy-classifier":
            assert 0 <= card["figures"]["accuracy at sigma/alpha 0.5"]["value"] <= 1
            continue
        assert [entry["step"] for entry in card["curve"]] == [2, 4]
        assert all(entry["distance"] > 0 for entry in card["curve"])
        for measure, side in itertools.product(("fd_fmnist", "kid", "precision", "recall"), ("test", "train")):
            figure = card["figures"][f"{measure} to {side}"]
            assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]
            assert "floor" in figure
        assert 0 <= card["figures"]["conditional accuracy"]["value"] <= 1
        with Image.open(file.with_suffix(".png")) as picture:
            assert picture.size == (280, 280)  # ten by ten
        with Image.open(trained / f"fmnist-{name}-neighbours.png") as picture:
            assert picture.size == (280, 280)  # five rows of samples, and their neighbours


def test_the_networks_of_the_recipes_fit_into_two_megabytes():
    """In bfloat16, beside some thousand bytes of names."""
    for name in sorted(set(IN_ORDER) - {"flow-pairs"}):
        model = load_recipe(f"fmnist-{name}").model
        own = {"channels": 1, "classes": 10, **model.configuration}
        rest = {"path": model.path, "head": model.head, "sigma_data": model.sigma_data, "shape": [1, 28, 28]}
        with torch.device("meta"):
            module = build({"network": model.network, "configuration": own, "classes": 10, **rest})
        assert 2 * sum(p.numel() for p in module.parameters()) < 1.98e6


def test_weights_come_back_as_a_denoiser_that_samples(trained: Path):
    for name, sampler in (("edm", "heun"), ("flow", "euler"), ("consistency", "consistency")):
        denoiser = load(str(trained / f"fmnist-{name}.safetensors"))
        assert denoiser.shape == (1, 28, 28)
        times = torch.tensor([0.9, 0.4, 0.1], dtype=torch.float64)
        x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        noise = PerSampleNoise(range(3))
        with torch.no_grad():
            free = SAMPLERS[sampler](denoiser, x, times, noise=noise)
            dropped = SAMPLERS[sampler](denoiser, x, times, condition=torch.tensor([10, 10, 10]), noise=noise)
            one = SAMPLERS[sampler](denoiser, x, times, condition=3, noise=noise)
        assert torch.equal(free, dropped)
        assert one.isfinite().all()
        with pytest.raises(ValueError, match="condition 11 is no class; 0 to 9, and 10 for none"):
            denoiser(x, 0.5, torch.tensor([0, 1, 11]))
        with pytest.raises(ValueError, match="condition must be an int or 3 ints"):
            denoiser(x, 0.5, torch.zeros(2, dtype=torch.long))
    classifier = load(str(trained / "fmnist-noisy-classifier.safetensors"))
    assert classifier(x, torch.tensor([0.1, 1.0, 80.0])).shape == (3, 10)


def test_a_recipe_repeats_its_weights_and_a_killed_one_too(trained: Path, tmp_path: Path, monkeypatch):
    """From its start, and from a checkpoint after which it was killed."""
    first = json.loads((trained / "fmnist-edm.json").read_text())["weights_hash"]
    assert train(shrink("edm", tmp_path), tmp_path / "again", progress=False)["weights_hash"] == first
    take = loop.take_step

    def killed(job, recipe, step, *others):
        return 1 / 0 if step == 3 else take(job, recipe, step, *others)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", killed)
        with pytest.raises(ZeroDivisionError):
            train(shrink("edm", tmp_path), tmp_path / "killed", progress=False)
    assert train(shrink("edm", tmp_path), tmp_path / "killed", progress=False)["weights_hash"] == first


def test_pairs_go_on_where_they_stopped_and_are_read_with_their_noise(trained: Path, tmp_path: Path):
    folder = trained / "fmnist-flow-pairs"
    images, noises, labels = read_pairs(folder)
    assert images.shape == noises.shape == (64, 1, 28, 28)
    assert labels.tolist() == [i % 10 for i in range(64)]
    assert torch.equal(noises[20:30], starts(20, 10, (1, 28, 28)))
    assert not torch.equal(noises[:4], PerSampleNoise(range(4))(0, noises[:4]))  # the starts of the figures
    files = sorted(folder.glob("*.safetensors"))
    before = load_file(files[1])
    files[1].unlink()
    train(trained / "flow-pairs.toml", trained, progress=False)
    again = load_file(files[1])
    assert all(torch.equal(again[name], tensor) for name, tensor in before.items())
    with pytest.raises(UsageError, match="belongs to another recipe or step count"):
        train(trained / "flow-pairs.toml", trained, steps=5, progress=False)
    with pytest.raises(UsageError, match="holds no pairs"):
        train(shrink("flow-2", tmp_path, source="absent"), trained, progress=False)


def test_what_a_recipe_learns_from_must_be_there(trained: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"no checkpoint named 'absent'.*fidmap train absent --out"):
        train(shrink("consistency", tmp_path, source="absent"), trained, progress=False)
    model = load_recipe("fmnist-edm").model_dump(exclude_defaults=True)["model"]
    model["configuration"] |= {"widths": [12, 16], "groups": 4, "time_width": 16}
    with pytest.raises(UsageError, match="start fmnist-weak is of another network: size mismatch"):
        train(shrink("edm", tmp_path, model=model | {"start": "fmnist-weak"}), trained, progress=False)
    with pytest.raises(UsageError, match="objective eps is none between two times"):
        train(shrink("consistency", tmp_path, objective={"name": "eps"}), trained, progress=False)
    with pytest.raises(UsageError, match="task pairs needs source"):
        train(shrink("flow-pairs", tmp_path, source=""), tmp_path, progress=False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "no readable safetensors"),
        (lambda content: b"\x80\x04]\x94." + content, "no readable safetensors"),
        (lambda content: content.replace(b'"F32"', b'"F31"').replace(b'"BF16"', b'"XX16"'), "no readable safetensors"),
        (lambda content: content.replace(b'\\"shape\\"', b'\\"shapo\\"'), "the description of the network lacks shape"),
        (lambda content: content.replace(b"[12, 16]", b"[12, 24]"), "of another network"),
    ],
)
def test_a_damaged_file_of_weights_is_one_line(trained: Path, tmp_path: Path, damage, message: str):
    file = tmp_path / "weights.safetensors"
    content = (trained / "fmnist-edm.safetensors").read_bytes()
    changed = damage(content)
    assert changed != content
    file.write_bytes(changed)
    with pytest.raises(ValueError, match=message) as caught:
        read(file)
    assert "\n" not in str(caught.value)


def test_another_hash_than_the_cards_and_unknown_names_are_refused(trained: Path):
    with pytest.raises(ValueError, match=r"their hash is [0-9a-f]{16}, the card's 0000; one of the two was changed"):
        read(trained / "fmnist-edm.safetensors", expected="0000")
    with pytest.raises(ValueError, match=r"weights absent\.safetensors: no such file"):
        load("absent.safetensors")
    with pytest.raises(ValueError, match="no checkpoint named 'fmnist'"):
        load("fmnist")
