"""``fidmap evaluate images``: every kind of input, the files that break it, the cache, and what the table states."""

from __future__ import annotations

import json
import pickle
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from bench import files
from bench.data import fashion_mnist
from bench.errors import UsageError
from bench.evaluate import figures
from bench.evaluate.images import evaluate
from metrics import FeatureStatistics, frechet_distance_from_features
from metrics.extractors import fmnist
from metrics.extractors.extractor import Extractor
from metrics.samples.balls import prdc
from metrics.samples.kernel import kid

N = 40


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return fashion_mnist.load("test")[0][: 2 * N]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("FIDMAP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def folders(tmp_path, images):
    """Two folders of forty images."""
    for name, part in (("real", images[:N]), ("generated", images[N:])):
        (tmp_path / name).mkdir()
        for i, image in enumerate(part.numpy()):
            Image.fromarray(image).save(tmp_path / name / f"{i:03d}.png")
    return str(tmp_path / "real"), str(tmp_path / "generated")


def by_name(result) -> dict[str, figures.Figure]:
    return {figure.name: figure for figure in result.figures}


def quick(*sides: str, **options):
    """Without intervals and floors."""
    return evaluate(*map(str, sides), **{"resamples": 0, "metrics": "fd", **options})


def test_figures_are_those_of_the_metrics_on_the_extractors_features(folders, images):
    found = by_name(evaluate(*folders, resamples=4))
    x, y = (fmnist.extract(part[:, None].float() / 255) for part in (images[:N], images[N:]))
    assert found["fd_fmnist"].value == pytest.approx(frechet_distance_from_features(x, y), rel=1e-6)  # float32 stacks
    assert found["kid_fmnist"].value == pytest.approx(float(kid(x, y)), rel=1e-5)
    expected = prdc(x, y)
    for name in ("precision", "recall", "density", "coverage"):
        assert found[name].value == pytest.approx(getattr(expected, name), abs=1e-12)
    for figure in found.values():
        low, high = figure.interval
        assert low <= figure.value <= high
        assert figure.floor.low <= figure.floor.mean <= figure.floor.high
        assert figure.floor_n == (N, N)
    for name in ("precision", "recall", "coverage"):
        assert found[name].interval[0] >= 0
        assert found[name].interval[1] <= 1


def test_the_seed_repeats_every_draw(folders):
    first, again, other = (evaluate(*folders, resamples=5, seed=seed).as_dict() for seed in (0, 0, 1))
    assert first == again
    assert first["figures"][0]["interval"] != other["figures"][0]["interval"]
    assert first["figures"][0]["floor"] != other["figures"][0]["floor"]
    assert first["figures"][0]["value"] == other["figures"][0]["value"]


def test_the_floor_keeps_the_references_size_and_stands_near_equal_sides(tmp_path, folders):
    """A part of the data set against the data set: the distance is one draw of its floor, but for shared images."""
    figure = by_name(evaluate("fashion_mnist", folders[1], metrics="fd", resamples=3))["fd_fmnist"]
    assert figure.floor_n == (N, 10_000)
    assert 0.3 < figure.value / figure.floor.mean < 3


def test_every_kind_of_side_gives_the_same_distance(tmp_path, folders, images):
    expected = by_name(quick(*folders))["fd_fmnist"].value
    real, generated = images[:N].numpy(), images[N:].numpy()
    np.savez(tmp_path / "grey.npz", real)
    np.savez(tmp_path / "last.npz", images=generated[..., None].repeat(3, 3), labels=np.zeros(N))
    np.savez(tmp_path / "first.npz", samples=generated[:, None])
    save_file({"samples": images[N:, None]}, tmp_path / "a.safetensors")
    x, y = (fmnist.extract(part[:, None].float() / 255) for part in (images[:N], images[N:]))
    save_file({"features": x}, tmp_path / "x.safetensors")
    np.savez(tmp_path / "y.npz", y.numpy())
    pairs = [("grey.npz", name) for name in ("last.npz", "first.npz", "a.safetensors")]
    for one, two in [*pairs, ("x.safetensors", "y.npz")]:
        (figure,) = quick(tmp_path / one, tmp_path / two).figures
        assert figure.value == pytest.approx(expected, rel=1e-5), (one, two)
        assert figure.name == ("fd" if one == "x.safetensors" else "fd_fmnist")


def test_statistics_are_saved_and_taken_for_a_side(tmp_path, folders):
    file = tmp_path / "new" / "real.safetensors"
    whole = quick(*folders, save_stats=file)
    saved = FeatureStatistics.load(file)
    assert (saved.count, saved.extractor, saved.resize) == (N, whole.extractor, whole.resize)
    assert saved.data == whole.real.data
    for sides in ((file, folders[1]), (folders[1], file)):
        result = evaluate(*map(str, sides))
        (figure,) = result.figures
        assert figure.value == pytest.approx(whole.figures[0].value, rel=1e-6)
        assert figure.interval is None
        assert any("neither an interval nor a floor" in note for note in result.notes)
    assert quick(file, file).figures[0].value == pytest.approx(0, abs=1e-9)
    with pytest.raises(UsageError, match=r"real\.safetensors: statistics give fd alone; --metrics is kid"):
        quick(file, folders[1], metrics="kid")
    with pytest.raises(UsageError, match="the statistics differ in resize"):
        quick(file, folders[1], extractor="fmnist@bicubic-antialias-28-grey")
    with pytest.raises(UsageError, match=r"--save-stats .*\.npz: a file that ends in \.safetensors"):
        quick(*folders, save_stats=tmp_path / "s.npz")


def test_the_extractor_of_saved_statistics_is_taken_unless_one_is_named(tmp_path, folders):
    file = tmp_path / "s.safetensors"
    quick(*folders, extractor="fmnist@bicubic-antialias-28-grey", save_stats=file)
    assert quick(file, folders[1]).resize == "bicubic-antialias-28-grey"


def test_the_batch_size_changes_the_distance_by_at_most_1e_4(folders):
    values = [quick(*folders, batch=batch, cache=False).figures[0].value for batch in (1, 256)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_features_are_kept_by_content_and_made_once(tmp_path, folders, cache, monkeypatch):
    first = quick(*folders)
    assert len(list(cache.iterdir())) == 2
    calls: list[int] = []
    extract = Extractor.features
    monkeypatch.setattr(Extractor, "features", lambda self, part, batch: calls.append(1) or extract(self, part, batch))
    assert quick(*folders).as_dict() == first.as_dict()
    assert not calls
    (tmp_path / "real").rename(tmp_path / "moved")  # the content counts, not the name
    assert quick(tmp_path / "moved", folders[1]).figures == first.figures
    assert not calls
    quick(tmp_path / "moved", folders[1], cache=False)
    assert len(calls) == 2
    changed = tmp_path / "moved" / "000.png"
    Image.fromarray(255 - np.asarray(Image.open(changed))).save(changed)
    assert quick(tmp_path / "moved", folders[1]).figures != first.figures
    assert len(calls) == 3
    quick(tmp_path / "moved", folders[1], extractor="fmnist@bicubic-antialias-28-grey")
    assert len(calls) == 5
    assert not [file for file in cache.iterdir() if file.suffix != ".safetensors"]  # no temporary file is left


def test_a_damaged_or_unwritable_cache_is_a_note(tmp_path, folders, cache, monkeypatch):
    expected = quick(*folders).figures
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    again = quick(*folders)
    assert again.figures == expected
    assert sum("is damaged" in note for note in again.notes) == 2
    assert not quick(*folders).notes
    other = next(iter(cache.iterdir()))
    save_file(load_file(other), other, {"data": "something else"})
    assert any("it is of something else" in note for note in quick(*folders).notes)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIDMAP_CACHE", str(tmp_path / "file"))
    assert any("features are not kept" in note for note in quick(*folders).notes)


def test_the_cache_is_in_the_users_folder_of_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("FIDMAP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(files.sys, "platform", "linux")
    assert files.cache_folder() == tmp_path / "fidmap"
    monkeypatch.setattr(files.sys, "platform", "darwin")
    assert files.cache_folder().parts[-3:] == ("Library", "Caches", "fidmap")


def save_modes(folder, image: np.ndarray) -> None:
    """One picture in every mode of file."""
    grey = Image.fromarray(image)
    grey.save(folder / "a_grey.png")
    grey.convert("RGB").save(folder / "b_rgb.png")
    grey.convert("P").save(folder / "c_palette.gif")
    alpha = np.stack([image] * 3 + [np.full_like(image, 7)], 2)
    Image.fromarray(alpha).save(folder / "d_rgba.png")
    Image.fromarray(image.astype(np.uint16) * 257).save(folder / "e_16bit.png")
    grey.convert("CMYK").save(folder / "f_cmyk.tif")
    grey.convert("LA").save(folder / "g_la.png")
    grey.convert("P").save(folder / "h_transparent.png", transparency=bytes(range(256)))
    (folder / "._a_grey.png").write_text("what some systems leave beside a file")


def test_every_mode_gives_the_same_features_and_what_was_done_is_counted(tmp_path, images):
    """To float32's rounding of grey made of three equal channels."""
    folder, same = tmp_path / "modes", tmp_path / "same"
    folder.mkdir()
    same.mkdir()
    save_modes(folder, images[0].numpy())
    for i in range(8):
        Image.fromarray(images[0].numpy()).save(same / f"{i}.png")
    result = quick(folder, same)
    assert result.figures[0].value < 1e-6
    notes = " ".join(result.notes)
    assert "3 of 8 images with transparency: it is dropped" in notes
    assert "1 of 8 images of 16 bits: rounded to 8" in notes
    assert quick(folder, same).notes == result.notes  # from the cache too


def test_mixed_sizes_are_resized_and_counted_or_refused(tmp_path, folders, images):
    folder = tmp_path / "sizes"
    folder.mkdir()
    for i, size in enumerate([28, 28, 40, 64]):
        Image.fromarray(images[i].numpy()).resize((size, size + i), Image.BICUBIC).save(folder / f"{i}.png")
    result = quick(folder, folders[0])
    assert any("images of 4 sizes, each resized by bilinear-antialias-28-grey" in note for note in result.notes)
    with pytest.raises(UsageError, match=r"sizes: .*of the sizes 28x28, 28x29, 40x42, 64x67; a mode that resizes"):
        quick(folder, folders[0], extractor="fmnist@none-grey")


def test_a_truncated_image_is_an_error_or_a_counted_skip(tmp_path, folders, images):
    folder = tmp_path / "broken"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(images[i].numpy()).save(folder / f"{i}.jpg")
    whole = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "3.png").write_text("no image")
    with pytest.raises(
        UsageError, match=r"(?i)broken/2\.jpg: cannot be read \(.*truncated.*\); --skip-bad leaves such out"
    ):
        quick(folder, folders[0])
    for _ in range(2):  # the second time from the cache
        result = quick(folder, folders[0], skip_bad=True)
        assert (result.real.n, result.real.skipped) == (3, 2)
        assert any("2 of 5 images skipped; the first: " in note and "2.jpg" in note for note in result.notes)
    with pytest.raises(UsageError, match=r"2\.jpg: cannot be read"):  # the skip is no part of the plain run
        quick(folder, folders[0])
    (folder / "2.jpg").write_bytes(whole)  # the first that cannot be read is now one that is no image at all
    with pytest.raises(UsageError, match=r"3\.png: cannot be read \(no image that Pillow knows\); --skip-bad"):
        quick(folder, folders[0])
    for i in range(4):
        (folder / f"{i}.jpg").write_bytes(whole[:50])
    with pytest.raises(UsageError, match=r"broken: none of 5 images can be read; the first: .*0\.jpg"):
        quick(folder, folders[0], skip_bad=True)


def test_the_threads_that_read_change_no_figure(folders):
    first, *others = (quick(*folders, workers=workers, cache=False).as_dict() for workers in (None, 1, 2, 7))
    assert others == [first] * 3


def test_an_interrupt_while_images_are_read_ends_it_at_once(tmp_path, folders, fidmap):
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "def network(x):\n"
        "    open('begun', 'w').close()\n"
        "    time.sleep(1)\n"
        "    return x.mean((2, 3))\n"
    )  # fmt: skip
    arguments = ("evaluate", "images", *folders, "--extractor", "slow:network", "--batch", "1", "--workers", "3")
    process = fidmap(*arguments, background=True)
    while not (tmp_path / "begun").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert time.monotonic() - begin < 10


def test_32_bit_pixels_have_no_known_range(tmp_path, folders):
    folder = tmp_path / "float"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.random.default_rng(i).random((28, 28), np.float32)).save(folder / f"{i}.tif")
    with pytest.raises(UsageError, match=r"0\.tif: cannot be read \(pixels of mode F, whose range is not known"):
        quick(folder, folders[0])


