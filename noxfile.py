"""Nox sessions that share one environment, .nox/env; pip makes it again when its requirements have changed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["bench"]
nox.needs_version = ">=2024.10.9"

ROOT = Path(__file__).resolve().parent
NO_TESTS = 5  # pytest's exit code where its arguments select no test
BIN = "Scripts" if os.name == "nt" else "bin"
ALONE = ("k-diffusion",)  # installed without its requirements, which are for training: wandb, ...


def environment(
    session: nox.Session, name: str, *requirements: str, project: bool, alone: tuple[str, ...] = ()
) -> Path:
    """Make the environment .nox/NAME if it is missing or out of date, and return its folder of programs.

    It is out of date when Python, the requirements, constraints.txt or (with ``project``) pyproject.toml have changed.
    The packages in ``alone`` are installed without their requirements.
    """
    folder = ROOT / ".nox" / name
    programs = folder / BIN
    made_of = [sys.version, str(ROOT), *requirements, *alone, (ROOT / "constraints.txt").read_text()]
    if project:
        made_of.append((ROOT / "pyproject.toml").read_text())
    # ROOT is in the lock since fidmap is installed as a link to it: a copied clone would run the code of the old one.
    lock, stamp = hashlib.sha256("\0".join(made_of).encode()).hexdigest(), folder / "lock"
    if stamp.exists() and stamp.read_text() == lock:
        return programs
    session.log(f"making the environment {folder.relative_to(ROOT)}; this downloads packages once")
    session.run(sys.executable, "-m", "virtualenv", "--quiet", str(folder), external=True)
    python = str(programs / "python")
    # An old pip needs many minutes to resolve these requirements.
    session.run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip", external=True)
    _install(session, python, *requirements)
    if alone:
        _install(session, python, "--no-deps", *alone)
    stamp.write_text(lock)
    return programs


def _install(session: nox.Session, python: str, *requirements: str) -> None:
    install = [python, "-m", "pip", "install", "--quiet", *requirements]
    pinned = subprocess.run([*install, "-c", "constraints.txt"], cwd=ROOT, check=False)
    if pinned.returncode:
        session.warn("the versions of constraints.txt cannot be had here; installing what pip's configuration allows")
        session.run(*install, external=True)


def main(session: nox.Session) -> Path:
    """Make the environment of all sessions but ``lint``, and return its folder of programs."""
    return environment(session, "env", "--editable", ".[peers,dev]", project=True, alone=ALONE)


def fidmap(session: nox.Session, *arguments: str, **options: object) -> None:
    """Run the command ``fidmap`` of the main environment with ``arguments``; ``options`` go to ``session.run``."""
    session.run(str(main(session) / "fidmap"), *arguments, external=True, **options)


@nox.session
def bench(session: nox.Session) -> None:
    """Run a suite (default: quick) and print its tables; what follows -- goes to `fidmap run`."""
    fidmap(session, "run", *(session.posargs or ["quick"]))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, two at a time, then alone those that time something; what follows -- goes to pytest."""
    pytest = [str(main(session) / "python"), "-m", "pytest", *session.posargs]
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    session.run(*pytest, "-n", "2", "-m", "not alone", external=True, env=one_thread, success_codes=[0, NO_TESTS])
    session.run(*pytest, "-m", "alone", external=True, success_codes=[0, NO_TESTS])


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, imports between layers, and types; needs no torch."""
    programs = environment(
        session, "lint", "import-linter", "ruff", "mypy", "pydantic", "typer", "numpy", project=False
    )
    session.run(str(programs / "ruff"), "check", ".", external=True)
    session.run(str(programs / "ruff"), "format", "--check", ".", external=True)
    session.run(str(programs / "lint-imports"), external=True)
    session.run(str(programs / "mypy"), "bench", "implementations", "metrics", "fidmap_pytest.py", external=True)


@nox.session
def microbench(session: nox.Session) -> None:
    """Run the pytest-benchmark files and import their JSON into runs/microbench."""
    report = ROOT / "runs" / "microbench.json"
    report.parent.mkdir(exist_ok=True)
    python = str(main(session) / "python")
    options = [
        "--benchmark-only",
        "--benchmark-save-data",
        f"--benchmark-json={report}",
        "-o",
        "addopts=--import-mode=importlib",
    ]
    session.run(python, "-m", "pytest", "tests/benchmarks", *options, *session.posargs, external=True)
    fidmap(session, "import", str(report), "--out", "runs/microbench")
    fidmap(session, "table", "--out", "runs/microbench")


@nox.session
def regress(session: nox.Session) -> None:
    """Run suites (default: quick) and compare them with results/baselines; exit code 1 where something is worse.

    Arguments that begin with - go to `fidmap compare`.
    """
    options = [argument for argument in session.posargs if argument.startswith("-")]
    for suite in [argument for argument in session.posargs if argument not in options] or ["quick"]:
        fidmap(session, "run", suite, silent=True)
        fidmap(session, "compare", f"results/baselines/{suite}.json", f"runs/{suite}", *options)


LEADERBOARD = """# Leaderboards

Made by `nox -s leaderboard` from [the baselines](baselines), one table per family; `fidmap table FAMILY --rank` prints
one by another measure, at another setting, or of your own records.
"""


@nox.session
def leaderboard(session: nox.Session) -> None:
    """Run suites (default: quick), write their tables, plots and baselines into results/, and LEADERBOARD.md of all.

    With --table alone, no suite is run, and LEADERBOARD.md is written from the baselines as they are.
    """
    suites = [] if session.posargs == ["--table"] else session.posargs or ["quick"]
    results = ROOT / "results"
    for suite in suites:
        fidmap(session, "run", suite)
        fidmap(session, "table", f"runs/{suite}", "--save", f"results/{suite}", silent=True)
        target = results / "baselines" / f"{suite}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w") as file:
            fidmap(session, "table", f"runs/{suite}", "--format", "json", stdout=file)
    baselines = [str(file.relative_to(ROOT)) for file in sorted((results / "baselines").glob("*.json"))]
    with (results / "LEADERBOARD.md").open("w") as file:
        print(LEADERBOARD, file=file, flush=True)
        fidmap(
            session, "table", "samplers", "losses", "nms", "metrics", "detections", *baselines, "--rank", stdout=file
        )


@nox.session
def full(session: nox.Session) -> None:
    """Run every suite that comes with fidmap."""
    for suite in sorted((ROOT / "bench" / "suites").glob("*.toml")):
        fidmap(session, "run", suite.stem)
