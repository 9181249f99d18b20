"""The README and the docstrings hold: imports run, files and sessions exist, moved modules say where they are."""

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import implementations.moved
import metrics.moved

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
PACKAGES = ("bench", "implementations", "metrics")
IMPORT = re.compile(rf"^\s*(?:>>> )?((?:from|import) (?:{'|'.join(PACKAGES)})\b[\w. ,]*)", re.MULTILINE)
MOVED = {**implementations.moved.MOVED, **metrics.moved.MOVED}


def imports():
    """Every import of our packages in a Python block of the README or in a docstring, with its place."""
    texts = [("README.md", block) for block in BLOCKS]
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        texts += [(file.name, text) for text in re.findall(r'"""(.*?)"""', file.read_text("utf-8"), re.DOTALL)]
    return [(place, line) for place, text in texts for line in IMPORT.findall(text)]


def test_every_import_of_an_example_runs():
    found = imports()
    assert sum(place == "README.md" for place, _ in found) >= 6
    for place, line in found:
        if "{" not in line:  # in the audit, a script that is filled in
            exec(compile(line, place, "exec"), {})


def test_files_that_the_readme_names_exist():
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", PROSE) if not target.startswith("http")]
    files = re.findall(rf"`((?:{'|'.join((*PACKAGES, 'results', 'tests'))})/[\w./-]*)`", PROSE)
    assert links
    assert files
    missing = [name for name in (*links, *files) if not (ROOT / name).exists()]
    assert not missing, missing


def test_the_readme_names_every_session_and_no_other():
    sessions = set(re.findall(r"^@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    table = README[README.index("| session |") :].split("\n\n")[0]
    assert set(re.findall(r"nox -s (\w+)", README)) <= sessions
    assert [name for name in sessions if not re.search(rf"\b{name}\b", table.split("| session |")[1])] == []
    assert "layers" in next(line for line in table.splitlines() if "lint" in line)


def test_a_section_fits_a_screen():
    """At most 15 lines each, besides tables: prose, commands and code, also of the three workflows."""
    sections = re.split(r"^##+ ", README, flags=re.MULTILINE)[1:]
    assert sections[0].startswith("Two commands\n")
    for section in sections[1:]:
        title, *lines = section.splitlines()
        counted = [line for line in lines if line.strip() and not line.startswith(("```", "|"))]
        assert len(counted) <= 15, title


def test_the_first_screen_has_two_commands_a_picture_and_a_table():
    first = README[: README.index("\n## ", README.index("## Two commands"))]
    assert len(re.findall(r"^pipx run nox", first, re.MULTILINE)) == 2
    assert len(re.findall(r"^!\[", README, re.MULTILINE)) == first.count("\n![") == 1
    assert first.count("\n|-") == 1


def test_a_moved_module_says_where_it_is():
    for old, new in MOVED.items():
        with pytest.raises(ImportError, match=re.escape(f"{old} has moved to {new}")):
            importlib.import_module(old)
        assert importlib.util.find_spec(new), new


def test_a_moved_module_says_so_where_nothing_else_was_imported():
    for old in ("implementations.diffusion.schedule", "metrics.coco"):
        script = f"try:\n    import {old}\nexcept ImportError as error:\n    print(error)"
        shown = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        assert shown.stdout.strip() == f"{old} has moved to {MOVED[old]}"
