"""Image files: pixels and hashes are those of Pillow, NumPy and hashlib, by any number of threads and in any order."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import statistics
import struct
import threading
import time
import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from metrics import reading
from metrics.decoding import decode
from metrics.images import list_images, read_images
from metrics.reading import hash_files, load_files

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (11, 13), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (11, 13, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(0, 110, 10), np.arange(0, 130, 10)).astype(np.uint8)  # JPEG and filters see structure


def png(rows: np.ndarray, colour: int, filters=(0,), *, depth=8, idats=1, extra=b"", interlace=0) -> bytes:
    """A PNG, written by the book: each row with a filter in turn, its data in so many chunks."""
    step = rows.shape[2] if rows.ndim == 3 else 1
    lines = rows.reshape(len(rows), -1).astype(int)
    data = b""
    for y, line in enumerate(lines):
        above = lines[y - 1] if y else np.zeros_like(line)
        left, corner = (np.concatenate([np.zeros(step, int), row[:-step]]) for row in (line, above))
        estimate = left + above - corner
        near = np.stack([abs(estimate - left), abs(estimate - above), abs(estimate - corner)]).argmin(0)
        guesses = [0, left, above, (left + above) // 2, np.choose(near, [left, above, corner])]
        kind = filters[y % len(filters)]
        data += bytes([kind]) + ((line - guesses[kind]) % 256).astype(np.uint8).tobytes()
    packed = zlib.compress(data)
    cuts = [len(packed) * i // idats for i in range(idats + 1)]
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], depth, colour, 0, 0, interlace)
    parts = [packed[a:b] for a, b in itertools.pairwise(cuts)]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + b"".join(
        chunk(b"IDAT", part) for part in parts
    ) + chunk(b"IEND", b"")  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def pixels(content: bytes) -> np.ndarray:
    """What a file holds by our conventions, (c, h, w): Pillow's pixels, 16 bits rounded, transparency dropped."""
    image = Image.open(io.BytesIO(content))
    if image.mode.startswith("I;16"):
        return np.rint(np.asarray(image) / 257).astype(np.uint8)[None]
    if image.mode == "LA":
        return np.asarray(image)[None, ..., 0]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[None]
    return np.asarray(image.convert("RGBA" if image.mode in ("P", "RGBA") else "RGB"))[..., :3].transpose(2, 0, 1)


