"""YOLO folders with one thing wrong or unusual: an error in one line that names file and place, or the right AP."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bench.errors import UsageError
from bench.evaluate.detections import evaluate
from metrics.detection.formats.yolo_names import read_names
from metrics.detection.formats.yolo_text import read_yolo_detections, read_yolo_truth

WIDTH, HEIGHT = 128, 96


def case(seed, images=5, per_image=5):
    """Random rows by image, inside it: ``class cx cy w h`` of truths, and the same with a score of detections."""
    rng = np.random.default_rng(seed)
    truth, found = {}, {}
    for k in range(images):
        rows, guesses = [], []
        for _ in range(per_image):
            w, h = rng.uniform(0.1, 0.4, 2)
            cx, cy = rng.uniform(w / 2 + 0.03, 0.97 - w / 2), rng.uniform(h / 2 + 0.03, 0.97 - h / 2)
            row = [int(rng.integers(3)), *(round(float(x), 5) for x in (cx, cy, w, h))]
            rows.append(row)
            if rng.random() < 0.8:
                score = round(float(rng.uniform(0.05, 0.99)), 4)
                guesses.append([row[0], round(row[1] + float(rng.uniform(-0.02, 0.02)), 5), *row[2:], score])
        truth[f"im{k}"], found[f"im{k}"] = rows, guesses
    return truth, found


def text(rows):
    return "".join(" ".join(map(str, row)) + "\n" for row in rows)


def write(folder, truth, found, suffix=".png"):
    left, right, pictures = folder / "set" / "labels", folder / "found", folder / "set" / "images"
    for place in (left, right, pictures):
        place.mkdir(parents=True)
    for name in sorted({*truth, *found}):
        Image.new("L", (WIDTH, HEIGHT)).save(pictures / f"{name}{suffix}")
    for place, rows in ((left, truth), (right, found)):
        for name, of_image in rows.items():
            (place / f"{name}.txt").write_text(of_image if isinstance(of_image, str) else text(of_image))
    return left, right


def run(folders, **options):
    notes = []
    return evaluate(*folders, tell=notes.append, **options).coco.figures["AP"], " ".join(notes)


# A line that is wrong, of a truth: {0} is the class, {1} to {4} the shares of a right one.
LINES = {
    "no class": "{1} {2} {3} {4}",
    "class alone": "{0}",
    "score": "{0} {1} {2} {3} {4} .5",
    "seven": "{0} {1} {2} {3} {4} .5 .6 .7",
    "commas": "{0},{1},{2},{3},{4}",
    "class in words": "kettle {1} {2} {3} {4}",
    "class of parts": "1.25 {1} {2} {3} {4}",
    "class below 0": "-1 {1} {2} {3} {4}",
    "class of many digits": "8" * 330 + " {1} {2} {3} {4}",
    "class too large": "1e12 {1} {2} {3} {4}",
    "nan": "{0} nan {2} {3} {4}",
    "infinite": "{0} {1} {2} {3} inf",
    "many digits": "{0} {1} " + "3" * 420 + " {3} {4}",
    "word": "{0} {1} {2} wide {4}",
    "underscore": "{0} {1} 0_1 {3} {4}",
    "percent": "{0} 41.5% {2} {3} {4}",
    "percentages": "{0} 41.5 37.25 12.5 30.1",
    "thousandths": "{0} 415 372 125 301",
    "pixels": "{0} 53.1 35.8 16 28.9",
    "a width in pixels": "{0} {1} {2} 17 {4}",
    "a centre in pixels": "{0} {1} 61 {3} {4}",
    "negative side": "{0} {1} {2} -0.07 {4}",
    "negative centre": "{0} -0.81 {2} {3} {4}",
    "polygon in pixels": "{0} 12 13 40 12 33 51",
    "polygon of two points and a half": "{0} .1 .1 .4 .1 .3",
    "polygon with a word": "{0} .1 .1 .4 .1 .3 low",
    "header": "class x y w h",
    "comment": "# {0} {1} {2} {3} {4}",
    "JSON": '{{"class": 3}}',
    "XML": "<annotation/>",
    "zero byte": "{0} {1} \x00 {3} {4}",
    "brackets": "[{0} {1} {2} {3} {4}]",
}
SCORED = {
    "no score": "{0} {1} {2} {3} {4}",
    "seven": "{0} {1} {2} {3} {4} .5 3",
    "score in percent": "{0} {1} {2} {3} {4} 61.5",
    "score below 0": "{0} {1} {2} {3} {4} -0.31",
    "score nan": "{0} {1} {2} {3} {4} nan",
    "score in words": "{0} {1} {2} {3} {4} high",
    "logit": "{0} {1} {2} {3} {4} 3.7",
    "score before the class": ".37 {0} {1} {2} {3} {4}",
    "corners in pixels": "{0} .4 31 12 57 39",
    "pixels": "{0} 53.1 35.8 16 28.9 .4",
    "class of parts": "2.5 {1} {2} {3} {4} .4",
    "polygon without a score": "{0} .1 .1 .4 .1 .3 .3",
}


OF_TRUTHS = ("no class", "class alone", "score", "seven", "polygon with a word")  # whose number of columns is the fault
BAD = [("truth", what, line) for what, line in LINES.items()]
BAD += [("found", what, line + " .5") for what, line in LINES.items() if what not in OF_TRUTHS]
BAD += [("found", f"scored {what}", line) for what, line in SCORED.items()]


@pytest.mark.parametrize(("side", "what", "template"), BAD, ids=[f"{side}-{what}" for side, what, _ in BAD])
def test_a_bad_line_is_named(tmp_path, side, what, template):
    sides = dict(zip(("truth", "found"), case(sum(map(ord, what))), strict=True))
    rows = sides[side]["im2"]
    line = template.format(*rows[1])
    sides[side]["im2"] = text(rows[:1]) + "\n" + line + "\n" + text(rows[2:])
    with pytest.raises(UsageError) as error:
        evaluate(*write(tmp_path, **sides))
    assert f"{'labels' if side == 'truth' else 'found'}/im2.txt: line 3 has " in str(error.value), error.value
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


ORDERS = {
    "score second": lambda k, cx, cy, w, h, s: [k, s, cx, cy, w, h],
    "corners": lambda k, cx, cy, w, h, s: [k, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, s],
}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("order", ORDERS)
def test_columns_in_another_order_are_refused(tmp_path, order, seed):
    """Every number of them alone is a share of the image."""
    truth, found = case(seed)
    shuffled = {name: [ORDERS[order](*row) for row in rows] for name, rows in found.items()}
    with pytest.raises(UsageError, match=r"found/im\d.txt: line \d+: read as class cx cy w h score, \d+ of \d+ boxes"):
        evaluate(*write(tmp_path, truth, shuffled))
    if order == "corners":
        shuffled = {name: [ORDERS[order](*row, 0)[:5] for row in rows] for name, rows in truth.items()}
        with pytest.raises(UsageError, match=r"labels/im\d.txt: line \d+: read as class cx cy w h, "):
            evaluate(*write(tmp_path / "truth", shuffled, found))


@pytest.mark.parametrize("seed", range(10))
def test_boxes_that_are_not_clipped_are_read(tmp_path, seed):
    """A detector's boxes may leave the image, by a quarter of their side and in a third of the lines here."""
    rng = np.random.default_rng(seed)
    truth, found = case(seed)
    folders = write(tmp_path, truth, found)
    for name, rows in found.items():
        moved = [[k, round(0.99 - w / 4, 5) if rng.random() < 0.33 else cx, cy, w, h, s] for k, cx, cy, w, h, s in rows]
        (folders[1] / f"{name}.txt").write_text(text(moved))
    assert 0 < run(folders)[0] < 1


