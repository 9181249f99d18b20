"""Suites: what a file may hold, what its errors say, and what a cell's hash and key cover."""

import pytest

from bench.errors import UsageError
from bench.plan.cells import expand, select, stream
from bench.plan.reach import reach
from bench.plan.source import fingerprint, own_modules, packages, python_files
from bench.plan.suite import SUITES_FOLDER, find, read
from implementations.catalogue import SAMPLERS

MINIMAL = """
name = "mine"
[[block]]
task = "sampler_error"
settings = { oracle = "gaussian" }
axes.sampler = ["euler", "heun"]
axes.nfe = [5, 10]
"""

SHOWN = 'name = "a"\ntitle = ""'


def parse(tmp_path, text):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return read(file)


@pytest.mark.parametrize("file", sorted(SUITES_FOLDER.glob("*.toml")), ids=lambda file: file.stem)
def test_shipped_suites_expand(file):
    suite = read(find(file.stem))
    cells = expand(suite)
    assert suite.name == file.stem
    assert len({cell.identity.key for cell in cells}) == len({cell.identity.hash for cell in cells}) == len(cells) > 0
    tasks = {cell.identity.task for cell in cells}
    assert {spec.task for spec in [*suite.table, *suite.plot]} <= tasks


def test_axes_are_crossed_zipped_ones_vary_together_and_exclusions_say_why(tmp_path):
    text = MINIMAL + 'zip = { samples = [10, 20], path = ["vp", "edm"] }\n'
    text += 'exclude = [{ match = { sampler = "heun", nfe = [5] }, reason = "too few" }]\n'
    cells = expand(parse(tmp_path, text))
    found = {
        (
            c.identity.entry,
            c.identity.parameters["nfe"],
            c.identity.parameters["samples"],
            c.identity.parameters["path"],
        ): c.skip
        for c in cells
    }
    pairs = [(10, "vp"), (20, "edm")]
    assert found == {
        (sampler, nfe, *pair): "too few" if (sampler, nfe) == ("heun", 5) else None
        for sampler in ("euler", "heun") for nfe in (5, 10) for pair in pairs
    }  # fmt: skip


def test_selectors_choose_by_what_the_catalogue_states(tmp_path):
    def entries(selector):
        return {c.identity.entry for c in expand(parse(tmp_path, MINIMAL.replace('["euler", "heun"]', selector)))}

    fixed = {name: entry for name, entry in SAMPLERS.items() if not (entry.adaptive or entry.ascending)}
    assert entries('{ family = "runge_kutta", adaptive = false }') == {
        name for name, entry in fixed.items() if entry.family == "runge_kutta"
    } > {"euler", "heun"}  # fmt: skip
    assert entries('{ name = "ddp*" }') == {"ddpm"}
    assert entries('{ coordinate = "lambda", stochastic = false, adaptive = false, ascending = false }') == {
        name for name, entry in fixed.items() if entry.coordinate == "lambda" and not entry.stochastic
    } > {"ddim", "dpmpp_2m"}  # fmt: skip


def test_a_block_may_have_seeds_of_its_own(tmp_path):
    other = MINIMAL.replace('name = "mine"', "").replace("5, 10]", "7]\nseeds = [3, 5]")
    suite = parse(tmp_path, MINIMAL + other)
    assert {(c.identity.parameters["nfe"], c.identity.seed) for c in expand(suite)} == {(5, 0), (10, 0), (7, 3), (7, 5)}
    assert {(c.identity.parameters["nfe"], c.identity.seed) for c in expand(suite, seed=8)} == {
        (5, 8),
        (10, 8),
        (7, 8),
        (7, 10),
    }


def test_hash_covers_what_moves_numbers_and_key_what_is_measured(tmp_path):
    suite = parse(tmp_path, MINIMAL)
    first, second = expand(suite)[0], expand(suite, seed=3)[0]
    assert (first.identity.key == second.identity.key, first.identity.hash == second.identity.hash) == (False, False)
    threads = expand(parse(tmp_path, MINIMAL + "threads = 2\n"))[0]
    assert (first.identity.key == threads.identity.key, first.identity.hash == threads.identity.hash) == (False, False)
    device = expand(suite, device="cuda:0")[0]
    assert (first.identity.key == device.identity.key, first.identity.hash == device.identity.hash) == (False, False)
    renamed = expand(parse(tmp_path, MINIMAL.replace("mine", "yours")))[0]
    assert (first.identity.key, first.identity.hash) == (renamed.identity.key, renamed.identity.hash)


def test_blocks_that_differ_in_threads_alone_are_cells_of_their_own(tmp_path):
    block = MINIMAL.removeprefix('\nname = "mine"')
    cells = expand(parse(tmp_path, MINIMAL + block + "threads = 3\n"))
    assert len({cell.identity.key for cell in cells}) == len({cell.identity.hash for cell in cells}) == len(cells) == 8
    assert sorted(cell.identity.threads for cell in cells) == [1] * 4 + [3] * 4


