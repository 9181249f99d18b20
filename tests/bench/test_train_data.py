"""The data of a recipe: folders and tables give the same images, and what is missing or broken is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.errors import UsageError
from bench.train.data import Images, read_data

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = [0, 0, 1, 1, 2, 2]
NAMES = ("coat", "dress", "shoe")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images in the sub-folders of three classes."""
    where = tmp_path / "images"
    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        (where / NAMES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(where / NAMES[label] / f"{number}.png")
    return where


def check(data: Images, classes: tuple[str, ...] = NAMES) -> None:
    assert torch.equal(data.images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert data.labels.tolist() == LABELS
    assert data.classes == classes
    assert data.shape == (3, 8, 8)


def test_a_folder_of_images_has_its_folders_as_classes(folder: Path):
    data = read_data(str(folder))
    check(data)
    Image.fromarray(PIXELS[0]).save(folder / "one.png")  # without a class
    other = read_data(str(folder))
    assert other.labels is None
    assert len(other.images) == 7
    assert other.hash != data.hash


def test_images_are_cropped_and_resized_where_a_size_is_given(folder: Path):
    Image.fromarray(np.full((20, 10, 3), 7, np.uint8)).save(folder / "shoe" / "tall.png")
    with pytest.raises(UsageError, match=r"images of several sizes .*set the recipe's size"):
        read_data(str(folder))
    data = read_data(str(folder), 8)
    assert data.shape == (3, 8, 8)
    assert (data.images[-1] == 7).all()
    assert torch.equal(data.images[0], torch.from_numpy(PIXELS[0]).permute(2, 0, 1))  # of that size already


def test_tables_are_read_as_datasets_writes_them(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(NAMES)))
    encoded = [features.encode_example({"image": pixels, "label": k}) for pixels, k in zip(PIXELS, LABELS, strict=True)]
    columns = {name: [row[name] for row in encoded] for name in features}
    table = datasets.table.InMemoryTable(pyarrow.table(columns, schema=features.arrow_schema))
    # With a fingerprint given, none is computed by pickling, which not every release of pyarrow allows.
    made = datasets.Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint="made")
    made.save_to_disk(tmp_path / "one")
    check(read_data(str(tmp_path / "one")))
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "two")
    check(read_data(str(tmp_path / "two")))
    (tmp_path / "hub" / "data").mkdir(parents=True)
    made.to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    check(read_data(str(tmp_path / "hub")))


def test_tables_of_ones_own_need_columns_alone(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table({"image": PIXELS.tolist(), "label": LABELS}), file)
    check(read_data(str(tmp_path)), ("0", "1", "2"))
    parquet.write_table(pyarrow.table({"picture": PIXELS.tolist()}), file)
    with pytest.raises(UsageError, match="no column image; there are picture"):
        read_data(str(tmp_path))
    parquet.write_table(pyarrow.table({"image": [b"no image"] * 2}), file)
    with pytest.raises(UsageError, match="row 0: no readable image"):
        read_data(str(tmp_path))
    file.write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"data\.parquet: cannot be read"):
        read_data(str(tmp_path))


def test_missing_and_broken_data_are_one_line(folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="data absent: no such folder; fashion_mnist, a folder of images, or"):
        read_data("absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no images and no tables"):
        read_data(str(tmp_path / "empty"))
    (folder / "coat" / "0.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"0\.png: cannot be read"):
        read_data(str(folder))


def test_the_last_images_are_held_out(folder: Path):
    train, held_out = read_data(str(folder)).split(2)
    assert (len(train.images), train.labels.tolist(), held_out.labels.tolist()) == (4, [0, 0, 1, 1], [2, 2])
    with pytest.raises(UsageError, match="held_out is 6; fewer than the 6 images"):
        read_data(str(folder)).split(6)
