"""What is recorded of the code: a state that git does not tell is unknown, and not clean."""

import subprocess

import pytest

import bench
from bench import environment


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository of one commit, in which fidmap stands."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "bench" / "__init__.py"))
    return tmp_path


def test_clean_changed_and_unknown_are_three_states(checkout, monkeypatch):
    assert environment.code()["dirty"] is False
    (checkout / "bench" / "__init__.py").write_text("changed = True")
    assert environment.code()["dirty"] is True
    (checkout / ".git" / "index").write_bytes(b"damaged")
    code = environment.code()
    assert code["commit"]
    assert code["dirty"] is None
    monkeypatch.setenv("PATH", str(checkout))  # no git at all
    assert environment.code() == {"version": bench.__version__, "commit": None, "dirty": None}


def test_a_git_hook_s_variables_do_not_name_another_repository(checkout, monkeypatch, tmp_path_factory):
    commit = environment.code()["commit"]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(["git", "init", "-q"], cwd=elsewhere, check=True)
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(elsewhere / ".git" / "index"))
    assert environment.code() == {"version": bench.__version__, "commit": commit, "dirty": False}