def test_a_cell_that_two_blocks_list_is_one_unless_they_disagree_about_it(tmp_path):
    block = MINIMAL.removeprefix('\nname = "mine"')
    assert len(expand(parse(tmp_path, MINIMAL + block))) == 4
    excluded = block + 'exclude = [{ match = { sampler = "heun" }, reason = "for show" }]\n'
    with pytest.raises(UsageError, match=r"block 1.*sampler_error/heun/.* is also in an earlier block"):
        expand(parse(tmp_path, MINIMAL + excluded))


def test_defaults_spelled_out_are_the_same_cell(tmp_path):
    spelled = MINIMAL.replace("settings = {", 'settings = { path = "vp", samples = 2000,')
    assert [c.identity.hash for c in expand(parse(tmp_path, spelled))] == [
        c.identity.hash for c in expand(parse(tmp_path, MINIMAL))
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("[5, 10]", "[5, 10]\nsettings.nfe = 5"), ["line"]),
        (("oracle = ", "nfe = 5, oracle = "), ["nfe is in settings and in axes"]),
        (('["euler", "heun"]', '"euler"'), ["axes.sampler", "list"]),
        (("[5, 10]", f'[5, 10]\n[[table]]\n{SHOWN}\ntask = "x"\nrows = []\nvalues = ["a"]'), ["table a", "'x'"]),
        (("[5, 10]", f'[5, 10]\n[[plot]]\n{SHOWN}\ntask = "sampler_error"\nx = "nfe"\ny = "y"'), ["plot a", "'y'"]),
        (('name = "mine"', 'name = "mine"\nseeds = [-1]'), ["seeds", "greater than or equal to 0"]),
        (('name = "mine"', 'name = "quick"'), ["quick", "comes with fidmap"]),
        (("[5, 10]", "[5, 10"), ["mine.toml", "line"]),
        (("[5, 10]", '["five"]'), ["mine.toml", "block 0", "nfe", "integer", "five"]),
        (("[5, 10]", "[0]"), ["nfe", "greater than or equal to 1"]),
        (('"euler", "heun"', '"euler", "hune"'), ["hune", "heun"]),
        (("axes.sampler", "axis.sampler"), ["block.0.axis"]),
        (("axes.nfe", "axes.nef"), ["nef: no such key", "did you mean nfe?", "there are sampler, options, path"]),
        (("sampler_error", "sampler_errors"), ["sampler_errors", "did you mean sampler_error"]),
        (('name = "mine"', 'name = "../mine"'), ["name", "pattern"]),
        (('name = "mine"', "name = 3"), ["name", "string"]),
        (('"euler", "heun"', '"os:getcwd"'), ["os:getcwd", "names code"]),
        (("sampler_error", "os:getcwd"), ["os:getcwd", "names code"]),
        (('["euler", "heun"]', '{ colour = "red" }'), ["colour"]),
        (('["euler", "heun"]', '{ family = "none" }'), ["no entry of samplers"]),
        (('"gaussian"', '"laplace"'), ["oracle", "'mixture' or 'classes'", "laplace"]),
        (('"gaussian"', '"gaussian", path = "vpp"'), ["path", "did you mean"]),
    ],
)  # fmt: skip
def test_errors_name_the_file_the_key_and_what_is_accepted(tmp_path, change, says):
    assert change[0] in MINIMAL
    with pytest.raises(UsageError) as caught:
        expand(parse(tmp_path, MINIMAL.replace(*change)), where="mine.toml")
    message = str(caught.value)
    assert "\n" not in message
    for word in says:
        assert word in message


def test_a_suite_of_a_million_cells_answers_a_limit_at_once(tmp_path):
    numbers = ", ".join(map(str, range(5, 1005)))
    text = MINIMAL.replace("[5, 10]", f"[{numbers}]") + f"axes.samples = [{numbers}]\n"
    suite = parse(tmp_path, text)
    assert [c.identity.parameters["samples"] for c in select(stream(suite), None, 3)] == [5, 6, 7]
    assert [c.name for c in select(stream(suite), "nfe=6,*samples=7*", 1)] == [
        "sampler_error/euler/nfe=6,oracle=gaussian,samples=7"
    ]
    with pytest.raises(UsageError, match="nfe"):  # the first cell of each block is looked at, whatever the limit
        stream(parse(tmp_path, text + MINIMAL.removeprefix('\nname = "mine"').replace("[5, 10]", "[-1]")))


