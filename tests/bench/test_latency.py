"""latency without a clock: operations against a count by hand, memory, equal weights, and what cannot run here."""

import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

import bench.tasks.networks.declarations as declarations
import bench.tasks.networks.latency as module
from bench.errors import UsageError
from bench.plan.cells import expand
from bench.plan.suite import find, read
from bench.report.panels import require_array
from bench.task import Context
from bench.tasks.cost import count_flops, measure_peak
from bench.tasks.networks.declarations import CHECKPOINTS, LatencyParameters, latency
from bench.tasks.networks.equal import draw_inputs, make_networks
from bench.tasks.networks.sizes import SIZES
from bench.timing import Timing
from bench.train.recipe import load_recipe, recipes
from implementations.networks import NETWORKS
from implementations.weights import build, hash_weights

diffusers = pytest.importorskip("diffusers")
PAIRS = {"unet": ["diffusers_unet", "unet"], "dit": ["diffusers_dit", "dit"]}


def pass_of(network, given):
    return lambda: network(*given)


# operations


def test_operations_of_a_dit_are_those_of_its_products_by_hand():
    """Patches, time, label, modulations, per block queries, keys, values, both products of attention, out, and MLP."""
    n, width, depth, heads, patch, channels, side, labels = 3, 16, 2, 2, 2, 4, 8, 5
    network = NETWORKS["dit"](channels, size=side, patch=patch, width=width, depth=depth, heads=heads, classes=labels)
    tokens, pixels = (side // patch) ** 2, channels * patch**2
    frequencies = network.time.enter.in_features
    block = tokens * width * (3 * width + width + 8 * width) + 2 * tokens**2 * width
    once = frequencies * width + width * width + (6 * depth + 2) * width * width
    by_hand = 2 * n * (tokens * width * pixels * 2 + depth * block + once)
    given = torch.randn(n, channels, side, side), torch.arange(n).float(), torch.arange(n)
    with torch.inference_mode():
        assert count_flops(pass_of(network, given)) == by_hand


def test_operations_of_a_unet_are_those_of_its_convolutions_by_hand():
    """One level of 8 channels with attention: two blocks in the middle, one on the way down, two on the way up."""
    n, width, side, channels = 2, 8, 4, 1
    network = NETWORKS["unet"](channels, widths=[width], depth=1, attention=[True], groups=4)
    pixels, time_width = side * side, 4 * width

    def convolve(enter, leave, size=3):
        return pixels * enter * leave * size**2

    attention = 4 * pixels * width * width + 2 * pixels**2 * width
    block = 2 * convolve(width, width)
    joined = convolve(2 * width, width) + convolve(width, width) + convolve(2 * width, width, 1)  # with its shortcut
    ends = convolve(channels, width) + convolve(width, channels)
    times = width * time_width + time_width**2 + 5 * time_width * width
    by_hand = 2 * n * (ends + 3 * block + 2 * joined + 4 * attention + times)
    given = torch.randn(n, channels, side, side), torch.zeros(n)
    with torch.inference_mode():
        assert count_flops(pass_of(network, given)) == by_hand


def test_attention_counts_although_its_fused_kernel_does_not():
    """torch counts nothing of the kernel that attention takes on a CPU; the count must not depend on the kernel."""
    q = torch.randn(2, 4, 16, 8)
    assert count_flops(lambda: nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * 2 * (2 * 4 * 16 * 16 * 8)


# memory


def test_peak_memory_is_what_lives_at_once():
    """Two tensors of 4 MB at a time, of which three are made; and none where nothing is."""
    x = torch.zeros(1_000_000)

    def three():
        a = x + 1
        b = a + 1
        del a
        return b + 1

    assert measure_peak(three) == pytest.approx(8e6, rel=0.01)
    assert measure_peak(lambda: x.add_(1)) < 1000


def test_peak_memory_grows_with_the_batch():
    (network,) = make_networks(["unet"], SIZES["unet"]["fmnist"]).values()
    with torch.inference_mode():
        small, large = (
            measure_peak(pass_of(network, draw_inputs(SIZES["unet"]["fmnist"], batch))) for batch in (4, 16)
        )
    assert 3 < large / small < 4.5


# equal weights


@pytest.mark.parametrize("kind", PAIRS)
def test_a_pair_gives_the_same_and_a_changed_weight_shows(kind):
    size = SIZES[kind]["fmnist"]
    networks, given = make_networks(PAIRS[kind], size), draw_inputs(size, 3)
    with torch.inference_mode():
        theirs, ours = (network(*given) for network in networks.values())
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5
        next(iter(networks[kind].parameters())).mul_(1.1)  # the planted bug
        assert float((networks[kind](*given) - theirs).abs().max() / theirs.abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("size", "name"), [("fmnist", "unet_fmnist"), ("small", "unet_small"), ("cifar", "unet_large")]
)
def test_the_sizes_of_the_unet_are_those_of_the_catalogue(size, name):
    with torch.device("meta"):
        ours, named = module.make_networks(["unet"], SIZES["unet"][size])["unet"], NETWORKS[name]()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in named.parameters())


# the task, with a clock that reads what it is told


def tell_times(monkeypatch, seconds):
    """In place of the clock: each network takes ``seconds[name](batch)``; returns the batches that were tried."""
    tried = []

    def measured(functions, **how):
        batches = {name: len(function.args[0]) for name, function in functions.items()}
        tried.append(batches)
        return {name: Timing((seconds[name](batch),) * 20, 3, 1) for name, batch in batches.items()}

    monkeypatch.setattr(module, "measure", measured)
    return tried


def run(**parameters):
    context = Context()
    return latency.run(LatencyParameters(**parameters), context), context


def value(measure):
    return getattr(measure, "value", measure)


def test_the_best_batch_is_where_images_per_second_are_most(monkeypatch):
    """One gains by batches up to 4 and one by none; batch 16 is not tried, since nobody gained by 8."""

    def ours_takes(n):
        return 0.004 + 0.004 * min(n, 4) + 0.02 * max(n - 4, 0)

    tried = tell_times(monkeypatch, {"diffusers_unet": lambda n: 0.010 * n, "unet": ours_takes})
    found, context = run(networks=PAIRS["unet"], size="fmnist", batches=[1, 2, 4, 8, 16])
    assert [batches["unet"] for batches in tried] == [1, 2, 4, 8, 4]
    assert tried[-1] == {"diffusers_unet": 1, "unet": 4}
    theirs, ours = found["diffusers_unet"], found["unet"]
    assert value(theirs["time"]) == pytest.approx(10)
    assert value(ours["time"]) == pytest.approx(8)
    assert value(ours["ratio"]) == pytest.approx(0.8)
    assert (theirs["batch"], ours["batch"]) == (1, 4)
    assert value(ours["throughput"]) == pytest.approx(4 / 0.020)
    assert value(ours["ratio_throughput"]) == pytest.approx(0.5)
    assert value(theirs["ratio"]) == value(theirs["ratio_throughput"]) == 1
    assert context.arrays["batches.unet"].tolist() == [1, 2, 4, 8]
    assert ours["flops"] == theirs["flops"]
    assert ours["parameters"] == theirs["parameters"]
    assert ours["difference"] < 1e-5
    assert 0 < ours["memory"] < 1.05 * theirs["memory"]
    assert set(ours) | {"compile"} == set(latency.measures)


def test_a_plot_reads_of_each_network_its_own_array(record):
    arrays = {"batches.unet": [1], "batches.diffusers_unet": [2], "steps": [3]}
    assert require_array(arrays, "@batches", record(entry="unet")) == [1]
    assert require_array(arrays, "@batches", record(entry="diffusers_unet")) == [2]
    assert require_array(arrays, "@steps", record(entry="unet")) == [3]
    with pytest.raises(UsageError, match="dit keeps no array '@batches'"):
        require_array(arrays, "@batches", record(entry="dit"))


def test_a_network_alone_has_no_ratio_and_weighs_half_in_half_precision(monkeypatch):
    tell_times(monkeypatch, {"dit": lambda n: 0.01 * n})
    settings = {"networks": ["dit"], "size": "fmnist", "batches": [1]}
    single, half = (run(**settings, dtype=dtype)[0]["dit"] for dtype in ("float32", "bfloat16"))
    assert not {"ratio", "ratio_throughput", "difference"} & set(single)
    assert half["memory"] < 0.75 * single["memory"]
    assert half["flops"] == single["flops"]


def test_work_that_is_left_out_shows(monkeypatch):
    """The planted bug: a network that skips what it has to do is faster, and says so by its output and operations."""
    tell_times(monkeypatch, dict.fromkeys(PAIRS["unet"], lambda n: 0.01 * n))

    def lazy(names, size, seed=0):
        networks = make_networks(names, size, seed)
        networks["unet"].middle.blocks[0].conv1 = nn.Conv2d(72, 72, 1)
        return networks

    monkeypatch.setattr(module, "make_networks", lazy)
    found, _ = run(networks=PAIRS["unet"], size="fmnist", batches=[1])
    assert found["unet"]["difference"] > 1e-3
    assert found["unet"]["flops"] < 0.99 * found["diffusers_unet"]["flops"]


def test_a_checkpoint_is_measured_with_what_surrounds_it(monkeypatch, tmp_path):
    configuration = {"channels": 1, "widths": [8], "attention": [False], "groups": 4, "classes": 10}
    description = {
        "network": "unet", "configuration": configuration, "path": "edm", "head": "x0", "sigma_data": 0.5,
        "shape": [1, 28, 28], "classes": 10,
    }  # fmt: skip
    weights = {key: value.contiguous() for key, value in build(description).state_dict().items()}
    save_file(weights, tmp_path / "fmnist-edm.safetensors", {"model": json.dumps(description)})
    (tmp_path / "fmnist-edm.json").write_text(json.dumps({"weights_hash": hash_weights(weights)}))
    monkeypatch.setattr("implementations.weights.files.FOLDER", tmp_path)
    tell_times(monkeypatch, {"fmnist-edm": lambda n: 0.01 * n})
    parameters = {"networks": ["fmnist-edm"], "batches": [1]}
    assert LatencyParameters(**parameters).unavailable("cpu") == ""
    assert set(LatencyParameters(**parameters).contents()) == {"fmnist-edm"}
    found, _ = run(**parameters)
    assert found["fmnist-edm"]["parameters"] == sum(w.numel() for w in weights.values()) / 1e6


# what cannot run here


def test_what_cannot_run_here_is_a_row_that_says_why(monkeypatch):
    monkeypatch.setattr("implementations.weights.shipped", lambda: [])
    graph = LatencyParameters(networks=["unet"], size="small", mode="cuda_graph")
    assert graph.unavailable("cpu") == "a CUDA graph needs a GPU (--device cuda): not measured here"
    assert graph.unavailable("cuda:1") == ""
    compiled = LatencyParameters(networks=["unet"], size="small", mode="compiled")
    monkeypatch.setattr(declarations, "compiling_lacks", lambda device: "a C++ compiler")
    assert compiled.unavailable("cpu") == "torch.compile lacks a C++ compiler: not measured here"
    absent = LatencyParameters(networks=["fmnist-weak"]).unavailable("cpu")
    assert absent == "fmnist-weak does not come with fidmap yet (fidmap train fmnist-weak)"
    skipped = {cell.skip for cell in expand(read(find("latency"))) if cell.skip}
    assert {graph.unavailable("cpu"), compiled.unavailable("cpu"), absent} <= skipped


def test_the_suite_has_each_network_at_three_sizes_and_every_checkpoint():
    suite = read(find("latency"))
    cells = [cell.identity for cell in expand(suite)]
    plain = [c for c in cells if (c.parameters["mode"], c.parameters["dtype"]) == ("eager", "float32")]
    assert {(c.entries[-1], c.parameters["size"]) for c in plain if c.parameters["size"]} == {
        (kind, size) for kind, sizes in SIZES.items() for size in sizes
    }
    assert {c.entry for c in plain if not c.parameters["size"]} == set(CHECKPOINTS)
    assert {c.parameters["mode"] for c in cells} == {"eager", "compiled", "cuda_graph"}


def test_the_checkpoints_are_the_recipes_of_denoisers():
    tasks = {name: load_recipe(name).task for name in recipes()}
    assert {name for name, task in tasks.items() if task in ("denoiser", "reflow", "consistency")} == set(CHECKPOINTS)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"networks": ["unte"], "size": "small"}, "no network named 'unte'; there are unet, diffusers_unet, dit"),
        ({"networks": ["unet", "dit"], "size": "small"}, "those of one architecture, or checkpoints, take turns"),
        ({"networks": ["unet"], "size": "base"}, "fmnist, small, cifar are accepted, got 'base'"),
        ({"networks": ["unet"]}, "fmnist, small, cifar are accepted, got ''"),
        ({"networks": ["fmnist-edm"], "size": "small"}, "a checkpoint has its own, got 'small'"),
        ({"networks": ["unet"], "size": "small", "batches": [2, 4]}, "rising numbers from 1 on are accepted"),
    ],
)  # fmt: skip
def test_what_is_no_network_or_size_is_refused(parameters, says):
    with pytest.raises(ValidationError, match=says):
        LatencyParameters(**parameters)
