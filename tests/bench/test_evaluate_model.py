"""``fidmap evaluate model`` from outside: exact models in a scratch folder, and figures computed independently."""

import dataclasses
import itertools
import json
import math
import os
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.distance import cdist

from bench.data import fashion_mnist
from bench.evaluate import evaluate_model
from bench.evaluate.models import estimate, quality
from bench.evaluate.models.declarations import ModelParameters, model_quality
from bench.evaluate.models.inputs import load_data
from bench.evaluate.models.report import is_on_front
from bench.evaluate.models.run import Plan
from bench.evaluate.models.template import join_suite
from bench.models.spec import load_model
from bench.plan import suite as suites
from bench.plan.cells import expand
from bench.records.store import Store
from bench.report.front import Figure
from bench.run.worker import _run_cell
from bench.task import Context
from bench.tasks import image_distances
from metrics.extractors import fmnist
from tests.bench.test_model_spec import dit, tiny_autoencoder

MODEL = '''
"""An exact denoiser of a Gaussian in the plane, by hand, as a network of (x, t) that predicts eps."""
import math
import torch
from implementations.diffusion import VP

MEAN, DEVIATION = torch.tensor([0.5, -1.0]), torch.tensor([0.7, 0.2])

class Exact(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.load("weights.pt", weights_only=True))

    def forward(self, x, t):
        b = 0.1 * t + 9.95 * t**2  # the integral of beta
        alpha, sigma2 = (-b / 2).exp()[:, None], -torch.expm1(-b)[:, None]
        return sigma2.sqrt() * (x - alpha * self.mean) / (alpha**2 * DEVIATION**2 + sigma2)

def load():
    return VP(), Exact(), "eps"

def data():
    return MEAN + DEVIATION * torch.randn(300, 2, generator=torch.Generator().manual_seed(5))
'''
PICTURES = '''
import numpy as np
import torch
from implementations.diffusion import EDM

class Pixels(torch.nn.Module):
    """The exact denoiser of independent Gaussian pixels, as a network that predicts x0."""
    def __init__(self):
        super().__init__()
        images = torch.from_numpy(np.load("images.npy"))[:, None].float() / 127.5 - 1
        self.register_buffer("mean", images.mean(0))
        self.register_buffer("variance", images.var(0))

    def forward(self, x, sigma):
        return self.mean + self.variance / (self.variance + sigma.reshape(-1, 1, 1, 1) ** 2) * (x - self.mean)

def load():
    return EDM(), Pixels(), "x0"
'''


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """A folder with a model of one's own, whose modules no other test sees."""
    (tmp_path / "mymodel.py").write_text(MODEL)
    torch.save(torch.tensor([0.5, -1.0]), tmp_path / "weights.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr("bench.evaluate.models.template.count_cores", lambda: 1)  # as the tests share the machine
    clear()
    yield tmp_path
    clear()


def clear():
    load_model.cache_clear()
    load_data.cache_clear()
    for name in ("mymodel", "pictures", "own"):
        sys.modules.pop(name, None)


POINTS = ["evaluate", "model", "mymodel:load", "--data", "mymodel:data", "--samplers", "euler,ddpm", "--nfe", "5,20",
          "--samples", "300", "--batch", "150", "--out", "runs/mine"]  # fmt: skip


def test_points_from_outside(scratch, command):
    code, out, err = command(*POINTS, "--json")
    assert code == 0, err
    assert "4 cells, 0 stored, 4 to run" in err
    found = json.loads(out)
    rows = {(row["sampler"], row["nfe"]): row["figures"] for row in found["rows"]}
    assert list(rows) == [("euler", 5), ("euler", 20), ("ddpm", 5), ("ddpm", 20)]
    assert found["warnings"] == []
    store = Store("runs/mine")
    sys.path.append(str(scratch))
    import mymodel

    truth = mymodel.data().double().numpy()
    for record in store.records():
        nfe = record.cell.parameters["nfe"]
        samples = store.arrays(record)["grid"].double().numpy()
        figures = rows[record.cell.entry, nfe]
        across, inside, outside = cdist(samples, truth), cdist(samples, samples), cdist(truth, truth)
        energy = 2 * across.mean() - (inside.sum() + outside.sum()) / (300 * 299)
        assert figures["energy"]["value"] == pytest.approx(energy, rel=1e-5)
        # 2,000 random directions, of 512 orthonormal ones; both have an error of about 1 %
        angles = np.linspace(0, np.pi, 2000, endpoint=False)
        along = np.stack([np.cos(angles), np.sin(angles)])
        sliced = np.sqrt(((np.sort(samples @ along, 0) - np.sort(truth @ along, 0)) ** 2).mean())
        assert figures["sliced_w2"]["value"] == pytest.approx(sliced, rel=0.02)
        assert figures["evaluations"]["value"] == nfe
        if record.cell.entry == "euler":
            expected = by_hand(samples[:256], nfe)
            assert figures["solver_error"]["value"] == pytest.approx(expected, rel=2e-3)
            low, high = figures["solver_error"]["interval"]
            assert low < expected < high
        else:  # it has noise of its own, and no flow to follow
            assert "solver_error" not in figures
    assert rows["euler", 20]["solver_error"]["value"] < rows["euler", 5]["solver_error"]["value"] / 3
    assert (scratch / "runs/mine/report/pareto.png").stat().st_size > 5000
    assert (scratch / "runs/mine/report/samples.png").stat().st_size > 5000

    code, out, err = command(*POINTS)  # it resumes
    assert code == 0
    assert "4 cells, 4 stored, 0 to run" in err
    assert [line.split("|")[1:3] for line in out.splitlines()[4:8]] == [
        [" euler     ", " 5     "], [" euler     ", " 20    "], [" ddpm      ", " 5     "], [" ddpm      ", " 20    "]
    ]  # fmt: skip

    report = evaluate_model(  # and from Python
        "mymodel:load", data="mymodel:data", samplers=["euler", "ddpm"], nfe=[5, 20], samples=300, batch=150,
        out="runs/mine", tell=lambda line: None,
    )  # fmt: skip
    assert json.loads(json.dumps(report.as_dict())) == found

    (scratch / "mymodel.py").write_text(f"open('executed', 'w')\n{MODEL}")  # what a store names is not imported
    clear()
    assert command("table", "--out", "runs/mine")[0] == 0
    assert command("compare", "runs/mine", "runs/mine")[0] == 0
    assert not (scratch / "executed").exists()

    (scratch / "mymodel.py").write_text(MODEL)
    torch.save(torch.tensor([0.5, -1.001]), scratch / "weights.pt")  # other weights are another model
    clear()
    code, out, err = command(*POINTS, "--dry-run")
    assert code == 0
    # 300 samples in 2 whole batches and 6 more to time; 256 starts by 80 and by 40 steps of four evaluations
    assert f"{(5 + 20) * 2 * (300 + 6 * 150) + 256 * 4 * (80 + 40):,} evaluations" in out
    assert "4 cells, 4 to run" in out


def test_a_cell_of_points_names_neither_extractor_nor_range(scratch, command):
    _, out, _ = command(*POINTS, "--dry-run")
    names = [line for line in out.splitlines() if line.startswith("run ")]
    assert len(names) == 4
    assert not any(word in name for name in names for word in ("extractor", "range", "None"))
    for option, value in (("--extractor", "fmnist"), ("--range", "-1,1")):
        code, out, err = command(*POINTS, option, value, "--dry-run")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"{option} is of images" in err


@pytest.mark.parametrize("images", [False, True], ids=["points", "images"])
def test_the_dry_run_counts_what_a_comparison_with_data_calls(scratch, command, monkeypatch, images):
    """Where every call takes one second, the estimate is the number of calls of the distance with its interval."""
    data = "images.npy" if images else "mymodel:data"
    if images:
        np.save("images.npy", np.random.default_rng(0).integers(0, 256, (400, 28, 28), dtype=np.uint8))
        (scratch / "pictures.py").write_text(PICTURES)
    parameters = ModelParameters(
        model="pictures:load" if images else "mymodel:load", sampler="ddim", nfe=5, data=data, samples=120
    )
    loaded = load_data(data, -1.0, 1.0)
    place, name = (image_distances, "frechet_of_features") if images else (quality, "sliced_wasserstein")
    plain, calls = getattr(place, name), 0

    def count(*sides):
        nonlocal calls
        calls += 1
        return plain(*sides)

    monkeypatch.setattr(place, name, count)
    samples = torch.randn(120, *loaded.shape)
    quality._compare(parameters, samples, loaded, Context())
    monkeypatch.setattr(place, name, plain)
    monkeypatch.setattr(estimate, "_time", lambda function, *arguments: (function(*arguments), 1.0))
    found = estimate.estimate_judging(parameters, loaded, "cpu", 1, 1)
    features = (2 * 120 + 400) / 64 if images else 0  # decoded and extracted in batches of 64
    # And one call of KID or energy distance. Floors are counted at two sizes, the dearer of their two ways.
    assert calls + 1 + features <= found <= calls + 1 + features + 20
    assert estimate.estimate_judging(parameters, loaded, "cpu", 0, 0) == 0


def by_hand(ends, nfe):
    """The RMS distance of Euler's ends in sigma on Karras's grid to the exact ends of the same starts, by hand.

    Both maps are affine per coordinate, so that the ends give the starts. In y = x/alpha and r = sigma/alpha, the
    flow of N(m, s^2) is ``m + sqrt(s^2 + r^2) const``, and Euler takes ``y + (r_next - r) r (y - m) / (s^2 + r^2)``.
    """
    mean, deviation = np.array([0.5, -1.0]), np.array([0.7, 0.2])
    high, low, rho = 80.0, 0.002, 7
    steps = np.linspace(0, 1, nfe) if nfe > 1 else np.zeros(1)
    r = np.append((high ** (1 / rho) + steps * (low ** (1 / rho) - high ** (1 / rho))) ** rho, 0.0)
    gain = np.ones(2)
    for here, there in itertools.pairwise(r):
        gain = gain * (1 + (there - here) * here / (deviation**2 + here**2))
    start = (ends - mean) / gain
    exact = mean + start * deviation / np.sqrt(deviation**2 + r[0] ** 2)
    return math.sqrt(((ends - exact) ** 2).mean())


def test_images_from_outside(scratch, command, monkeypatch):
    monkeypatch.setenv("FIDMAP_CACHE", str(scratch / "cache"))
    (scratch / "pictures.py").write_text(PICTURES)
    images = fashion_mnist.load("test")[0][:400]
    np.save(scratch / "images.npy", images.numpy())
    code, out, err = command(
        "evaluate", "model", "pictures:load", "--data", "images.npy", "--samplers", "dpmpp_2m", "--nfe", "8",
        "--samples", "200", "--batch", "100", "--json",
    )  # fmt: skip
    assert code == 0, err
    (row,) = json.loads(out)["rows"]
    store = Store("runs/model-pictures-load")
    (record,) = store.records()
    drawn = store.arrays(record)["features"].double().numpy()
    real = fmnist.extract(images[:, None].float() / 255).double().numpy()
    apart = ((drawn.mean(0) - real.mean(0)) ** 2).sum()
    one, two = np.cov(drawn.T), np.cov(real.T)
    distance = apart + np.trace(one) + np.trace(two) - 2 * np.trace(scipy.linalg.sqrtm(one @ two).real)
    assert row["figures"]["fd"]["value"] == pytest.approx(distance, rel=1e-4)
    kernel = lambda a, b: (a @ b.T / 64 + 1) ** 3  # noqa: E731
    inner = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(drawn, drawn), kernel(real, real))]
    assert row["figures"]["kid"]["value"] == pytest.approx(sum(inner) - 2 * kernel(drawn, real).mean(), rel=1e-4)
    floor = row["figures"]["fd_floor"]
    assert floor["interval"][0] < floor["value"] < row["figures"]["fd"]["value"]  # pixels are not independent
    assert store.arrays(record)["grid"].dtype is torch.uint8
    assert row["front"]


