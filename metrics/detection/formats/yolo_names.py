"""The names of YOLO's classes, from whichever file says them.

- ``classes.txt`` (LabelImg) and ``obj.names`` (darknet): the line's number, counted from 0, is the class;
- ``data.yaml`` (Ultralytics, Roboflow): ``names`` is a list, or a mapping from class numbers to names.

YAML is read with every scalar as text: nothing is constructed or executed, and a class ``no`` stays a word.
"""

from __future__ import annotations

from pathlib import Path

from metrics.detection.formats.text_rows import read_lines

LISTS = ("classes.txt", "obj.names")
YAML = ("data.yaml", "data.yml", "dataset.yaml")


def read_names(folder: Path) -> tuple[dict[int, str], Path | None]:
    """Class number -> name for a folder of labels, and the file that says so; nothing and None if there is none.

    The file lies in the folder or above it: up to the root of a data set whose layout is ``labels/val``. Raises
    ValueError that names the file if it cannot be read.
    """
    places = [folder, folder.parent]
    if "labels" in (folder.name, folder.parent.name):
        places.append(folder.parent.parent)
    for place in places:
        for name in (*LISTS, *YAML):
            path = place / name
            if path.is_file():
                return _each_once(_of_lines(path) if name in LISTS else _of_yaml(path), path), path
    return {}, None


def _each_once(names: dict[int, str], path: Path) -> dict[int, str]:
    """Classes are matched by their names: two of one name would become one class."""
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
