"""The result of a check: a measured figure, its limit, a verdict, and a script that measures it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

CheckVerdict = Literal["pass", "fail", "error", "not applicable"]
VERDICTS: tuple[CheckVerdict, ...] = get_args(CheckVerdict)
BAD: tuple[CheckVerdict, ...] = ("fail", "error")  # verdicts with which a sampler does not pass the audit


class NotApplicable(Exception):
    """Raised by a check of the audit that has no meaning for this sampler.

    The message names the property that is why.
    """


class Undecided(Exception):
    """Raised by a check of the audit that could not measure what it set out to; the verdict is then ``error``."""


@dataclass(frozen=True)
class Measurement:
    """The measurement of a check of the audit: a figure, its limit, whether it holds, a remark, and a script.

    ``script`` reproduces the figure, which is the last line that it prints; None where there is no figure.
    """

    figure: float | None
    limit: str
    holds: bool
    says: str = ""
    script: str = ""


@dataclass(frozen=True)
class Finding:
    """The result of one check of one sampler, with a verdict; ``reproducer`` is a script that shows a failure.

    ``fail``: the figure is beyond its limit. ``error``: the sampler raised, or nothing could be measured. ``not
    applicable``: the check has no meaning because of a property of the method, which ``says`` names.
    """

    sampler: str
    check: str
    verdict: CheckVerdict
    figure: float | None = None
    limit: str = ""
    says: str = ""
    reproducer: str = ""

    @property
    def bad(self) -> bool:
        """Whether the sampler's verdict is ``fail`` or ``error``."""
        return self.verdict in BAD

    def line(self) -> str:
        """Write the finding in one line: verdict, check, figure, limit and remark."""
        verdict = "n/a" if self.verdict == "not applicable" else self.verdict
        figure = "" if self.figure is None else f"{self.figure:.4g}"
        remark = f"  {self.says}" if self.says else ""
        return f"  {verdict:<5} {self.check:<13} {figure:<10} {self.limit:<18}{remark}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """Give the finding's fields for JSON; a figure that is not finite is a string, as in records."""
        fields = asdict(self)
        if self.figure is not None and not abs(self.figure) < float("inf"):
            fields["figure"] = str(self.figure)
        return fields