def scaled(rows):
    """As polygons of the box's corners, and of one that lies on its edge."""
    polygons = []
    for k, cx, cy, w, h, *score in rows:
        left, top, right, bottom = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
        polygons.append([k, left, top, cx + w / 5, top, right, top, right, bottom, left, bottom, *score])
    return polygons


UNUSUAL = {
    "mark": lambda rows: "\ufeff" + text(rows),
    "tabs": lambda rows: text(rows).replace(" ", "\t"),
    "DOS lines": lambda rows: text(rows).replace("\n", "\r\n"),
    "blank lines": lambda rows: "\n\n" + text(rows).replace("\n", "\n \n"),
    "no last line end": lambda rows: text(rows).rstrip("\n"),
    "spaces around": lambda rows: text(rows).replace("\n", "  \n   "),
    "class as a float": lambda rows: text([[float(row[0]), *row[1:]] for row in rows]),
    "exponents": lambda rows: text([[row[0], *(f"{x:.8e}" for x in row[1:])] for row in rows]),
    "polygons": lambda rows: text(scaled(rows)),
    "one polygon": lambda rows: text([*scaled(rows[:1]), *rows[1:]]),
}


@pytest.mark.parametrize("side", ["truth", "found"])
@pytest.mark.parametrize("what", UNUSUAL)
def test_unusual_lines_have_the_right_figures(tmp_path, what, side):
    sides = dict(zip(("truth", "found"), case(len(what)), strict=True))
    expected, nothing = run(write(tmp_path / "plain", **sides))
    assert (nothing, 0.2 < expected < 0.95) == ("", True)
    sides[side] = {name: UNUSUAL[what](rows) for name, rows in sides[side].items()}
    got, told = run(write(tmp_path / "odd", **sides))
    assert got == pytest.approx(expected, abs=1e-9)
    assert told == "" if "polygon" not in what else "lines that are polygons: " in told


