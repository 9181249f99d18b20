"""Extractors of one's own: objects of modules and exported programs; features of images from wherever they come."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from metrics.extractors import load_extractor
from metrics.extractors.extractor import from_module
from metrics.samples.frechet import FeatureStatistics, frechet_distance

MODULE = """
import torch
from torch import nn
from metrics.extractors.extractor import from_module

class Means(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
    def forward(self, x):
        return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1) * self.scale

network = Means()
extractor = from_module(Means(), "named", "bilinear-antialias-8")

def make():
    return Means()

def function(x):
    return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)

def fails(x):
    raise KeyError("no such layer")

def two(x, y):
    return x

number = 3
"""


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (12, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module ``mine`` in a scratch folder, made anew for each test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine_own", raising=False)
    (tmp_path / "mine_own.py").write_text(MODULE)
    return tmp_path


def moments(images):
    x = images.float() / 255
    return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1).double()


@pytest.mark.parametrize("name", ["network", "Means", "make", "function"])
def test_an_object_of_a_module_is_an_extractor(mine, pictures, name):
    found = load_extractor(f"mine_own:{name}")
    assert found.base == f"mine_own:{name}"
    assert torch.allclose(found(pictures), moments(pictures), atol=1e-6)
    assert torch.equal(found(pictures), found.features(pictures))
    assert load_extractor(f"mine_own:{name}@bilinear-antialias-8").resize == "bilinear-antialias-8"


def test_an_extractor_is_taken_as_it_is(mine, pictures):
    found = load_extractor("mine_own:extractor")
    assert (found.base, found.resize) == ("named", "bilinear-antialias-8")
    assert found([pictures[0], pictures[1, :, :9]]).shape == (2, 6)


def test_the_hash_follows_the_source(mine):
    before = {name: load_extractor(f"mine_own:{name}").hash for name in ("network", "function")}
    (mine / "mine_own.py").write_text(MODULE.replace("x.std", "2 * x.std"))
    del sys.modules["mine_own"]
    after = {name: load_extractor(f"mine_own:{name}").hash for name in before}
    assert not set(before.values()) & set(after.values())


def test_an_exported_program(tmp_path, pictures):
    class Moments(nn.Module):
        def forward(self, x):
            return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)

    free = {0: torch.export.Dim("n", min=1, max=64)}
    for name, dynamic in (("free", (free,)), ("fixed", None)):
        program = torch.export.export(Moments(), (torch.rand(4, 3, 16, 16),), dynamic_shapes=dynamic)
        torch.export.save(program, tmp_path / f"{name}.pt2")
    found = load_extractor(str(tmp_path / "free.pt2"))
    assert torch.allclose(found(pictures, batch=5), moments(pictures), atol=1e-6)
    assert found.base == "free.pt2"
    fixed = load_extractor(str(tmp_path / "fixed.pt2"))
    assert fixed.hash != found.hash
    assert torch.allclose(fixed(pictures, batch=4), moments(pictures), atol=1e-6)
    with pytest.raises(ValueError, match=r"fixed\.pt2 fails on images of shape \(5, 3, 16, 16\)"):
        fixed(pictures, batch=5)


def test_what_is_no_extractor(mine, tmp_path, pictures):
    for name, reason in (
        ("mine_own:number", "mine_own:number is int; an Extractor"),
        ("mine_own:two", "mine_own:two is function; an Extractor"),
        ("mine_own:none", "mine_own:none: cannot be loaded .AttributeError"),
        ("not_there:none", "not_there:none: cannot be loaded .ModuleNotFoundError"),
    ):
        with pytest.raises(ValueError, match=reason):
            load_extractor(name)
    with pytest.raises(ValueError, match=r"mine_own:fails fails on images of shape \(12, 3, 16, 16\): 'no such layer'"):
        load_extractor("mine_own:fails")(pictures)
    (tmp_path / "bad.pt2").write_text("no")
    with pytest.raises(ValueError, match=r"bad\.pt2 is no program of torch\.export"):
        load_extractor(str(tmp_path / "bad.pt2"))
    with pytest.raises(FileNotFoundError, match=r"none\.pt2"):
        load_extractor("none.pt2")
    with pytest.raises(ValueError, match="holds its weights"):
        load_extractor("mine_own:network", weights=tmp_path)


def test_statistics_of_images_from_wherever_they_come(mine, tmp_path, pictures):
    own = load_extractor("mine_own:network")
    expected = FeatureStatistics.from_features(own(pictures), extractor=own.label, resize=own.resize)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(pictures):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "pictures" / f"{i:02d}.png")
    np.save(tmp_path / "pictures.npy", pictures.permute(0, 2, 3, 1).numpy())
    labels = torch.arange(len(pictures))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(pictures, labels), batch_size=5)
    for data in (pictures, pictures.numpy(), list(pictures), loader, tmp_path / "pictures", tmp_path / "pictures.npy"):
        found = FeatureStatistics.from_images(data, own, batch=5)
        assert (found.count, found.extractor, found.resize) == (12, own.label, own.resize)
        assert torch.allclose(found.mean, expected.mean)
        assert torch.allclose(found.scatter, expected.scatter, atol=1e-6)
    named = FeatureStatistics.from_images(pictures, lambda part: moments(torch.stack(part)), name="own@1")
    assert named.extractor == "own@1"
    for data, reason in (([], "there are no images"), (3, "data is a int"), (pictures.float(), "float32 of shape")):
        with pytest.raises(ValueError, match=reason):
            FeatureStatistics.from_images(data, own)


def test_moments_of_other_programs_give_the_same_distance(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 50, 4))
    known = [FeatureStatistics.from_features(torch.from_numpy(each)) for each in (x, y)]
    other = [FeatureStatistics.from_moments(each.mean(0), np.cov(each, rowvar=False)) for each in (x, y)]
    assert other[0].count is None
    assert frechet_distance(*other) == pytest.approx(frechet_distance(*known), rel=1e-9)
    assert frechet_distance(other[0], known[1]) == pytest.approx(frechet_distance(*known), rel=1e-9)
    other[0].save(tmp_path / "s.safetensors")
    back = FeatureStatistics.load(tmp_path / "s.safetensors")
    assert back.count is None
    assert torch.equal(back.covariance, other[0].covariance)
    with pytest.raises(ValueError, match="unknown number of rows"):
        other[0] + other[1]
    counted = FeatureStatistics.from_moments(x.mean(0), np.cov(x, rowvar=False), count=50)
    assert torch.allclose((counted + known[1]).scatter, (known[0] + known[1]).scatter)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("mean", "covariance", "reason"),
    [
        (np.zeros(3), np.eye(4), "the covariance float64"),
        (np.zeros((1, 3)), np.eye(3), "the mean is float64"),
        (np.full(3, np.nan), np.eye(3), "not finite"),
        (np.zeros(2), np.array([[1.0, 2.0], [0.0, 1.0]]), "not symmetric"),
        (np.zeros(2), -np.eye(2), "variance below 0"),
        (np.array(["a", "b"]), np.eye(2), "numbers"),
    ],
)
def test_moments_that_are_none(mean, covariance, reason):
    with pytest.raises(ValueError, match=reason):
        FeatureStatistics.from_moments(mean, covariance)


def test_calling_an_extractor_is_asking_for_features(pictures):
    own = from_module(nn.Flatten(), "flat")
    assert torch.equal(own(pictures, batch=5), own.features(pictures))
