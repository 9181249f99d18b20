"""Leaderboards: ranks that the figures support, ties that are called ties, a sentence that follows from the records."""

import csv
import io
import json
import math
import random
import statistics

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.records.bundle import write
from bench.records.record import Measurement
from bench.records.store import Store
from bench.report.figure import Figure, pool, rank, show_ratio, tell
from bench.report.into import markers
from bench.report.leaderboard import render
from bench.report.sources import Sources, merge
from bench.report.standings import Question, build, build_all
from metrics.paired import paired_difference


@pytest.fixture
def sample(record):
    """Makes the record of a sampler's images: its distance with an interval, and the number of its evaluations."""

    def make(entry, fd, nfe=10, seed=0, interval=None, options=None, **changes):
        parameters = {"sampler": entry, "options": options or {}, "nfe": nfe, "oracle": "classes"}
        measures = [
            Measurement(name="fd_fmnist", value=fd, interval=interval),
            Measurement(name="fd_fmnist_floor", value=0.1, interval=(0.05, 0.2), direction="target"),
        ]
        key = f"{parameters}{seed}{changes.get('task', '')}"
        fields = {"task": "sampler_quality", "kind": "plain", "entry": entry, "parameters": parameters, "seed": seed}
        return record(key, **fields | {"measures": measures} | changes)

    return make


@pytest.fixture
def latency(sample):
    def make(entry, ms, nfe=10):
        measures = [Measurement(name="latency", value=ms, interval=(ms, ms), unit="ms", deterministic=False)]
        return sample(entry, 0.0, nfe, task="sampler_latency", measures=measures)

    return make


def board(records, **asked):
    return build("samplers", records, Question(**asked))


def places(found):
    return {key[0]: found.place(key) for key in found.rows}


def test_ranks_follow_the_figures_and_the_best_is_bold(sample, latency):
    records = [sample("a", 0.3), sample("b", 0.2), sample("c", 0.5), latency("a", 10.0), latency("b", 30.0)]
    found = board(records)
    assert places(found) == {"b": "1", "a": "2", "c": "3"}
    assert found.sentence == (
        "b has the lowest fd_fmnist of 3 entries, 0.2; a follows with 0.3, 50 % more; a has the lowest latency, 10 ms."
    )
    text = found.table().render()
    rows = {line.split("|")[2].strip(): [cell.strip() for cell in line.split("|")] for line in text.splitlines()
            if line.startswith("|")}  # fmt: skip
    assert rows["**b**"][3:6] == ["**0.2**", "not told apart", "30 [30, 30]"]
    assert rows["a"][3:6] == ["0.3", "above the floor", "**10 [10, 10]**"]
    assert rows["c"][5] == "-"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(12)))
def test_shuffled_records_make_the_same_text(sample, latency, order):
    records = [sample(name, 0.1 * i + 0.01 * seed, seed=seed) for i, name in enumerate("abcd", 1) for seed in (0, 1)]
    records += [latency(name, 5.0 + i % 2) for i, name in enumerate("abcd")]
    expected = render([board(records)], "md")
    assert render([board([records[i] for i in order])], "md") == expected


def test_a_tie_and_a_reversed_ranking_each_change_the_sentence(sample):
    apart = board([sample("a", 0.2, interval=(0.19, 0.21)), sample("b", 0.3, interval=(0.29, 0.31))])
    tied = board([sample("a", 0.2, interval=(0.1, 0.3)), sample("b", 0.3, interval=(0.2, 0.4))])
    turned = board([sample("a", 0.3, interval=(0.29, 0.31)), sample("b", 0.2, interval=(0.19, 0.21))])
    assert (places(apart), places(tied), places(turned)) == (
        {"a": "1", "b": "2"}, {"a": "1=", "b": "1="}, {"b": "1", "a": "2"},
    )  # fmt: skip
    assert apart.sentence == "a has the lowest fd_fmnist of 2 entries, 0.2; b follows with 0.3, 50 % more."
    assert tied.sentence == "all 2 entries are not told apart by fd_fmnist, 0.2 to 0.3."
    assert turned.sentence == "b has the lowest fd_fmnist of 2 entries, 0.2; a follows with 0.3, 50 % more."
    assert not any("**" in cell for row in tied.table().rows for cell in row)
    equal = board([sample("a", 0.2), sample("b", 0.2), sample("c", 0.4)])
    assert equal.sentence.startswith("a and b share the lowest fd_fmnist of 3 entries, 0.2; c follows with 0.4")


