"""Networks of diffusers with random weights give the same outputs here, and every key of theirs is accounted for."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from implementations.weights import keys_dit, keys_unet
from implementations.weights.published import build, from_diffusers, load_published, read_state
from tests.implementations.networks.small import stir

diffusers = pytest.importorskip("diffusers")

PLAIN = {
    "sample_size": 8, "in_channels": 3, "out_channels": 3, "block_out_channels": (16, 32), "layers_per_block": 1,
    "norm_num_groups": 8, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
CROSS = {
    "sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8,
    "cross_attention_dim": 12, "attention_head_dim": 4, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
DIT = {
    "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 3, "sample_size": 8, "num_embeds_ada_norm": 5,
    "in_channels": 3, "out_channels": 6,
}  # fmt: skip
SMALL = {
    "unet": ("UNet2DModel", PLAIN),
    "unet-ddpm": ("UNet2DModel", {**PLAIN, "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0,
                                  "attention_head_dim": None, "norm_eps": 1e-6, "layers_per_block": 2}),
    "unet-classes": ("UNet2DModel", {**PLAIN, "num_class_embeds": 5, "resnet_time_scale_shift": "scale_shift",
                                     "attn_norm_num_groups": 8, "time_embedding_dim": 24, "out_channels": 6}),
    "unet-plain": ("UNet2DModel", {**PLAIN, "add_attention": False, "down_block_types": ("DownBlock2D",) * 2,
                                   "up_block_types": ("UpBlock2D",) * 2}),
    "unet-cross": ("UNet2DConditionModel", CROSS),
    "unet-linear": ("UNet2DConditionModel", {**CROSS, "use_linear_projection": True, "attention_head_dim": (2, 4),
                                             "transformer_layers_per_block": (2, 1), "layers_per_block": (2, 1)}),
    "dit": ("DiTTransformer2DModel", DIT),
    "dit-eps": ("DiTTransformer2DModel", {**DIT, "norm_eps": 1e-6, "out_channels": None, "patch_size": 4}),
}  # fmt: skip

_DDPM = {
    "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": None,
    "center_input_sample": False, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3,
    "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-06, "norm_num_groups": 32, "out_channels": 3,
    "time_embedding_type": "positional",
}  # fmt: skip
PUBLISHED = {
    "ddpm-cifar10-32": (35.7, {**_DDPM, "sample_size": 32, "block_out_channels": [128, 256, 256, 256],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]}),
    "ddpm-church-256": (113.7, {**_DDPM, "sample_size": 256, "block_out_channels": [128, 128, 256, 256, 512, 512],
        "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4]}),
    "stable-diffusion-v1-5": (859.5, {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0",
        "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": False, "cross_attention_dim": 768, "downsample_padding": 1, "flip_sin_to_cos": True,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"], "freq_shift": 0, "in_channels": 4,
        "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32,
        "out_channels": 4, "sample_size": 64, "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3]}),
    "stable-diffusion-2-1-base": (865.9, {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.10.0.dev0",
        "act_fn": "silu", "attention_head_dim": [5, 10, 20, 20], "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": False, "cross_attention_dim": 1024, "downsample_padding": 1, "flip_sin_to_cos": True,
        "dual_cross_attention": False, "num_class_embeds": None, "only_cross_attention": False, "freq_shift": 0,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"], "in_channels": 4, "layers_per_block": 2,
        "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3], "use_linear_projection": True}),
    "DiT-XL-2-256": (674.8, {"_class_name": "Transformer2DModel", "activation_fn": "gelu-approximate",
        "attention_bias": True, "attention_head_dim": 72, "cross_attention_dim": None, "double_self_attention": False,
        "dropout": 0.0, "in_channels": 4, "norm_elementwise_affine": False, "norm_num_groups": 32,
        "norm_type": "ada_norm_zero", "num_attention_heads": 16, "num_embeds_ada_norm": 1000, "num_layers": 28,
        "num_vector_embeds": None, "only_cross_attention": False, "out_channels": 8, "patch_size": 2,
        "sample_size": 32, "upcast_attention": False, "use_linear_projection": False}),
}  # fmt: skip


def peer(name):
    """A network of diffusers whose weights are all random, norms too, and its configuration as its file has it."""
    kind, options = SMALL[name]
    torch.manual_seed(0)
    module = stir(getattr(diffusers, kind)(**options)).eval()
    if kind.startswith("DiT"):
        for block in module.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(module.transformer_blocks[0].norm1.emb.state_dict())
    return module, {"_class_name": kind, **module.config}


def ask(name, n=3, size=8):
    """An input, and the condition as either takes it."""
    generator = torch.Generator().manual_seed(1)
    channels = 4 if "cross" in name or "linear" in name else 3
    x, time = torch.randn(n, channels, size, size, generator=generator), torch.tensor([3.0, 500.5, 999.0])[:n]
    if channels == 4:
        return x, time, torch.randn(n, 7, 12, generator=generator)
    return x, time, torch.arange(n) if name.startswith("dit") or "classes" in name else None


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [8, 16])
def test_outputs_equal_those_of_the_peer(name, size):
    module, config = peer(name)
    network = from_diffusers(config, module.state_dict())
    x, time, condition = ask(name, size=size)
    if name.startswith("dit"):
        expected = module(x, timestep=time, class_labels=condition).sample
    else:
        expected = module(x, time, *([] if condition is None else [condition])).sample
    found = network(x, time, condition)
    assert expected.std() > 0.1  # of weights that matter
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_the_gradients_of_the_input_equal_those_of_the_peer(name):
    module, config = peer(name)
    network = from_diffusers(config, module.state_dict())
    x, time, condition = ask(name)
    slopes = []
    for call in (module, network):
        given = x.clone().requires_grad_()
        options = {"timestep": time, "class_labels": condition} if name.startswith("dit") else None
        if call is network:
            out = network(given, time, condition)
        elif options:
            out = module(given, **options).sample
        else:
            out = module(given, time, *([] if condition is None else [condition])).sample
        slopes.append(torch.autograd.grad(out.square().mean(), given)[0])
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_map_is_a_bijection_at_published_configurations(name):
    millions, config = PUBLISHED[name]
    with torch.device("meta"):
        kind = config["_class_name"].replace("Transformer2DModel", "DiTTransformer2DModel")
        module = getattr(diffusers, kind).from_config(config)
        network, keys = build(config)
    theirs, own = module.state_dict(), network.state_dict()
    used = list(keys.keys())
    assert len(used) == len(set(used))
    assert set(used) == set(theirs)
    assert set(keys.parts) == set(own)
    for key, names in keys.parts.items():
        if own[key].ndim == 2:
            shapes = {theirs[one].flatten(1).shape[1] for one in names}
            assert shapes == {own[key].shape[1]}, key
        elif len(names) == 1:
            assert theirs[names[0]].shape == own[key].shape, key
        assert sum(len(theirs[one]) for one in names) == len(own[key]), key
    for copy, original in keys.copies.items():
        assert theirs[copy].shape == theirs[original].shape
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_a_swapped_pair_of_keys_is_seen():
    """The parity test sees a wrong map: norms and convolutions of equal shape that change places."""
    module, config = peer("unet")
    state = module.state_dict()
    x, time, _ = ask("unet")
    right = from_diffusers(config, state)(x, time)
    for one, other in [("norm1", "norm2"), ("conv1", "conv2")]:
        a, b = (f"mid_block.resnets.0.{part}.weight" for part in (one, other))
        swapped = from_diffusers(config, {**state, a: state[b], b: state[a]})
        assert (swapped(x, time) - right).abs().max() > 1e-3, (one, other)


def test_attention_of_checkpoints_of_former_names_loads():
    module, config = peer("unet-ddpm")
    state = module.state_dict()
    back = {present: former for former, present in keys_unet._FORMER.items()}
    former = {}
    for key, value in state.items():
        for present, name in back.items():
            key = key.replace(f".{present}.", f".{name}.")
        former[key] = value
    assert former.keys() != state.keys()
    x, time, _ = ask("unet-ddpm")
    assert torch.equal(from_diffusers(config, former)(x, time), from_diffusers(config, state)(x, time))


def test_a_dit_whose_copies_differ_is_refused_by_name():
    module, config = peer("dit")
    key = "transformer_blocks.2.norm1.emb.timestep_embedder.linear_1.weight"
    state = module.state_dict()
    state[key] = state[key] + 1e-3
    with pytest.raises(ValueError, match=rf"{key} differs from transformer_blocks.0"):
        from_diffusers(config, state)


REFUSED = [
    ("unet", {"center_input_sample": True}, "center_input_sample is True; false is covered"),
    ("unet", {"time_embedding_type": "fourier"}, "time_embedding_type is 'fourier'; positional is covered"),
    ("unet", {"down_block_types": ["SkipDownBlock2D", "AttnDownBlock2D"]}, "down_block_types has SkipDownBlock2D"),
    ("unet", {"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]}, "not the reverse of down_block_types"),
    ("unet", {"mid_block_type": None}, "mid_block_type is None; unetmidblock2d"),
    ("unet", {"class_embed_type": "timestep"}, "class_embed_type is 'timestep'; null"),
    ("unet", {"act_fn": "relu"}, "act_fn is 'relu'; silu or swish is covered"),
    ("unet", {"resnet_time_scale_shift": "scale_shift"}, "attn_norm_num_groups is None; norm_num_groups, 8"),
    ("unet", {"downsample_type": "resnet"}, "downsample_type is 'resnet'; conv"),
    ("unet", {"freeze": 3}, "freeze is 3, an option that is not covered"),
    ("unet-cross", {"addition_embed_type": "text_time"}, "addition_embed_type is 'text_time'; null is covered"),
    ("unet-cross", {"dual_cross_attention": True}, "dual_cross_attention is True; false"),
    ("unet-cross", {"cross_attention_dim": [12, 12]}, "cross_attention_dim is .*a number"),
    ("unet-cross", {"time_cond_proj_dim": 8}, "time_cond_proj_dim is 8; null"),
    ("unet-cross", {"_class_name": "UNet3DConditionModel"}, "the model is UNet3DConditionModel; UNet2DModel, "),
    ("dit", {"norm_type": "ada_norm_single"}, "norm_type is 'ada_norm_single'; ada_norm_zero"),
    ("dit", {"out_channels": 5}, "out_channels is 5; in_channels, 3, or twice"),
    ("dit", {"activation_fn": "geglu"}, "activation_fn is 'geglu'"),
    ("dit", {"_class_name": "Transformer2DModel", "norm_type": None}, "norm_type is not stated"),
]


@pytest.mark.parametrize(("name", "change", "message"), REFUSED)
def test_an_option_that_is_not_covered_is_refused_by_name(name, change, message):
    _, config = peer(name)
    with pytest.raises(ValueError, match=message) as raised:
        build({**config, **change})
    assert "\n" not in str(raised.value)


def test_every_option_of_the_peers_is_either_covered_or_refused():
    """No option of these classes is unknown to the key map: one that is new there is refused, not passed over."""
    tables = {
        "unet": (keys_unet._PLAIN, keys_unet._PLAIN_FREE),
        "unet-cross": (keys_unet._CROSS, keys_unet._CROSS_FREE),
        "dit": (keys_dit._ACCEPTED, keys_dit._FREE),
    }
    for name, (accepted, free) in tables.items():
        _, config = peer(name)
        assert {key for key in config if not key.startswith("_")} <= accepted.keys() | free


@pytest.fixture
def folder(tmp_path):
    module, _ = peer("unet")
    module.save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_loads_and_its_hash_is_checked(folder):
    import hashlib

    module, _ = peer("unet")
    file = folder / "diffusion_pytorch_model.safetensors"
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    x, time, _ = ask("unet")
    torch.testing.assert_close(load_published(folder, right)(x, time), module(x, time).sample, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=f"its sha256 is {right}, and 00 is expected"):
        load_published(folder, "00")
    file.unlink()
    torch.save(module.state_dict(), folder / "diffusion_pytorch_model.bin")
    torch.testing.assert_close(load_published(folder)(x, time), module(x, time).sample, rtol=1e-5, atol=1e-5)


class Evil:
    """A pickle that would make a file where it was opened."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (self.place, "w")