def test_images_without_labels_are_background(tmp_path):
    """Detections there are false: as if the label file were there and empty."""
    truth, found = case(21)
    full = run(write(tmp_path / "full", truth, found))[0]
    emptied = write(tmp_path / "emptied", truth | {"im1": [], "im4": []}, found)
    expected = run(emptied)
    assert (expected[1], expected[0] < full) == ("", True)
    for name in ("im1", "im4"):
        (emptied[0] / f"{name}.txt").unlink()
    assert run(emptied) == (expected[0], f"{emptied[0]}: images without a label file: 2; they count as background")
    for name in ("im0", "im1"):
        (emptied[1] / f"{name}.txt").unlink()
    got = run(emptied)[0]
    for name in ("im0", "im1"):
        (emptied[1] / f"{name}.txt").write_text("")
    assert run(emptied)[0] == got
    (emptied[1] / "im9.txt").write_text(text(found["im0"]))
    with pytest.raises(UsageError, match=r"im9.txt has no image im9"):
        run(emptied)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"])
@pytest.mark.parametrize("capital", [str.upper, str.title])
def test_suffixes_in_capitals(tmp_path, suffix, capital):
    folders = write(tmp_path, *case(1), suffix=suffix)
    expected = run(folders)
    for path in list((tmp_path / "set" / "images").iterdir()):
        path.rename(path.with_suffix(capital(suffix)))
    for path in list(folders[0].iterdir())[:2]:
        path.rename(path.with_suffix(".TXT"))
    assert run(folders) == expected


def test_places_of_images(tmp_path):
    truth, found = case(6)
    folders = write(tmp_path, truth, found)
    expected = run(folders)
    pictures = tmp_path / "set" / "images"
    Image.new("L", (9, 9)).save(pictures / "._im0.png")  # hidden
    (pictures / "list.txt").write_text("im0.png\n")
    assert run(folders) == expected
    moved = pictures.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"labels/im0.txt has no image im0\.\*"):
        run(folders)
    assert run(folders, images=moved) == expected
    with pytest.raises(UsageError, match=r"nowhere is no folder of images"):
        run(folders, images=tmp_path / "nowhere")
    for path in list(moved.glob("im*")):
        path.rename(folders[0] / path.name)  # beside the labels, as darknet has them
    assert run(folders) == expected
    (folders[0] / "im2.jpg").write_bytes((folders[0] / "im2.png").read_bytes())
    with pytest.raises(UsageError, match=r"im2.jpg and .*im2.png have one name"):
        run(folders)


