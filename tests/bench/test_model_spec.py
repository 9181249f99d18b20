"""Models by SPEC: a function of one's own, and what diffusers saved, held against diffusers' own arithmetic."""

import json
import sys

import pytest
import torch

from bench.errors import UsageError
from bench.models.spec import hash_numbers, load_model
from implementations.diffusion import VP, GaussianOracle, Network

diffusers = pytest.importorskip("diffusers")

from implementations.peers import diffusers_models  # noqa: E402

TINY = {
    "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": (8, 8),
    "down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
}  # fmt: skip


def unet():
    torch.manual_seed(1)
    return diffusers.UNet2DModel(**TINY).eval()


def dit(**options):
    torch.manual_seed(2)
    options = {"in_channels": 1, "out_channels": 1, "num_layers": 1} | options
    made = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, sample_size=4, patch_size=2, num_embeds_ada_norm=1000,
        norm_num_groups=1, **options,
    )  # fmt: skip
    for parameter in made.parameters():  # adaLN begins with zeros, which would hide the time and the label
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def save(folder, network, scheduler, part="unet", safe=True):
    network.save_pretrained(folder / part, safe_serialization=safe)
    scheduler.save_pretrained(folder / "scheduler")
    return str(folder)


SCHEDULERS = [
    diffusers.DDPMScheduler(),
    diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"),
    diffusers.DDIMScheduler(beta_schedule="scaled_linear", prediction_type="sample"),
    diffusers.DPMSolverMultistepScheduler(prediction_type="v_prediction"),
]


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda one: f"{type(one).__name__}-{one.config.prediction_type}")
@pytest.mark.parametrize("t", [0, 300, 999])
def test_a_folder_gives_what_diffusers_gives_through_its_own_alphas(tmp_path, scheduler, t):
    """x0 and eps of the raw output by the scheduler's float32 table of alpha-bar, which is right to 1e-6."""
    network = unet()
    model = load_model(save(tmp_path, network, scheduler))
    assert model.shape == (1, 8, 8)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        raw, found = network(x, t).sample, model.on("cpu")(x, float(t))
    bar = scheduler.alphas_cumprod[t]
    a, s = bar.sqrt(), (1 - bar).sqrt()
    x0, eps = {
        "epsilon": ((x - s * raw) / a, raw),
        "sample": (raw, (x - a * raw) / s),
        "v_prediction": (a * x - s * raw, a * raw + s * x),
    }[scheduler.config.prediction_type]
    # the subtraction in x0 or eps divides the rounding of a float32 table by alpha or sigma
    assert torch.allclose(found.x0, x0, rtol=2e-4, atol=2e-5 / float(a))
    assert torch.allclose(found.eps, eps, rtol=2e-4, atol=2e-5 / float(s))


