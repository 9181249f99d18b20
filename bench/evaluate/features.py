"""Features of images, extracted or read from a cache by the hashes of images and weights and the resize mode."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.errors import UsageError
from bench.evaluate.sides import Images
from bench.files import cache_folder, digest, write_atomic
from bench.progress import Steps
from metrics.extractors.extractor import Extractor

FORM = "3"  # version of the cache's format


def features_of(
    side: Images, extractor: Extractor, *, batch: int, cache: bool, skip_bad: bool, notes: list[str]
) -> Tensor:
    """Features (n, d) of a side's images in float64, from the cache if it has them.

    Files are hashed as they are decoded, so that each is opened once; they are hashed before that where the cache has
    features of files of the same sizes, the first of which is the same. Remarks on the images, such as sizes that
    differ, are appended to ``notes``. Raises UsageError on an image that cannot be decoded and on features that are not
    finite.
    """
    settings = {"extractor": extractor.label, "resize": extractor.resize, "skip_bad": str(skip_bad), "form": FORM}
    folder, outline = cache_folder() / "features", digest({**settings, "outline": side.outline})

    def place() -> tuple[Path, dict[str, str]]:
        identity = {**settings, "data": side.hash}
        return folder / f"{outline}-{digest(identity)}.safetensors", identity

    maybe = cache and any(folder.glob(f"{outline}-*.safetensors"))
    found = _load(*place(), side, notes) if maybe else None
    if found is None:
        found = _extract(side, extractor, batch)
        if cache:
            file, identity = place()
            try:
                write_atomic(file, _pack(found, identity, side))
            except UsageError as error:
                notes.append(f"features are not kept: {error}")
    notes += _remarks(side, extractor)
    return found


def _extract(side: Images, extractor: Extractor, batch: int) -> Tensor:
    rows: list[Tensor] = []
    with Steps(f"features of {side.source}", side.count) as steps, closing(side.read(ahead=batch)) as images:
        while part := list(islice(images, batch)):
            try:
                rows.append(extractor.features(part, batch))
            except ValueError as error:
                raise UsageError(f"{side.source}: {error}") from None
            steps.advance(len(part))
    if not rows:
        raise UsageError(f"{side.source}: none of {side.count} images can be read; the first: {side.skipped[0]}")
    return torch.cat(rows)


def _pack(features: Tensor, identity: dict[str, str], side: Images) -> bytes:
    exact = torch.equal(features.float().double(), features)  # features from float32 are stored in half the space
    metadata = {**identity, "skipped": json.dumps(side.skipped), "seen": json.dumps(side.seen)}
    return save({"features": features.float() if exact else features}, metadata)


def _load(file: Path, identity: dict[str, str], side: Images, notes: list[str]) -> Tensor | None:
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as stored:
            metadata, features = stored.metadata() or {}, stored.get_tensor("features").double()
        if {name: metadata.get(name) for name in identity} != identity:
            raise ValueError("it is of something else")
        side.skipped[:] = json.loads(metadata["skipped"])
        side.seen = Counter(json.loads(metadata["seen"]))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        notes.append(f"{file} is damaged ({error}); its features are extracted again")
        return None
    return features


def sizes_of(side: Images) -> list[str]:
    """The different sizes of a side's images that have been read so far, written ``WIDTHxHEIGHT``."""
    return sorted(name.removeprefix("size ") for name in side.seen if name.startswith("size "))


def _remarks(side: Images, extractor: Extractor) -> list[str]:
    sizes = sizes_of(side)
    remarks = [f"{side.source}: {n} of {side.count} images {what}" for what, n in side.seen.items()
               if not what.startswith("size ")]  # fmt: skip
    if side.left_out:
        held = ", ".join(f"{n} {what}" for what, n in side.left_out.items())
        remarks.append(f"{side.source}: besides {side.count} images, left out: {held}")
    if len(sizes) > 1:
        remarks.append(f"{side.source}: images of {len(sizes)} sizes, each resized by {extractor.resize}")
    if side.skipped:
        remarks.append(
            f"{side.source}: {len(side.skipped)} of {side.count} images skipped; the first: {side.skipped[0]}"
        )
    return remarks