@pytest.mark.parametrize("content", [b"", b"\x89PNG torn", b"<svg/>", b"\xff\xd8\xff", "huge"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path, content):
    folders = write(tmp_path, *case(6))
    picture = tmp_path / "set" / "images" / "im3.png"
    if content == "huge":  # a header that promises 10^10 pixels
        header = bytearray(picture.read_bytes())
        header[16:24] = (100_000).to_bytes(4, "big") * 2
        content = bytes(header)
    picture.write_bytes(content)
    with pytest.raises(UsageError, match=r"im3.png is no image") as error:
        run(folders)
    assert "\n" not in str(error.value)


def test_a_turned_photograph_has_the_size_that_is_shown(tmp_path):
    image = Image.new("L", (40, 30))
    exif = image.getexif()
    for turned, size in ((1, (30, 40)), (3, (30, 40)), (6, (40, 30)), (8, (40, 30))):
        exif[0x0112] = turned
        image.save(tmp_path / "one.jpg", exif=exif)
        (tmp_path / "one.txt").write_text("0 .5 .5 .2 .2\n")
        (entry,) = read_yolo_truth(tmp_path)["images"]
        assert (entry["height"], entry["width"]) == size


def test_folders_of_folders_are_not_empty(tmp_path):
    folders = write(tmp_path, *case(6))
    inner = folders[0].rename(tmp_path / "val")
    folders[0].mkdir()
    inner.rename(folders[0] / "val")
    with pytest.raises(UsageError, match=r"labels holds no text file of boxes; .*labels/val does"):
        run(folders, format="yolo")
    with pytest.raises(UsageError, match="labels holds neither VOC"):
        run(folders)


# Names ---------------------------------------------------------------------------------------------------------------


NAMES = {
    "classes.txt": ("pot\nlid\nspoon\n", ["pot", "lid", "spoon"]),
    "obj.names": ("pot\r\nlid\r\nspoon", ["pot", "lid", "spoon"]),
    "classes.txt with a mark": ("\ufeffpot\nlid\nspoon\n\n\n", ["pot", "lid", "spoon"]),
    "classes.txt with a gap": ("pot\n\nspoon\n", ["pot", "1", "spoon"]),
    "classes.txt of words": ("  pot  of   tea \nno\n3\n", ["pot of tea", "no", "3"]),
    "data.yaml": ("nc: 3\nnames: [pot, lid, 'spoon']\n", ["pot", "lid", "spoon"]),
    "data.yaml of lines": ("path: ../set\nnames:\n- pot\n- no\n- 12\n", ["pot", "no", "12"]),
    "data.yaml of numbers": ("names:\n  2: spoon\n  0: pot\n  1: lid\n", ["pot", "lid", "spoon"]),
    "data.yaml with comments": ("# a set\nnames: # of it\n  0: pot # one\n  1: on\n  2: ~\n", ["pot", "on", "~"]),
    "data.yaml with a mark": ("\ufeffnames: [pot, lid, 'größe']\n", ["pot", "lid", "größe"]),
    "data.yaml with tags": ("names: !!python/tuple [pot, lid, !x spoon]\n", ["pot", "lid", "spoon"]),
    "dataset.yaml": ('{"names": {"0": "pot", "1": "lid", "2": "spoon"}}', ["pot", "lid", "spoon"]),
}


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("place", ["set", "set/labels"])
def test_names_are_read_under_their_numbers(tmp_path, what, place):
    folders = write(tmp_path, *case(6))
    expected = run(folders)
    content, names = NAMES[what]
    (tmp_path / place / what.split()[0]).write_bytes(content.encode())
    assert run(folders) == expected
    assert evaluate(*folders).coco.names == dict(enumerate(names))


BAD_NAMES = {
    "data.yaml": "names: [pot, lid",
    "data.yaml without": "nc: 3\n",
    "data.yaml of a number": "names: 3\n",
    "data.yaml of lists": "names: [[pot], [lid], [spoon]]\n",
    "data.yaml of words": "names: {pot: 0, lid: 1, spoon: 2}\n",
    "data.yaml below 0": "names: {-1: pot, 0: lid, 1: spoon}\n",
    "data.yaml of a list": "- names\n- pot\n",
    "data.yaml of a huge key": "names: {" + "9" * 50 + ": pot}\n",
    "data.yaml of two documents": "names: [a]\n---\nnames: [b]\n",
    "data.yaml deep": "names: " + "[" * 600,
    "data.yaml of tabs": "names:\n\t- pot\n",
    "data.yaml of a pose": "kpt_shape: [5, 3]\nnames: [pot, lid, spoon]\n",
    "data.yaml of bytes": b"names: [\xff\xfe]",
    "data.yaml of a bomb": "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nnames: [*c, *c, *c]\n",
    "obj.names": b"pot\n\xff\xfe\n",
    "obj.names too few": "pot\n",
    "classes.txt": b"\x00\xd8\x00",
    "classes.txt too few": "pot\nlid\n",
}


@pytest.mark.parametrize("what", BAD_NAMES)
def test_bad_names_are_named(tmp_path, what):
    folders = write(tmp_path, *case(6))
    content = BAD_NAMES[what]
    (tmp_path / "set" / what.split()[0]).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as error:
        run(folders)
    assert f"set/{what.split()[0]}" in str(error.value)
    if "too few" in what:
        assert ".txt: line " in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 450


def test_names_far_above_are_not_taken(tmp_path):
    """Without the layout of a data set only the folder and the one above are looked at."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "obj.names").write_text("far\n")
    assert read_names(tmp_path / "a" / "b") == ({}, None)
    assert read_names(tmp_path / "a")[0] == {0: "far"}
    (tmp_path / "labels" / "val").mkdir(parents=True)
    assert read_names(tmp_path / "labels" / "val")[0] == {0: "far"}


def test_sizes_may_be_given(tmp_path):
    truth, found = case(6)
    folders = write(tmp_path, truth, found)
    size = (HEIGHT, WIDTH)
    assert read_yolo_truth(folders[0], size=size) == read_yolo_truth(folders[0])
    pictures = tmp_path / "set" / "images"
    assert read_yolo_detections(folders[1], size=size) == read_yolo_detections(folders[1], images=pictures)
