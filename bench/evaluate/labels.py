"""Names of several sources that are compared: those of the option ``--names``, else what tells the files apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.errors import UsageError


def label_sources(sources: Sequence[str | Path], names: str | None) -> list[str]:
    """One name per source: those in ``names``, with commas between, else file names without their endings.

    Files of one name in different folders are told apart by as many of the folders above them as it takes. Raises
    UsageError where ``names`` has another number of names, an empty one or one twice, and where a source comes twice.
    """
    if names is not None:
        given = [" ".join(name.split()) for name in names.split(",")]
        if len(given) != len(sources) or len(set(given)) < len(given) or not all(given):
            raise UsageError(f"--names {names!r}: {len(sources)} different names with commas between are accepted")
        return given
    parts = [_parts(Path(source)) for source in sources]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(own[-depth:]) for own in parts]
        if len(set(labels)) == len(labels):
            return labels
    twice = next(str(source) for i, source in enumerate(sources) if parts[i] in parts[:i])
    raise UsageError(f"{twice} is given twice, or has the name of another; --names tells them apart")


def _parts(path: Path) -> tuple[str, ...]:
    whole = path.resolve()
    name = whole.name if whole.is_dir() else whole.name.removesuffix(".gz")
    stem = name if whole.is_dir() else Path(name).stem
    return (*whole.parent.parts, stem)