def test_the_scheduler_itself_agrees_on_the_predicted_data(tmp_path):
    scheduler = diffusers.DDIMScheduler(clip_sample=False, prediction_type="v_prediction")
    network = unet()
    model, x = load_model(save(tmp_path, network, scheduler)), torch.randn(2, 1, 8, 8)
    scheduler.set_timesteps(10)
    with torch.no_grad():
        for t in (900, 400, 100):
            step = scheduler.step(network(x, t).sample, t, x)
            assert torch.allclose(model.denoiser(x, float(t)).x0, step.pred_original_sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", ["transformer", ""])
def test_a_dit_takes_labels_and_gives_its_variance_apart(tmp_path, part):
    """In a pipeline's folder and in a flat one; out_channels = 2 in_channels is a learned variance."""
    network, scheduler = dit(out_channels=2), diffusers.DDIMScheduler()
    network.save_pretrained(tmp_path / part if part else tmp_path)
    scheduler.save_pretrained(tmp_path / "scheduler" if part else tmp_path)
    model, x, labels = load_model(str(tmp_path)), torch.randn(3, 1, 4, 4), torch.tensor([1, 5, 999])
    assert model.shape == (1, 4, 4)
    with torch.no_grad():
        raw = network(x, torch.full((3,), 700), labels).sample
        found = model.on("cpu")(x, 700.0, labels)
        other = model.on("cpu")(x, 700.0, labels.flip(0))
    assert torch.allclose(found.eps, raw[:, :1], atol=1e-6)
    assert torch.allclose(found.aux, raw[:, 1:], atol=1e-6)
    assert not torch.allclose(other.eps, found.eps, atol=1e-3)


def both_ways(folder, x, t, labels=None):
    """What the loaded model gives, and what diffusers' own network does in its place; and which network was loaded."""
    model = load_model(str(folder))
    place = next(folder / part for part in ("unet", "transformer") if (folder / part).is_dir())
    kind = diffusers.UNet2DModel if place.name == "unet" else diffusers.DiTTransformer2DModel
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    theirs = diffusers_models.as_denoiser(kind.from_pretrained(place).eval(), scheduler)
    with torch.no_grad():
        return model.on("cpu")(x, t, labels), theirs(x, t, labels), model.denoiser.network


def many_layers(equal):
    """A DiT of two blocks, whose embedders are equal, as in checkpoints that were published, or are not."""
    made = dit(num_layers=2)
    first, second = made.transformer_blocks
    if equal:
        second.norm1.emb.load_state_dict(first.norm1.emb.state_dict())
    return made


@pytest.mark.parametrize(
    ("network", "part", "name"),
    [
        (unet, "unet", "UNet2DModel"),
        (lambda: many_layers(equal=True), "transformer", "DiTTransformer2DModel"),
        (lambda: many_layers(equal=True), "transformer", "Transformer2DModel"),  # as DiT was called before
    ],
)
def test_the_own_network_gives_what_diffusers_does(tmp_path, network, part, name):
    save(tmp_path, network(), diffusers.DDIMScheduler(), part)
    rewrite(tmp_path / part / "config.json", _class_name=name)
    side = 8 if part == "unet" else 4
    labels = None if part == "unet" else torch.tensor([1, 5, 999])
    ours, theirs, module = both_ways(tmp_path, torch.randn(3, 1, side, side), 300.0, labels)
    assert type(module).__module__.startswith("implementations.networks")
    torch.testing.assert_close(ours.eps, theirs.eps, rtol=1e-5, atol=1e-5)


def test_what_the_key_map_does_not_cover_is_loaded_by_diffusers(tmp_path):
    """Unlike embedders in the blocks of a DiT, an option that no own network has, and weights in several files."""
    pools = diffusers.UNet2DModel(**TINY, downsample_type="resnet").eval()
    save(tmp_path / "a", many_layers(equal=False), diffusers.DDIMScheduler(), "transformer")
    save(tmp_path / "b", pools, diffusers.DDIMScheduler())
    save(tmp_path / "c", unet(), diffusers.DDIMScheduler())
    unet().save_pretrained(tmp_path / "c" / "unet", max_shard_size="10KB")
    (tmp_path / "c" / "unet" / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    for name, side, labels in (("a", 4, torch.tensor([1, 5])), ("b", 8, None), ("c", 8, None)):
        ours, theirs, module = both_ways(tmp_path / name, torch.randn(2, 1, side, side), 300.0, labels)
        assert type(module).__module__.startswith("diffusers")
        assert torch.equal(ours.eps, theirs.eps)


def tiny_autoencoder():
    torch.manual_seed(4)
    return diffusers.AutoencoderKL(
        in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=1,
        up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(4, 4), norm_num_groups=2, scaling_factor=0.25,
    ).eval()  # fmt: skip


def test_a_latent_model_is_decoded_by_its_own_autoencoder(tmp_path):
    coder = tiny_autoencoder()
    coder.save_pretrained(tmp_path / "vae")
    dit().save_pretrained(tmp_path / "transformer")
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    model, images = load_model(str(tmp_path)), torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        latents = coder.encode(images).latent_dist.mode() * 0.25
        assert latents.shape[1:] == model.shape
        assert torch.allclose(model.autoencoder.encode(images), latents, atol=1e-6)
        assert torch.allclose(model.autoencoder.decode(latents), coder.decode(latents / 0.25).sample, atol=1e-6)
    before = model.hash
    coder.decoder.conv_out.bias.data += 1
    coder.save_pretrained(tmp_path / "vae")
    load_model.cache_clear()
    assert load_model(str(tmp_path)).hash != before


def test_flow_matching_is_the_straight_path_asked_at_a_thousand_t(tmp_path):
    network, scheduler = unet(), diffusers.FlowMatchEulerDiscreteScheduler()
    model, x = load_model(save(tmp_path, network, scheduler)), torch.randn(2, 1, 8, 8)
    scheduler.set_timesteps(4)
    t, sigma, after = scheduler.timesteps[1], float(scheduler.sigmas[1]), float(scheduler.sigmas[2])
    scheduler._step_index = 1
    with torch.no_grad():
        stepped = scheduler.step(network(x, t.expand(2)).sample, t, x).prev_sample
        velocity = model.denoiser(x, sigma).velocity
    assert torch.allclose(x + (after - sigma) * velocity, stepped, atol=1e-5)


def test_edms_preconditioning_is_the_schedulers(tmp_path):
    network, scheduler = unet(), diffusers.EDMEulerScheduler(sigma_data=0.7)
    model, sigma = load_model(save(tmp_path, network, scheduler)), torch.tensor(1.3)
    x = 1.5 * torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        raw = network(scheduler.precondition_inputs(x, sigma), scheduler.precondition_noise(sigma)).sample
        x0 = scheduler.precondition_outputs(x, raw, sigma)
        assert torch.allclose(model.denoiser(x, 1.3).x0, x0, atol=1e-5)
        each = model.denoiser(x, torch.tensor([1.3, 0.4])).x0
    assert torch.allclose(each[0], x0[0], atol=1e-5)


def test_score_sde_ve_is_asked_at_sigma_for_the_score(tmp_path):
    network, scheduler = unet(), diffusers.ScoreSdeVeScheduler(sigma_max=50.0)
    model, x = load_model(save(tmp_path, network, scheduler)), torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        sigma = float(model.denoiser.path.sigma(0.4))
        assert torch.allclose(model.denoiser(x, 0.4).score, network(x, torch.tensor([sigma])).sample, atol=1e-5)


def test_a_pickle_of_numbers_is_read_and_one_with_code_is_not(tmp_path):
    network = unet()
    folder = save(tmp_path / "bin", network, diffusers.DDPMScheduler(), safe=False)
    safe = save(tmp_path / "safe", network, diffusers.DDPMScheduler())
    assert load_model(folder).hash == load_model(safe).hash  # of the numbers, whatever file they lie in
    marker = tmp_path / "executed"
    torch.save({"a": Evil(str(marker))}, tmp_path / "bin" / "unet" / "diffusion_pytorch_model.bin")
    load_model.cache_clear()
    with pytest.raises(UsageError, match="is a pickle of more than tensors, which is not opened"):
        load_model(folder)
    assert not marker.exists()


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


def test_the_hub_is_read_from_its_cache(tmp_path, monkeypatch):
    import huggingface_hub.constants

    snapshot = tmp_path / "models--me--tiny" / "snapshots" / "abc"
    save(snapshot, unet(), diffusers.DDPMScheduler())
    (tmp_path / "models--me--tiny" / "refs").mkdir()
    (tmp_path / "models--me--tiny" / "refs" / "main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (snapshot / "planted.py").write_text("raise SystemExit('executed')")
    assert load_model("hf:me/tiny").shape == (1, 8, 8)
    with pytest.raises(UsageError, match="hf:me/other: neither in the hub's cache"):
        load_model("hf:me/other")


@pytest.mark.unchecked
def test_a_function_gives_a_denoiser_or_its_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "my_models.py").write_text(
        "import torch\nfrom implementations.diffusion import VP, GaussianOracle\n"
        "def oracle(): return GaussianOracle(VP(), torch.zeros(2), torch.ones(2))\n"
        "def parts(): return VP(), torch.nn.Linear(2, 2), 'eps', lambda t: 999 * t\n"
        "def three(): return VP(), torch.nn.Linear(2, 2), 'v'\n"
        "def wrong(): return VP(), 3, 'eps'\n"
        "def head(): return VP(), torch.nn.Linear(2, 2), 'noise'\n"
        "def nothing(): pass\n"
        "def raises(): raise RuntimeError('no weights\\nhere')\n"
        "number = 3\n"
    )
    assert isinstance(load_model("my_models:oracle").denoiser, GaussianOracle)
    assert load_model("my_models:oracle").shape == (2,)
    parts = load_model("my_models:parts").denoiser
    assert isinstance(parts, Network)
    assert float(parts.time(torch.tensor(0.5))) == 499.5
    assert load_model("my_models:three").denoiser.head == "v"
    first = load_model("my_models:parts").hash
    load_model.cache_clear()
    assert load_model("my_models:parts").hash == first  # weights drawn at random are drawn again the same
    for name, says in {
        "wrong": r"returned \(VP, int, str\); a Denoiser or \(path, module, head",
        "head": "head must be one of v, velocity, eps, score, x0, got 'noise'",
        "nothing": "returned NoneType; a Denoiser or",
        "raises": "raised RuntimeError: no weights here",
        "number": "is int; a function is accepted",
        "absent": "cannot be imported: AttributeError",
    }.items():
        with pytest.raises(UsageError, match=says):
            load_model(f"my_models:{name}")


def test_an_unknown_name_says_what_is_accepted(tmp_path, monkeypatch):
    monkeypatch.setattr("implementations.weights.files.FOLDER", tmp_path)
    with pytest.raises(UsageError, match="no such folder or name; no model comes with fidmap yet; MODULE:FUNCTION"):
        load_model("cifar")
    (tmp_path / "mine.safetensors").write_bytes(b"damaged")
    (tmp_path / "mine.json").write_text('{"weights_hash": "0"}')
    with pytest.raises(UsageError, match="there are mine"):
        load_model("cifar")
    with pytest.raises(UsageError, match=r"model mine: .*no readable safetensors"):
        load_model("mine")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(), "no scheduler_config.json"),
        (lambda folder: rewrite(folder / "scheduler" / "scheduler_config.json", prediction_type="flow"), "'flow'"),
        (lambda folder: rewrite(folder / "scheduler" / "scheduler_config.json", _class_name="Evil"), "Evil"),
        (lambda folder: rewrite(folder / "unet" / "config.json", _class_name="UNet2DConditionModel"), "UNet2DModel"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{"), "no JSON"),
        (lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "no weights"),
        (lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"x" * 99), "cannot be"),
        (lambda folder: rewrite(folder / "unet" / "config.json", layers_per_block=2), "lacks"),
    ],
)
def test_a_folder_that_is_no_model_is_one_line(tmp_path, change, says):
    folder = save(tmp_path, unet(), diffusers.DDPMScheduler())
    change(tmp_path)
    with pytest.raises(UsageError, match=says) as raised:
        load_model(folder)
    assert "\n" not in str(raised.value)


def rewrite(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_hash_is_of_weights_path_and_head():
    def made(beta=20.0, head="eps", shift=0.0):
        torch.manual_seed(0)
        linear = torch.nn.Linear(2, 2)
        linear.bias.data += shift
        return hash_numbers(Network(VP(beta_max=beta), linear, head))

    assert made() == made()
    assert len({made(), made(beta=19.0), made(head="v"), made(shift=1e-6)}) == 4
