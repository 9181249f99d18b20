"""What a check says of a sampler: a measured figure, its limit, a verdict, and how to see it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["pass", "fail", "not applicable"]


class NotApplicable(Exception):
    """A check has nothing to say of this sampler; the message is the reason."""


@dataclass(frozen=True)
class Measured:
    """What a check measured: ``script`` prints ``figure`` as its last line."""

    figure: float
    limit: str
    holds: bool
    says: str = ""
    script: str = ""


@dataclass(frozen=True)
class Finding:
    """One check of one sampler; ``reproducer`` is a script that shows a failure."""

    sampler: str
    check: str
    verdict: Verdict
    figure: float | None = None
    limit: str = ""
    says: str = ""
    reproducer: str = ""

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
