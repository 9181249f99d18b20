"""VOC folders with one thing wrong or unusual: an error in one line that names file and place, or the right AP."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from bench.errors import UsageError
from bench.evaluate import voc_figures
from bench.evaluate.detections import evaluate
from metrics.detection.voc import evaluate_voc


def case(seed):
    """Random annotations by image, and the lines of result files by class."""
    rng = np.random.default_rng(seed)
    trees, lines = {}, {"cup": [], "tea_pot": []}
    for k in range(5):
        root = ET.Element("annotation")
        ET.SubElement(root, "filename").text = f"{k:05d}.jpg"
        size = ET.SubElement(root, "size")
        for key, value in (("width", 210), ("height", 180), ("depth", 3)):
            ET.SubElement(size, key).text = str(value)
        for _ in range(4):
            name = str(rng.choice(list(lines)))
            corner, sides = rng.integers(5, 90, 2), rng.integers(10, 70, 2)
            box = [*corner.tolist(), *(corner + sides).tolist()]
            item = ET.SubElement(root, "object")
            ET.SubElement(item, "name").text = name
            ET.SubElement(item, "difficult").text = "0"
            ends = ET.SubElement(item, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ET.SubElement(ends, key).text = str(value)
            if rng.random() < 0.8:
                moved = [value + int(rng.integers(-3, 4)) for value in box]
                lines[name].append([f"{k:05d}", round(float(rng.uniform(0.1, 0.9)), 4), *moved])
        trees[f"{k:05d}"] = root
    return trees, lines


def write(folder, trees, lines):
    truth, found = folder / "truth", folder / "found"
    for place in (truth, found):
        place.mkdir(parents=True)
    for name, root in trees.items():
        (truth / f"{name}.xml").write_bytes(root if isinstance(root, bytes) else ET.tostring(root))
    for name, rows in lines.items():
        (found / f"comp3_det_val_{name}.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    return truth, found


def run(folders):
    notes = []
    return evaluate(*folders, tell=notes.append).coco.figures["AP"], " ".join(notes)


def objects(root):
    return root.findall("object")


def alter(path, text):
    """Sets the text of an element in the third object."""

    def change(root):
        objects(root)[2].find(path).text = text

    return change


def remove(parent, child):
    def change(root):
        place = objects(root)[2].find(parent) if parent else objects(root)[2]
        place.remove(place.find(child))

    return change


def rename(path, tag):
    def change(root):
        for element in root.iter(path):
            element.tag = tag

    return change


def wrapped(tag):
    """All objects one level deeper."""

    def change(root):
        items = objects(root)
        inner = ET.SubElement(root, tag)
        for item in items:
            root.remove(item)
            inner.append(item)

    return change


def shares(root):
    for side in objects(root)[2].find("bndbox"):
        side.text = str(int(side.text) / 211)


SIDE = ["", "left", "nan", "-inf", "1e999", "4_0", "0x1f", "3,5", "7" * 450, "12 13"]
BAD_TREES = {f"side {text[:9]!r}": (alter("bndbox/ymin", text), "object[2] has ymin") for text in SIDE}
BAD_TREES |= {
    f"no {child}": (remove("bndbox", child), f"object[2] has no bndbox/{child}") for child in ("xmin", "ymax")
}
BAD_TREES |= {
    f"difficult {text}": (alter("difficult", text), "object[2] has difficult") for text in ("2", "-1", "maybe")
}
BAD_TREES |= {
    "no name": (remove(None, "name"), "object[2] has no name"),
    "blank name": (alter("name", "  \n"), "object[2] has no name"),
    "no box": (remove(None, "bndbox"), "has no bndbox"),
    "turned box": (alter("bndbox/xmax", "2"), "object[2] has the box"),
    "shares": (shares, "not shares of the image"),
    "bad size": (lambda root: root.find("size/width").__setattr__("text", "wide"), "has width 'wide'"),
    "half a size": (lambda root: root.find("size").remove(root.find("size/height")), "has no size/height"),
    "another root": (rename("annotation", "annotations"), "has the root <annotations>"),
    "root in capitals": (rename("annotation", "Annotation"), "has the root <Annotation>"),
    "objects in capitals": (rename("object", "Object"), "has <Object> outside"),
    "objects of a prefix": (rename("object", "p:object"), "has <p:object> outside"),
    "boxes of another tool": (rename("object", "box"), "has <box> outside"),
    "objects in a list": (wrapped("objects"), "has <object> outside"),
    "an object in an object": (lambda root: objects(root)[1].append(objects(root)[2]), "has <object> outside"),
    "a box beside its object": (lambda root: root.append(objects(root)[2].find("bndbox")), "has <bndbox> outside"),
}


@pytest.mark.parametrize("what", BAD_TREES)
def test_a_bad_tree_is_named(tmp_path, what):
    change, says = BAD_TREES[what]
    trees, lines = case(sum(map(ord, what)))
    change(trees["00003"])
    if what == "objects of a prefix":
        trees["00003"].set("xmlns:p", "urn:p")
    with pytest.raises(UsageError) as error:
        evaluate(*write(tmp_path, trees, lines))
    assert "00003.xml" in str(error.value)
    assert says in str(error.value), error.value
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def text_of(seed=5):
    return ET.tostring(case(seed)[0]["00003"]).decode()


BOMB = (
    "<!DOCTYPE annotation [<!ENTITY a0 'x'>"
    + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 9}'>" for i in range(1, 9))
    + "]>"
)
BAD_TEXTS = {
    "entities that grow": BOMB + text_of().replace("cup", "&a8;"),
    "an entity from a file": "<!DOCTYPE annotation [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>" + text_of(),
    "a document type elsewhere": "<!DOCTYPE annotation SYSTEM 'http://127.0.0.1/a.dtd'>" + text_of(),
    "an entity without a type": text_of().replace("<name>", "<name>&other;", 1),
    "nothing": "",
    "blank": " \n ",
    "torn": text_of()[:-30],
    "two roots": text_of() + text_of(),
    "text after the root": text_of() + "end",
    "JSON": '{"annotation": {"object": []}}',
    "YOLO": "0 .5 .5 .1 .1",
    "HTML": "<html><body><p>404</p></body></html>",
    "LabelMe": "<annotation><object><name>a</name><polygon><pt><x>3</x></pt></polygon></object></annotation>",
    "CVAT": "<annotations><image name='a'><box label='cup' xtl='3' ytl='3' xbr='9' ybr='9'/></image></annotations>",
    "another's annotation": "<annotation><item><rect>3 4 8 9</rect></item></annotation>",
    "deep": "<annotation>" + "<a>" * 60_000 + "</a>" * 60_000 + "</annotation>",
    "an unknown encoding": "<?xml version='1.0' encoding='klingon'?>" + text_of(),
    "an encoding of several bytes": "<?xml version='1.0' encoding='shift_jis'?>" + text_of(),
    "a codec that is no encoding": "<?xml version='1.0' encoding='hex'?>" + text_of(),
    "bytes that are no text": text_of().encode().replace(b"<name>", b"<name>\xff\xfe", 1),
    "zero bytes": b"\x00" * 64,
    "gzip": b"\x1f\x8b\x08\x00" + b"x" * 30,
}


@pytest.mark.parametrize("what", BAD_TEXTS)
def test_a_text_that_is_no_annotation_is_named(tmp_path, what):
    trees, lines = case(5)
    text = BAD_TEXTS[what]
    trees["00003"] = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(UsageError) as error:
        evaluate(*write(tmp_path, trees, lines))
    assert "00003.xml" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def of_namespace(text):
    return text.replace("<annotation>", "<annotation xmlns='urn:voc'>")


UNUSUAL_TEXTS = {
    "a declaration": lambda t: "<?xml version='1.0'?>" + t,
    "a namespace": of_namespace,
    "comments": lambda t: t.replace("<name>", "<!-- a <object> --><name>"),
    "CDATA": lambda t: t.replace("<name>cup</name>", "<name><![CDATA[cup]]></name>"),
    "indented": lambda t: t.replace("><", ">\n  <"),
    "spaces in numbers": lambda t: t.replace("<xmin>", "<xmin> \n").replace("</ymax>", "\t</ymax>"),
    "decimals": lambda t: t.replace("</xmin>", ".0</xmin>"),
    "a polygon beside the box": lambda t: t.replace("</bndbox>", "</bndbox><polygon><x1>3</x1></polygon>"),
    "parts": lambda t: t.replace("</bndbox>", "</bndbox><part><name>lid</name><bndbox><xmin>1</xmin></bndbox></part>"),
    "fields of other tools": lambda t: t.replace("</name>", "</name><pose>Left</pose><occluded>1</occluded>"),
    "no size": lambda t: t.replace("<size>", "<!--").replace("</size>", "-->").replace("--><", "--><"),
    "difficult in words": lambda t: t.replace("<difficult>0", "<difficult>False"),
    "an empty difficult": lambda t: t.replace("<difficult>0</difficult>", "<difficult/>"),
    "UTF-8 with a mark": lambda t: t.encode("utf-8-sig"),
    "UTF-16": lambda t: t.encode("utf-16"),
    "Latin": lambda t: (
        b"<?xml version='1.0' encoding='iso-8859-1'?>"
        + t.replace("<size>", "<path>\xe9</path><size>").encode("latin-1")
    ),
    "attributes": lambda t: t.replace("<annotation>", "<annotation verified='yes'>"),
    "DOS lines": lambda t: t.replace("><", ">\r\n<"),
}


@pytest.mark.parametrize("what", UNUSUAL_TEXTS)
def test_unusual_annotations_have_the_right_figures(tmp_path, what):
    trees, lines = case(len(what))
    expected, nothing = run(write(tmp_path / "plain", trees, lines))
    assert (nothing, 0.3 < expected < 0.95) == ("", True)
    texts = {name: UNUSUAL_TEXTS[what](ET.tostring(root).decode()) for name, root in trees.items()}
    texts = {name: text if isinstance(text, bytes) else text.encode() for name, text in texts.items()}
    assert run(write(tmp_path / "odd", texts, lines)) == (expected, "")


def test_unusual_folders_have_the_right_figures(tmp_path):
    """Suffixes in capitals, hidden files, files of other kinds, and sub-folders beside the annotations."""
    truth, found = write(tmp_path, *case(2))
    expected = run((truth, found))
    for path in list(truth.iterdir())[:2]:
        path.rename(path.with_suffix(".XML"))
    for path in list(found.iterdir())[:1]:
        path.rename(path.with_suffix(".TXT"))
    (truth / "._00001.xml").write_bytes(b"\x00\x05\x16\x07")
    (truth / "notes.md").write_text("none")
    (truth / "classes.txt").write_text("cup\ntea_pot\n")
    (truth / "old.xml").mkdir()
    assert run((truth, found)) == expected
    (truth / "00009.txt").write_text("0 .5 .5 .1 .1\n")
    with pytest.raises(UsageError, match=r"truth holds files of VOC \(.*\) and of YOLO \(00009.txt\)"):
        run((truth, found))
    assert evaluate(truth, found, format="voc").coco.figures["AP"] == expected[0]


BAD_LINES = {
    "five words": "{0} {1} {2} {3} {4}",
    "seven words": "{0} {1} {2} {3} {4} {5} 1",
    "commas": "{0},{1},{2},{3},{4},{5}",
    "score in words": "{0} high {2} {3} {4} {5}",
    "score nan": "{0} nan {2} {3} {4} {5}",
    "score infinite": "{0} inf {2} {3} {4} {5}",
    "score before the image": "{1} {0} {2} {3} {4} 9_9",
    "side in words": "{0} {1} {2} top {4} {5}",
    "side of many digits": "{0} {1} {2} {3} {4} " + "4" * 350,
    "turned": "{0} {1} {4} {5} {2} {3}",
    "shares": "{0} {1} .1 .1 .35 .41",
    "underscores": "{0} {1} 1_0 {3} {4} {5}",
    "hexadecimal": "{0} {1} 0x10 {3} {4} {5}",
    "a header": "image score xmin ymin xmax ymax",
    "a comment": "# made today",
    "JSON": '{{"image_id": 3}}',
    "a zero byte": "{0} {1} \x00 {3} {4} {5}",
    "bytes": b"\xff\xfe\xfa",
    "unknown image": "zzz {1} {2} {3} {4} {5}",
    "image with a suffix": "{0}.jpg {1} {2} {3} {4} {5}",
}


@pytest.mark.parametrize("what", BAD_LINES)
def test_a_bad_line_of_results_is_named(tmp_path, what):
    trees, lines = case(sum(map(ord, what)))
    truth, found = write(tmp_path, trees, lines)
    path = found / "comp3_det_val_cup.txt"
    kept = path.read_text().splitlines()
    template = BAD_LINES[what]
    line = template if isinstance(template, bytes) else template.format(*kept[1].split()).encode()
    path.write_bytes(b"\n".join([kept[0].encode(), line, kept[-1].encode()]))
    with pytest.raises(UsageError) as error:
        evaluate(truth, found)
    if "image" in what and "score" not in what:
        assert "has image_id" in str(error.value)
        assert "found" in str(error.value)
    else:
        assert path.name in str(error.value)
        assert "line 2" in str(error.value) or what == "bytes"
    assert "\n" not in str(error.value)


def as_xml(lines, key):
    trees = {}
    for name, rows in lines.items():
        for image, score, *box in rows:
            root = trees.setdefault(image, ET.Element("annotation"))
            item = ET.SubElement(root, "object")
            ET.SubElement(item, "name").text = name
            if key:
                ET.SubElement(item, key).text = str(score)
            ends = ET.SubElement(item, "bndbox")
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ET.SubElement(ends, side).text = str(value)
    return trees


@pytest.mark.parametrize("key", ["score", "confidence"])
def test_xml_with_scores_is_what_result_files_are(tmp_path, key):
    trees, lines = case(8)
    truth, found = write(tmp_path, trees, lines)
    predicted, _ = write(tmp_path / "xml", as_xml(lines, key), {})
    assert run((truth, predicted)) == run((truth, found))
    bare, _ = write(tmp_path / "bare", as_xml(lines, None), {})
    with pytest.raises(UsageError, match=r"\.xml: object\[0\] has no score; <score> or <confidence>"):
        run((truth, bare))


def test_a_class_is_all_that_follows_the_set(tmp_path):
    trees, lines = case(8)
    truth, found = write(tmp_path, trees, lines)
    expected = run((truth, found))
    for path in list(found.iterdir()):
        path.rename(found / path.name.replace("comp3", "my_own_comp3"))
    assert run((truth, found)) == expected


@pytest.mark.parametrize("seed", range(3))
def test_vocs_own_figures(tmp_path, fidmap, seed):
    """They are those of ``evaluate_voc``, and leave out what COCO's rules count with a note."""
    rng = np.random.default_rng(seed)
    trees, lines = case(seed)
    for root in trees.values():
        for item in objects(root):
            item.find("difficult").text = str(int(rng.random() < 0.3))
    folders = write(tmp_path, trees, lines)
    notes = []
    told = voc_figures.evaluate(*folders, per_class=True, tell=notes.append).as_dict()
    marked = sum(item.findtext("difficult") == "1" for root in trees.values() for item in objects(root))
    assert told["counts"]["difficult"] == marked > 0
    assert told["counts"]["truths"] == 20 - marked
    for key, of_class, points in (("mAP", "AP", "all"), ("mAP11", "AP11", "11")):
        expected = evaluate_voc(*folders, points=points)
        assert told[key] == expected.map
        assert {row["id"]: row[of_class] for row in told["per_class"]} == expected.per_class
    assert run(folders)[1].endswith(f"truths marked as difficult: {marked}; they count as any other under COCO's rules")
    without = copy.deepcopy(trees)
    for root in without.values():
        for item in objects(root):
            item.find("difficult").text = "0"
    plain = voc_figures.evaluate(*write(tmp_path / "plain", without, lines)).as_dict()
    assert plain["mAP"] != told["mAP"]
    if seed == 0:
        result = fidmap("evaluate", "detections", *folders, "--protocol", "voc", "--per-class")
        assert result.returncode == 0, result.stderr
        assert f"| mAP      | {told['mAP']:.4f}" in result.stdout
        assert "## By class" in result.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--protocol", "lvis"], "--protocol 'lvis': expected coco, voc"),
        (["--protocol", "voc", "--max-detections", "1,2,3"], "--max-detections goes with --protocol coco"),
    ],
    ids=str,
)
def test_options_of_the_other_protocol_are_refused(tmp_path, fidmap, options, says):
    result = fidmap("evaluate", "detections", *write(tmp_path, *case(1)), *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