def test_of_two_entries_the_test_over_seeds_is_students_paired_one():
    """One variance pooled over two entries in blocks is the paired t test; of logarithms where all are positive."""
    import numpy as np

    rng = random.Random(0)
    for shift in (0.0, -5.0):
        a = {seed: 1 + rng.random() + shift for seed in range(5)}
        b = {seed: 1.2 + rng.random() + shift for seed in range(5)}
        scale = np.log if shift == 0 else np.asarray
        expected = paired_difference(scale(list(a.values())), scale(list(b.values()))).p_value
        figures = Figure(a), Figure(b)
        assert tell(*figures, pool(figures)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("entries", [2, 12])
def test_of_equal_entries_the_best_is_told_from_another_in_few_trials(entries):
    """Seeds that move all entries alike, and noise of each: at most 5 % of trials tell any from the first.

    The first is the best by luck, for which the correction is over all pairs.
    """
    wrong = 0
    for trial in range(400):
        rng = random.Random(trial)
        seeds = [rng.gauss(0, 1) for _ in range(4)]
        figures = {
            str(k): Figure({s: math.exp(effect + 0.1 * rng.gauss(0, 1)) for s, effect in enumerate(seeds)}, tried=4)
            for k in range(entries)
        }
        wrong += len(set(rank(figures, "lower").values())) > 1
    assert wrong / 400 <= 0.08  # more happens to a test at 5 % once in two hundred times


def test_intervals_that_overlap_may_be_told_apart_and_the_test_is_that_of_independent_normals():
    a, b = Figure({0: 1.0}, (0.8, 1.2)), Figure({0: 1.3}, (1.1, 1.5))
    assert tell(a, b) == pytest.approx(math.erfc(1.959964 * 0.3 / math.hypot(0.2, 0.2) / math.sqrt(2)))
    assert 0.03 < tell(a, b) < 0.05
    assert tell(a, Figure({0: 1.2}, (1.0, 1.4))) > 0.05
    assert tell(a, Figure({0: 1.0}, (0.0, 5.0))) == 1.0
    assert tell(Figure({0: 1.0}), Figure({0: 1.1})) == 0.0
    assert tell(Figure({0: 4e-15}, floor=1e-9), Figure({0: 6e-15}, floor=1e-9)) == 1.0  # rounding, and nothing else


def test_a_table_is_of_one_setting_and_says_which(sample):
    records = [sample(name, fd * nfe, nfe) for name, fd in (("a", 0.01), ("b", 0.02)) for nfe in (5, 10, 20)]
    records += [sample("c", 0.15, 5)]
    assert [note for note in board(records).notes if "nfe" in note] == ["At nfe 10.", "Others, for --where: nfe=5, 20."]
    five = board(records, where={"nfe": ["5"]})
    assert places(five) == {"a": "1", "b": "2", "c": "3"}
    assert five.columns[0].figures["a", "-"].value == 0.05
    spread = board(records, columns=("nfe",))
    assert spread.table().header[3:7] == ["against the floor", "nfe 5", "nfe 10", "nfe 20"]
    assert [row[4:7] for row in spread.table().rows] == [["0.05", "0.1", "0.2"], ["0.1", "0.2", "0.4"]]
    rows = board(records, rows=("nfe",))
    assert list(rows.rows)[:2] == [("a", "-", "5"), ("a", "-", "10")]
    assert len(rows.rows) == 7
    assert [key[0] for key in board(records, sort="entry", where={"nfe": ["5"]}).rows] == ["a", "b", "c"]
    top = board(records, top=1)
    assert (len(top.rows), "1 of 2 rows; --top shows more." in top.notes) == (1, True)
    assert top.sentence == board(records).sentence


def test_what_did_not_end_well_is_last_and_in_the_sentence(sample):
    lost = sample("z", 0.0, measures=[], status="diverged", error="not finite")
    half = [sample("b", 0.5, seed=0), sample("b", 0.0, seed=1, measures=[], status="failed", error="x")]
    found = board([lost, sample("a", 0.2), *half])
    assert places(found) == {"a": "1", "b": "2", "z": "-"}
    cells = {row[1]: row[2] for row in found.table().rows}
    assert cells["z"] == "diverged"
    assert cells["b"] == "0.5 of 1 of 2 seeds"
    assert found.sentence.endswith("no figure for z.")


def test_of_one_cell_in_two_sources_the_newer_counts(sample):
    old, new = sample("a", 0.9, started="2025-01-01"), sample("a", 0.2, started="2026-01-01")
    assert [merge(order)[0].value("fd_fmnist") for order in ([old, new], [new, old])] == [0.2, 0.2]


@pytest.mark.parametrize(
    ("value", "interval", "words"),
    [
        (0.05855, None, "17 times faster"), (0.05855, (0.055, 0.062), "17 times faster [16.1, 18.2]"),
        (2.0, None, "2.0 times slower"), (1.04, (1.02, 1.06), "1.04 times slower [1.02, 1.06]"),
        (1.01, (0.98, 1.03), "as fast: 1.01 [0.98, 1.03] of the time"), (1.0, (1.0, 1.0), "the reference"),
        (0.0, None, "0"), (math.inf, None, "inf"),
    ],
)  # fmt: skip
def test_a_ratio_of_times_is_said_in_words(value, interval, words):
    assert show_ratio(value, interval) == words


def test_every_format_has_the_same_figures(sample, latency):
    records = [sample("a", 0.3, interval=(0.2, 0.4)), sample("b<b>&", 0.1, interval=(0.05, 0.15)), latency("a", 10.0)]
    found = [board(records)]
    (parsed,) = json.loads(render(found, "json"))
    assert parsed["sentence"] == found[0].sentence
    figures = {row["entry"]: row["figures"]["fd_fmnist"] for row in parsed["rows"]}
    assert figures["a"] == {"value": 0.3, "interval": [0.2, 0.4], "seeds": 1}
    header, *rows = csv.reader(io.StringIO(render(found, "csv")))
    assert header[:4] == ["leaderboard", "rank", "entry", "fd_fmnist"]
    assert [row[:4] for row in rows] == [["samplers", "1", "b<b>&", "0.1"], ["samplers", "2", "a", "0.3"]]
    page = render(found, "html")
    assert "<b>b&lt;b&gt;&amp;</b>" in page
    assert "\\textbf{b" in render(found, "latex")


def test_a_bare_rank_takes_the_first_family_and_names_the_others(sample, record):
    loss = record("l", task="iou_regression", kind="plain", entry="ciou", parameters={"loss": "ciou"},
                  measures=[Measurement(name="error_final", value=3.0)])  # fmt: skip
    boards, others = build_all(Sources([loss, sample("a", 0.3)], []), Question())
    assert ([one.name for one in boards], others) == (["samplers"], ["losses"])
    boards, _ = build_all(Sources([loss, sample("a", 0.3)], ["losses", "samplers"]), Question())
    assert [one.name for one in boards] == ["losses", "samplers"]
    boards, _ = build_all(Sources([loss, sample("a", 0.3)], []), Question("error_final"))
    assert boards[0].sentence == "ciou is alone: its error_final is 3."


@pytest.fixture
def files(sample, latency, tmp_path):
    """A bundle, a store and a file with markers in the folder in which the command runs."""
    records = [sample("a", 0.3), sample("b", 0.2), latency("a", 10.0), latency("b", 30.0)]
    (tmp_path / "base.json").write_text(write(records, {}))
    store = Store(tmp_path / "runs" / "mine").create()
    for one in records:
        store.write(one)
    first, last = markers("samplers")
    (tmp_path / "README.md").write_text(f"# Mine\n\n{first}\nstale\n{last}\n\n<!-- fidmap x -->\n<!-- /fidmap x -->\n")
    return tmp_path


def test_the_command_ranks_stores_bundles_and_families(files, command):
    expected = None
    for source in (["base.json"], ["runs/mine"], ["samplers"], ["--out", "runs/mine"], []):
        code, printed, said = command("table", *source, "--rank")
        assert code == 0, said
        assert printed == (expected or printed)
        expected = printed
    assert expected.startswith("## Samplers by fd_fmnist (lower is better)\n\nb has the lowest fd_fmnist of 2 entries")
    code, printed, _ = command("table", "--rank", "latency", "base.json", "--columns", "", "--format", "csv")
    assert printed.splitlines()[1].startswith("samplers,1,a,10.0")
    assert command("table", "--rank", "samplers")[1] == expected  # no measure: the family


def test_into_writes_between_two_markers_and_nothing_else(files, command):
    readme = files / "README.md"
    before = readme.read_text()
    assert command("table", "samplers", "--rank", "--into", "README.md")[0] == 0
    assert command("table", "samplers", "--rank", "latency", "--into", "README.md#x")[0] == 0
    once = readme.read_text()
    start, _, rest = before.partition("stale\n")
    assert once.startswith(start + "## Samplers by fd_fmnist")
    assert "stale" not in once
    assert rest.split("\n\n")[0] in once
    assert "<!-- fidmap x -->\n## Samplers by latency" in once
    assert command("table", "samplers", "--rank", "--into", "README.md")[0] == 0
    assert readme.read_text() == once
    readme.write_bytes(before.replace("\n", "\r\n").encode())
    assert command("table", "samplers", "--rank", "--into", "README.md")[0] == 0
    assert b"\n" not in readme.read_bytes().replace(b"\r\n", b"")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rank", "fd_fmnits"], ["fd_fmnits", "did you mean fd_fmnist", "latency"]),
        (["--rank", "fd_fmnist_floor"], ["fd_fmnist_floor", "neither more nor less", "latency"]),
        (["--rank", "--where", "nfe"], ["--where", "nfe", "KEY=VALUE"]),
        (["--rank", "--where", "nef=10"], ["--where nef", "no such parameter", "nfe"]),
        (["--rank", "--where", "nfe=7"], ["--where nfe=7", "matches nothing", "10"]),
        (["--rank", "--where", "task=x"], ["task=x", "sampler_quality"]),
        (["--rank", "--rows", "nef"], ["--rows nef", "nfe"]),
        (["--rank", "--columns", "speed"], ["--columns speed", "latency", "nfe"]),
        (["--rank", "--sort", "speed"], ["--sort speed", "latency (ms)", "entry"]),
        (["--rank", "--top", "0"], ["--top", "1"]),
        (["--rank", "--format", "xlsx"], ["xlsx", "html"]),
        (["--rank", "--into", "none.md"], ["none.md", "no such file", "<!-- fidmap samplers -->"]),
        (["--rank", "--into", "README.md#y"], ["README.md", "<!-- fidmap y -->", "<!-- /fidmap y -->"]),
        (["--rank", "--into", "README.md", "--format", "csv"], ["--into", "csv", "md or html"]),
        (["--rank", "--into", "runs"], ["runs", "cannot be read"]),
        (["--rank", "--save", "x"], ["--save", "--rank"]),
        (["--top", "3"], ["--top goes with --rank"]),
        (["--where", "nfe=10"], ["--where goes with --rank"]),
        (["sampler", "--rank"], ["sampler", "did you mean samplers"]),
        (["losses", "--rank"], ["no records of losses", "runs/"]),
        (["README.md", "--rank"], ["README.md", "fidmap table --format json"]),
        (["runs/mine", "base.json"], ["2 sources", "one folder"]),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_ranked_is_one_line_and_nothing_is_lost(files, command, arguments, says):
    before = (files / "README.md").read_bytes()
    code, printed, said = command("table", *arguments)
    assert (code, printed) == (2, ""), said
    assert said.count("\n") <= 2  # the folder that was chosen, and the error
    for word in says:
        assert word in said.splitlines()[-1]
    assert (files / "README.md").read_bytes() == before


def test_figures_of_several_seeds_have_a_spread_and_are_paired(sample):
    """Seeds that move all entries alike tell them apart where their spreads overlap."""
    records = [
        sample(name, factor * (1 + seed), seed=seed) for name, factor in (("a", 1.0), ("b", 1.1)) for seed in range(4)
    ]
    found = board([*records, sample("c", 9.0)])
    assert places(found) == {"a": "1", "b": "2", "c": "3"}
    assert found.columns[0].text(("a", "-")) == f"2.5 ± {statistics.stdev([1, 2, 3, 4]):.4g}"


def test_what_is_published_stands_beside_what_was_measured(sample):
    """One figure with its source, and where there is none, a word."""
    found = board([sample("ddim", 0.3), sample("mine:sampler", 0.2)])
    table = found.table()
    cells = {row[1]: row[-1] for row in table.rows}
    assert table.header[-1] == "published"
    assert cells["mine:sampler"] == "none found"
    assert cells["ddim"].endswith("FID, CIFAR-10, 10 NFE, not comparable [1]")
    assert any(note.startswith("[1] ") and "(20" in note for note in table.notes)
