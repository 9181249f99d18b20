"""The names of YOLO's classes, from the file that lists them.

- ``classes.txt`` (LabelImg) and ``obj.names`` (darknet) have one name per line; the line's number, counted from 0, is
  the number of the class.
- ``data.yaml`` (Ultralytics, Roboflow) has ``names``: a list, or a mapping from class numbers to names.

YAML is read with every scalar as text: no object is constructed and no code runs, and a class called ``no`` stays a
word.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from metrics.detection.formats.text_rows import read_lines

LISTS = ("classes.txt", "obj.names")
YAML = ("data.yaml", "data.yml", "dataset.yaml")


class ClassNames(NamedTuple):
    """The names of a YOLO data set's classes, class number -> name, and the file that lists them; empty without one."""

    names: dict[int, str]
    file: Path | None


def read_names(folder: Path) -> ClassNames:
    """The names of the YOLO classes of a folder of labels.

    Raises ValueError that names the file if it cannot be read.
    """
    return parse_names(find_names(folder))


def find_names(folder: Path) -> Path | None:
    """The file that names the YOLO classes of a folder of labels: in it or above it, up to the root of the data set.

    The data set may be laid out as ``labels/val``. None where there is no such file.
    """
    places = [folder, folder.parent]
    if "labels" in (folder.name, folder.parent.name):
        places.append(folder.parent.parent)
    return next((place / name for place in places for name in (*LISTS, *YAML) if (place / name).is_file()), None)


def parse_names(file: Path | None) -> ClassNames:
    """The class names that a file lists, one per line or as ``names`` of YAML.

    Raises ValueError if it cannot be read.
    """
    if file is None:
        return ClassNames({}, None)
    return ClassNames(_each_once(_of_lines(file) if file.name in LISTS else _of_yaml(file), file), file)


def _each_once(names: dict[int, str], path: Path) -> dict[int, str]:
    """Refuse a name that two classes share: classes are matched by name, so that the two would become one."""
    numbers: dict[str, int] = {}
    for number, name in names.items():
        if (first := numbers.setdefault(name, number)) != number:
            raise ValueError(f"{path} names class {first} and class {number} {name!r}; one class of a name is accepted")
    return names


def _of_lines(path: Path) -> dict[int, str]:
    """A blank line is a class without a name, so that the names after it keep their numbers."""
    names = [" ".join(line.split()) for line in read_lines(path)]
    while names and not names[-1]:
        names.pop()
    return {k: name or str(k) for k, name in enumerate(names)}


def _of_yaml(path: Path) -> dict[int, str]:
    import yaml

    try:
        content = yaml.load("\n".join(read_lines(path)), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from None
    names = content.get("names") if isinstance(content, dict) else None
    if names is None:
        raise ValueError(f"{path} has no 'names'; a list of class names, or a mapping from class numbers, is accepted")
    if isinstance(content, dict) and "kpt_shape" in content:
        raise ValueError(f"{path} has 'kpt_shape': labels of poses are not read; boxes and polygons are accepted")
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise ValueError(f"{path} has 'names' that are not a list of names, or a mapping from class numbers to names")
    for key in listed:
        if not (str(key).isdecimal() and len(str(key)) < 10):
            raise ValueError(f"{path}: names has the key {str(key)[:40]!r}; whole numbers from 0 are accepted")
    return {int(key): " ".join(name.split()) or str(key) for key, name in listed.items()}
