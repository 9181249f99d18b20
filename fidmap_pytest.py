"""A pytest plugin that audits samplers: the option ``--fidmap-sampler`` and the fixture ``fidmap_audit``.

    pytest --fidmap-sampler MODULE:FUNCTION

Where fidmap is installed, every run of pytest loads this file, even in repositories with packages of their own called
``bench`` or ``metrics``. Therefore it is a module beside fidmap's packages, has a name that nobody else uses, and
imports fidmap's packages only when an audit is asked for.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("bench", "implementations", "metrics")  # fidmap's packages, installed beside this file


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--fidmap-sampler``, which may be repeated, to pytest."""
    parser.getgroup("fidmap").addoption(
        "--fidmap-sampler", action="append", default=[], metavar="MODULE:FUNCTION",
        help="Audit a sampler: one item per check, and one for each coordinate and order that it takes.",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add an item per check of each sampler that ``--fidmap-sampler`` names to the tests that pytest runs."""
    for name in config.getoption("fidmap_sampler"):
        items.extend(AuditedSampler.from_parent(session, name=name, nodeid=f"fidmap::{name}").collect())


class AuditedSampler(pytest.Collector):
    """A sampler under audit, named by its catalogue entry or as MODULE:FUNCTION."""

    def collect(self) -> Iterator[AuditItem]:
        """Yield one item per variant of the sampler and check; raises UsageError where there is no such sampler."""
        if problem := find_hidden_package():
            raise pytest.UsageError(f"--fidmap-sampler {self.name}: {problem}")
        from bench.audit import CHECKS, subjects

        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)  # last, so that it hides nothing
        try:
            found = list(subjects(self.name))
        except (LookupError, ImportError) as error:
            raise pytest.UsageError(f"--fidmap-sampler {error}") from None
        for subject in found:
            own = subject.name.removeprefix(subject.entry.name)
            for check in CHECKS:
                yield AuditItem.from_parent(self, name=f"{check}{f'[{own[1:-1]}]' if own else ''}", subject=subject,
                                            check=check)  # fmt: skip


class AuditItem(pytest.Item):
    """A test item: one check of one sampler, which is skipped with the reason where the check is not applicable."""

    def __init__(self, *, subject: Any, check: str, **more: Any):
        super().__init__(**more)
        self.subject, self.check = subject, check

    def runtest(self) -> None:
        """Run the check; raises AuditFailure where the sampler does not pass it."""
        from bench.audit import audit

        (finding,) = audit(self.subject, [self.check])
        self.user_properties.append((self.check, finding.figure))
        if finding.verdict == "not applicable":
            pytest.skip(finding.says)
        if finding.bad:
            raise AuditFailure(finding)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What pytest prints of a failure: figure, limit and script of a failed check; other errors as pytest does."""
        if isinstance(excinfo.value, AuditFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """The place and title of the item in pytest's report; it has no file, so the place is the root folder."""
        return self.config.rootpath, None, f"{self.subject.name}: {self.check}"


class AuditFailure(AssertionError):
    """Raised where a sampler fails checks; the message has each finding's line and the script that reproduces it."""

    def __init__(self, *findings: Any):
        super().__init__("\n".join(f"{one.sampler}\n{one.line()}\n\n{one.reproducer}".rstrip() for one in findings))


@pytest.fixture
def fidmap_audit() -> Callable[..., list[Any]]:
    """A function that audits a sampler inside a test: ``fidmap_audit(my_sampler, order=2)``.

    It takes a function or the name of an entry, and returns the findings. The test fails with AuditFailure where the
    sampler fails a check. Keywords state facts about the sampler (``order``, ``stages``, ``coordinate``, ...), and
    ``checks`` lists the checks to run.
    """

    def run(sampler: Callable[..., Any] | str, *, checks: Any = None, **facts: Any) -> list[Any]:
        if problem := find_hidden_package():
            pytest.fail(f"fidmap_audit: {problem}", pytrace=False)
        from bench.audit import CHECKS, audit, of_function, subjects

        found = list(subjects(sampler)) if isinstance(sampler, str) else [of_function(sampler, **facts)]
        results = [one for subject in found for one in audit(subject, checks or CHECKS)]
        if failed := [one for one in results if one.bad]:
            raise AuditFailure(*failed)
        return results

    return run


def find_hidden_package() -> str | None:
    """Describe the first of fidmap's packages that another package of its name hides from ``import``, with a remedy.

    Returns None where none is hidden.
    """
    home = Path(__file__).resolve().parent
    for name in PACKAGES:
        if name in sys.modules:
            found = getattr(sys.modules[name], "__path__", None)
        else:
            spec = importlib.util.find_spec(name)
            found = spec.submodule_search_locations if spec else None
        places = [Path(place).resolve() for place in found or ()]
        if places != [home / name]:
            where = ", ".join(map(str, places)) or "a module of that name, or nothing"
            return (
                f"Python finds the package {name!r} in {where}, not in {home}, and fidmap cannot be used beside it. "
                "Outside pytest it can: run `fidmap audit --sampler MODULE:FUNCTION` in this folder"
            )
    return None
