"""``fidmap evaluate ... --record STORE``: an evaluation kept as a record, which compare, table and import take.

A record of an evaluation is a cell of the suite ``evaluate``, matched by the names of its files and its options. What
was evaluated may change, as a new version of a model's output does; with another truth it is not comparable.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import environment
from bench.evaluate.voc_figures import VocReport
from bench.files import digest
from bench.plan.cell import Identity, key_of
from bench.records.record import Measurement, Record
from bench.records.store import Store
from bench.task import Direction

if TYPE_CHECKING:
    from bench.evaluate.detection_report import DetectionReport
    from bench.evaluate.images import ImageReport

SUITE = "evaluate"
AP_POINT = 1e-3  # a change of a figure of detections that counts as none: a tenth of what papers print as a point of AP
DIRECTIONS: dict[str, Direction] = {
    "lower": "lower",
    "higher": "higher",
    "floor": "target",
}  # by the word of a figure of images


def record_detections(
    folder: Path, ground_truth: Path, detections: Path, report: DetectionReport | VocReport, options: dict[str, Any],
    began: datetime,
) -> None:  # fmt: skip
    """Keep the figures of detections in the store at ``folder``; ``options`` are those that change what is measured."""
    if isinstance(report, VocReport):
        figures, intervals = {"mAP": report.all_points.map, "mAP11": report.eleven_points.map}, None
    else:
        figures, intervals = report.coco.figures, report.intervals
    truth = hash_files(ground_truth)
    measures = [
        Measurement(
            name=name, value=value, interval=(intervals or {}).get(name), n=report.counts["images"], direction="higher",
            floor=AP_POINT, reference=truth,
        )
        for name, value in figures.items()
    ]  # fmt: skip
    parameters = {"detections": detections.stem, "ground_truth": ground_truth.stem, **options}
    _keep(folder, "evaluate_detections", detections.stem, parameters, measures, hash_files(detections), began)


def record_images(folder: Path, report: ImageReport, device: str, began: datetime) -> None:
    """Keep the figures of generated images in the store at ``folder``."""
    names = {
        side: Path(origin.source).stem for side, origin in (("generated", report.generated), ("real", report.real))
    }
    measures = [
        Measurement(
            name=figure.name, value=figure.value, interval=figure.interval, n=report.generated.n,
            direction=DIRECTIONS[figure.better], window=0.02, floor=1e-9,
            extractor=report.extractor or None, reference=report.real.data or None,
        )
        for figure in report.figures
    ]  # fmt: skip
    parameters = {**names, "resize": report.resize, "n": [report.real.n, report.generated.n]}
    data, seed = report.generated.data, report.seed
    _keep(folder, "evaluate_images", names["generated"], parameters, measures, data, began, seed, device)


def hash_files(path: Path) -> str:
    """The hash of a file, or of the files in a folder, with their names."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(path)}\n".encode(errors="surrogateescape"))
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]


def _keep(
    folder: Path, task: str, entry: str, parameters: dict[str, Any], measures: list[Measurement], data: str,
    began: datetime, seed: int = 0, device: str = "cpu",
) -> None:  # fmt: skip
    """Write a record, which takes the place of one of the same key in what is shown."""
    store = Store(folder).create()
    key = key_of(task, parameters, seed, device, 1)
    code, machine = environment.code(), environment.machine()
    hash_ = digest([key, data, [measure.reference for measure in measures], code, machine["packages"]])
    cell = Identity(
        suite=SUITE, task=task, kind="plain", entries=[entry], parameters=parameters, seed=seed, device=device,
        hardware=environment.device_identity(device), threads=1, key=key, hash=hash_,
    )  # fmt: skip
    record = Record(
        cell=cell, **code, environment=store.write_environment(machine), measures=measures,
        started_at=began.isoformat(), duration=(datetime.now(UTC) - began).total_seconds(),
    )  # fmt: skip
    store.write(record)
    # Of records that no list names, the newest of each key is shown: several evaluations may be kept at the same time.
    if before := store.suites().get(SUITE):  # a baseline that `fidmap compare --update` wrote has a list
        listed = dict(zip(before.keys, before.cells, strict=True)) | {key: hash_}
        store.write_suite(SUITE, None, list(listed.values()), list(listed))
