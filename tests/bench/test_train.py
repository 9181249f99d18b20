"""The training loop: learns, repeats to the bit, resumes to the bit; and recipes are checked before anything runs."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from bench.errors import UsageError
from bench.train import loop, train
from bench.train.jobs import JOBS, fmnist_classifier
from bench.train.optimiser import find_exponent, ramp
from bench.train.recipe import Recipe, change, load_recipe, recipes

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
TRUTH = torch.tensor([[1.0, -2.0, 0.5, 3.0]])
SMALL = Recipe(name="small", task="fmnist_classifier", steps=12, batch=16, checkpoint_every=5,
               optimiser={"name": "adamw", "rate": 0.1, "warmup": 0.25})  # fmt: skip


def job(recipe: Recipe, folder: Path) -> loop.Job:
    """A regression that draws noise and dropout, so that a wrong random state shows."""

    def draw(step: int) -> loop.Rows:
        x = X[loop.shuffle(len(X), 16, recipe.seed, step)]
        return x, x @ TRUTH.mT + 0.01 * torch.randn(len(x), 1)

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (model(x) - y).square().mean(1)

    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.1), nn.Linear(16, 1))
    return loop.Job(model, draw, loss, lambda model: {"figure": 1}, lambda model, step: {"distance": 1 / step})


def fitted(recipe: Recipe, folder: Path) -> dict[str, torch.Tensor]:
    with loop.reproducible(recipe):
        return loop.fit(job(recipe, folder), recipe, folder / "checkpoint").model.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("ema", [[], [0.1]])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_killed_run_resumes_to_the_same_bits(
    tmp_path: Path, ema: list[float], name: str, monkeypatch: pytest.MonkeyPatch
):
    recipe = change(SMALL, ema=ema, optimiser={"name": name, "rate": 0.02, "warmup": 0.25})
    whole = fitted(recipe, tmp_path / "whole")

    def killed(seed: int, step: int) -> int:
        if step == 8:
            raise KeyboardInterrupt
        return original(seed, step)

    original = loop.combine_seeds
    with monkeypatch.context() as patch:
        patch.setattr(loop, "combine_seeds", lambda *parts: killed(*parts) if len(parts) == 2 else original(*parts))
        with pytest.raises(KeyboardInterrupt):
            fitted(recipe, tmp_path)
    assert torch.load(tmp_path / "checkpoint", weights_only=True)["step"] == 5
    assert same(fitted(recipe, tmp_path), whole)


def test_the_seed_decides_the_weights_and_nothing_leaks(tmp_path: Path):
    torch.manual_seed(1)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    one = fitted(SMALL, tmp_path / "1")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    assert same(one, fitted(SMALL, tmp_path / "2"))
    assert not same(one, fitted(change(SMALL, seed=1), tmp_path / "3"))


def test_the_average_is_that_of_its_definition_and_as_long_as_asked(tmp_path: Path):
    """From the iterates and the product of the decays; over many steps the weights have the standard deviation."""
    recipe = change(SMALL, steps=4, ema=[0.1], checkpoint_every=1)
    gamma = find_exponent(0.1)
    iterates = []
    with loop.reproducible(recipe):
        plan = job(recipe, tmp_path)
        count = loop._State.count
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                loop._State,
                "count",
                lambda self, *a: (iterates.append(self.model[0].weight.detach().clone()), count(self, *a)),
            )
            found = loop.fit(plan, recipe, tmp_path / "checkpoint").model[0].weight
    decays = [(1 - 1 / k) ** (gamma + 1) for k in range(1, 5)]
    shares = [(1 - decays[k]) * math.prod(decays[k + 1 :]) for k in range(4)]
    assert sum(shares) == pytest.approx(1)
    truth = sum(share * iterate for share, iterate in zip(shares, iterates, strict=True))
    torch.testing.assert_close(found.detach(), truth, rtol=1e-6, atol=1e-7)  # float32, four roundings
    for length in (0.03, 0.1, 0.25):
        places = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
        weights = places ** find_exponent(length)
        mean = (weights * places).sum() / weights.sum()
        deviation = ((weights * (places - mean) ** 2).sum() / weights.sum()).sqrt()
        assert float(deviation) == pytest.approx(length, rel=1e-6)


def test_of_several_averages_the_one_of_least_distance_is_kept(tmp_path: Path):
    recipe = change(SMALL, ema=[0.05, 0.2], held_out=1, sampling={"sampler": "heun", "schedule": "karras", "steps": 2})
    plan = job(recipe, tmp_path)
    seen: list[nn.Module] = []
    distances = iter([2.0, 1.0])
    look = lambda model, step: (seen.append(model), {"distance": next(distances)})[1]  # noqa: E731
    trained = loop.fit(dataclasses.replace(plan, look=look), recipe, tmp_path / "checkpoint")
    assert trained.model is seen[1]
    assert trained.averages == {"0.05": 2.0, "0.2": 1.0}
    with pytest.raises(UsageError, match="ema has several lengths: held_out and sampling are needed"):
        change(SMALL, ema=[0.05, 0.2])


def test_every_pass_is_a_permutation_and_passes_differ():
    passes = [torch.cat([loop.shuffle(20, 5, 7, 4 * epoch + k) for k in range(4)]) for epoch in range(3)]
    for indices in passes:
        assert indices.sort().values.tolist() == list(range(20))
    assert not torch.equal(passes[0], passes[1])
    assert len(loop.shuffle(20, 6, 7, 2)) == 6  # three whole batches, the last two samples left out
    with pytest.raises(ValueError, match="at most the 20 samples"):
        loop.shuffle(20, 21, 7, 0)


def test_seeds_differ_beyond_32_bits_and_by_length():
    assert len({loop.combine_seeds(a, b) for a in range(30) for b in range(30)}) == 900
    assert loop.combine_seeds(1, 2) != loop.combine_seeds(1, 2, 1)


def test_the_rate_rises_then_falls_to_nearly_nothing():
    rates = [ramp(step, change(SMALL, steps=100)) for step in range(100)]
    assert rates[:25] == pytest.approx([(k + 1) / 25 for k in range(25)])
    assert rates[24:] == sorted(rates[24:], reverse=True)
    assert max(rates) == 1
    assert 0 < rates[-1] < 0.02
    cosine = change(SMALL, steps=100, optimiser={"name": "adamw", "rate": 0.1, "warmup": 0.25, "decay": "cosine"})
    falling = [ramp(step, cosine) for step in range(100)]
    assert falling[:25] == pytest.approx([(k + 1) / 25 for k in range(25)])
    assert falling[24:] == sorted(falling[24:], reverse=True)
    assert falling[62] == pytest.approx(0.5, abs=0.02)  # in the middle of the fall
    assert 0 < falling[-1] < 0.001


def test_the_gradient_is_clipped_to_its_norm(tmp_path: Path):
    """By plain descent, of which a step is the rate times the gradient."""
    for clip, norm in ((0.5, 0.5), (0.0, 3.0)):
        recipe = change(SMALL, steps=1, optimiser={"name": "sgd", "rate": 0.1, "momentum": 0.0, "clip": clip})
        model = nn.Linear(1, 1, bias=False)
        before = model.weight.detach().clone()
        plan = loop.Job(model, lambda step: (torch.ones(16),), lambda m, x: 3 * m.weight.sum() * x, dict)
        after = loop.fit(plan, recipe, tmp_path / f"{clip}").model.weight
        assert float((before - after).detach()) == pytest.approx(0.1 * ramp(0, recipe) * norm, rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path):
    bad = loop.Job(nn.Linear(1, 1), lambda step: (torch.ones(16),), lambda m, x: m.weight.sum() * x * torch.nan, dict)
    with pytest.raises(ArithmeticError, match="the loss is nan at step 0"):
        loop.fit(bad, SMALL, tmp_path / "checkpoint")


def test_train_writes_weights_and_card_and_refuses_a_foreign_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fmnist_classifier, "job", job)
    found = train("fmnist_classifier", tmp_path / "out", steps=4, progress=False)
    weights = Path(found["weights"])
    assert weights == tmp_path / "out" / "fmnist_classifier.safetensors"
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card == {name: value for name, value in found.items() if name != "weights"}
    assert card["figure"] == 1
    assert card["recipe"]["steps"] == 4
    with safe_open(weights, "pt") as stored:
        assert stored.metadata()["recipe_hash"] == card["recipe_hash"]
    first = load_file(weights)
    train("fmnist_classifier", tmp_path / "out", steps=4, progress=False)  # finished: nothing is trained again
    assert same(first, load_file(weights))
    with pytest.raises(UsageError, match="belongs to another recipe or step count"):
        train("fmnist_classifier", tmp_path / "out", steps=5, progress=False)
    weights.with_suffix(".checkpoint").write_bytes(b"no checkpoint")
    with pytest.raises(UsageError, match="is no checkpoint of a training"):
        train("fmnist_classifier", tmp_path / "out", steps=4, progress=False)
    with pytest.raises(UsageError, match="is a file"):
        train("fmnist_classifier", weights, steps=4, progress=False)


def test_every_job_of_the_table_resolves_and_one_of_your_own_is_taken(tmp_path: Path):
    assert all(callable(entry.resolve()) for entry in JOBS.values())
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\ntask = "tests.bench.test_train:job"\nsteps = 2\nbatch = 16\n'
        '[optimiser]\nname = "sgd"\nrate = 0.1'
    )
    assert train(file, tmp_path, progress=False)["figure"] == 1


def test_missing_data_are_an_error_of_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def absent(split: str) -> None:
        raise FileNotFoundError(f"the {split} set is not here")

    monkeypatch.setattr(fmnist_classifier.fashion_mnist, "load", absent)
    with pytest.raises(UsageError, match="the train set is not here"):
        train("fmnist_classifier", tmp_path, progress=False)


def test_the_classifier_learns_from_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Sixty small steps on the test images, in place of the training set: the loss of a guess is log 10 = 2.30."""
    images, labels = fmnist_classifier.fashion_mnist.load("test")
    monkeypatch.setattr(fmnist_classifier.fashion_mnist, "load", lambda split: (images, labels))
    recipe = change(load_recipe("fmnist_classifier"), steps=60, batch=64)
    with loop.reproducible(recipe):
        plan = fmnist_classifier.job(recipe, tmp_path)
        model = loop.fit(plan, recipe, tmp_path / "checkpoint").model.eval()
        with torch.no_grad():
            losses = [float(plan.loss(model, *plan.draw(step)).mean()) for step in range(60, 70)]
    assert sum(losses) / 10 < 1.5


