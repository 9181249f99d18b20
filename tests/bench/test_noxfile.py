"""The stamp of nox's environment: a copied or moved clone does not run the code of the old one."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _nox(monkeypatch):
    """The names of nox that the file takes when it is read; nox itself runs outside the environment that it makes."""
    stub = SimpleNamespace(options=SimpleNamespace(), session=lambda function: function, Session=Session)
    monkeypatch.setitem(sys.modules, "nox", stub)


class Session:
    """Notes what a session would run, and makes the folder that virtualenv would make."""

    def __init__(self, root):
        self.root, self.made = root, 0

    def run(self, *command, **options):
        if "virtualenv" in command:
            self.made += 1
            Path(command[-1]).mkdir(parents=True, exist_ok=True)

    def log(self, text): ...


def _read(root, module):
    """The noxfile of a clone, as a module."""
    spec = importlib.util.spec_from_file_location(module, root / "noxfile.py")
    noxfile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(noxfile)
    return noxfile


def _environments_made(root, module):
    """How many environments a session of this clone makes."""
    noxfile = _read(root, module)
    noxfile._install = lambda *arguments: None
    session = Session(root)
    noxfile.environment(session, "env", "--editable", ".", project=True)
    return session.made


def test_a_copied_or_moved_clone_makes_its_own_environment(tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("noxfile.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, clone)
    assert [_environments_made(clone, "first"), _environments_made(clone, "again")] == [1, 0]
    shutil.copytree(clone, tmp_path / "copy")
    assert [_environments_made(tmp_path / "copy", "copy"), _environments_made(clone, "still")] == [1, 0]
    clone.rename(tmp_path / "moved")
    assert _environments_made(tmp_path / "moved", "moved") == 1
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert _environments_made(tmp_path / "link", "link") == 0  # the same clone under another name
    (tmp_path / "moved" / "constraints.txt").write_text("torch==2\n")
    assert _environments_made(tmp_path / "moved", "changed") == 1


@pytest.mark.parametrize(("arguments", "run"), [([], ["quick"]), (["nms", "iou"], ["nms", "iou"]), (["--table"], [])])
def test_the_leaderboard_is_of_all_baselines(tmp_path, arguments, run):
    """Those of the suites that were run are made first; then one command ranks each family into one file."""
    shutil.copy(ROOT / "noxfile.py", tmp_path)
    (tmp_path / "results" / "baselines").mkdir(parents=True)
    (tmp_path / "results" / "baselines" / "samplers.json").write_text("{}")
    noxfile, calls = _read(tmp_path, f"leaderboard{len(run)}"), []

    def fidmap(session, *command, stdout=None, **options):
        calls.append(command)
        if stdout is not None:
            stdout.write(f"{command[0]}\n")

    noxfile.fidmap = fidmap
    noxfile.leaderboard(SimpleNamespace(posargs=arguments))
    assert [command[1] for command in calls if command[0] == "run"] == run
    ranked = calls[-1]
    made = sorted([*(f"results/baselines/{suite}.json" for suite in run), "results/baselines/samplers.json"])
    assert [name for name in ranked if name.endswith(".json")] == made
    assert {"table", "samplers", "losses", "nms", "metrics", "--rank"} <= set(ranked)
    text = (tmp_path / "results" / "LEADERBOARD.md").read_text()
    assert text.startswith("# Leaderboards")
    assert text.endswith("table\n")