@pytest.mark.parametrize(
    ("seeds", "first", "found"),
    [
        ([0, 1], 2**32 - 2, [2**32 - 2, 2**32 - 1]), ([0, 1], 2**32 - 1, None), ([7], 2**32 - 1, [2**32 - 1]),
        ([5, 3], 2, [2, 0]), ([5, 3], 1, None), ([0, 1, 2], 2**32 - 3, [2**32 - 3, 2**32 - 2, 2**32 - 1]),
    ],
)  # fmt: skip
def test_seeds_that_an_option_shifts_stay_in_their_range(tmp_path, seeds, first, found):
    suite = parse(tmp_path, MINIMAL.replace('name = "mine"', f'name = "mine"\nseeds = {seeds}').replace("5, 10", "5"))
    if found is None:
        with pytest.raises(UsageError, match=rf"--seed {first}: seeds .* accepted are 0 to 4294967295"):
            expand(suite, seed=first)
    else:
        assert [c.identity.seed for c in expand(suite, seed=first) if c.identity.entry == "euler"] == found


@pytest.mark.parametrize("where", ["settings.options", "axes.nfe", "exclude", "threads"])
def test_a_suite_that_is_nested_too_deeply_is_one_line(tmp_path, where):
    with pytest.raises(UsageError, match=r"^[^\n]*mine.toml: [^\n]*$"):
        expand(parse(tmp_path, MINIMAL.replace("axes.nfe = [5, 10]", f"{where} = " + "[" * 5000 + "]" * 5000)))


def test_only_without_a_match_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="matches none of 4 cells"):
        select(expand(parse(tmp_path, MINIMAL)), "nothing", None)


def test_a_sampler_of_the_user_needs_an_axis_to_join(tmp_path):
    suite = parse(
        tmp_path,
        MINIMAL.replace('axes.sampler = ["euler", "heun"]', "").replace("oracle = ", 'sampler = "euler", oracle = '),
    )
    with pytest.raises(UsageError, match="no axis of samplers"):
        expand(suite, guests={"samplers": ["mine:sample"]})


def test_an_axis_of_contests_is_a_list_of_lists(tmp_path):
    text = 'name = "mine"\n[[block]]\ntask = "sampler_overhead"\n'
    text += 'axes.samplers = [["euler", "heun"], { name = "ddp*" }]'
    entries = [cell.identity.entry for cell in expand(parse(tmp_path, text))]
    assert entries == ["euler,heun", "ddpm"]


def test_hash_covers_the_machine_s_switches(tmp_path, monkeypatch):
    suite = parse(tmp_path, MINIMAL)
    before = expand(suite)[0].identity.hash
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert expand(suite)[0].identity.hash != before


def test_fingerprint_covers_every_file_of_a_package(tmp_path, monkeypatch):
    package = tmp_path / "hashed_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    hashes = {fingerprint(["hashed_package"])}
    for name in ("a.py", "weights.pt", "b.json"):
        (package / name).write_text("1")
        hashes.add(fingerprint(["hashed_package"]))
    (package / "a.py").rename(package / "c.py")
    hashes.add(fingerprint(["hashed_package"]))
    assert len(hashes) == 5


USER = """
import json, pathlib, own_part
from metrics import kid
from implementations.samplers import SAMPLERS

OPENS = ("own_data.json",)


def sample(denoiser, x, times, *, noise=None):
    return SAMPLERS["heun"](denoiser, x, times)
"""


def test_hash_of_a_guest_covers_all_that_its_source_uses(tmp_path, monkeypatch):
    """The file that it declares to open, its own modules, fidmap's modules and entries, and installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in {"own_user.py": USER, "own_part.py": "import scipy, PIL\n", "own_data.json": "1"}.items():
        (tmp_path / name).write_text(text)
    assert own_modules(["own_user:sample"]) == ("own_part", "own_user")
    assert packages(("own_part", "own_user")) == ("pillow", "scipy")
    hashes = {fingerprint(["own_user"])}
    (tmp_path / "own_data.json").write_text("2")
    hashes.add(fingerprint(["own_user"]))
    assert len(hashes) == 2
    reached = reach((), (), python_files(("own_user",)))
    assert {"metrics.samples.kernel", "implementations.samplers.runge_kutta"} <= set(reached.modules)
    assert "heun" in {entry.name for entry in reached.entries}
    cells = expand(parse(tmp_path, MINIMAL), guests={"samplers": ["own_user:sample"]})
    (cell, *_) = [cell for cell in cells if cell.identity.entry == "own_user:sample"]
    assert cell.outside == ("own_part", "own_user")
    assert "metrics.samples.kernel" in cell.modules


@pytest.mark.parametrize(
    ("opens", "says"),
    [
        ('("nowhere.json",)', "OPENS names 'nowhere.json', which is not there"),
        ("[str(1)]", "OPENS: names of files are"),
    ],
)
def test_files_that_a_module_declares_are_named_where_they_are_wrong(tmp_path, monkeypatch, opens, says):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_opener.py").write_text(f"OPENS = {opens}\n")
    with pytest.raises(ValueError, match=says):
        fingerprint(["own_opener"])
