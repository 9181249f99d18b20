"""pytest's plugin for samplers: ``pytest --fidmap-sampler MODULE:FUNCTION``, and the fixture ``fidmap_audit``.

Every pytest loads this file where fidmap is installed, also in repositories that have a ``bench`` or a ``metrics`` of
their own. Therefore it is a module beside fidmap's packages, with a name that nobody else has, and imports none of
them before it is used.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("bench", "implementations", "metrics")  # what fidmap is made of, installed beside this file


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--fidmap-sampler``, which may be repeated."""
    parser.getgroup("fidmap").addoption(
        "--fidmap-sampler", action="append", default=[], metavar="MODULE:FUNCTION",
        help="Audit a sampler: one item a check, and one for each coordinate and order that it takes.",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add an item a check of each sampler that is asked for."""
    for name in config.getoption("fidmap_sampler"):
        items.extend(AuditedSampler.from_parent(session, name=name, nodeid=f"fidmap::{name}").collect())


class AuditedSampler(pytest.Collector):
    """A sampler by its name or as MODULE:FUNCTION."""

    def collect(self) -> Iterator[AuditItem]:
        """Give one item a check and variant; raises UsageError where there is no such sampler."""
        if problem := hidden():
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
    """One check of one sampler; not applicable is a skip with the reason."""

    def __init__(self, *, subject: Any, check: str, **more: Any):
        super().__init__(**more)
        self.subject, self.check = subject, check

    def runtest(self) -> None:
        """Run it."""
        from bench.audit import audit

        (finding,) = audit(self.subject, [self.check])
        self.user_properties.append((self.check, finding.figure))
        if finding.verdict == "not applicable":
            pytest.skip(finding.says)
        if finding.bad:
            raise AuditFailure(finding)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The figure, the limit and the script; another error as it is."""
        if isinstance(excinfo.value, AuditFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Where it is said to be."""
        return self.config.rootpath, None, f"{self.subject.name}: {self.check}"


class AuditFailure(AssertionError):
    """A sampler failed a check: the finding's line and its script."""

    def __init__(self, *findings: Any):
        super().__init__("\n".join(f"{one.sampler}\n{one.line()}\n\n{one.reproducer}".rstrip() for one in findings))


@pytest.fixture
def fidmap_audit() -> Callable[..., list[Any]]:
    """Audit a function or a name in a test: ``fidmap_audit(my_sampler, order=2)`` fails where the sampler does.

    Keywords are what a sampler states of itself: ``order``, ``stages``, ``coordinate``, ...; ``checks`` chooses.
    """

    def run(sampler: Callable[..., Any] | str, *, checks: Any = None, **facts: Any) -> list[Any]:
        if problem := hidden():
            pytest.fail(f"fidmap_audit: {problem}", pytrace=False)
        from bench.audit import CHECKS, audit, of_function, subjects

        found = list(subjects(sampler)) if isinstance(sampler, str) else [of_function(sampler, **facts)]
        results = [one for subject in found for one in audit(subject, checks or CHECKS)]
        if failed := [one for one in results if one.bad]:
            raise AuditFailure(*failed)
        return results

    return run


def hidden() -> str | None:
    """Say which of fidmap's packages another one of that name hides from ``import``, and what to do; None: none."""
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
