"""sampler_quality, sampler_error and guidance_quality on learned models: tiny networks, and an exact one."""

import json
import math

import pytest
import scipy.linalg
import torch
from pydantic import ValidationError

from bench.data import fashion_mnist
from bench.evaluate.models.declarations import ModelParameters, model_quality
from bench.evaluate.models.inputs import load_data
from bench.models.spec import load_model
from bench.plan.cells import expand
from bench.plan.suite import read
from bench.task import Context
from bench.tasks import model_images, model_samples, trained
from bench.tasks.guidance.declarations import GuidedParameters, guidance_quality
from bench.tasks.guidance.quality import SPREAD, GuidedRun
from bench.tasks.samplers.declarations import ErrorParameters, QualityParameters, sampler_error, sampler_quality
from implementations.catalogue import GUIDANCE, WEIGHTS
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.empirical import EmpiricalOracle
from implementations.diffusion.path import EDM
from tests.tiny import write_checkpoint

FEW = 400  # test images that samples are compared with


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {name: write_checkpoint(folder, name) for name in ("edm", "weak", "flow", "classifier")}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small batches that are not timed over and over, few resamples, and a coarser converged solution."""
    for module in ("guidance.quality", "samplers.learned_quality", "samplers.learned_error"):
        monkeypatch.setattr(f"bench.tasks.{module}.BATCH", 33)
    monkeypatch.setattr("bench.tasks.guidance.quality.TIMED", 1)
    monkeypatch.setattr("bench.tasks.image_distances.RESAMPLES", 4)
    monkeypatch.setattr(model_samples, "REFERENCE", 12)
    cached = (trained.open_model, model_samples.converged)
    for one in cached:
        one.cache_clear()
    yield
    for one in cached:
        one.cache_clear()


def run(task, seed=0, keep=False, **parameters):
    context = Context(seed, keep_samples=keep)
    found = task.run(task.parameters(**parameters), context)
    return {name: getattr(value, "value", value) for name, value in found.items()}, found, context.arrays


def quality(files, name="edm", **parameters):
    own = {"oracle": files[name], "path": "edm", "sampler": "dpmpp_2m", "nfe": 3, "images": FEW, "samples": 66}
    return run(sampler_quality, **{**own, **parameters})


def error(files, **parameters):
    own = {"oracle": files["edm"], "path": "edm", "nfe": 4, "samples": 4}
    return run(sampler_error, **{**own, **parameters})


def guided(files, seed=0, keep=False, **parameters):
    own = {"network": files["edm"], "weak": files["weak"], "classifier": files["classifier"], "images": FEW,
           "samples": 66, "nfe": 3}  # fmt: skip
    return run(guidance_quality, seed, keep, **{**own, **parameters})


class Exact(Denoiser):
    """The optimal denoiser of some test images, each class apart, in the place of a network."""

    shape, classes, description = (1, 28, 28), 10, {"path": "edm"}

    def __init__(self, first=FEW, images=300, shift=0):
        pixels, labels = fashion_mnist.load("test")
        self.path, self.shift, rows = EDM(), shift, slice(first, first + images)
        self.oracle = EmpiricalOracle(self.path, fashion_mnist.to_unit(pixels[rows]), labels[rows].long())

    def __call__(self, x, t, condition=None):
        t = torch.as_tensor(t).clamp(min=1e-3)
        return self.oracle(x, t, None if condition is None else (condition + self.shift) % 10)


def stand_in(monkeypatch, model):
    for module in ("bench.tasks.guidance.quality", "bench.tasks.samplers.learned_quality"):
        monkeypatch.setattr(f"{module}.open_model", lambda name, device, path="": model)


# one implementation, and figures computed independently


def test_figures_are_those_of_evaluate_model_and_of_formulas(files, tmp_path, monkeypatch):
    monkeypatch.setenv("FIDMAP_CACHE", str(tmp_path))
    measured, _, arrays = quality(files)
    (tmp_path / "own_data.py").write_text(
        "import torch\nfrom bench.data import fashion_mnist\n"
        f"def real(): return fashion_mnist.load('test')[0][:{FEW}, None]\n"
        "def labels(n): return torch.arange(n) % 10\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    parameters = ModelParameters(
        model=files["edm"], sampler="dpmpp_2m", nfe=3, data="own_data:real", condition="own_data:labels", samples=66,
        batch=22,
    )  # fmt: skip
    found = model_quality.run(parameters, Context())
    assert measured["fd_fmnist"] == pytest.approx(found["fd"].value, rel=1e-5)
    assert measured["kid"] == pytest.approx(found["kid"].value, rel=1e-5)
    assert measured["fd_fmnist_floor"] == pytest.approx(found["fd_floor"].value, rel=1e-5)
    drawn, real = arrays["features"].double().numpy(), model_images.test_features(FEW).numpy()
    one, two = (torch.from_numpy(x).T.cov().numpy() for x in (drawn, real))
    distance = ((drawn.mean(0) - real.mean(0)) ** 2).sum() + (one + two).trace()
    distance -= 2 * scipy.linalg.sqrtm(one @ two).real.trace()
    assert measured["fd_fmnist"] == pytest.approx(distance, rel=1e-4)
    assert arrays["grid"].shape == (10, 1, 28, 28)
    assert measured["evaluations"] == 3
    load_data.cache_clear()
    load_model.cache_clear()


def test_an_exact_model_lies_near_the_floor_with_every_sample_in_its_class(monkeypatch, files):
    stand_in(monkeypatch, Exact())
    measured, found, arrays = quality(files, nfe=12, samples=200, keep=True)
    assert measured["fd_fmnist"] < 2.5 * found["fd_fmnist_floor"].interval[1]
    assert measured["precision"] > 0.7
    assert measured["recall"] > 0.7
    images, labels = fashion_mnist.load("test")
    pool, sample = images[FEW : FEW + 300].flatten(1).float(), arrays["samples"].flatten(1).float()
    nearest = torch.cdist(sample, pool).min(1)
    assert float(nearest.values.mean()) / 28 < 3  # grey levels: they are copies of the data
    own = labels[FEW : FEW + 300][nearest.indices]
    assert torch.equal(own.long(), torch.arange(200) % 10)
    measured, found, _ = guided(files, guidance="classifier_free", scale=1.0, nfe=12, samples=200)
    assert abs(measured["accuracy"] - measured["accuracy_real"]) < 0.1
    assert found["accuracy"].interval[0] < measured["accuracy"] < found["accuracy"].interval[1]
    assert abs(measured["saturation"] - measured["saturation_real"]) < 0.01


def test_planted_conditions_of_another_class_are_seen_in_the_accuracy(monkeypatch, files):
    stand_in(monkeypatch, Exact(shift=1))
    measured, _, _ = guided(files, guidance="classifier_free", scale=1.0, nfe=8, samples=100)
    assert measured["accuracy"] < 0.2


def test_planted_overshoot_is_seen_in_the_saturation(monkeypatch, files):
    monkeypatch.setattr("bench.tasks.guidance.quality.make_scheme", lambda name, denoiser, *_: Brighter(denoiser))
    stand_in(monkeypatch, Exact())
    measured, _, _ = guided(files, guidance="classifier_free", scale=1.0, nfe=8, samples=100)
    assert measured["saturation"] > measured["saturation_real"] + 0.1


class Brighter(Denoiser):
    def __init__(self, denoiser):
        self.denoiser, self.path = denoiser, denoiser.path

    def __call__(self, x, t, condition=None):
        found = self.denoiser(x, t, condition)
        x0 = 2 * found.x0 + 1
        return type(found)(found.path, x, t, x0=x0)


# the solver's error


def test_the_error_falls_with_the_budget_to_that_of_the_converged_solution(files):
    few, _, _ = error(files, sampler="heun", nfe=5)
    many, _, _ = error(files, sampler="heun", nfe=39)
    assert many["rms_error"] < few["rms_error"] / 10
    fine, found, arrays = error(files, sampler="rk4", options={"coordinate": "angle"}, nfe=47)
    assert fine["rms_error"] < 2 * fine["reference_error"]  # as many steps of the same method as the solution has
    assert arrays["squares"].shape == (4,)
    assert found["rms_error"].interval[0] <= fine["rms_error"] <= found["rms_error"].interval[1]


def test_planted_starts_of_another_seed_are_far_from_the_solution(files, monkeypatch):
    right, _, _ = error(files, sampler="heun", nfe=19)
    plain = model_samples.converged
    monkeypatch.setattr(model_samples, "converged", lambda start, *times: plain(start._replace(seed=7), *times))
    wrong, _, _ = error(files, sampler="heun", nfe=19)
    assert wrong["rms_error"] > 5 * right["rms_error"]


def test_a_sampler_with_noise_has_no_solution_to_converge_to(files):
    with pytest.raises(ValueError, match="ddpm adds noise"):
        error(files, sampler="ddpm")


@pytest.mark.parametrize("sampler", ["amed", "dpm_fast", "picard"])
def test_samplers_of_every_kind_run_on_a_network(files, sampler):
    """One that learns, one of single steps, one that asks for a batch of times at once."""
    measured, _, _ = error(files, sampler=sampler, nfe=6)
    assert math.isfinite(measured["rms_error"])


def test_a_flow_is_asked_on_its_own_path(files):
    measured, _, _ = quality(files, "flow", path="rectified_flow", schedule="uniform", sampler="flow_euler")
    assert math.isfinite(measured["fd_fmnist"])
    with pytest.raises(ValueError, match=r"path is edm, and .*flow.safetensors was trained on rectified_flow"):
        quality(files, "flow")
    with pytest.raises(ValueError, match="is no denoiser of images of Fashion-MNIST"):
        quality(files, "classifier")


# guidance on a network


def test_a_neutral_scale_is_the_bare_sampler_bit_for_bit(files):
    bare, _, arrays = quality(files)
    neutral, _, same = guided(files, guidance="classifier_free", scale=1.0)
    assert torch.equal(arrays["grid"], same["grid"])
    assert {name: neutral[name] for name in bare if name != "latency"} == {
        n: v for n, v in bare.items() if n != "latency"
    }
    moved, _, _ = guided(files, guidance="classifier_free", scale=3.0)
    assert moved["fd_fmnist"] != bare["fd_fmnist"]
    assert (neutral["network_evaluations"], moved["network_evaluations"]) == (3, 6)


@pytest.fixture(scope="module")
def bare(files):
    """What the sampler alone keeps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.tasks.guidance.quality.TIMED", 1)
        return guided(files, guidance="classifier_free", scale=1.0)[2]