def array(**arrays: object):
    return lambda file: np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("a.npz", array(arr_0=np.zeros((3, 8, 8))), r"a\.npz, array 'arr_0': float64 of shape \(3, 8, 8\); images"),
        ("a.npz", array(images=np.zeros((3, 8, 8, 4), np.uint8)), r"array 'images': uint8 of shape \(3, 8, 8, 4\)"),
        ("a.npz", array(images=np.zeros((0, 8, 8), np.uint8)), r"uint8 of shape \(0, 8, 8\)"),
        ("a.npz", array(one=np.zeros(3), two=np.zeros(3)), "holds 'one', 'two'; one array, or one named images"),
        ("a.npz", array(), "holds nothing"),
        ("a.npz", array(x=np.array([{"a": 1}])), "cannot be read .*allow_pickle=False"),
        ("a.npz", lambda file: file.write_bytes(b"PK\x03\x04 no zip"), r"a\.npz: cannot be read"),
        ("a.npz", lambda file: file.write_bytes(pickle.dumps([1])), r"a\.npz: cannot be read"),
        ("a.npz", array(f=np.array([[1.0, np.nan], [0, 0]])), r"array 'f': 1 of 2 rows of features are not finite"),
        ("a.safetensors", lambda file: file.write_bytes(b"12"), r"a\.safetensors: cannot be read"),
        ("a.safetensors", lambda file: save_file({"mean": torch.zeros(2), "scatter": torch.zeros(2, 2)}, file),
         "holds no feature statistics"),
        ("a.safetensors", lambda file: FeatureStatistics(3, torch.zeros(2, dtype=torch.float64),
         torch.full((2, 2), torch.nan, dtype=torch.float64)).save(file), r"a\.safetensors holds values that are"),
        ("a.csv", lambda file: file.write_text("1"), r"a\.csv: a folder of images, \.npy, \.npz or \.safetensors"),
        ("empty", lambda file: file.mkdir(), r"empty: holds no images \(\.bmp"),
        ("one", lambda file: (file.mkdir(), Image.new("L", (28, 28)).save(file / "a.png")), "one: 1 image; at least 2"),
    ],
)  # fmt: skip
def test_files_that_are_none_are_refused_by_name(tmp_path, folders, name, write, says):
    write(tmp_path / name)
    for sides in ((tmp_path / name, folders[0]), (folders[0], tmp_path / name)):
        with pytest.raises(UsageError, match=says) as caught:
            quick(*sides)
        assert "\n" not in str(caught.value)