L, RGB = Image.fromarray(GREY), Image.fromarray(COLOUR)
SIXTEEN = Image.fromarray(RNG.integers(0, 2**16, (11, 13), dtype=np.uint16))
FILES = {
    "grey.png": saved(L, "PNG"),
    "colour.png": saved(RGB, "PNG"),
    "smooth.png": saved(Image.fromarray(SMOOTH), "PNG", optimize=True),
    "every_filter_grey.png": png(GREY, 0, range(5)),
    "every_filter_colour.png": png(COLOUR, 2, range(5)),
    "in_four_chunks.png": png(COLOUR, 2, (4,), idats=4),
    "an_empty_chunk.png": png(GREY[:2, :2], 0, idats=60),
    "gamma.png": png(GREY, 0, extra=chunk(b"gAMA", struct.pack(">I", 100_000))),
    "text.png": png(COLOUR, 2, extra=chunk(b"tEXt", b"Comment\0of a camera")),
    "one_colour_is_transparent.png": png(COLOUR, 2, extra=chunk(b"tRNS", bytes(6))),
    "exif.png": saved(L, "PNG", exif=turned()),
    "one_bit.png": saved(L.convert("1"), "PNG"),
    "palette.png": saved(RGB.quantize(16), "PNG"),
    "palette_transparent.png": saved(RGB.quantize(16), "PNG", transparency=bytes(range(16))),
    "alpha.png": saved(Image.fromarray(np.dstack([COLOUR, GREY])), "PNG"),
    "grey_alpha.png": saved(Image.merge("LA", [L, L.rotate(180)]), "PNG"),
    "16_bits.png": saved(SIXTEEN, "PNG"),
    "animated.png": saved(L, "PNG", save_all=True, append_images=[L.rotate(180)]),
    "grey.jpg": saved(Image.fromarray(SMOOTH), "JPEG"),
    "colour.jpg": saved(RGB, "JPEG", quality=60),
    "cmyk.jpg": saved(RGB.convert("CMYK"), "JPEG"),
    "rotated.jpg": saved(RGB, "JPEG", exif=turned()),
    "progressive.jpg": saved(RGB, "JPEG", progressive=True),
    "colour.webp": saved(RGB, "WEBP", lossless=True),
    "animated.gif": saved(RGB, "GIF", save_all=True, append_images=[RGB.rotate(180)]),
    "colour.bmp": saved(RGB, "BMP"),
    "colour.ppm": saved(RGB, "PPM"),
    "grey.pgm": saved(L, "PPM"),
    "16_bits.tif": saved(SIXTEEN, "TIFF"),
    "cmyk.tif": saved(RGB.convert("CMYK"), "TIFF"),
}
REMARKS = {
    "exif.png": "with an EXIF rotation: it is not applied", "rotated.jpg": "with an EXIF rotation: it is not applied",
    "16_bits.png": "of 16 bits: rounded to 8", "16_bits.tif": "of 16 bits: rounded to 8",
    "animated.png": "animated: the first frame is taken", "animated.gif": "animated: the first frame is taken",
    "alpha.png": "with transparency: it is dropped", "grey_alpha.png": "with transparency: it is dropped",
    "palette_transparent.png": "with transparency: it is dropped",
    "one_colour_is_transparent.png": "with transparency: it is dropped",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A folder of one file of every kind, and one below it."""
    (tmp_path / "more").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "more" / "again.png").write_bytes(FILES["colour.png"])
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_every_kind_has_the_pixels_of_pillow(name):
    seen = Counter()
    found = decode(FILES[name], seen)
    np.testing.assert_array_equal(found.numpy(), pixels(FILES[name]))
    assert found.is_contiguous()
    size = f"size {found.shape[2]}x{found.shape[1]}"
    assert seen == Counter({size: 1} | ({REMARKS[name]: 1} if name in REMARKS else {}))


def test_a_png_by_the_book_is_the_one_that_was_meant():
    """Grey, colour and every filter, without Pillow's word for it."""
    np.testing.assert_array_equal(decode(FILES["every_filter_grey.png"], Counter())[0].numpy(), GREY)
    np.testing.assert_array_equal(
        decode(FILES["every_filter_colour.png"], Counter()).numpy(), COLOUR.transpose(2, 0, 1)
    )


def outcome(read, content: bytes):
    try:
        return read(content).tobytes()
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("name", ["every_filter_grey.png", "in_four_chunks.png", "smooth.png"])
def test_a_damaged_png_is_read_where_pillow_reads_it_and_refused_where_it_refuses(name):
    """Every byte changed, and the file cut off behind every byte."""
    whole = FILES[name]
    damaged = [whole[:at] for at in range(len(whole))]
    for flip in (1, 0x80):
        damaged += [whole[:at] + bytes([byte ^ flip]) + whole[at + 1 :] for at, byte in enumerate(whole)]
    differ = [
        at for at, content in enumerate(damaged)
        if outcome(lambda content: decode(content, Counter()).numpy(), content) != outcome(pixels, content)
    ]  # fmt: skip
    assert not differ
    assert len({outcome(pixels, content) for content in damaged}) > 3  # it is put to the test


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 64), (5, 3), (None, 10)])
def test_pixels_and_hashes_are_in_order_whatever_the_threads(folder, workers, ahead):
    files, seen = list_images(folder)[0], Counter()
    contents = [file.read_bytes() for file in files]
    assert [file.relative_to(folder).as_posix() for file in files] == sorted([*FILES, "more/again.png"])
    loaded = list(load_files(files, seen, workers=workers, ahead=ahead))
    for found, content in zip(loaded, contents, strict=True):
        np.testing.assert_array_equal(found.image.numpy(), pixels(content))
        assert found.digest == hashlib.sha256(content).digest()
    assert seen == sum((counted(content) for content in contents), Counter())
    assert list(hash_files(files, workers=workers)) == [found.digest for found in loaded]
    for found, again in zip(loaded, read_images(folder, workers=workers, ahead=ahead), strict=True):
        assert torch.equal(found.image, again)


def counted(content: bytes) -> Counter:
    seen = Counter()
    decode(content, seen)
    return seen