@pytest.mark.parametrize("name", GUIDANCE)
def test_every_scheme_runs_with_what_it_needs(files, name, bare):
    options = {"interval": {"low": 0.3, "high": 5.0}, "posterior": {"operator": "super_resolution"}}.get(name, {})
    scale = 0.6 if name == "cfg_plus_plus" else 2.0
    measured, found, arrays = guided(files, guidance=name, scale=scale, options=options)
    optional = set() if name == "posterior" else {"misfit"}
    assert set(found) == set(guidance_quality.measures) - optional
    assert all(math.isfinite(value) for value in measured.values())
    assert measured["evaluations"] == 3
    expected = {"classifier": 3, "posterior": 3, "universal": 3, "interval": 4, "cfg_zero_star": 4}.get(name, 6)
    assert measured["network_evaluations"] == expected
    assert not torch.equal(arrays["grid"], bare["grid"]), "it does nothing"


def test_equal_evaluations_of_the_network_are_the_most_that_the_budget_allows(files):
    interval = {"guidance": "interval", "options": {"low": 0.3, "high": 5.0}, "counted": "network", "nfe": 9}
    measured, _, _ = guided(files, **interval)
    assert measured["network_evaluations"] <= 9
    more = GuidedRun(GuidedParameters(network=files["edm"], samples=66, **{**interval, "counted": "calls"}), Context())
    assert more.draw(int(measured["evaluations"]) + 1, more.start._replace(n=1, batch=1), 0).rows > 9
    with pytest.raises(ValueError, match="one call of classifier_free takes more than 1 evaluations"):
        guided(files, guidance="classifier_free", counted="network", nfe=1)