def test_a_file_that_is_no_checkpoint_is_one_clear_line_and_nothing_is_executed(folder, tmp_path):
    file, pickled = (folder / f"diffusion_pytorch_model.{kind}" for kind in ("safetensors", "bin"))
    whole = file.read_bytes()
    state = {key: value.clone() for key, value in read_state(file).items()}  # the file is about to change
    trace = tmp_path / "executed"

    def refused(message):
        with pytest.raises(ValueError, match=message) as raised:
            load_published(folder)
        assert "\n" not in str(raised.value)
        assert str(folder) in str(raised.value)
        assert not trace.exists()

    for content in (whole[: len(whole) // 2], whole[:5], b"", b"\xff" * 64):
        file.write_bytes(content)
        refused("cannot be read")
    save_file({key: value for key, value in state.items() if key != "conv_in.bias"}, file)
    refused("weights of another network: it lacks conv_in.bias")
    save_file({**state, "other": torch.zeros(1)}, file)
    refused("it has an unknown other")
    save_file({**state, "conv_in.bias": torch.zeros(15)}, file)
    refused(r"conv_in.bias is \(15,\), where one of shape \(16,\) is needed")
    save_file({**state, "mid_block.resnets.0.time_emb_proj.bias": torch.zeros(33)}, file)
    refused("time_emb_proj.bias is")
    file.write_bytes(pickle.dumps(Evil(str(trace))))
    refused("cannot be read")
    file.unlink()
    pickled.write_bytes(pickle.dumps(Evil(str(trace))))
    refused("pickle of more than tensors")
    torch.save({"conv_in.bias": Evil(str(trace))}, pickled)
    refused("pickle of more than tensors")
    torch.save([1], pickled)
    refused("no mapping from names to tensors")
    whole = pickled.read_bytes()
    pickled.write_bytes(whole[: len(whole) // 2])
    refused("cannot be read|pickle of more")
    pickled.unlink()
    refused("has no weights")
    (folder / "config.json").write_text("{")
    refused("no readable JSON")
