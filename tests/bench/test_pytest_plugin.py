"""The plugin that every pytest loads where fidmap is installed, in repositories that have packages of its names."""

import os
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path

import pytest

import fidmap_pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = fidmap_pytest.PACKAGES


@pytest.fixture
def installed(tmp_path):
    """Fidmap as an installation lays it out: its packages, its plugin's module and its entry points."""
    site = tmp_path / "site"
    info = site / "fidmap-9.dist-info"
    info.mkdir(parents=True)
    for name in (*PACKAGES, "fidmap_pytest.py"):
        (site / name).symlink_to(ROOT / name)
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fidmap\nVersion: 9\n")
    (info / "entry_points.txt").write_text("[pytest11]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    return site


@pytest.fixture
def theirs(tmp_path, installed):
    """Runs pytest in a repository with a bench, a metrics and an implementations of its own."""
    folder = tmp_path / "theirs"
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"OWNER = 'theirs {name}'\n")
    (folder / "test_theirs.py").write_text(
        "import sys\n"
        "import bench, implementations, metrics\n"
        "def test_own(): assert bench.OWNER + metrics.OWNER == 'theirs benchtheirs metrics'\n"
        "def test_light(): assert not {'torch', 'typer', 'bench.audit'} & set(sys.modules)\n"
    )
    (folder / "test_used.py").write_text("def test_used(fidmap_audit): fidmap_audit('ddim')\n")

    def run(*arguments):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                              env=os.environ | {"PYTHONPATH": str(installed)})  # fmt: skip

    return run


def test_a_repository_with_packages_of_these_names_is_left_alone(theirs):
    result = theirs("test_theirs.py")
    assert (result.returncode, "2 passed" in result.stdout) == (0, True), result.stdout + result.stderr


def test_there_the_plugin_says_what_hides_it_and_what_to_do(theirs):
    option = theirs("test_theirs.py", "--fidmap-sampler", "ddim")
    assert option.returncode == pytest.ExitCode.USAGE_ERROR, option.stdout + option.stderr
    fixture = theirs("test_used.py")
    assert fixture.returncode == pytest.ExitCode.TESTS_FAILED
    for text in (option.stderr, fixture.stdout):
        assert "finds the package 'bench' in" in text, text
        assert "fidmap audit --sampler" in text
        assert "Traceback" not in text


LAYOUTS = {
    "package": lambda folder, name: (folder / name / "__init__.py", True),
    "module": lambda folder, name: (folder / f"{name}.py", True),
    "folder without __init__": lambda folder, name: (folder / name / "helper.py", False),  # Python prefers ours
    "other name": lambda folder, name: (folder / f"{name}s" / "__init__.py", False),
}


@pytest.mark.parametrize(("name", "layout", "imported"), list(product(PACKAGES, LAYOUTS, (False, True))))
def test_what_hides_a_package_is_found(tmp_path, monkeypatch, name, layout, imported):
    """Generated: each package, hidden in each way or not, before and after somebody has imported it."""
    file, hides = LAYOUTS[layout](tmp_path, name)
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for package in PACKAGES:
        monkeypatch.delitem(sys.modules, package, raising=False)
    if imported:
        monkeypatch.setitem(sys.modules, name, __import__(name))
    found = fidmap_pytest.find_hidden_package()
    if hides:
        assert found.startswith(f"Python finds the package {name!r} in ")
    else:
        assert found is None