def test_the_converged_solution_is_the_exact_flow(scratch):
    """Of a sampler of order four with many steps, the error to it is that of both: the flow itself is no other."""
    context = Context()
    parameters = ModelParameters(
        model="mymodel:load", sampler="rk4", nfe=320, samples=256, batch=256, data="mymodel:data"
    )
    found = model_quality.run(parameters, context)
    assert found["solver_error"].value < 1e-4
    assert found["reference_error"] < 1e-4
    assert found["evaluations"] <= 320


def test_conditions_reach_their_samples_in_every_batch(scratch):
    (scratch / "own.py").write_text(
        "import torch\nfrom implementations.diffusion import VP, MixtureOracle\n"
        "def load():\n"
        "    means = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]]).double()\n"
        "    return MixtureOracle(VP(), means, torch.full((3,), 1e-4).double(), torch.ones(3), torch.arange(3))\n"
        "def classes(n): return torch.arange(n) % 3\n"
    )
    context = Context()
    parameters = ModelParameters(
        model="own:load", sampler="ddpm", nfe=20, samples=100, batch=32, condition="own:classes"
    )
    found = model_quality.run(parameters, context)
    assert set(found) == {"latency", "evaluations"}  # there are no data
    means = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]])
    assert (context.arrays["grid"] - means[torch.arange(100) % 3]).abs().max() < 0.2