class Pixels(Denoiser):
    """The optimal denoiser of independent Gaussian pixels as wide as posterior guidance takes the data to be."""

    shape, classes, path, description = (1, 28, 28), 10, EDM(), {"path": "edm"}

    def __call__(self, x, t, condition=None):
        share = SPREAD**2 / (SPREAD**2 + torch.as_tensor(t) ** 2)
        return Prediction(self.path, x, t, x0=x * share.to(x))


def test_a_measurement_is_met_to_its_noise_where_the_posterior_is_exact(monkeypatch, files):
    stand_in(monkeypatch, Pixels())
    settings = {"guidance": "posterior", "sampler": "heun", "nfe": 39, "samples": 66}
    free, exact = (guided(files, **settings, scale=scale)[0]["misfit"] for scale in (0.0, 1.0))
    assert free > 10
    assert (
        0.8 < exact < 1.5
    )  # an exact posterior draw has sqrt(2) at most: its own noise beside that of the measurement


def test_what_a_scheme_cannot_have_is_one_line(files):
    with pytest.raises(ValueError, match="operator is 'crop'; inpainting, blurring, super_resolution are accepted"):
        guided(files, guidance="posterior", options={"operator": "crop"})
    with pytest.raises(ValueError, match="is a denoiser; a noisy classifier is accepted"):
        guided(files, guidance="classifier", classifier=files["weak"])
    with pytest.raises(ValueError, match=r"classifier .* is of EDM.*, the model of RectifiedFlow"):
        guided(files, guidance="classifier", network=files["flow"], schedule="uniform")


