"""JSON from files: plain, compressed by gzip, or with one object per line (``.jsonl``)."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any


def load(path: Path) -> Any:
    """Read a JSON file, plain or compressed (``.gz``).

    From ``.jsonl``, with one object per line, the list of its lines. Raises ValueError that names the file and, with
    one object per line, the line.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a file of gzip: {error}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    if path.name.lower().removesuffix(".gz").endswith(".jsonl"):
        lines = enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1)
        return [_parse(line, f"{path}: line {index}") for index, line in lines if line.strip()]
    return _parse(data, str(path))


def _parse(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {' '.join(str(error).split())}") from None
