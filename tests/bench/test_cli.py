"""The command: fast help, one line for every error of use, and a sampler of one's own."""

import json
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_names_and_plans_are_listed_without_torch_or_pandas(tmp_path):
    for arguments in (
        ["--help"],
        ["list", "--json"],
        ["describe", "coverage"],
        ["run", "quick", "--dry-run", "--out", str(tmp_path / "none")],
    ):
        code = f"""
            import sys
            from bench.__main__ import main
            try: main({arguments!r})
            except SystemExit as end: assert not end.code, end.code
            import bench
            heavy = {{"torch", "pandas", "scipy", "matplotlib", "torchmetrics"}} & set(sys.modules)
            assert not heavy, heavy
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.alone
@pytest.mark.parametrize(("arguments", "seconds", "ratio"), [(["--help"], 0.2, 2.5), (["list"], 0.4, 4.0)])
def test_names_come_quickly(arguments, seconds, ratio):
    """Medians of 5, by turns with typer's import alone, which a slow machine is measured by; three chances."""
    commands = {"typer": ["-c", "import typer"], "fidmap": ["-m", "bench", *arguments]}
    for _ in range(3):
        times = {name: [] for name in commands}
        for _ in range(5):
            for name, command in commands.items():
                begin = time.perf_counter()
                subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
                times[name].append(time.perf_counter() - begin)
        medians = {name: statistics.median(found) for name, found in times.items()}
        if medians["fidmap"] <= max(seconds, ratio * medians["typer"]):
            return
    pytest.fail(f"median {medians['fidmap']:.2f} s, typer's import {medians['typer']:.2f} s")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "quik"], ["quik", "did you mean quick"]),
        (["run", "nothing.toml"], ["nothing.toml", "No such file"]),
        (["run", "broken.toml"], ["broken.toml", "line 2"]),
        (["run", "quick", "--device", "tpu"], ["tpu", "cpu, cuda"]),
        (["run", "quick", "--device", "cuda:99"], ["cuda:99", "CUDA devices"]),
        (["run", "quick", "--sampler", "heun"], ["heun", "MODULE:FUNCTION"]),
        (["run", "quick", "--loss", "ciou"], ["--loss", "ciou", "MODULE:FUNCTION"]),
        (["run", "quick", "--nms", "math:exp"], ["math:exp", "no axis of nms"]),
        (["run", "quick", "--sampler", "math:nothing"], ["math:nothing"]),
        (["run", "quick", "--scheduler", "heun"], ["--scheduler 'heun'", "MODULE:NAME"]),
        (["run", "quick", "--scheduler", "math:exp"], ["math:exp", "set_timesteps(steps)"]),
        (["run", "iou", "--scheduler", "tests.bench.own_schedulers:Euler"], ["no axis of samplers"]),
        (["run", "quick", "--sampler", "math:pi"], ["math:pi", "no function"]),
        (["run", "quick", "--out", "file", "--limit", "1"], ["file", "is a file"]),
        (["run", "quick", "--jobs", "0"], ["--jobs", "1"]),
        (["run", "quick", "--limit", "x"], ["--limit", "integer"]),
        (["run", "quick", "--keep", "all"], ["--keep", "samples"]),
        (["run", "quick", "--only", "nothing*"], ["nothing*", "matches none"]),
        (["run"], ["suite"]),
        (["rnu"], ["rnu", "run"]),
        (["run", "quick", "--sed", "1"], ["--sed", "--seed"]),
        (["list", "sampler"], ["sampler", "samplers"]),
        (["table", "--out", "empty"], ["empty", "no records"]),
        (["table", "--format", "xlsx"], ["xlsx", "latex"]),
        (["compare", "empty", "empty"], ["empty"]),
        (["import", "file"], ["file", "pytest-benchmark"]),
        (["train", "nothing"], ["nothing", "fmnist_classifier"]),
    ],
    ids=" ".join,
)  # fmt: skip
def test_errors_of_use_are_one_line_and_exit_code_2(tmp_path, command, arguments, says):
    (tmp_path / "file").write_text("{}")
    (tmp_path / "broken.toml").write_text('name = "x"\n[[block\n')
    code, printed, said = command(*arguments)
    assert code == 2, said
    assert printed == ""
    assert said.count("\n") == 1, said
    for word in says:
        assert word in said


def test_an_error_of_use_is_one_in_a_process_of_its_own(fidmap):
    result = fidmap("run", "quik")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_list_as_json_has_every_kind(fidmap):
    listed = json.loads(fidmap("list", "--json").stdout)
    assert {"samplers", "schedules", "paths", "losses", "metrics", "tasks", "suites"} <= set(listed)
    names = {entry["name"]: entry for entry in listed["samplers"]}
    assert {"euler", "heun", "ddim", "ddpm", "dpmpp_2m"} <= set(names)
    assert names["heun"]["order"] == 2


