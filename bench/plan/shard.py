"""Shards: the cells of a suite dealt to several machines, each cell to one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import UsageError
from bench.plan.cell import Cell


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of a suite, that with the number ``index`` from 1 on."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that a text such as ``2/5`` names; raises UsageError on another text."""
        if found := re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII):
            shard = cls(int(found[1]), int(found[2]))
            if 1 <= shard.index <= shard.count:
                return shard
        raise UsageError(f"--shard {text!r}: expected K/N with K from 1 to N, as 2/5")

    def take(self, cells: Sequence[Cell], suite: Sequence[Cell]) -> list[Cell]:
        """Those of ``cells`` that this shard of the whole ``suite`` has.

        All cells of the suite are dealt in the order of their keys, so that the shards differ by at most one cell in
        size, and a cell's shard depends neither on the machine nor on what else ``--only`` selects.
        """
        order = {key: place for place, key in enumerate(sorted(cell.identity.key for cell in suite))}
        return [cell for cell in cells if order[cell.identity.key] % self.count == self.index - 1]
