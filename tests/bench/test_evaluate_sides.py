"""What counts as an image or as a feature, and what is said of the rest: folders, arrays, byte orders, shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from bench.errors import UsageError
from bench.evaluate.images import evaluate
from bench.evaluate.sides import Features, Images, read_side
from metrics.decoding import ORIENTATION

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FIDMAP_CACHE", str(tmp_path / "cache"))


def save(file, size=(9, 7), **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, size, dtype=np.uint8)).save(file, **options)
    return file


def test_hidden_folders_are_left_out_linked_ones_are_read_and_both_are_said(tmp_path):
    """Ten images in the folder and two behind a link; three in a hidden folder are none of it."""
    real, other = tmp_path / "real", tmp_path / "other"
    for i in range(10):
        save(real / f"{i}.PNG")
    for i in range(2):
        save(other / f"{i}.png")
    for i in range(3):
        save(real / ".cache" / f"{i}.png")
    (real / "linked").symlink_to(other, target_is_directory=True)
    (real / "back").symlink_to(real, target_is_directory=True)
    (real / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (real / ".hidden.png").write_bytes(b"")
    (real / "labels.csv").write_text("")
    (real / "README").write_text("")
    side = read_side(str(real))
    assert side.count == len(list(side.read())) == 12
    assert dict(side.left_out) == {
        "hidden folders (.cache)": 1,
        "hidden files": 1,
        "files that end in .csv": 1,
        "files without an extension": 1,
        "links to a file that is not there": 1,
        "links to a folder that is read already": 1,
    }
    notes = evaluate(str(real), str(real), metrics="fd", resamples=0).notes
    assert sum("besides 12 images, left out: " in note and ".cache" in note for note in notes) == 2


def test_a_folder_of_other_files_says_what_it_holds(tmp_path):
    (tmp_path / "a.tiff2").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds no images .* but 1 files that end in \.tiff2"):
        read_side(str(tmp_path))


def test_a_rotation_by_exif_is_remarked_on_and_not_applied(tmp_path):
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    upright = Image.Exif()
    upright[ORIENTATION] = 1
    save(tmp_path / "a.jpg", exif=turned)
    save(tmp_path / "b.jpg", exif=upright)
    save(tmp_path / "c.jpg")
    side = read_side(str(tmp_path))
    assert {tuple(image.shape) for image in side.read()} == {(1, 9, 7)}
    assert side.seen["with an EXIF rotation: it is not applied"] == 1


def test_sides_of_unlike_sizes_that_nothing_resizes_are_remarked_on(tmp_path):
    for name, size in (("a", (28, 28)), ("b", (32, 32)), ("c", (28, 28))):
        np.save(tmp_path / f"{name}.npy", RNG.integers(0, 256, (4, *size), dtype=np.uint8))
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
    script = torch.jit.trace(module, torch.zeros(1, 3, 28, 28))
    script.save(str(tmp_path / "network.pt"))

    def notes(two, mode):
        found = evaluate(
            str(tmp_path / "a.npy"), str(tmp_path / two), metrics="fd", resamples=0,
            extractor=f"{tmp_path / 'network.pt'}@{mode}",
        )  # fmt: skip
        return [note for note in found.notes if "the sides have images of 28x28 and of 32x32" in note]

    assert len(notes("b.npy", "none")) == 1
    assert not notes("b.npy", "bilinear-antialias-28")
    assert not notes("c.npy", "none")


SUFFIXES = ("npy", "NPY", "npz", "Npz", "safetensors", "SAFETENSORS")
KINDS = ("<f2", "<f4", ">f4", "<f8", ">f8", "longdouble")


@pytest.mark.parametrize(("suffix", "kind"), list(itertools.product(SUFFIXES, KINDS)))
def test_features_of_every_type_and_byte_order_are_the_same_features(tmp_path, suffix, kind):
    expected = RNG.integers(-40, 40, (6, 5)) / 8  # of few bits, so that every type holds them exactly
    file = tmp_path / f"features.{suffix}"
    with file.open("wb") as stream:  # NumPy appends its own lower-case suffix to a name
        if suffix.lower() == "npy":
            np.save(stream, expected.astype(kind))
        elif suffix.lower() == "npz":
            np.savez(stream, features=expected.astype(kind))
        else:
            from safetensors.numpy import save as packed

            native = np.dtype(kind).newbyteorder("=")
            stream.write(packed({"features": expected.astype("<f8" if native == np.longdouble else native)}))
    side = read_side(str(file))
    assert isinstance(side, Features)
    assert side.features.dtype == torch.float64
    np.testing.assert_array_equal(side.features.numpy(), expected)


IMAGES = {  # shape -> (n, c, h, w)
    (5, 9, 7): (5, 1, 9, 7),
    (4, 9, 7): (4, 1, 9, 7),
    (1, 9, 7): (1, 1, 9, 7),
    (5, 9, 7, 1): (5, 1, 9, 7),
    (5, 9, 7, 3): (5, 3, 9, 7),
    (5, 1, 9, 7): (5, 1, 9, 7),
    (5, 3, 9, 7): (5, 3, 9, 7),
    (1, 9, 7, 3): (1, 3, 9, 7),
}


@pytest.mark.parametrize("shape", IMAGES)
def test_images_of_an_array_keep_their_count(tmp_path, shape):
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    side = read_side(str(tmp_path / "a.npy"))
    found = torch.stack(list(side.read()))
    assert isinstance(side, Images)
    assert (side.count, *found.shape) == (shape[0], *IMAGES[shape])
    expected = array.reshape(IMAGES[shape]) if array.shape[-1] not in (1, 3) else np.moveaxis(array, -1, 1)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("shape", [(20, 24, 3), (20, 24, 4), (20, 24, 1), (3, 20, 24), (3, 3, 3)])
def test_one_image_with_channels_is_no_stack_of_grey_ones(tmp_path, shape):
    np.savez(tmp_path / "a.npz", images=np.zeros(shape, dtype=np.uint8))
    with pytest.raises(UsageError, match=r"a\.npz, array 'images': shape .* may be .* grey images or one image"):
        read_side(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 5), complex), np.zeros((4, 5), int), np.zeros((4, 5), "U1"), np.zeros((2, 9, 7, 2), np.uint8),
     np.zeros((2, 9, 7), ">u2"), np.zeros((0, 9, 7), np.uint8), np.zeros(5), np.zeros(()), np.full((4, 5), np.nan)],
)  # fmt: skip
def test_other_arrays_are_refused_in_one_line_that_names_the_file(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UsageError, match=r"a\.npy") as caught:
        read_side(str(tmp_path / "a.npy"))
    assert "\n" not in str(caught.value)


def test_a_pickled_array_is_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"a\.npy: cannot be read"):
        read_side(str(tmp_path / "a.npy"))