def test_a_latent_model_of_diffusers_is_judged_by_its_decoded_images(scratch, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    monkeypatch.setenv("FIDMAP_CACHE", str(scratch / "cache"))
    network = dit()
    coder = tiny_autoencoder()
    network.save_pretrained("latent/transformer")
    coder.save_pretrained("latent/vae")
    diffusers.DDIMScheduler().save_pretrained("latent/scheduler")
    (scratch / "own.py").write_text("import torch\ndef labels(n): return torch.arange(n) % 1000\n")
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8))
    context = Context(keep_samples=True)
    parameters = ModelParameters(
        model="latent", sampler="ddpm", nfe=2, samples=66, batch=33, condition="own:labels", data="images.npy",
    )  # fmt: skip
    found = model_quality.run(parameters, context)
    assert context.arrays["samples"].shape == (66, 1, 8, 8)  # latents are of 4 x 4
    assert found["fd"].value > 0


def test_samples_do_not_depend_on_the_batch(scratch):
    grids = []
    for batch in (7, 64):
        context = Context()
        parameters = ModelParameters(
            model="mymodel:load", sampler="ddpm", nfe=4, samples=20, batch=batch, data="mymodel:data"
        )
        model_quality.run(parameters, context)
        grids.append(context.arrays["grid"])
    assert torch.allclose(*grids, atol=1e-5)