def test_the_order_of_the_file_system_does_not_matter(folder, monkeypatch):
    expected = list_images(folder)[0]
    walk = os.walk

    def backwards(*arguments, **options):
        for root, folders, names in walk(*arguments, **options):
            folders.reverse()
            yield root, folders, sorted(names, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    assert list_images(folder)[0] == expected


def test_a_broken_file_has_a_reason_and_its_hash_and_the_others_are_read(folder):
    (folder / "colour.jpg").write_bytes(FILES["colour.jpg"][:200])
    (folder / "grey.pgm").write_bytes(b"no image")
    files = list_images(folder)[0]
    loaded = dict(zip((file.name for file in files), load_files(files, Counter(), workers=3), strict=True))
    broken = {name: found for name, found in loaded.items() if found.image is None}
    assert set(broken) == {"colour.jpg", "grey.pgm"}
    assert "truncated" in broken["colour.jpg"].reason.lower()
    assert broken["grey.pgm"] == (hashlib.sha256(b"no image").digest(), None, "no image that Pillow knows")
    with pytest.raises(ValueError, match=r"colour\.jpg: cannot be read \(.*(?i:truncated)"):  # the first in order
        list(read_images(folder, workers=3))


def test_whatever_a_damaged_file_brings_about_is_a_reason(tmp_path):
    """Twenty damages of a file of every kind: no exception of Pillow's gets out, and no reason is empty."""
    files = []
    for name, content in FILES.items():
        for i in range(20):
            damaged = bytearray(content)
            for at in RNG.integers(0, len(content), 3):
                damaged[at] = RNG.integers(256)
            files.append(tmp_path / f"{i}_{name}")
            files[-1].write_bytes(bytes(damaged[: RNG.integers(len(content) // 2, len(content) + 1)]))
    loaded = list(load_files(files, Counter(), workers=2))
    assert len(loaded) == len(files)
    assert all((found.image is None) == bool(found.reason) for found in loaded)
    assert sum(found.image is None for found in loaded) > 100


def test_a_file_that_is_gone_is_named(folder):
    files = list_images(folder)[0]
    files[20].unlink()
    with pytest.raises(FileNotFoundError) as caught:
        list(load_files(files, Counter(), workers=2))
    assert caught.value.filename == str(files[20]) or caught.value.filename == files[20]


def readers() -> int:
    return sum(thread.name.startswith("fidmap-reader") for thread in threading.enumerate())


@pytest.mark.parametrize("ahead", [8, 40])
def test_few_images_wait_in_memory_and_no_thread_outlives_its_reader(folder, ahead):
    files, opened = [folder / "grey.png"] * 500, []

    def read(file):
        opened.append(file)
        return reading.read_file(file)

    images = load_files(files, Counter(), workers=2, ahead=ahead, read=read)
    next(images)
    deadline = time.monotonic() + 5
    while len(opened) < ahead and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert ahead <= len(opened) <= ahead + 4 * reading.AT_ONCE
    assert readers()
    images.close()
    assert not readers()
    assert len(opened) < 100


class Pictures(torch.utils.data.Dataset):
    """What most programs do: Pillow, RGB, and floats in [0, 1]."""

    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        image = np.array(Image.open(self.files[index]).convert("RGB"))
        return torch.from_numpy(image).permute(2, 0, 1).contiguous().float().div(255)


@pytest.mark.alone
@pytest.mark.unchecked
@pytest.mark.parametrize(("size", "count"), [(28, 2000), (192, 160)])
def test_reading_keeps_up_with_a_loader_of_as_many_processes(tmp_path, size, count):
    """A network that costs nothing: as many images per second as a DataLoader of two workers, by medians of five."""
    files = []
    for i in range(count):
        coarse = Image.fromarray(RNG.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize((size, size), Image.BICUBIC)
        files.append(tmp_path / f"{i:04d}.png")
        (coarse.convert("L") if size == 28 else coarse).save(files[-1])

    def ours() -> int:
        return sum(1 for found in load_files(files, Counter(), workers=2, ahead=64) if found.image is not None)

    def loader() -> int:
        return sum(len(batch) for batch in torch.utils.data.DataLoader(Pictures(files), batch_size=50, num_workers=2))

    seconds = {ours: [], loader: []}
    for _ in range(5):
        for run, taken in seconds.items():
            begin = time.perf_counter()
            assert run() == count
            taken.append(time.perf_counter() - begin)
    assert statistics.median(seconds[ours]) <= statistics.median(seconds[loader]) / 0.9
