"""Statistics of other programs as a side of ``fidmap evaluate images``: named by the user, and against features."""

import numpy as np
import pytest

from metrics.samples.frechet import frechet_distance_from_features


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("FIDMAP_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    features = {"a": rng.standard_normal((60, 6)), "b": 0.3 + rng.standard_normal((60, 6))}
    for name, rows in features.items():
        np.save(tmp_path / f"{name}.npy", rows)
        np.savez(tmp_path / f"{name}.npz", mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    np.savez(tmp_path / "bad.npz", mu=np.zeros(6), sigma=np.eye(5))
    np.save(tmp_path / "images.npy", rng.integers(0, 255, (40, 9, 9, 3), dtype=np.uint8))
    (tmp_path / "mine.py").write_text(
        "import torch\ndef network(x):\n    return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)\n"
    )
    return tmp_path, features


def value(out):
    return float(next(line for line in out.splitlines() if line.startswith("| fd")).split("|")[2])


@pytest.mark.parametrize("sides", [("a.npz", "b.npz"), ("a.npz", "b.npy"), ("a.npy", "b.npz")])
def test_statistics_against_statistics_and_features(command, files, sides):
    import torch

    _, features = files
    expected = frechet_distance_from_features(*(torch.from_numpy(rows) for rows in features.values()))
    code, out, err = command("evaluate", "images", *sides)
    assert code == 0, err
    assert value(out) == pytest.approx(expected, rel=1e-3)
    assert "left out: kid, prdc" in err
    assert "n = unknown" in out
    code, out, err = command("evaluate", "images", *sides, "--extractor", "inception")
    assert code == 0, err
    assert "does not say its extractor; it is taken to be inception, as you say" in err
    assert "| fd " in out  # no FID: nobody knows the weights


@pytest.mark.usefixtures("files")
def test_the_user_names_the_extractor_of_statistics_beside_images(command):
    code, out, err = command("evaluate", "images", "a.npz", "images.npy", "--extractor", "mine:network")
    assert code == 0, err
    assert "fd_mine:network" in out
    assert "a.npz does not say its extractor; it is taken to be mine:network@" in err
    code, out, err = command("evaluate", "images", "images.npy", "b.npy")
    assert (code, out) == (2, "")
    code, out, err = command("evaluate", "images", "images.npy", "images.npy", "--extractor", "mine:network")
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npz", "images.npy"], "a.npz: statistics of an unknown extractor; --extractor names the one they are of"),
        (["bad.npz", "a.npy"], "bad.npz, arrays mu and sigma: the mean is float64 (6,)"),
        (["a.npz", "b.npz", "--metrics", "kid"], "a.npz: statistics give fd alone; --metrics is kid"),
        (["a.npy", "images.npy"], "a.npy holds features, images.npy does not"),
        (["images.npy", "images.npy", "--extractor", "mine:none"], "--extractor: mine:none: cannot be loaded"),
        (["images.npy", "images.npy", "--extractor", "none.pt2"], "none.pt2"),
        (["a.npy", "b.npy", "--extractor", "mine:network"], "there are no images on either side"),
    ],
)
def test_bad_input_is_one_line(command, files, arguments, message):
    code, out, err = command("evaluate", "images", *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