def test_the_hash_of_a_cell_covers_weights_and_data_and_is_taken_again(scratch):
    def cells():
        clear()
        plan = Plan.make("mymodel:load", ["euler"], [2], "karras", "mymodel:data", None, None, None, 1, 50, 64,
                         "cpu")  # fmt: skip
        return expand(plan.suite)

    (first,), (same,) = cells(), cells()
    assert first.identity.hash == same.identity.hash
    assert [name for name, _ in first.contents] == ["data", "model"]
    torch.save(torch.tensor([0.5, -1.5]), scratch / "weights.pt")
    ((other,),) = (cells(),)
    assert other.identity.hash != first.identity.hash
    assert other.identity.key == first.identity.key  # the same question, so that `fidmap compare` has an answer

    class Untouched:
        def require(self, *_):
            pass

        def restore(self, *_):
            pass

    stale = dataclasses.replace(other, contents=first.contents)
    outcome = _run_cell(stale, False, Untouched(), Untouched())
    assert outcome.status == "failed"
    assert "not as they were when the cell was planned: model" in outcome.error


def test_a_wrong_convention_is_warned_of_before_sampling(scratch, command):
    source = MODEL.replace('"eps"', '"v"')
    (scratch / "mymodel.py").write_text(source)
    code, _, err = command(*POINTS, "--dry-run")
    assert code == 0
    assert "head eps, not v" in err


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 5.0, None), (2, 3.0, None), (3, 4.0, None)], [True, True, False]),
        ([(1, 5.0, (4, 6)), (2, 5.5, (4.5, 6.5))], [True, True]),  # not told apart
        ([(1, 5.0, (4.9, 5.1)), (2, 5.5, (5.4, 5.6))], [True, False]),
        ([(2, 5.0, (4.9, 5.1)), (1, 5.5, (5.4, 5.6))], [True, True]),  # it costs more
    ],
)
def test_a_point_is_dominated_beyond_its_interval_alone(points, front):
    found = [{"latency": Figure(t), "fd": Figure(value, interval)} for t, value, interval in points]
    assert [is_on_front(one, found, "fd") for one in found] == front


def test_a_suite_of_samplers_takes_a_model_as_one_more_oracle(scratch, command):
    code, out, err = command("run", "quick", "--model", "mymodel:load", "--data", "mymodel:data", "--dry-run")
    assert code == 0, err
    cells = [line.split()[1] for line in out.splitlines() if "model_quality" in line]
    # five samplers at 5, 10, 20 and 40 evaluations; the rows of other paths are no others
    assert len(cells) == len(set(cells)) == 20
    code, _, err = command("run", "iou", "--model", "mymodel:load", "--dry-run")
    assert code == 2
    assert err == ("fidmap: --model: iou runs no samplers at a budget; a suite with sampler_quality, sampler_latency, "
                   "sampler_error does\n")  # fmt: skip


