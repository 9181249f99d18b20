import copy
import json
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save

from implementations.diffusion import EDM, VP, Network, RectifiedFlow
from implementations.networks import NETWORKS, Preconditioned
from implementations.networks.blocks import TimeEmbedding
from implementations.networks.dit import positions
from implementations.networks.half import GroupNorm, attend
from tests.implementations.networks.small import CONFIGURATIONS, build, inputs

NAMES = list(CONFIGURATIONS)
CLASSES = ["unet-classes", "dit"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [8, 12])
def test_output_has_the_shape_of_the_input_and_twice_the_channels_with_a_variance(name, size):
    x, time, condition = inputs(name, size=size)
    out = build(name)(x, time, condition)
    assert out.shape == (3, 4 if name == "dit-variance" else 2, size, size)
    assert out.dtype == torch.float32
    assert out.is_contiguous()


def test_sizes_that_are_odd_or_not_square_work():
    x, time, _ = inputs("unet")
    assert build("unet")(x[:, :, :7, :5], time).shape == (3, 2, 7, 5)
    assert build("dit")(x[:, :, :4, :6], time).shape == (3, 2, 4, 6)


@pytest.mark.parametrize("name", NAMES)
def test_a_scalar_time_is_that_time_for_every_sample(name):
    x, _, condition = inputs(name)
    network = build(name)
    many = network(x, torch.full((3,), 0.4), condition)
    for one in (0.4, torch.tensor(0.4)):
        assert_close(network(x, one, condition), many)
    assert not torch.allclose(network(x, 0.6, condition), many, atol=1e-3)  # and time matters


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_does_not_depend_on_its_batch(name):
    x, time, condition = inputs(name)
    network = build(name)
    whole = network(x, time, condition)
    parts = [
        network(x[i : i + 1], time[i : i + 1], None if condition is None else condition[i : i + 1]) for i in (0, 1, 2)
    ]
    assert_close(whole, torch.cat(parts))


@pytest.mark.parametrize("name", CLASSES)
def test_the_label_after_the_last_class_is_the_dropped_one_and_none_drops_all(name):
    x, time, labels = inputs(name)
    network = build(name)
    dropped = network(x, time, None)
    assert torch.equal(network(x, time, torch.full((3,), 5)), dropped)
    mixed = network(x, time, torch.tensor([0, 5, 2]))
    assert_close(mixed[1], dropped[1])
    assert not torch.allclose(mixed[0], dropped[0], atol=1e-3)
    assert_close(mixed[0], network(x, time, labels)[0])


def test_tokens_as_the_condition_matter_sample_by_sample():
    x, time, tokens = inputs("unet-context")
    network = build("unet-context")
    before = network(x, time, tokens)
    tokens[1] += 1
    after = network(x, time, tokens)
    assert_close(after[[0, 2]], before[[0, 2]])
    assert not torch.allclose(after[1], before[1], atol=1e-3)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "condition", "message"),
    [
        ("dit", torch.tensor([0, 6, 1]), "class 6 is none: labels go from 0 to 5, of which 5 is the dropped one"),
        ("unet-classes", torch.tensor([-1, 0, 0]), "class -1 is none"),
        ("dit", torch.tensor([0.0, 1.0, 2.0]), r"class labels, int64 of shape \(3,\), got torch.float32"),
        ("dit", torch.tensor([0, 1]), r"class labels, int64 of shape \(3,\), got torch.int64 \(2,\)"),
        ("dit", [0, 1, 2], "class labels, int64 of shape .* got list"),
        ("unet", torch.tensor([0, 1, 2]), "takes no condition"),
        ("dit-variance", torch.tensor([0, 1, 2]), "takes no condition"),
        ("unet-context", None, r"tokens of shape \(3, tokens, 12\), got NoneType"),
        ("unet-context", torch.zeros(3, 4, 11), r"tokens of shape \(3, tokens, 12\), got \(3, 4, 11\)"),
    ],
)
def test_a_wrong_condition_is_one_clear_line(name, condition, message):
    x, time, _ = inputs(name)
    with pytest.raises(ValueError, match=message) as raised:
        build(name)(x, time, condition)
    assert "\n" not in str(raised.value)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("kind", "configuration", "message"),
    [
        ("unet", {"widths": [16, 20], "attention": False, "groups": 8}, "multiple of groups"),
        ("unet", {"attention": [True]}, "attention has 1 values for 4 widths"),
        ("unet", {"classes": 3, "context": 8}, "exclude each other"),
        ("unet", {"embedding": "learned"}, "sinusoidal or fourier, got 'learned'"),
        ("dit", {"width": 30, "heads": 4}, "multiple of heads"),
        ("dit", {"size": 9}, "multiple of patch"),
    ],
)
def test_a_configuration_that_does_not_fit_together_is_refused(kind, configuration, message):
    with pytest.raises(ValueError, match=message):
        NETWORKS[kind](**configuration)


