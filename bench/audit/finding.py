"""What a check says of a sampler: a measured figure, its limit, a verdict, and how to see it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Verdict = Literal["pass", "fail", "error", "not applicable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
BAD: tuple[Verdict, ...] = ("fail", "error")  # what ends a certificate


class NotApplicable(Exception):
    """A check has nothing to say of this sampler; the message names the property of the method that is the reason."""


class Undecided(Exception):
    """A check could not measure what it set out to measure; the message says why. It is an error, never a pass."""


@dataclass(frozen=True)
class Measured:
    """What a check measured: ``script`` prints ``figure`` as its last line, or what there is where it is None."""

    figure: float | None
    limit: str
    holds: bool
    says: str = ""
    script: str = ""


@dataclass(frozen=True)
class Finding:
    """One check of one sampler; ``reproducer`` is a script that shows a failure.

    ``fail``: the figure is beyond its limit. ``error``: the sampler raised, or nothing could be measured.
    ``not applicable``: a property of the method, which ``says`` names, leaves the check without a meaning.
    """

    sampler: str
    check: str
    verdict: Verdict
    figure: float | None = None
    limit: str = ""
    says: str = ""
    reproducer: str = ""

    @property
    def bad(self) -> bool:
        """Whether it fails or is in error."""
        return self.verdict in BAD

    def line(self) -> str:
        """Verdict, check, figure, limit and remark in one line."""
        verdict = "n/a" if self.verdict == "not applicable" else self.verdict
        figure = "" if self.figure is None else f"{self.figure:.4g}"
        remark = f"  {self.says}" if self.says else ""
        return f"  {verdict:<5} {self.check:<13} {figure:<10} {self.limit:<18}{remark}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: a figure that is not finite as a string, as records have it."""
        fields = asdict(self)
        if self.figure is not None and not abs(self.figure) < float("inf"):
            fields["figure"] = str(self.figure)
        return fields