def test_a_joined_block_keeps_schedules_options_and_seeds():
    suite = suites.read(suites.find("samplers"))
    joined = join_suite(suite, {"model": "a:b", "extractor": "fmnist"}, quality="fd", xlabel="")
    own = [block for block in joined.block if block.task == "model_quality"]
    assert len(own) == sum(block.task in ("sampler_quality", "sampler_latency") for block in suite.block)
    assert own[0].seeds == [0, 1, 2]
    assert own[1].axes["schedule"] == ["uniform", "quadratic", "log_snr", "cosine", "gits"]
    assert all("oracle" not in {*block.axes, *block.settings} for block in own)


BAD = [
    (["mymodel"], ["'mymodel'", "MODULE:FUNCTION"]),
    (["mymodel:nothing"], ["mymodel:nothing", "cannot be imported"]),
    (["mymodel:MEAN"], ["mymodel:MEAN", "a function is accepted"]),
    (["hf:no"], ["hf:no", "MODULE:FUNCTION"]),
    (["."], ["config.json"]),
    (["--samplers", "heum"], ["--samplers", "heum", "heun"]),
    (["--samplers", ""], ["--samplers", "empty"]),
    (["--samplers", "ddim_inversion"], ["ddim_inversion", "from data to noise"]),
    (["--samplers", "mymodel:nothing"], ["--samplers", "mymodel:nothing"]),
    (["--nfe", "5,x"], ["--nfe", "5,x"]),
    (["--nfe", "0"], ["--nfe", "from 1"]),
    (["--nfe", ""], ["--nfe", "empty"]),
    (["--nfe", ","], ["--nfe", "from 1"]),
    (["--schedule", "karas"], ["--schedule", "karas", "karras"]),
    (["--data", "nothing"], ["nothing", "no such file"]),
    (["--data", "mymodel:load"], ["--data", "mymodel:load", "a tensor is accepted"]),
    (["--data", "mymodel:nothing"], ["--data", "cannot be imported"]),
    (["--data", "fashion_mnist", "--extractor", "fmnis"], ["--extractor", "fmnist"]),
    (["--condition", "mymodel"], ["--condition", "MODULE:FUNCTION"]),
    (["--condition", "mymodel:bad"], ["--condition", "returned"]),
    (["--range", "1,-1"], ["--range", "the lower first"]),
    (["--range", "1"], ["--range", "two numbers"]),
    (["--range", "a,b"], ["--range", "a,b"]),
    (["--range", "-inf,inf"], ["--range", "finite"]),
    (["--range", "nan,1"], ["--range", "finite"]),
    (["--nfe", "9" * 25], ["--nfe", "to 10000"]),
    (["--seeds", "0"], ["--seeds"]),
    (["--samples", "1"], ["--samples"]),
    (["--batch", "0"], ["--batch"]),
    (["--device", "tpu"], ["tpu", "cpu, cuda"]),
    (["--out", "weights.pt"], ["weights.pt", "is a file"]),
    (["--frobnicate"], ["--frobnicate"]),
]


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=lambda value: " ".join(value) if value else "")
def test_bad_input_is_one_line(scratch, command, arguments, says):
    with (scratch / "mymodel.py").open("a") as file:
        file.write("\ndef bad(n):\n    return torch.zeros(n + 1)\n")
    spec = [] if arguments[0].startswith("--") else [arguments[0]]
    options = arguments[len(spec) :]
    given = {"--data": "mymodel:data"} if "--data" not in options else {}
    code, out, err = command(
        "evaluate", "model", *(spec or ["mymodel:load"]), *(part for pair in given.items() for part in pair), *options,
        "--dry-run",
    )  # fmt: skip
    assert code == 2, (out, err)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("fidmap: ")
    for part in says:
        assert part in err


def test_without_data_a_shape_is_needed(scratch, command):
    code, _, err = command("evaluate", "model", "mymodel:load", "--dry-run")
    assert code == 2
    assert "nothing says what shape a sample has; --data" in err
    code, _, err = command("run", "quick", "--data", "mymodel:data", "--dry-run")
    assert (code, err) == (2, "fidmap: --data goes with --model\n")


def test_a_model_that_breaks_is_one_line(scratch, command):
    (scratch / "mymodel.py").write_text(MODEL.replace("self.mean)", "self.mean[:1, None, None])"))
    code, _, err = command(*POINTS)
    assert code == 2
    assert "mymodel:load: cannot be asked about 256 samples of shape (2,)" in err
    assert not os.path.exists("runs/mine/records") or not os.listdir("runs/mine/records")
