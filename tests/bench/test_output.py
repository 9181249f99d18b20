"""What the command prints into a pipe without a reader, a full disk, a narrow encoding: its exit code holds."""

import io
import json
import os
import subprocess
import sys
import textwrap
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.output import CONTROLS, escape_controls, open_escaping
from bench.records.store import Store

ROOT = Path(__file__).parent.parent.parent
FULL = "/dev/full"

# Every command in a process of its own, made by fork, since importing takes most of its time.
DRIVER = """
    import json, os, sys
    import tabulate, bench.cli, bench.catalogue, bench.records.compare, bench.report.save
    from bench.__main__ import main
    ended = []
    for arguments, sink, encoding in json.load(sys.stdin):
        child = os.fork()
        if child == 0:
            reads, writes = os.pipe()
            os.close(reads)  # nobody reads
            target = {"gone": lambda: writes, "closed": lambda: None}.get(sink, lambda: os.open(sink, os.O_WRONLY))()
            os.dup2(os.open("told", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.close(1) if target is None else os.dup2(target, 1)
            sys.stdout = None if target is None else open(1, "w", encoding=encoding, closefd=False)
            sys.argv = ["fidmap", *arguments]
            main()  # and Python's own end, which flushes once more
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ended.append((code, open("told").read()))
    print(json.dumps(ended))
"""


@pytest.fixture
def end(tmp_path, record):
    """Runs commands with stdout on a sink, and gives the exit code and stderr of each."""
    for name, value in (("base", 1.0), ("worse", 2.0)):
        store = Store(tmp_path / name).create()
        store.write(record("a" * 16, value, hash="b" * 16, environment="c" * 16, error="naïve → 𝛼"))

    def run(cases):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        result = subprocess.run([sys.executable, "-c", textwrap.dedent(DRIVER)], cwd=tmp_path, env=environment,
                                input=json.dumps(cases), capture_output=True, text=True, check=False)  # fmt: skip
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


COMMANDS = {  # and how it ends where somebody reads
    "--help": 0, "list": 0, "table --out base": 0, "table --out base --format json": 0, "compare base base": 0,
    "compare base worse --json": 1, "compare base nothing": 2,
}  # fmt: skip
SLOW = {"audit ddim --check cost": 0, "table --out base --format csv": 0}
SINKS = [("gone", "utf-8"), ("closed", "utf-8"), (FULL, "utf-8"), (os.devnull, "ascii"), (os.devnull, "latin-1")]


@pytest.mark.skipif(not os.path.exists(FULL), reason="this system has no /dev/full")
def test_every_command_ends_as_it_should_whatever_becomes_of_stdout(end):
    """Generated: each command with a reader who left, a closed stdout, a full disk, and encodings without its letters.

    Commands that load torch or pandas meet one of these each.
    """
    cases = [
        (command.split(), *sink) for command, sink in [*product(COMMANDS, SINKS), *zip(SLOW, SINKS[::2], strict=False)]
    ]
    for (arguments, sink, encoding), (code, told) in zip(cases, end(cases), strict=True):
        expected = (COMMANDS | SLOW)[" ".join(arguments)]
        if sink == FULL and expected != 2:
            expected = 2
            assert "stdout: No space left on device" in told, (arguments, told)
        assert code == expected, (arguments, sink, encoding, told)
        assert "Traceback" not in told, told


ANY = st.text(st.characters(exclude_categories=["Cs"]))  # JSON has no lone surrogates


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(ANY, ANY | st.floats(allow_nan=False) | st.none()), st.sampled_from(["ascii", "latin-1", "utf-8"])
)
def test_json_stays_json_in_every_encoding_and_holds_no_control_characters(content, encoding):
    buffer = io.BytesIO()
    stream = open_escaping(buffer, encoding)
    print(json.dumps(content, ensure_ascii=False), file=stream, flush=True)
    written = buffer.getvalue().decode(encoding)
    assert json.loads(written) == content
    assert not CONTROLS.search(written)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\u001b[2Jgone"),
        ("a\rb\x9bc\x07", r"a\u000db\u009bc\u0007"),
        ("abc\u202edef", r"abc\u202edef"),  # the rest of the line from right to left
        ("lines\n\tand tabs, ± and 𝛼", "lines\n\tand tabs, ± and 𝛼"),
    ],
)
def test_a_terminal_obeys_nothing_that_is_printed(text, shown):
    assert escape_controls(text) == shown
