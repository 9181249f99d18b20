"""README's own commands with functions of the form that it documents, from outside, in a folder of the user's."""

import importlib
import sys
from pathlib import Path

import pytest

from bench.plan.cells import expand, participation
from bench.plan.suite import find, read
from bench.records.store import Store

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def _readme(first_line):
    """The Python block of the README that begins with this comment."""
    begin = README.index(f"```python\n{first_line}")
    return README[begin:].split("```")[1].removeprefix("python\n")


GUESTS = {  # by suite: catalogue, the README's own name, its text
    "samplers": ("samplers", "midpoint:midpoint", _readme("# midpoint.py")),
    "quick": ("samplers", "midpoint:midpoint", _readme("# midpoint.py")),
    "iou": ("losses", "myboxes:myloss", _readme("# myboxes.py")),
    "nms": ("nms", "myboxes:mynms", _readme("# myboxes.py")),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for _, name, text in GUESTS.values():
        (tmp_path / f"{name.partition(':')[0]}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("suite", GUESTS)
def test_readme_s_functions_join_every_block_of_the_suites_but_those_whose_options_they_lack(suite, folder):
    kind, name, _ = GUESTS[suite]
    cells = expand(read(find(suite)), guests={kind: [name]})
    own = [cell for cell in cells if name in cell.identity.entries]
    left = {reason for cell in cells for guest, reason in cell.left_out if guest == name}
    assert sum(cell.skip is None for cell in own) >= {"samplers": 100, "quick": 20, "iou": 10, "nms": 20}[suite]
    assert all("takes no option" in reason or "nfe" in reason for reason in left), left
    assert bool(left)
    took_part, line = participation(cells, name)
    assert line.startswith(f"{name}: in {took_part} cells, left out of {sum(c.left_out != () for c in cells)}: ")
    if suite == "quick":  # the others' records remain true
        without = {cell.identity.hash for cell in expand(read(find(suite))) if cell.identity.kind != "contest"}
        assert without <= {cell.identity.hash for cell in cells}


def test_the_commands_of_the_readme_go_through(fidmap, folder):
    """As printed, but for one cell of each, a cheap one."""
    boxes = README[README.index("## Your own loss or NMS") :].partition("\n## ")[0]
    commands = [line.split("#")[0].split() for line in boxes.splitlines() if line.startswith("fidmap run ")]
    assert [command[2] for command in commands] == ["iou", "nms"]
    for command in commands:
        result = fidmap(*command[1:], "--only", f"*_[gq]*/{command[-1]}*", "--limit", "1", "--out", command[2])
        assert result.returncode == 0, result.stderr
        assert f"{command[-1]}: in 1 cells" in result.stderr
        assert f"{command[2]}: 1 cells run, 0 skipped" in result.stderr
        assert [record.status for record in Store(folder / command[2]).records()] == ["ok"]


def test_the_suite_of_the_readme_goes_through(tmp_path):
    """As printed, all its cells: samplers of one family at three budgets, and no error of use."""
    begin = README.index('```toml\nname = "mine"')
    (tmp_path / "mine.toml").write_text(README[begin:].split("```")[1].removeprefix("toml\n"))
    cells = list(expand(read(tmp_path / "mine.toml")))
    assert len(cells) >= 9
    assert {cell.identity.parameters["nfe"] for cell in cells} == {8, 16, 32}


def test_a_guest_that_takes_part_in_nothing_ends_with_1_and_why(fidmap, folder):
    only = ("--only", "*midpoint*options=coordinate*", "--limit", "2", "--out", "s")
    result = fidmap("run", "quick", "--sampler", "midpoint:midpoint", *only)
    assert result.returncode == 1
    assert "midpoint: in 0 cells, left out of 2: midpoint:midpoint takes no option coordinate (2)" in result.stderr
    assert {record.status for record in Store(folder / "s").records()} == {"skipped"}


SMALL = """name = "small"
[[block]]
task = "iou_gradient"
settings.points = 4
axes.loss = ["giou"]
axes.options = [{}, { gradient = "authors" }]
"""
REFUSED, PARTLY, TAKEN = 2, 1, 0  # of its two cells, how many are left out
LOSSES = {  # a guest's function, and how much of the block it takes
    "def f(pred): ...": REFUSED,
    "def f(): ...": REFUSED,
    "def f(pred, target, other): ...": REFUSED,
    "def f(pred, target, *, alpha): ...": REFUSED,
    "def f(pred, target): raise RuntimeError('not today')": REFUSED,
    "def f(pred, target): raise KeyError('k')": REFUSED,
    "def f(pred, target): raise SystemExit(3)": REFUSED,
    "def f(pred, target): raise AssertionError": REFUSED,
    "def f(pred, target): return 1 / 0": REFUSED,
    "def f(pred, target): raise ValueError('two\\nlines \\x1b[2J')": REFUSED,
    "class f:\n    pass": REFUSED,
    "def f(pred, target): return f(pred, target)": REFUSED,
    "def f(pred, target): ...": PARTLY,
    "def f(pred, target, *, alpha=1.0): ...": PARTLY,
    "def f(pred, target, eps=1e-7): ...": PARTLY,
    "def f(*boxes): ...": PARTLY,
    "f = lambda pred, target: (pred - target).abs().sum(1)": PARTLY,
    "class F:\n    def __call__(self, pred, target): ...\nf = F()": PARTLY,
    "import functools\nf = functools.partial(lambda a, b, c: a, c=3)": PARTLY,
    "def f(pred, target, *, gradient='own'): ...": TAKEN,
    "def f(pred, target, **options): ...": TAKEN,
    "def f(*boxes, **options): ...": TAKEN,
    "def f(pred, target, gradient=None, reduction='none'): ...": TAKEN,
}


@pytest.mark.parametrize("source", LOSSES)
def test_a_guest_takes_part_where_it_can_and_is_never_an_error_of_the_suite(source, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strange_loss", raising=False)
    (tmp_path / "strange_loss.py").write_text(source + "\n")
    (tmp_path / "small.toml").write_text(SMALL)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    cells = expand(read(tmp_path / "small.toml"), guests={"losses": ["strange_loss:f"]})
    own = [cell for cell in cells if cell.identity.entry == "strange_loss:f"]
    assert [cell.skip for cell in cells if cell.identity.entry == "giou"] == [None, None]
    assert (len(own), sum(cell.skip is not None for cell in own)) == (2, LOSSES[source])
    for cell in own:
        assert cell.skip is None or (cell.skip.isprintable() and cell.skip)
