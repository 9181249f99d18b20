"""``fidmap list``: entries stand under their families, globs choose them, and lines fit the terminal."""

import pytest

from bench.catalogue import kinds
from bench.errors import UsageError
from bench.listing import choose, text


def test_every_entry_is_listed_once_under_its_family():
    for kind, catalogue in kinds().items():
        lines = list(text(choose(kind, {}), 100))
        assert lines[0] == f"{kind} ({len(catalogue)})"
        listed = [line.split()[0] for line in lines[1:] if line.split()[0] in catalogue and line[:24].strip()]
        assert sorted(set(listed)) == sorted(catalogue)
        assert max(map(len, lines)) <= 110  # a name longer than its column moves a line by a few places


def test_globs_choose_by_any_field():
    samplers = choose("samplers", {"family": "exp*", "order": "2"})["samplers"]
    assert {"dpmpp_2m", "dpm_solver_2"} <= {entry.name for entry in samplers}
    assert {(entry.family, entry.order) for entry in samplers} == {("exponential", 2)}
    assert set(choose(None, {"family": "overlap"})) == {"losses"}  # other kinds have none


@pytest.mark.parametrize(
    ("kind", "where", "says"),
    [
        ("sampler", {}, "there are paths"),
        (None, {"colour": "red"}, "there are name"),
        ("nms", {"name": "x"}, "matches"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(kind, where, says):
    with pytest.raises(UsageError, match=says):
        choose(kind, where)


def test_a_condition_without_a_glob_is_an_error_of_use(fidmap):
    result = fidmap("list", "samplers", "--where", "family")
    assert (result.returncode, result.stdout) == (2, "")
    assert "FIELD=GLOB" in result.stderr
