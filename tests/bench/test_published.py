"""Published figures: every entry has a row, every row can be traced, and figures of other settings say so."""

import ast
import csv
import json
import re
import subprocess
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pytest

from bench.catalogue import kinds
from bench.describe import describe
from bench.errors import UsageError
from bench.report import published
from bench.report.published import Published, Setting, choose, find, read, read_file, setting_of

FAMILIES = ("samplers", "losses", "nms", "metrics")
ROWS = read()
RESULTS = Path(__file__).parents[2] / "results"
WHOLE = """[[row]]
entry = "ddim"
measure = "FID"
figure = 4.67
setting = { data = "CIFAR-10", budget = "50 steps" }
source = "DDIM, 2010.02502, table 1"
date = "2020-10"
confirmed = "paper"
"""


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_entry_has_a_figure_or_says_that_none_was_found(kind):
    own = {name for name, entry in kinds()[kind].items() if getattr(entry, "family", "") != "peer"}
    assert own == {row.entry for row in ROWS if row.kind == kind}


def test_every_entry_of_a_row_exists():
    for row in ROWS:
        if row.kind in kinds():  # the others are of methods that the catalogue does not hold
            assert row.entry in kinds()[row.kind], (row.kind, row.entry)


def test_every_figure_can_be_traced():
    for row in ROWS:
        if row.figure is None:
            assert len(row.none_found.split()) >= 3, row
            continue
        assert re.search(r"\d{4}\.\d{4,5}|10\.\d{4,}/|https?://|github\.com/", row.source), row
        year, month, day = ([int(part) for part in row.date.split("-")] + [1, 1])[:3]
        assert date(1990, 1, 1) < date(year, month, day) <= date.today(), row
        arxiv = re.search(r"\b(\d\d)(\d\d)\.\d{4,5}\b", row.source)
        if arxiv:  # no version of a paper is older than its number
            assert (year, month) >= (2000 + int(arxiv[1]), int(arxiv[2]) if "-" in row.date else 0), row


def test_no_row_stands_twice():
    seen = [(row.kind, row.entry, row.measure, row.setting, row.source) for row in ROWS if row.figure is not None]
    assert len(seen) == len({str(key) for key in seen})
    none = [(row.kind, row.entry) for row in ROWS if row.figure is None]
    assert len(none) == len(set(none))
    assert not set(none) & {(row.kind, row.entry) for row in ROWS if row.figure is not None}


@pytest.mark.parametrize("kind", sorted({row.kind for row in ROWS}))
def test_rows_stand_in_order_of_entry(kind):
    entries = [row.entry for row in ROWS if row.kind == kind]
    assert entries == sorted(entries)


def test_words_of_a_row(tmp_path):
    (tmp_path / "samplers.toml").write_text(WHOLE)
    (row,) = read(tmp_path)
    assert row.words() == "4.67 FID, CIFAR-10, 50 steps (DDIM, 2010.02502, table 1), published"
    assert row.short() == "4.67 FID, CIFAR-10, 50 steps"
    assert row.kind == "samplers"


def test_the_row_of_the_same_budget_is_chosen_and_else_the_headline():
    rows = find(ROWS, "ddim", kind="samplers")
    here = Setting(data="Fashion-MNIST", network="oracle")
    ten = choose(rows, "fd_fmnist", here.model_copy(update={"budget": "10 NFE"}))
    assert (ten.figure, ten.setting.budget) == (15.69, "10 NFE")
    assert choose(rows, "fd_fmnist", here.model_copy(update={"budget": "17 NFE"})) == rows[0]
    assert choose([], "FID", here) is None
    none = find(ROWS, "rk4", kind="samplers")
    assert choose(none, "fd_fmnist", here).short() == "none found"


def test_a_figure_is_comparable_only_where_measure_data_network_and_budget_are_the_same():
    there = {"data": "CIFAR-10", "network": "EDM's VP network", "budget": "10 NFE"}
    row = Published(
        kind="samplers", entry="ipndm", measure="FID", figure=2.77, setting=Setting(**there, note="rho 7"),
        source="https://example.org", date="2024", confirmed="paper",
    )  # fmt: skip
    assert row.comparable("FID", Setting(**there, note="another note"))
    assert row.mark("FID", Setting(**there)) == "published"
    for name, value in {"data": "Fashion-MNIST", "network": "oracle", "budget": "8 NFE"}.items():
        here = Setting(**{**there, name: value})
        assert not row.comparable("FID", here)
        assert row.mark("FID", here) == f"published; not comparable: {name} {there[name]}, here {value}"
    assert not row.comparable("fd_fmnist", Setting(**there))
    assert row.mark("fd_fmnist", Setting()) == (
        "published; not comparable: measure FID, here fd_fmnist, data CIFAR-10, here not stated, "
        "network EDM's VP network, here not stated, budget 10 NFE, here not stated"
    )