@pytest.mark.unchecked
def test_wrong_times_and_sizes_are_refused():
    x, time, _ = inputs("dit")
    with pytest.raises(ValueError, match=r"a scalar or of shape \(3,\), got \(2,\)"):
        build("dit")(x, time[:2])
    with pytest.raises(ValueError, match="multiples of patch"):
        build("dit")(x[:, :, :7], time)
    with pytest.raises(ValueError, match="needs a condition"):
        build("dit", droppable=False)(x, time)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_built_again_from_its_configuration_and_saved_weights(name):
    network = build(name)
    configuration = json.loads(json.dumps(network.configuration))
    assert configuration == network.configuration
    again = NETWORKS[CONFIGURATIONS[name][0]](**configuration).eval()
    again.load_state_dict(load(save({key: value.contiguous() for key, value in network.state_dict().items()})))
    assert torch.equal(again(*inputs(name)), network(*inputs(name)))
    assert again.configuration == network.configuration
    assert torch.equal(copy.deepcopy(network)(*inputs(name)), network(*inputs(name)))


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_of_memory_changes_nothing(name):
    x, time, condition = inputs(name)
    network = build(name)
    planes = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    expected = network(x, time, condition)
    assert_close(network(x.contiguous(memory_format=torch.channels_last), time, condition), expected)
    assert_close(planes(x, time, condition), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_leaves_its_input_as_it_was(name):
    given = inputs(name)
    kept = [None if value is None else value.clone() for value in given]
    with torch.no_grad():  # where activations are in place
        build(name)(*given)
    assert all(value is None or torch.equal(value, before) for value, before in zip(given, kept, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_flow_everywhere_at_initialisation_but_behind_zeros(name):
    kind, configuration = CONFIGURATIONS[name]
    torch.manual_seed(0)
    network = NETWORKS[kind](**configuration)
    network(*inputs(name)).square().mean().add(network(*inputs(name)).sum()).backward()
    still = {key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    if kind == "dit":  # adaLN-zero: the modulations and the head are 0, so the head alone sees a gradient
        assert {key for key, _ in network.named_parameters()} - still == {"head.weight", "head.bias"}
        assert not network(*inputs(name)).any()
    else:
        assert not still
    stirred = build(name)
    stirred(*inputs(name)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in stirred.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_finite_differences(name):
    network = build(name).double()
    x, time, condition = inputs(name, n=1)
    x, time = x.double().requires_grad_(), time.double()
    condition = condition.double() if condition is not None and condition.is_floating_point() else condition
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    network(x, time, condition).square().sum().backward()
    with torch.no_grad():
        ends = [network(x + h * direction, time, condition).square().sum() for h in (1e-5, -1e-5)]
    slope = (ends[0] - ends[1]) / 2e-5
    # steps of 1e-5 leave 1e-10 of curvature and 1e-11 of rounding, each relative
    torch.testing.assert_close((x.grad * direction).sum(), slope, rtol=1e-6, atol=0)


def test_half_precision_tells_late_times_apart():
    torch.manual_seed(0)
    exact = TimeEmbedding(64, 64)
    rounded = copy.deepcopy(exact).bfloat16()
    times = torch.tensor([998.0, 999.0])
    assert_close(rounded(times).float(), exact(times), tolerance=0.02)  # bfloat16 has 8 bits


def test_the_embedding_of_time_is_that_of_the_paper():
    embedding = TimeEmbedding(8, 4, shift=1.0, scale=10.0, cosine_first=False)
    embedding.enter = embedding.leave = torch.nn.Identity()
    embedding.enter.weight = torch.zeros(1)
    w = [10_000 ** -(i / 3) for i in range(4)]
    wave = [5 * frequency for frequency in w]
    expected = torch.tensor([[math.sin(v) for v in wave] + [math.cos(v) for v in wave]])
    assert_close(embedding(torch.tensor([0.5])), F.silu(expected))


def test_positions_differ_between_tokens_and_scale_with_the_size():
    table = positions(4, 4, 16, 4)[0]
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.1
    assert torch.equal(positions(8, 8, 16, 4)[0].reshape(8, 8, 16)[::2, ::2].reshape(16, 16), table)
    row, column = table[4], table[1]  # the second row of the first column, and the other way round
    assert torch.equal(row[:8], table[0, :8])
    assert torch.equal(row[8:], column[:8])


def test_dropout_acts_in_training_alone():
    x, time, _ = inputs("unet")
    network = build("unet", dropout=0.5)
    assert torch.equal(network(x, time), build("unet")(x, time))
    assert not torch.equal(network.train()(x, time), network(x, time))


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_autocast_is_near_and_trains(name):
    network, given = build(name), inputs(name)
    exact = network(*given)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(*given)
        rounded.float().square().mean().backward()
    assert_close(rounded.float(), exact.detach(), tolerance=0.1 * exact.abs().max().item())  # 8 bits, some ten layers
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("head", ["eps", "x0", "v", "velocity"])
def test_every_head_reads_a_network(head):
    network = build("unet-classes")
    x, _, labels = inputs("unet-classes")
    prediction = Network(RectifiedFlow(), network, head)(x, 0.5, labels)
    assert torch.equal(getattr(prediction, head), network(x, torch.full((3,), 0.5), labels))


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_preconditioning_is_that_of_edm(sigma):
    network = build("unet-classes").double()
    x, _, labels = inputs("unet-classes")
    x, s = x.double() * sigma, 0.7
    inner = network(x / math.hypot(sigma, s), math.log(sigma) / 4, labels)
    expected = s**2 / (sigma**2 + s**2) * x + sigma * s / math.hypot(sigma, s) * inner
    found = Network(EDM(), Preconditioned(network, s), "x0")(x, sigma, labels)
    assert_close(found.x0, expected, tolerance=1e-9)


def test_the_targets_of_edm_have_unit_variance_whatever_the_noise():
    data, noise = torch.randn(2, 20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5
    module = Preconditioned(torch.nn.Linear(1, 1), 0.5)
    for sigma in (0.01, 0.5, 50.0):
        x = data + sigma * 2 * noise
        module.network.forward = lambda z, time, condition: torch.zeros_like(z)
        skip = module(x, sigma)
        module.network.forward = lambda z, time, condition: torch.ones_like(z)
        target = (data - skip) / (module(x, sigma) - skip)
        assert target.var().item() == pytest.approx(1, abs=0.03)  # 20,000 draws: a deviation of 0.01


def test_a_learned_variance_is_the_second_half_and_not_for_edm():
    network = build("dit-variance")
    x, time, _ = inputs("dit-variance")
    with pytest.raises(ValueError, match="no learned variance"):
        Preconditioned(network)(x, time)


def test_half_precision_keeps_the_preconditioned_sum_exact():
    network = build("unet").bfloat16()
    x = inputs("unet")[0]
    out = Network(EDM(), Preconditioned(network), "x0", dtype=torch.float32)(x, 0.002).x0
    assert (out - x).abs().max() < 0.01  # 0.002 times what the network says; x in bfloat16 alone would be off by 0.01
    assert out.dtype == torch.float32


@pytest.mark.parametrize("name", ["unet_fmnist", "unet_small", "unet_large", "dit_small", "dit_large"])
def test_named_configurations_have_the_size_that_they_state(name):
    with torch.device("meta"):
        network = NETWORKS[name]()
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    stated = float(NETWORKS[name].summary.split("; ")[1].removeprefix("under ").split()[0])
    assert (0.8 < millions < stated) if "under" in NETWORKS[name].summary else round(millions) == stated


def test_the_network_of_the_shipped_models_takes_their_images():
    network = NETWORKS["unet_fmnist"]()
    assert network(torch.zeros(2, 1, 28, 28), 0.1, torch.tensor([0, 10])).shape == (2, 1, 28, 28)
    assert network.stem.in_channels == 4


def test_every_path_has_its_time_for_a_network():
    denoiser = Network(VP(), build("unet"), "eps")
    x = inputs("unet")[0]
    assert denoiser(x, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).x0.shape == x.shape


def assert_close(found, expected, tolerance=2e-5):
    """Equal but for the rounding of float32 over some ten layers, which other batch sizes and layouts add otherwise."""
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_and_attention_of_half_precision_round_once(dtype):
    """Computed in float32 and rounded: no value is further from float64's than half of its last place, within 1 %."""
    x, q, k, v = (torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(s)).to(dtype) for s in range(4))
    norm, q = GroupNorm(2, 4), q.requires_grad_()
    for found, exact in (
        (norm.to(dtype)(x), F.group_norm(x.double(), 2)),
        (attend(q, k, v), F.scaled_dot_product_attention(q.double(), k.double(), v.double())),
    ):
        assert found.dtype == dtype
        place = torch.finfo(dtype).eps * 2.0 ** exact.abs().log2().floor()
        assert ((found.double() - exact).abs() <= 0.505 * place + 1e-7).all()
    plain = attend(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):  # which would round what it is given
        assert torch.equal(attend(q, k, v), plain)


IN_ONE_PIECE = """
import torch
from tests.implementations.networks.small import build, inputs
for name in ("unet-classes", "dit"):
    network, (x, time, condition) = build(name), inputs(name)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, time, condition), network(x, time, condition)), name
"""


def test_a_network_is_compiled_in_one_piece():
    """Without a break, where Python would run between two graphs; in a process without the tests' shape checks."""
    done = subprocess.run([sys.executable, "-c", IN_ONE_PIECE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
