"""The README's commands for leaderboards, in a repository with records: the table against a computation by hand."""

import json
import shlex
import statistics
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("## Leaderboards") :].partition("\n## ")[0]
COMMANDS = [
    shlex.split(line.partition("#")[0])[1:]
    for line in SECTION.split("```")[1].splitlines()
    if line.startswith("fidmap")
]
OURS = "<!-- fidmap samplers -->\n<!-- /fidmap samplers -->\n"


def means(baseline: Path, name: str, task: str, **setting: object) -> dict[str, float]:
    """The mean of a measure over the seeds, per sampler, from the file alone."""
    values = defaultdict(list)
    for record in json.loads(baseline.read_text())["records"]:
        parameters = record["cell"]["parameters"]
        if record["cell"]["task"] == task and all(parameters.get(key) == value for key, value in setting.items()):
            values[parameters["sampler"]] += [m["value"] for m in record["measures"] if m["name"] == name]
    return {sampler: statistics.mean(of) for sampler, of in values.items() if of}


def rows(text: str) -> list[dict[str, str]]:
    """The rows of the first Markdown table of a text, without bold."""
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], (cell.strip("*") for cell in line), strict=True)) for line in lines[2:]]


def test_the_commands_make_the_tables_that_the_records_say(tmp_path, command):
    assert [c[:3] for c in COMMANDS] == [["table", "samplers", "--rank"]] * 2, "the section's commands have changed"
    baseline = tmp_path / "results" / "baselines" / "samplers.json"
    baseline.parent.mkdir(parents=True)
    baseline.write_bytes((ROOT / "results" / "baselines" / "samplers.json").read_bytes())
    readme = tmp_path / "README.md"
    readme.write_text(f"# Mine\n\n{OURS}\nthe end\n")

    code, printed, said = command(*COMMANDS[0])
    assert code == 0, said
    expected = means(baseline, "fd_fmnist", "sampler_quality", nfe=10, oracle="classes", path="vp", schedule="karras")
    found = rows(printed)
    assert len(found) == len(expected)
    for row in found:
        assert abs(float(row["fd_fmnist"].split(" ± ")[0].strip("*")) / expected[row["entry"]] - 1) < 1e-3

    code, _, said = command(*COMMANDS[1])
    assert code == 0, said
    text = readme.read_text()
    assert text.startswith("# Mine\n\n<!-- fidmap samplers -->\n## Samplers by fd_fmnist")
    assert text.endswith("<!-- /fidmap samplers -->\n\nthe end\n")
    expected = means(baseline, "fd_fmnist", "sampler_quality", nfe=20, oracle="classes", path="vp", schedule="karras")
    order = means(baseline, "order", "sampler_order", oracle="gaussian", samples=64, grid="karras", options={})
    found = rows(text)
    assert [row["entry"] for row in found] == sorted(expected, key=expected.get)[:10]
    assert {"latency (ms)", "order"} <= found[0].keys()
    for row in found:
        if row["order"] != "-":
            assert abs(float(row["order"]) / order[row["entry"]] - 1) < 1e-3