def test_names_that_are_none_say_what_is_meant(tmp_path, folders):
    for options, says in [
        ({"metrics": "fid"}, r"--metrics: no metric 'fid'; did you mean \w+\? there are fd, "),
        ({"metrics": ""}, "--metrics is empty"),
        ({"metrics": "cmmd"}, "cmmd is defined on clip; the extractor is fmnist"),
        ({"extractor": "fmnst"}, r"--extractor: no extractor 'fmnst'; did you mean fmnist\?"),
        ({"extractor": "fmnist@big"}, "--extractor: no resize mode 'big'"),
        ({"extractor": "fmnist", "weights": tmp_path / "w"}, "fmnist comes with its weights"),
    ]:
        with pytest.raises(UsageError, match=says):
            quick(*folders, **options)
    with pytest.raises(
        UsageError, match=r"fashion_mnits: no such file, folder or data set; did you mean fashion_mnist"
    ):
        quick(folders[0], "fashion_mnits")
    np.savez(tmp_path / "f.npz", np.zeros((4, 3)))
    np.savez(tmp_path / "g.npz", np.zeros((4, 2)))
    with pytest.raises(UsageError, match=r"f\.npz holds features, .*real does not"):
        quick(tmp_path / "f.npz", folders[0])
    with pytest.raises(UsageError, match="the sides have 3 and 2 features"):
        quick(tmp_path / "f.npz", tmp_path / "g.npz")
    with pytest.raises(UsageError, match="--extractor fmnist: there are no images on either side"):
        quick(tmp_path / "f.npz", tmp_path / "f.npz", extractor="fmnist")
    with pytest.raises(UsageError, match="is needs a classifier; the extractor unknown is none"):
        quick(tmp_path / "f.npz", tmp_path / "f.npz", metrics="is")