def test_results_go_to_stdout_and_progress_to_stderr(fidmap, command, tmp_path):
    arguments = ["quick", "--only", "sampler_order/euler/*path=vp", "--out", "store"]
    result = fidmap("run", *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("## Order of accuracy")
    assert "elapsed" in result.stderr
    assert "elapsed" not in result.stdout
    report = tmp_path / "store" / "report"
    assert (report / "order.png").read_bytes().startswith(b"\x89PNG")
    pages = (report / "tables.md").read_text()
    assert pages[pages.index("## Order") :].split("\n\nfidmap ")[0] in result.stdout
    for style, start in [("md", "## Order"), ("csv", "suite,task"), ("latex", "% Order"), ("json", "{")]:
        code, table, _ = command("table", "--out", "store", "--format", style)
        assert code == 0
        assert table.startswith(start)
    (tmp_path / "bundle.json").write_text(table)
    code, same, _ = command("compare", "bundle.json", "store", "--json")
    assert code == 0
    assert set(json.loads(same)["counts"]) == {"same"}


def test_compare_fails_by_name_on_what_became_worse(fidmap, command, tmp_path):
    assert fidmap("run", "quick", "--only", "sampler_order/*coordinate=t*path=edm", "--out", "a").returncode == 0
    records = sorted((tmp_path / "a" / "records").glob("*.json"))
    worse = tmp_path / "b" / "records"
    worse.mkdir(parents=True)
    for file in records:
        content = json.loads(file.read_text())
        del content["checksum"]  # a record without one is not held against it
        if content["cell"]["entries"] == ["heun"]:
            continue
        for measure in content["measures"]:
            measure["value"] -= measure["name"] == "order"
        (worse / file.name).write_text(json.dumps(content))
    code, compared, _ = command("compare", "a", "b")
    assert code == 1
    lines = compared.splitlines()
    assert any(line.startswith("worse") and "euler" in line and " order: " in line for line in lines)
    assert any(line.startswith("missing") and "heun" in line for line in lines)


def test_a_sampler_of_ones_own_by_name(fidmap, tmp_path):
    (tmp_path / "mine.py").write_text("from implementations.samplers.runge_kutta import heun as sample\n")
    result = fidmap(
        "run", "quick", "--only", "sampler_order/mine:sample/path=vp", "--sampler", "mine:sample", "--out", "store"
    )
    assert result.returncode == 0, result.stderr
    (row,) = [
        line for line in result.stdout.splitlines() if "mine:sample" in line and "| vp" in line and "| -  " in line
    ][:1]
    assert 1.9 < float(row.split("|")[4]) < 2.1


def test_a_loss_of_ones_own_by_name(fidmap, tmp_path):
    source = "def loss(pred, target):\n    return (pred - target).abs().sum(1)\n"
    (tmp_path / "mine.py").write_text(source)
    suite = 'name = "own"\n[[block]]\ntask = "iou_regression"\nsettings.points = 5\naxes.loss = ["giou"]\n'
    (tmp_path / "own.toml").write_text(suite)
    result = fidmap("run", "own.toml", "--loss", "mine:loss", "--out", "store")
    assert result.returncode == 0, result.stderr
    rows = {row.split("|")[1].strip(): row.split("|") for row in result.stdout.splitlines() if row.startswith("| ")}
    assert {"giou", "mine:loss"} <= set(rows)
    assert float(rows["mine:loss"][5]) > 0.5  # IoU in the end


def test_readme_s_sampler_through_an_entry_point(fidmap, outside):
    """The README's example, installed as an outside package: listed without being imported, then run by a suite."""
    begin = README.index("```python\n# midpoint.py")
    source = README[begin:].split("```")[1].removeprefix("python\n")
    assert len(source.strip().splitlines()) < 15
    line = next(line for line in README.splitlines() if line.startswith("midpoint = "))
    name, _, target = line.partition(" = ")
    trap = "import pathlib; pathlib.Path('imported').touch()\n"
    site = outside("midpoint", trap + source, samplers=f"{name} = {target.strip(chr(34))}")
    listed = fidmap("list", "samplers", site=site).stdout
    assert "midpoint" in listed
    assert "[midpoint 1.0]" in listed
    assert not (site.parent / "imported").exists(), "listing imported it"
    suite = site.parent / "mine.toml"
    suite.write_text('name = "mine"\n[[block]]\ntask = "sampler_order"\naxes.sampler = ["midpoint", "euler"]\n')
    result = fidmap("run", "mine.toml", "--out", "store", site=site)
    assert result.returncode == 0, result.stderr
    orders = {
        row.split("|")[1].strip(): float(row.split("|")[2])
        for row in result.stdout.splitlines()
        if row.startswith("| m") or row.startswith("| euler")
    }
    assert orders["midpoint"] == pytest.approx(2, abs=0.1)
    assert orders["euler"] == pytest.approx(1, abs=0.1)


def test_doctor_names_what_is_there_and_what_is_missing(fidmap):
    result = fidmap("doctor", "--json")
    found = {item["name"]: item for item in json.loads(result.stdout)}
    assert found["torch"]["found"]
    assert all(item["found"] or item["remedy"] for item in found.values())
    assert {"cuda", "pycocotools", "diffusers", "Fashion-MNIST training set", "C++ compiler"} <= set(found)
