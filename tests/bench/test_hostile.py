"""Code and files that mean harm, or are broken: one line and exit code 2, and nothing of it changes a figure."""

import zipfile

import numpy as np
import pytest

from bench.errors import UsageError
from bench.evaluate.sides import read_side
from bench.report.into import write_into

CODE = """
import sys

def gap(real, generated): return float((real.mean(0) - generated.mean(0)).norm())
def leaves(real, generated): sys.exit(0)
def fails(real, generated): raise RuntimeError("first line\\nsecond")
def overflows(real, generated): return 10**400
def takes_three(real, generated, more): return 1.0
def writes(real, generated):
    real.zero_(), generated.zero_()
    return 1.0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hostile_code.py").write_text(CODE)
    features = np.random.default_rng(0).normal(size=(2, 60, 4))
    np.save("real.npy", features[0]), np.save("generated.npy", features[1] + 0.5)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leaves", "it raised SystemExit: 0"),
        ("fails", "it raised RuntimeError: first line second"),
        ("overflows", "it returned 1000"),
        ("takes_three", "it raised TypeError: takes_three() missing 1 required positional argument: 'more'"),
    ],
)
def test_a_metric_that_raises_is_one_line(folder, command, name, said):
    code, printed, lines = command(
        "evaluate", "images", "real.npy", "generated.npy", "--metrics", f"hostile_code:{name}"
    )
    assert code == 2
    assert not printed
    assert lines.startswith(f"fidmap: hostile_code:{name}: {said}")
    assert lines.count("\n") == 1


def test_a_metric_that_writes_into_its_features_changes_no_other(folder, command):
    def measure(metrics):
        code, printed, said = command(
            "evaluate", "images", "real.npy", "generated.npy", "--resamples", "0", "--metrics", metrics
        )
        assert code == 0, said
        return [line for line in printed.splitlines() if line.startswith(("| fd ", "| hostile_code:gap"))]

    alone = measure("fd,hostile_code:gap")
    assert len(alone) == 2
    assert [line.split("|")[2].strip() for line in measure("hostile_code:writes,fd,hostile_code:gap")] == [
        line.split("|")[2].strip() for line in alone
    ]


def test_code_that_ends_python_is_no_success(monkeypatch, capsys):
    from bench import __main__, cli

    def leave(*_, **__):
        raise SystemExit(0)

    monkeypatch.setattr(cli, "app", leave)
    with pytest.raises(SystemExit) as ended:
        __main__.main(["list"])
    assert ended.value.code == 2
    assert "ended Python (SystemExit 0)" in capsys.readouterr().err


def claims(shape):
    """The head of an array file that claims a shape and has no content."""
    return (
        b"\x93NUMPY\x01\x00"
        + np.uint16(118).tobytes()
        + str({"descr": "<f8", "fortran_order": False, "shape": shape}).encode().ljust(117)
        + b"\n"
    )


def test_arrays_that_numpy_cannot_read_are_one_line(tmp_path):
    """NumPy raises MemoryError on a shape that no memory holds, and RuntimeError on an encrypted archive."""
    huge, locked, empty = tmp_path / "huge.npy", tmp_path / "locked.npz", tmp_path / "empty.npy"
    huge.write_bytes(claims((10**7, 10**7)))
    with zipfile.ZipFile(locked, "w") as archive:
        archive.writestr("x.npy", claims((0, 1)))
    content = bytearray(locked.read_bytes())
    content[6] |= 1  # the flag of encryption, in the header of the file and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(content)
    np.save(empty, np.zeros((60, 0)))
    for file, reason in ((huge, "cannot be read"), (locked, "encrypted"), (empty, "shape (60, 0)")):
        with pytest.raises(UsageError, match=file.name) as error:
            read_side(str(file))
        assert reason in str(error.value)


def test_a_link_to_itself_is_no_file_for_a_table(tmp_path):
    link = tmp_path / "loop.md"
    link.symlink_to(link)
    with pytest.raises(UsageError, match=r"loop\.md: cannot be read"):
        write_into(link, {"samplers": "table"})
