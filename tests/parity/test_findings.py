"""What results/audit-findings.md says of other libraries is what its scripts print, and they use none of our code."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers' own making
RESULTS = Path(__file__).parent.parent.parent / "results"
PAGE = (RESULTS / "audit-findings.md").read_text()
SCRIPTS = ("of_diffusers", "of_diffusers_guiders", "of_k_diffusion", "of_torchvision", "of_comfyui")
NUMBER = re.compile(r"(?<![\w.])-?\d*\.?\d+(?:e-?\d+)?(?![\w.]*\w)")
ROWS = [  # of each table whose last column is NAME: the figures and the name
    (cells[2], cells[-1].strip("`"))
    for line in PAGE.splitlines()
    if line.startswith("|") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 7
    if re.fullmatch(r"`\w+`", cells[-1])
]


@pytest.fixture(scope="module")
def findings():
    """Every finding's function by its name."""
    folder = str(RESULTS / "findings")
    sys.path.insert(0, folder)
    try:
        modules = [importlib.import_module(name) for name in SCRIPTS]
        yield {function.__name__: function for module in modules for function in module.FINDINGS}
    finally:
        sys.path.remove(folder)
        for name in (*SCRIPTS, "exact"):
            sys.modules.pop(name, None)


def holds(figure, printed):
    """Whether a figure of the page is one that the script prints, in as many digits as the page has."""
    digits = len(figure.split("e")[0].replace(".", "").lstrip("-0"))
    return any(float(f"{value:.{max(digits, 1) - 1}e}") == float(figure) for value in printed)


@pytest.mark.parametrize("name", [name for _, name in ROWS])
def test_each_figure_of_the_page_is_printed_by_its_script(name, findings):
    printed = findings[name]()
    numbers = [value for value in printed.values() if not isinstance(value, str)]
    words = " ".join(value for value in printed.values() if isinstance(value, str))
    numbers += [float(n) for key in printed for n in NUMBER.findall(key)] + [float(n) for n in NUMBER.findall(words)]
    for cell in {cell for cell, other in ROWS if other == name}:
        figures = NUMBER.findall(cell.replace("an offset of 1", ""))
        assert figures or any(value in cell for value in printed.values() if isinstance(value, str)), cell
        for figure in figures:
            counts = re.search(rf"{re.escape(figure)} (of noise|steps|evaluation|timesteps|box)", cell)
            assert holds(figure, numbers) or counts, f"{figure} of {cell!r} is not among {printed}"


def test_every_script_s_finding_is_on_the_page(findings):
    assert {name for name in findings if f"`{name}`" not in PAGE and f" {name}`" not in PAGE} == set()


def test_what_was_withdrawn_is_withdrawn_with_reason(findings):
    assert findings["deis_3"]()["order"] == pytest.approx(3, abs=0.1)
    assert findings["ipndm"]()["order, data of mean 0"] == pytest.approx(2, abs=0.1)
    assert max(findings["karras_not_rounded"]().values()) < 1e-4


def test_a_figure_that_is_not_printed_is_found():
    assert holds(".955", [0.95492])
    assert not holds(".955", [0.9652])
    assert not holds("1.95", [1.9449])


@pytest.mark.parametrize("script", [*SCRIPTS, "exact"])
def test_the_scripts_import_nothing_of_this_project(script):
    tree = ast.parse((RESULTS / "findings" / f"{script}.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in names if name} & {"bench", "implementations", "metrics", "tests"}
