"""The content of an image file as pixels, by Pillow; sizes, and what is lost of unusual files, are counted."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_MODES = {0: "L", 2: "RGB"}  # by the colour type in a PNG's header
_LARGE = 2**24  # pixels, above which Pillow decides whether a file is a bomb


def decode(content: bytes, seen: Counter[str]) -> UInt8[Tensor, "c h w"]:
    """The first frame of an image file as uint8: grey stays grey, everything else becomes RGB.

    ``seen`` counts sizes and what is lost. Raises whatever Pillow raises on a file that cannot be decoded, of which
    ``explain`` makes a line.
    """
    array = _decode_plain_png(content)
    if array is None:
        array = _decode_any(content, seen)
    seen[f"size {array.shape[1]}x{array.shape[0]}"] += 1
    return torch.from_numpy(array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


def explain(error: Exception) -> str:
    """An error of ``decode`` in one line; for an unknown format in our words, as Pillow's name an object's address."""
    if isinstance(error, UnidentifiedImageError):
        return "no image that Pillow knows"
    said = " ".join(str(error).split())
    if isinstance(error, OSError | SyntaxError | ValueError | Image.DecompressionBombError) and said:
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _decode_any(content: bytes, seen: Counter[str]) -> UInt8[np.ndarray, "h w *c"]:
    with Image.open(io.BytesIO(content)) as opened:
        image: Image.Image = opened
        if getattr(image, "n_frames", 1) > 1:
            seen["animated: the first frame is taken"] += 1
        image.load()
        if image.getexif().get(ORIENTATION, 1) != 1:
            seen["with an EXIF rotation: it is not applied"] += 1
        mode = image.mode
        if mode.startswith("I;16"):
            seen["of 16 bits: rounded to 8"] += 1
            return np.rint(np.asarray(image).astype(np.float64) / 257).astype(np.uint8)
        if mode in ("I", "F"):
            raise ValueError(f"pixels of mode {mode}, whose range is not known; 8 or 16 bits are accepted")
        if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            seen["with transparency: it is dropped"] += 1
            # In two steps, as Pillow warns of one for both.
            image = image.convert("LA" if mode in ("L", "LA", "La") else "RGBA")
        return np.array(image.convert("L" if mode in ("1", "L", "LA", "La") else "RGB"))


def _decode_plain_png(content: bytes) -> UInt8[np.ndarray, "h w *c"] | None:
    """The pixels of a PNG of 8 bits, grey or RGB, that has no chunks but those of pixels; None of any other file.

    They come from the decoder of Pillow, so that they are what it gives for the whole file. Its parsing, which takes
    most of the time for a small image and lets no other thread run, is left out. What is broken is left to it.
    """
    if not content.startswith(_HEADER) or len(content) < 33:
        return None
    width, height, *form = struct.unpack_from(">IIBBBBB", content, 16)
    depth, colour, *rest = form  # compression, filter and interlacing
    if depth != 8 or colour not in _MODES or rest != [0, 0, 0] or not 0 < width * height <= _LARGE:
        return None
    if zlib.crc32(content[12:29]) != int.from_bytes(content[29:33], "big"):
        return None
    at, parts = 33, []
    while (kind := content[at + 4 : at + 8]) == b"IDAT":
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        parts.append(content[at + 8 : end])
        at = end + 4  # behind the checksum
    if kind != b"IEND":
        return None
    mode = _MODES[colour]
    try:
        image = Image.frombytes(mode, (width, height), b"".join(parts), "zip", mode)
    except ValueError:
        return None
    pixels = np.frombuffer(bytearray(image.tobytes()), np.uint8)  # a bytearray can be written to, as torch wants it
    return pixels.reshape((height, width) if mode == "L" else (height, width, 3))