# checkpoints and hashes


SUITE = """
name = "mine"
[[block]]
task = "sampler_quality"
settings = {{ oracle = "{edm}", path = "edm", nfe = 2, images = 200, samples = 65 }}
axes.sampler = ["ddim", "heun"]
[[block]]
task = "sampler_error"
settings = {{ oracle = "{edm}", path = "edm", nfe = 2, samples = 2 }}
axes.sampler = ["ddim"]
[[block]]
task = "guidance_quality"
settings = {{ network = "{edm}", weak = "{weak}", classifier = "{classifier}", nfe = 2, images = 200, samples = 65 }}
axes.guidance = ["classifier_free", "autoguidance", "universal"]
"""


def cells(folder, files):
    (folder / "mine.toml").write_text(SUITE.format(**files))
    return expand(read(folder / "mine.toml"))


def test_the_hash_of_a_cell_covers_the_weights_of_what_it_names(tmp_path):
    files = {name: write_checkpoint(tmp_path, name) for name in ("edm", "weak", "classifier")}
    first = cells(tmp_path, files)
    assert [len(cell.contents) for cell in first] == [1, 1, 1, 1, 2, 2]
    assert not any(cell.skip for cell in first)
    assert [cell.timing for cell in first] == [False, False, False, True, True, True]  # 65 images are not timed
    assert all("implementations.networks.unet" in cell.modules for cell in first)
    write_checkpoint(tmp_path, "weak", seed=1)
    second = cells(tmp_path, files)
    moved = [one.identity.hash != other.identity.hash for one, other in zip(first, second, strict=True)]
    assert moved == [False, False, False, False, True, False]
    assert [one.identity.key for one in first] == [other.identity.key for other in second]


@pytest.mark.parametrize("damage", ["short", "pickle", "other"])
def test_a_bad_file_is_one_line_and_nothing_runs(tmp_path, command, damage):
    files = {name: write_checkpoint(tmp_path, name) for name in ("edm", "weak", "classifier")}
    place = tmp_path / "edm.safetensors"
    content = place.read_bytes()
    if damage == "short":
        place.write_bytes(content[: len(content) // 2])
    elif damage == "pickle":
        torch.save({"a": torch.zeros(2)}, place)
    else:
        place.write_bytes(content.replace(json.dumps([8, 8]).encode(), json.dumps([8, 9]).encode()))
    (tmp_path / "mine.toml").write_text(SUITE.format(**files))
    code, out, err = command("run", "mine.toml", "--out", "store")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "edm.safetensors" in err
    assert not (tmp_path / "store" / "records").exists() or not list((tmp_path / "store" / "records").iterdir())


def test_where_checkpoints_are_absent_cells_are_skipped_and_a_run_of_nothing_else_is_an_error(tmp_path, command):
    absent = {name: str(tmp_path / f"{name}.safetensors") for name in ("edm", "weak", "classifier")}
    assert {cell.skip for cell in cells(tmp_path, absent) if cell.identity.task == "sampler_error"} == {
        f"no checkpoint {absent['edm']}"
    }
    code, _, err = command("run", "mine.toml", "--dry-run")
    assert code == 0, err
    code, out, err = command("run", "mine.toml", "--out", "store")
    assert (code, out) == (2, "")
    assert err.startswith(f"fidmap: mine: nothing can be run: no checkpoint {absent['edm']}")
    assert err.count("\n") == 1


def test_known_names_say_what_makes_them_and_unknown_ones_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "implementations.catalogue.entry.WeightsEntry.file", property(lambda entry: tmp_path / entry.name)
    )
    parameters = QualityParameters(sampler="ddim", nfe=2, oracle="fmnist-edm", path="edm")
    assert parameters.unavailable("cpu") == "no checkpoint fmnist-edm (made by fidmap train fmnist-edm)"
    need = GuidedParameters(guidance="universal").unavailable("cpu")
    assert need.startswith("no checkpoint fmnist-edm, fmnist-noisy-classifier (made by ")
    assert ErrorParameters(sampler="ddim", nfe=2).unavailable("cpu") == ""
    with pytest.raises(ValidationError, match="did you mean fmnist-edm"):
        ErrorParameters(sampler="ddim", nfe=2, oracle="fmnist-edn")
    with pytest.raises(ValidationError, match="names code"):
        GuidedParameters(guidance="apg", network="mine:load")


def test_every_shipped_name_has_a_recipe():
    from bench.train.recipe import recipes

    assert set(WEIGHTS) <= set(recipes())
