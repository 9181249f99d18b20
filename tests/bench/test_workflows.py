"""The README's three workflows in a scratch repository, as shell: green without a fault, red with one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.records.bundle import load

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("## A gate in CI") :].partition("\n## ")[0]


def block(first_line, text=README):
    """The code block that begins with this line, without its fences."""
    begin = text.index(f"\n{first_line}")
    return text[begin + 1 :].partition("```")[0]


def workflow(name):
    """The lines of the README's workflow of this name, its run steps, and the commands that make its baseline."""
    text = block(f"# .github/workflows/{name}.yml", SECTION)
    (job,) = yaml.safe_load(text)["jobs"].values()
    steps = [step["run"] for step in job["steps"] if "run" in step]
    made = [*steps[1:-1], steps[-1].replace("--format github", "--update")]
    return text.splitlines(), steps, "\n".join(made)


DETECT = """
import json
truth = json.load(open("annotations.json"))
found = [{"image_id": a["image_id"], "category_id": a["category_id"], "score": .9, "bbox": list(a["bbox"])}
         for a in truth["annotations"]]
json.dump(found, open("detections.json", "w"))
"""
TRUTH = {
    "images": [{"id": i, "width": 100, "height": 100} for i in (1, 2, 3)],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [10 * i, 5, 40, 50], "area": 2000, "iscrowd": 0}
        for i in (1, 2, 3)
    ],
}
FAULTS = {  # by workflow: its files, and in one of them a text and the fault in its place
    "sampler": ({"midpoint.py": block("# midpoint.py")},
                "midpoint.py", "(here + there) / 2, condition", "here, condition", "order"),
    "detector": ({"detect.py": DETECT, "annotations.json": json.dumps(TRUTH)},
                 "detect.py", 'list(a["bbox"])', '[a["bbox"][0] + 3, *a["bbox"][1:]]', "AP"),
    "loss": ({"myboxes.py": block("# myboxes.py")},
             "myboxes.py", "(pred - target).abs().sum(1)", "(pred - target)[:, :2].abs().sum(1)", "pairs_"),
}  # fmt: skip


@pytest.fixture
def shell(tmp_path):
    """Runs a line of shell in a scratch repository, where fidmap is installed and ``pip`` has nothing to do."""
    programs, repository = tmp_path / "bin", tmp_path / "scratch repository"
    python = f'exec "{sys.executable}"'
    for name, content in {"fidmap": f'{python} -P -m bench "$@"', "python": f'{python} "$@"', "pip": "exit 0"}.items():
        programs.mkdir(exist_ok=True)
        (programs / name).write_text(f"#!/bin/sh\n{content}\n")
        (programs / name).chmod(0o755)
    repository.mkdir()
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GIT_CONFIG_GLOBAL": os.devnull,
    }  # fmt: skip

    def run(script):
        command = ["bash", "-eo", "pipefail", "-c", script]  # as GitHub runs a step
        return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)

    run.repository, run.summary = repository, tmp_path / "summary.md"
    assert run("git init -q && git config user.name x && git config user.email x@example.org").returncode == 0
    return run


@pytest.mark.parametrize("name", FAULTS)
def test_a_workflow_is_green_without_a_fault_and_red_with_one(name, shell):
    lines, steps, made = workflow(name)
    assert len(lines) <= 15
    assert steps[0].startswith("pip install -r requirements.txt")
    files, faulty, right, wrong, measure = FAULTS[name]
    for file, text in files.items():
        (shell.repository / file).write_text(text)
    result = shell(made)
    assert result.returncode == 0, result.stderr
    assert f"wrote: {name}.json" in result.stderr
    assert shell("printf 'runs\\ndetections.json\\n' > .gitignore; git add -A; git commit -qm Baseline").returncode == 0
    for step in steps:
        result = shell(step)
        assert result.returncode == 0, (step, result.stderr)
    assert result.stdout.startswith("::notice title=fidmap compare::passes: ")
    assert "passes: " in shell.summary.read_text()
    assert shell("git status --porcelain").stdout == ""

    text = (shell.repository / faulty).read_text()
    assert right in text
    (shell.repository / faulty).write_text(text.replace(right, wrong))
    ended = [shell(step) for step in steps]
    assert [one.returncode for one in ended] == [0] * (len(steps) - 1) + [1], [one.stderr for one in ended]
    annotations = ended[-1].stdout.splitlines()
    assert annotations[0].startswith("::error title=fidmap compare::fails: ")
    assert any(line.startswith("::error title=worse") and f" {measure}" in line for line in annotations[1:])
    assert "| worse" in shell.summary.read_text()
    assert shell("git diff --name-only").stdout.split() == [faulty]  # the gate changes nothing
    assert load(shell.repository / f"{name}.json").records