class Logarithm(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(x.mean((2, 3)) - 0.2)


class Moments(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean((2, 3)), x.std((2, 3)), x[:, 0, ::7, ::7].flatten(1)], 1)


def test_a_torchscript_file_of_the_users(tmp_path, folders):
    for name, module in (("bad", Logarithm()), ("good", Moments())):
        torch.jit.script(module).save(str(tmp_path / f"{name}.pt"))
    with pytest.raises(UsageError, match=r"real: bad\.pt@none gives features that are not finite for \d+ of 40 images"):
        quick(*folders, extractor=str(tmp_path / "bad.pt"))
    result = quick(*folders, extractor=f"{tmp_path}/good.pt@bilinear-antialias-28", metrics="fd,prdc")
    assert result.figures[0].name == "fd_good.pt"
    assert result.extractor.startswith("good.pt@")
    with pytest.raises(UsageError, match=r"is needs a classifier; the extractor good\.pt is none"):
        quick(*folders, extractor=f"{tmp_path}/good.pt", metrics="is")


def test_a_side_too_small_for_a_metric_is_named_and_one_too_small_for_its_halves_noted(tmp_path, images):
    for n in (4, 8):
        np.savez(tmp_path / f"{n}.npz", images[:n].numpy())
        np.savez(tmp_path / f"other{n}.npz", images[n : 2 * n].numpy())
    with pytest.raises(UsageError, match=r"^prdc: .*neighbours"):
        quick(tmp_path / "4.npz", tmp_path / "other4.npz", metrics="prdc")
    result = evaluate(str(tmp_path / "8.npz"), str(tmp_path / "other8.npz"), metrics="prdc", resamples=3)
    assert result.figures[0].interval is None
    assert result.figures[0].floor is None
    assert any(note.startswith("prdc: no interval") for note in result.notes)
    assert any(note.startswith("prdc: no floor") for note in result.notes)