def test_the_simulation_of_diou_is_comparable_on_the_track_of_its_authors_alone():
    parameters = {"loss": "giou", "protocol": "diou", "points": 5000, "options": {"gradient": "authors"}}
    (row,) = find(ROWS, "giou", "error_decay")
    assert row.comparable("error_decay", setting_of("iou_regression", parameters))
    true = setting_of("iou_regression", parameters | {"options": {}})
    assert "network gradient authors, here gradient true" in row.mark("error_decay", true)


def test_what_is_comparable_was_measured_alike():
    with (RESULTS / "iou" / "measures.csv").open(newline="") as file:
        measured = [row for row in csv.DictReader(file) if row["task"] == "iou_regression"]
    apart = []
    for row in measured:
        parameters = {"protocol": row["protocol"], "options": ast.literal_eval(row["options"] or "{}")}
        here = setting_of("iou_regression", parameters)
        for one in find(ROWS, row["entry"], row["measure"], kind="losses"):
            if one.comparable(row["measure"], here):
                seeds = 0.01 * one.figure  # the points are other draws
                apart.append(abs(float(row["value"]) - one.figure) / (one.within + seeds))
    assert len(apart) >= 8
    assert max(apart) < 1


def test_figures_of_an_oracle_are_comparable_with_none_that_was_published():
    parameters = {"sampler": "ddim", "oracle": "empirical", "images": 2000, "nfe": 10, "path": "vp"}
    here = setting_of("sampler_quality", parameters)
    assert here == Setting(data="Fashion-MNIST", network="oracle", budget="10 NFE")
    for row in find(ROWS, "ddim", kind="samplers"):
        assert "network" in row.mark(row.measure, here)
        assert not row.comparable(row.measure, here)


def test_the_published_example_of_the_vendi_score_is_what_the_metric_gives():
    import torch

    from metrics import vendi_score_from_similarity

    (row,) = find(ROWS, "vendi", kind="metrics")
    kernel = torch.tensor(json.loads(row.setting.data.removeprefix("kernel ").replace(".9", "0.9")))
    assert round(vendi_score_from_similarity(kernel), 4) == row.figure


def test_find_tells_kinds_measures_and_settings_apart():
    assert {row.kind for row in find(ROWS, "diou")} == {"losses", "nms"}
    assert {row.kind for row in find(ROWS, "diou", kind="nms")} == {"nms"}
    rows = find(ROWS, "ddim", "FID", kind="samplers")
    assert rows[0].figure == 4.67  # the headline
    assert find(ROWS, "ddim", "FID", rows[1].setting, kind="samplers") == [rows[1]]
    assert find(ROWS, "no such entry") == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("budget", "budgets"), "row.0.setting.budgets: no such key; did you mean budget? there are data, network"),
        (("figure = 4.67", 'figure = "low"'), "row.0.figure: Input should be a valid number"),
        (("figure = 4.67\n", ""), "ddim: figure missing; or none_found with what was looked at"),
        (("2010.02502, ", ""), "row.0.source: expected an arXiv number, a DOI or an address in it"),
        (("2020-10", "2020-13"), "row.0.date"),
        (('"paper"', '"memory"'), "row.0.confirmed"),
        (("[[row]]", "[[rows]]"), "rows: no such key; did you mean row?"),
        (('confirmed = "paper"', 'none_found = "nothing"'), "a figure, and none_found"),
        (("[[row]]", "[[row"), "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, change, says):
    (tmp_path / "samplers.toml").write_text(WHOLE.replace(*change))
    with pytest.raises(UsageError) as error:
        read(tmp_path)
    assert says in str(error.value)
    assert str(tmp_path / "samplers.toml") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_folder_or_file_is_said(tmp_path):
    with pytest.raises(UsageError, match="no folder of published figures"):
        read(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot read"):
        read_file(tmp_path / "none.toml")


def test_an_installation_without_the_folder_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(published, "FOLDERS", (tmp_path / "none",))
    assert (published.read(), published.read_kind("samplers")) == ([], [])


def test_reading_imports_neither_torch_nor_pandas():
    code = "import sys; from bench.report.published import read; read(); print({'torch', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_describe_shows_the_headline_and_hands_all_to_json():
    (shown,) = describe("ddim")
    rows = find(ROWS, "ddim", kind="samplers")
    assert rows[0].words() in " ".join(shown.text(100).split())
    found = json.loads(json.dumps(asdict(shown)))["published"]
    assert [row["figure"] for row in found] == [row.figure for row in rows]
    assert found[0]["source"].startswith("DDIM, 2010.02502")
    assert "none found" in describe("rk4")[0].text(100)
