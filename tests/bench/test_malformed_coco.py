"""COCO files with one thing wrong or unusual: an error in one line that names file and place, or the right AP."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest
from pycocotools import mask

from bench.errors import UsageError
from bench.evaluate.detections import evaluate

IMAGES, CLASSES = 6, 3


def case(seed):
    """A random data set and detections that find most of it; ids, boxes and scores differ from seed to seed."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(10**6, IMAGES, replace=False).tolist()
    classes = rng.choice(500, CLASSES, replace=False).tolist()
    images = [{"id": i, "file_name": f"shelf/{k:04d}.png", "height": 120, "width": 150} for k, i in enumerate(ids)]
    annotations, found = [], []
    for number in range(1, 25):
        corner, sides = rng.uniform(0, 60, 2), rng.uniform(8, 50, 2)
        entry = {"image_id": int(rng.choice(ids)), "category_id": int(rng.choice(classes))}
        box = [round(float(x), 2) for x in (*corner, *sides)]
        annotations.append({"id": number, **entry, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        if rng.random() < 0.8:
            moved = [box[0] + float(rng.uniform(-3, 3)), *box[1:]]
            found.append({**entry, "bbox": moved, "score": round(float(rng.uniform(0.05, 0.95)), 3)})
    categories = [{"id": k, "name": f"kind {i}"} for i, k in enumerate(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}, found


def write(folder, truth, found):
    for name, content in (("truth.json", truth), ("found.json", found)):
        (folder / name).write_text(json.dumps(content))
    return folder / "truth.json", folder / "found.json"


def run(files, **options):
    """AP and what was told."""
    notes = []
    return evaluate(*files, tell=notes.append, **options).coco.figures["AP"], " ".join(notes)


def values(rng, right):
    """Values of a field that are no number of its kind, made from a right one."""
    return {
        "text": str(right),
        "null": None,
        "nothing": "",
        "nan": math.nan,
        "infinite": -math.inf if rng.random() < 0.5 else math.inf,
        "long": 10 ** int(rng.integers(320, 500)),
        "list": [right],
        "object": {"value": right},
    }


NUMBERS = {
    "found": ("image_id", "category_id", "score"),
    "truth": ("image_id", "category_id", "area", "iscrowd", "difficult"),
}
KINDS = list(values(np.random.default_rng(0), 1))
WRONG = [(side, key, kind) for side, keys in NUMBERS.items() for key in keys for kind in KINDS]
WRONG += [(part, "id", kind) for part in ("images", "categories") for kind in KINDS if kind != "long"]
WRONG += [(side, "bbox", kind) for side in NUMBERS for kind in [*KINDS, "boolean", "text whole", "three", "five"]]
WRONG += [(side, key, "boolean") for side in NUMBERS for key in NUMBERS[side] if key not in ("iscrowd", "difficult")]
WRONG += [("truth", key, "two") for key in ("iscrowd", "difficult")]
WRONG.remove(("found", "category_id", "long"))  # a number, and of a category that is not listed: left out, with a note
WRONG += [(side, key, "half") for side in NUMBERS for key in ("image_id", "category_id")]


@pytest.mark.unchecked
@pytest.mark.parametrize(("side", "key", "kind"), WRONG, ids=lambda value: value.replace(" ", "-"))
def test_a_value_of_another_kind_is_named(tmp_path, side, key, kind):
    """Each of the fields that are read, with each kind of value that it does not have, in a random entry."""
    rng = np.random.default_rng([*map(ord, side + key + kind)])
    truth, found = case(int(rng.integers(2**31)))
    entries = {"found": found, "truth": truth["annotations"], **truth}[side]
    at = int(rng.integers(1, len(entries)))
    right = entries[at].get(key, 0)
    odd = {
        "boolean": True,
        "two": 2,
        "half": 0.5,
        "text whole": str(right),
        "three": [1, 2, 3],
        "five": [1, 2, 3, 4, 5],
    }
    if key == "bbox" and kind in [*KINDS, "boolean"]:
        place = int(rng.integers(4))
        bad = values(rng, right[place]).get(kind, True)
        entries[at][key] = [bad if i == place else side for i, side in enumerate(right)]
    else:
        entries[at][key] = values(rng, right).get(kind, odd.get(kind))
    files = write(tmp_path, truth, found)
    with pytest.raises(UsageError) as error:
        evaluate(*files)
    message = str(error.value)
    where = {"found": "found.json: detections", "truth": "truth.json: annotations"}.get(side, f"truth.json: {side}")
    assert f"{where}[{at}] has {key} " in message, message
    assert "\n" not in message
    assert len(message) < 400


def with_names(truth, found):
    names = {e["id"]: e["name"] for e in truth["categories"]}
    return truth, [{**e, "category_id": names[e["category_id"]]} for e in found]


def with_files(shown):
    def change(truth, found):
        names = {e["id"]: shown(e["file_name"]) for e in truth["images"]}
        return truth, [{**e, "image_id": names[e["image_id"]]} for e in found]

    return change


def with_texts(truth, found):
    """Every id a text, on both sides; their order, which breaks ties alone, changes."""
    renamed = [{**e, **{k: str(e[k]) for k in ("image_id", "category_id")}} for e in truth["annotations"]]
    lists = {part: [{**e, "id": str(e["id"])} for e in truth[part]] for part in ("images", "categories")}
    return lists | {"annotations": renamed}, [
        {**e, **{k: str(e[k]) for k in ("image_id", "category_id")}} for e in found
    ]


def each(part, change):
    def apply(truth, found):
        if part == "found":
            return truth, [change(e) for e in found]
        return {**truth, part: [change(e) for e in truth[part]]}, found

    return apply


def drop(*keys):
    return lambda e: {k: v for k, v in e.items() if k not in keys}


# What is unusual and right, with a word of the note that is owed, if one is.
UNUSUAL = {
    "no area": (each("annotations", drop("area")), "without an area"),
    "no iscrowd": (each("annotations", drop("iscrowd")), ""),
    "no annotation ids": (each("annotations", drop("id")), ""),
    "no names": (each("categories", drop("name")), ""),
    "boolean iscrowd": (each("annotations", lambda e: {**e, "iscrowd": False}), ""),
    "float iscrowd": (each("annotations", lambda e: {**e, "iscrowd": 0.0}), ""),
    "whole floats as ids": (each("found", lambda e: {**e, "image_id": float(e["image_id"])}), ""),
    "texts as ids": (with_texts, ""),
    "names of categories": (with_names, "names for category_id"),
    "paths of files": (with_files(lambda name: name), "names for image_id"),
    "names of files": (with_files(lambda name: name.split("/")[1]), "names for image_id"),
    "stems of files": (with_files(lambda name: name.split("/")[1][:-4]), "names for image_id"),
    "ignore": (each("annotations", lambda e: {**e, "ignore": 1}), "marked as ignore"),
    "difficult": (each("annotations", lambda e: {**e, "difficult": 1}), "marked as difficult"),
    "LVIS": (each("images", lambda e: {**e, "neg_category_ids": []}), "LVIS"),
    "other fields": (each("found", lambda e: {**e, "segmentation": None, "id": "7", "extra": [[]]}), ""),
    "under annotations": (lambda truth, found: (truth, {"annotations": found}), ""),
    "whole data set as results": (lambda truth, found: (truth, {**truth, "annotations": found}), ""),
    "images in another order": (lambda truth, found: ({**truth, "images": truth["images"][::-1]}, found), ""),
    "unused image": (lambda t, f: ({**t, "images": [*t["images"], {"id": 10**7}]}, f), ""),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_unusual_entries_have_the_right_figures(tmp_path, what):
    change, note = UNUSUAL[what]
    truth, found = case(len(what))
    expected, nothing = run(write(tmp_path, truth, found))
    assert (nothing, 0.2 < expected < 0.95) == ("", True)
    got, told = run(write(tmp_path, *change(truth, found)))
    assert got == pytest.approx(expected, abs=1e-12)
    assert (note in told) if note else told == ""


ENCODINGS = {
    "found.json.gz": lambda f: gzip.compress(json.dumps(f).encode()),
    "found.JSON": lambda f: json.dumps(f).encode(),
    "zipped.json": lambda f: gzip.compress(json.dumps(f).encode()),  # known by its content
    "found.jsonl": lambda f: "\n\n".join(map(json.dumps, f)).encode() + b"\r\n",
    "found.jsonl.gz": lambda f: gzip.compress("\n".join(map(json.dumps, f)).encode()),
    "mark.jsonl": lambda f: b"\xef\xbb\xbf" + "\n".join(map(json.dumps, f)).encode(),
    "mark.json": lambda f: b"\xef\xbb\xbf" + json.dumps(f).encode(),
    "utf16.json": lambda f: json.dumps(f).encode("utf-16"),
    "spaced.json": lambda f: json.dumps(f, indent=9).encode(),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings_have_the_right_figures(tmp_path, name):
    truth, found = case(77)
    files = write(tmp_path, truth, found)
    (tmp_path / name).write_bytes(ENCODINGS[name](found))
    assert run((files[0], tmp_path / name)) == run(files)


BROKEN = {
    "torn.json.gz": (gzip.compress(b"[]" * 99)[:-9], "not a file of gzip"),
    "garbled.json": (b"\x1f\x8b" + b"\x99" * 50, "not a file of gzip"),
    "torn.json": (b'[{"image_id": ', "not JSON"),
    "two.json": (b"[] []", "not JSON"),
    "latin.json": ('[{"image_id": "é"}]'.encode("latin-1"), "not JSON"),
    "empty.json": (b"", "not JSON"),
    "deep.json": (b"[" * 150_000, "not JSON"),
    "digits.json": (b"[" + b"7" * 9000 + b"]", "not JSON"),
    "torn.jsonl": (b'{"image_id": 5}\n\n{"image_id"', "line 3 is not JSON"),
    "number.json": (b"12", "detections are no list"),
    "text.json": (b'"found"', "detections are no list"),
    "object.json": (b'{"images": []}', "detections are no list"),
    "numbers.json": (b"[3, 4]", "detections[0] has no 'image_id'; it is 3"),
    "lists.json": (b"[[1, 2, 3, 4]]", "detections[0] has no 'image_id'"),
    "inner.json": (b'{"annotations": {"a": 3}}', "detections are no list"),
}


@pytest.mark.unchecked
@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path, name):
    content, says = BROKEN[name]
    files = write(tmp_path, *case(3))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as error:
        evaluate(files[0], tmp_path / name)
    assert str(error.value).split(name, 1)[1].lstrip(": ").removeprefix("is ").startswith(says), error.value
    assert "\n" not in str(error.value)


STRUCTURES = {
    "no images": (lambda t: {k: v for k, v in t.items() if k != "images"}, "no 'images'"),
    "images as object": (lambda t: {**t, "images": {"5": {}}}, "images are of the type dict"),
    "annotations as text": (lambda t: {**t, "annotations": "none"}, "annotations are of the type str"),
    "categories as null": (lambda t: {**t, "categories": None}, "categories are of the type NoneType"),
    "categories as names": (lambda t: {**t, "categories": ["a", "b"]}, "categories[0] has no 'id'; it is 'a'"),
    "image twice": (lambda t: {**t, "images": [*t["images"], t["images"][2]]}, "images[6] has id"),
    "category twice": (lambda t: {**t, "categories": [*t["categories"], t["categories"][1]]}, "categories[3] has id"),
    "image gone": (lambda t: {**t, "images": t["images"][:1]}, "has image_id"),
    "category gone": (lambda t: {**t, "categories": t["categories"][:1]}, "has category_id"),
    "a list": (lambda t: t["annotations"], "the ground truth has no 'images'"),
    "a number": (lambda t: 12, "the ground truth has no 'images'"),
}


@pytest.mark.unchecked
@pytest.mark.parametrize("what", STRUCTURES)
def test_structures_that_are_no_data_set_are_named(tmp_path, what):
    change, says = STRUCTURES[what]
    truth, found = case(4)
    with pytest.raises(UsageError) as error:
        evaluate(*write(tmp_path, change(truth), found))
    assert "truth.json: " in str(error.value)
    assert says in str(error.value)


def test_texts_never_stand_for_numbers(tmp_path):
    """One rule for images and categories, whichever side has the texts."""
    truth, found = case(9)
    for key in ("image_id", "category_id"):
        texts = [{**e, key: str(e[key])} for e in found]
        with pytest.raises(UsageError, match=rf"found.json: detections\[0\] has {key} '\d+', a text, .* a number"):
            evaluate(*write(tmp_path, truth, texts))
        renamed = with_texts(truth, found)[0]
        kept = [{**e, "image_id": str(e["image_id"])} for e in found] if key == "category_id" else found
        with pytest.raises(UsageError, match=rf"found.json: detections\[0\] has {key} \d+, a number, .* a text"):
            evaluate(*write(tmp_path, renamed, kept))


def test_a_name_that_two_images_share_is_not_guessed(tmp_path):
    truth, found = case(11)
    truth["images"] = [{**e, "file_name": f"{i}/same.png"} for i, e in enumerate(truth["images"])]
    files = write(tmp_path, *with_files(lambda name: name)(truth, found))
    assert run(files)[0] == run(write(tmp_path, truth, found))[0]
    with pytest.raises(UsageError, match=r"detections\[0\] has image_id 'same.png'"):
        evaluate(*write(tmp_path, *with_files(lambda name: name.split("/")[1])(truth, found)))


# Masks ---------------------------------------------------------------------------------------------------------------


def encoding(box, compressed=True):
    x, y, w, h = (round(side) for side in box)
    picture = np.zeros((120, 150), np.uint8, order="F")
    picture[y : y + h, x : x + w] = 1
    if compressed:
        return {"size": [120, 150], "counts": mask.encode(picture)["counts"].decode()}
    flat = picture.flatten(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, flat.size]).tolist()
    return {"size": [120, 150], "counts": [0, *runs] if flat[0] else runs}


def outline(box):
    x, y, w, h = (round(side) for side in box)
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


SHAPES = {"RLE": encoding, "runs": lambda box: encoding(box, compressed=False), "polygons": outline}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("truth_shape", SHAPES)
def test_masks_in_any_form_have_the_same_figures(tmp_path, truth_shape, shape):
    truth, found = case(13)
    found = [{**e, "bbox": [max(e["bbox"][0], 0), *e["bbox"][1:]]} for e in found]
    reference = {
        **truth, "annotations": [{**e, "segmentation": encoding(e["bbox"])} for e in truth["annotations"]],
    }  # fmt: skip
    expected, _ = run(
        write(tmp_path, reference, [{**e, "segmentation": encoding(e["bbox"])} for e in found]), iou_type="segm"
    )
    masked = [{**e, "segmentation": SHAPES[truth_shape](e["bbox"])} for e in truth["annotations"]]
    files = write(
        tmp_path, {**truth, "annotations": masked}, [{**e, "segmentation": SHAPES[shape](e["bbox"])} for e in found]
    )
    assert run(files, iou_type="segm")[0] == pytest.approx(expected, abs=1e-9)
    assert 0.2 < expected < 0.95


def garbled(change):
    return lambda box: change(encoding(box))


BAD_MASKS = {
    "null": lambda box: None,
    "a text": lambda box: "poly",
    "empty": lambda box: [],
    "flat polygon": lambda box: outline(box)[0],
    "two points": lambda box: [outline(box)[0][:4]],
    "odd polygon": lambda box: [outline(box)[0][:7]],
    "text in a polygon": lambda box: [[*outline(box)[0][:7], "9"]],
    "nan in a polygon": lambda box: [[*outline(box)[0][:7], math.nan]],
    "no size": garbled(lambda rle: {"counts": rle["counts"]}),
    "no counts": garbled(lambda rle: {"size": rle["size"]}),
    "turned": garbled(lambda rle: {**rle, "size": rle["size"][::-1]}),
    "size as text": garbled(lambda rle: {**rle, "size": "120 150"}),
    "cut": garbled(lambda rle: {**rle, "counts": rle["counts"][:-1]}),
    "longer": garbled(lambda rle: {**rle, "counts": rle["counts"] + rle["counts"]}),
    "other letters": garbled(lambda rle: {**rle, "counts": "!" + rle["counts"]}),
    "letters beyond ASCII": garbled(lambda rle: {**rle, "counts": "é" + rle["counts"]}),
    "unfinished": garbled(lambda rle: {**rle, "counts": rle["counts"] + "o"}),
    "endless run": garbled(lambda rle: {**rle, "counts": "o" * 20 + "0"}),
    "null counts": garbled(lambda rle: {**rle, "counts": None}),
    "negative runs": lambda box: {"size": [120, 150], "counts": [-5, 18005]},
    "runs too few": lambda box: {"size": [120, 150], "counts": [17000]},
    "runs as texts": lambda box: {"size": [120, 150], "counts": ["9000", "9000"]},
}


@pytest.mark.unchecked
@pytest.mark.parametrize("side", ["truth", "found"])
@pytest.mark.parametrize("what", BAD_MASKS)
def test_a_bad_mask_is_named_on_its_own_side(tmp_path, what, side):
    truth, found = case(17)
    sides = {"truth": [dict(e) for e in truth["annotations"]], "found": found}
    for entries in sides.values():
        for entry in entries:
            entry["bbox"] = [max(entry["bbox"][0], 0), *entry["bbox"][1:]]
            entry["segmentation"] = encoding(entry["bbox"])
    found[2]["category_id"] = 10**6  # is not listed, left out, and counted in what is named
    sides[side][5]["segmentation"] = BAD_MASKS[what](sides[side][5]["bbox"])
    with pytest.raises(UsageError) as error:
        evaluate(*write(tmp_path, {**truth, "annotations": sides["truth"]}, found), iou_type="segm")
    place = "truth.json: annotations[5]" if side == "truth" else "found.json: detections[5]"
    assert f"{place} has a bad segmentation: " in str(error.value), error.value
    assert "\n" not in str(error.value)


@pytest.mark.unchecked
@pytest.mark.parametrize("value", [None, "120", 0, -3, 12.5, True, 10**9])
@pytest.mark.parametrize("key", ["height", "width"])
def test_masks_need_the_size_of_every_image(tmp_path, key, value):
    truth, found = case(19)
    for entry in [*truth["annotations"], *found]:
        entry["segmentation"] = outline(entry["bbox"])
    truth["images"][3] = {**truth["images"][3], key: value}
    with pytest.raises(UsageError, match=rf"truth.json: images\[3\] has {key} "):
        evaluate(*write(tmp_path, truth, found), iou_type="segm")
    del truth["images"][3][key]
    with pytest.raises(UsageError, match=rf"truth.json: images\[3\] has no '{key}'"):
        evaluate(*write(tmp_path, truth, found), iou_type="segm")