def test_all_metrics_leave_out_what_the_extractor_cannot_give(folders):
    result = evaluate(*folders, metrics="all", resamples=2)
    given = set(figures.OF_IMAGES) - {"cmmd", "fd_debiased"}
    names = {quantity.name for name in given for quantity in figures.OF_IMAGES[name].quantities.values()}
    assert {figure.name.removesuffix("_fmnist") for figure in result.figures} == names
    assert any("left out: cmmd is defined on clip" in note for note in result.notes)
    assert any("left out: fd_debiased takes at least 130 images per side" in note for note in result.notes)
    for figure in result.figures:
        assert np.isfinite(figure.value), figure.name


def test_only_inceptions_own_weights_and_resize_are_called_fid():
    from bench.evaluate.images import title_of

    assert title_of("fd", "inception", "bilinear-tf-299") == "fid"
    assert title_of("kid", "inception", "bilinear-tf-299") == "kid"
    assert title_of("fd", "inception", "bicubic-antialias-299") == "fd_inception"
    assert title_of("fd", "inception_other", "bilinear-tf-299") == "fd_inception_other"
    assert title_of("precision", "inception", "bilinear-tf-299") == "precision"


def test_progress_is_lines_on_stderr_where_it_is_no_terminal(folders, monkeypatch, capsys):
    from bench import progress

    monkeypatch.setattr(progress, "EVERY", 0.0)
    evaluate(*folders, metrics="fd", resamples=2, batch=16)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"features of {folders[0]}: 16 of 40" in err
    assert "metrics: 44 of 44" in err  # the value, two halves and the whole again, twenty floors at two sizes


def test_the_command_prints_a_table_and_json(fidmap, folders):
    result = fidmap("evaluate", "images", *folders, "--metrics", "fd,prdc", "--resamples", "3")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("## Generated images against real ones")
    for text in ("| fd_fmnist ", "n = 40, data ", "extractor fmnist@", "resize bilinear-antialias-28-grey",
                 "floor: 40 real images against 40 others, extrapolated"):  # fmt: skip
        assert text in result.stdout
    found = json.loads(
        fidmap("evaluate", "images", *folders, "--json", "--metrics", "fd,prdc", "--resamples", "3").stdout
    )
    assert [figure["name"] for figure in found["figures"]] == [
        "fd_fmnist",
        "precision",
        "recall",
        "density",
        "coverage",
    ]
    assert found["figures"][0]["floor"]["n"] == [40, 40]
    assert found["real"]["n"] == found["generated"]["n"] == N


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["empty", "fashion_mnist"], ["empty", "no images"]),
        (["fashion_mnist", "fashion_mnist", "--extractor", "clip"], ["clip", "hf download"]),
        (["fashion_mnist", "fashion_mnist", "--extractor", "none.pt"], ["none.pt", "No such file"]),
        (["fashion_mnist", "fashion_mnist", "--device", "tpu"], ["tpu", "cpu, cuda"]),
        (["fashion_mnist", "fashion_mnist", "--batch", "0"], ["--batch"]),
    ],
    ids=" ".join,
)
def test_errors_of_use_are_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, says):
    from huggingface_hub import constants

    from bench.__main__ import main

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "images", *arguments])
    out, err = capsys.readouterr()
    assert end.value.code == 2, err
    assert out == ""
    assert err.count("\n") == 1, err
    for word in says:
        assert word in err


def test_an_error_in_a_process_of_its_own(fidmap, tmp_path):
    (tmp_path / "empty").mkdir()
    result = fidmap("evaluate", "images", "fashion_mnist", "empty")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "empty: holds no images" in result.stderr