def test_shipped_recipes_are_valid():
    assert "fmnist_classifier" in recipes()
    assert [load_recipe(name).name for name in recipes()] == recipes()


@pytest.mark.parametrize(
    ("change_to", "message"),
    [
        ('colour = "red"\n', "colour: no such key; there are name"),
        ('name = "../escape"\n', "name: String should match pattern"),
        ('steps = "many"\n', "steps: .*integer.*'many'"),
        ('task = "os"\n', "task: .*no job named 'os'; there are fmnist_classifier"),
        ("steps = \n", "not TOML: .*line 3"),
    ],
)
def test_a_wrong_recipe_is_one_line_with_file_and_key(tmp_path: Path, change_to: str, message: str):
    key = change_to.split()[0]
    lines = ['name = "mine"', 'task = "fmnist_classifier"', "steps = 5", "batch = 8"]
    kept = [line for line in lines if not line.startswith(key)]
    file = tmp_path / "mine.toml"
    at = lines.index(f"{key} = 5") if key == "steps" else 0
    kept.insert(at, change_to.strip())
    file.write_text("\n".join([*kept, "[optimiser]", 'name = "sgd"', "rate = 0.1"]))
    with pytest.raises(UsageError, match=f"mine.toml: {message}") as caught:
        load_recipe(file)
    assert "\n" not in str(caught.value)


def test_unknown_recipes_and_values_are_errors_of_use(tmp_path: Path):
    with pytest.raises(UsageError, match="did you mean fmnist_classifier"):
        load_recipe("fmnist_clasifier")
    with pytest.raises(UsageError, match=r"no recipe named '\.\./recipes/fmnist_classifier'"):
        load_recipe("../recipes/fmnist_classifier")
    with pytest.raises(UsageError, match=r"cannot read the recipe .*absent\.toml"):
        load_recipe(tmp_path / "absent.toml")
    with pytest.raises(UsageError, match="steps: Input should be greater than or equal to 1"):
        train("fmnist_classifier", tmp_path, steps=0)
