"""How a table says whether its columns rank the rows alike."""

import re

import pytest
import scipy.stats

from bench.plan.spec import TableSpec
from bench.records.record import Measurement
from bench.report.agreement import compare_rankings
from bench.report.tables import lay_out

NETWORK, ORACLE = "fmnist-edm", "classes"
SPEC = {"name": "prediction", "title": "t", "task": "sampler_quality", "rows": ["sampler"], "columns": "oracle",
        "values": ["fd_fmnist"], "agrees": NETWORK}  # fmt: skip


@pytest.fixture
def records(record):
    """Records of figures by oracle, seed and sampler."""

    def make(figures):
        return [
            record(
                f"{oracle}{seed}{sampler}", task="sampler_quality", entry=sampler, seed=seed,
                parameters={"sampler": sampler, "oracle": oracle},
                measures=[Measurement(name="fd_fmnist", value=value, direction="lower")],
            )
            for (oracle, seed), row in figures.items()
            for sampler, value in row.items()
        ]  # fmt: skip

    return make


def say(made):
    rows = {}
    for one in made:
        rows.setdefault((one.cell.entry,), []).append(one)
    return compare_rankings(rows, "fd_fmnist", "oracle", NETWORK)


ROW = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}
TURNED = {name: -value for name, value in ROW.items()}
MIXED = {"a": 1.0, "b": 4.0, "c": 2.0, "d": 8.0}


def test_equal_and_opposite_rankings_are_the_ends(records):
    (same,) = say(records({(NETWORK, 0): ROW, (ORACLE, 0): {k: v**2 for k, v in ROW.items()}}))
    assert "Kendall's tau 1, Spearman's rho 1, over one seed" in same
    assert "in 100 % of the pairs" in same
    (turned,) = say(records({(NETWORK, 0): ROW, (ORACLE, 0): TURNED}))
    assert "Kendall's tau -1, Spearman's rho -1" in turned
    assert "in 0 % of the pairs" in turned


def test_seeds_are_compared_one_by_one_and_averaged(records):
    """By hand: tau is 1, 1 and 2/3, whose Student interval has the half-width 4.303 s / sqrt 3."""
    figures = {(NETWORK, seed): ROW for seed in range(3)} | {(ORACLE, 0): ROW, (ORACLE, 1): ROW, (ORACLE, 2): MIXED}
    (said,) = say(records(figures))
    tau = [scipy.stats.kendalltau(list(ROW.values()), list(row.values()))[0] for row in (ROW, ROW, MIXED)]
    mean = sum(tau) / 3
    half = 4.302653 * scipy.stats.tstd(tau) / 3**0.5
    found = re.search(r"tau (\S+) \[(\S+), (\S+)\]", said)
    assert float(found[1]) == pytest.approx(mean, rel=1e-3)
    assert float(found[2]) == pytest.approx(mean - half, rel=1e-3)
    assert float(found[3]) == 1.0  # cut where no correlation can be
    assert "over 3 seeds" in said
    assert "in 94 % of the pairs" in said  # 17 of 18


def test_only_what_both_columns_have_counts(records):
    wide = {**ROW, "e": 0.5}
    (said,) = say(records({(NETWORK, 0): ROW, (ORACLE, 0): wide, (ORACLE, 1): TURNED}))
    assert "of 4 rows" in said
    assert "tau 1, " in said  # the oracle's seed 1 has no partner
    assert say(records({(NETWORK, 0): ROW, (ORACLE, 0): {"a": 1.0, "b": 2.0}})) == []
    assert say(records({(ORACLE, 0): ROW})) == []
    assert say(records({(NETWORK, 0): dict.fromkeys(ROW, 1.0), (ORACLE, 0): ROW})) == []  # no ranking at all


def test_a_table_has_a_sentence_per_column(records):
    table = lay_out(TableSpec(**SPEC), records({(NETWORK, 0): ROW, (ORACLE, 0): ROW, ("empirical", 0): TURNED}))
    assert [line.partition(":")[0] for line in table.says] == [
        "The ranking by fd_fmnist on classes and that on fmnist-edm, of 4 rows",
        "The ranking by fd_fmnist on empirical and that on fmnist-edm, of 4 rows",
    ]
    with pytest.raises(ValueError, match="agrees: 'x' is a value of columns, and the table names no columns"):
        TableSpec(**{**SPEC, "columns": None, "agrees": "x"})
