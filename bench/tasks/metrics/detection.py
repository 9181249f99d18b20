"""COCO's AP of detections that are made from the truth of scenes by one kind of error, at a level from 0 (none) to 1.

It shows which errors each figure of COCO responds to, and compares this project's evaluation with pycocotools. All
levels of a kind use the same random numbers, so that a higher level is the same error, only larger.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from bench.data.scenes import scenes
from bench.task import Context, Measurements, Value
from metrics.detection.coco import evaluate_coco

if TYPE_CHECKING:
    from bench.tasks.metrics.declarations import DetectionParameters


class Detections(NamedTuple):
    """Detections as columns: COCO's image and category ids, boxes ``xywh`` in pixels, and scores."""

    image: Int[np.ndarray, " n"]
    category: Int[np.ndarray, " n"]
    box: Float[np.ndarray, "n 4"]
    score: Float[np.ndarray, " n"]

    def select(self, keep: np.ndarray) -> Detections:
        """The detections at an index or under a mask."""
        return Detections(*(column[keep] for column in self))

    def join(self, other: Detections) -> Detections:
        """These detections, followed by those of ``other``."""
        return Detections(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))

    def entries(self) -> list[dict[str, Any]]:
        """The detections as a COCO result list."""
        keys = ("image_id", "category_id", "bbox", "score")
        return [dict(zip(keys, row, strict=True)) for row in zip(*(column.tolist() for column in self), strict=True)]


def detection_ap(parameters: DetectionParameters, context: Context) -> Measurements:
    """COCO AP of perturbed detections on scenes of Fashion-MNIST images.

    The perturbation is one kind of error at a level from 0 to 1, so that it shows what each figure of COCO responds to.
    """
    dataset = _dataset(parameters.scenes, context.seed)
    found = perturb(dataset, parameters.perturbation, parameters.level, seed=context.seed)
    ours, theirs = (evaluate_coco(dataset, found.entries(), backend=name) for name in ("fidmap", "pycocotools"))
    for name, column in found._asdict().items():
        context.keep(name, torch.from_numpy(column))
    figures = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
    values = {name: Value(ours.figures[name], n=parameters.scenes) for name in figures}
    parity = max(abs(value - theirs.figures[name]) for name, value in ours.figures.items())
    return {**values, "parity": parity}


def perturb(dataset: dict[str, Any], perturbation: str, level: float, seed: int = 0) -> Detections:
    """Make detections of a COCO data set: its truths without crowds, with one kind of error at a level from 0 to 1.

    They are scored at random in [.5, 1).

    - ``jitter``: the centre moves by ``level`` z sides, and the sides grow by ``exp(level z)``, with standard normal z.
    - ``drop``: a share ``level`` of the detections is missing.
    - ``duplicate``: a share ``level`` has a second detection, jittered at level .05 and scored like the others.
    - ``score_noise``: each truth also has a false positive scored in [0, .5), and ``level`` z is added to all scores.
    - ``class_swap``: a share ``level`` has another class.
    - ``background``: for a share ``level`` there is a false positive with the same sides, at a random place of the
      image, of a random class, and scored like the others.

    Raises ValueError on another kind.
    """
    if perturbation not in _PERTURBATIONS:
        raise ValueError(f"perturbation {perturbation!r} is not one of {', '.join(_PERTURBATIONS)}")
    rng = np.random.default_rng([seed, 0, 2])  # scenes use the streams [seed, i] and [seed, i, 1]
    truths = [truth for truth in dataset["annotations"] if not truth["iscrowd"]]
    image, category = (np.array([t[key] for t in truths], dtype=np.int64) for key in ("image_id", "category_id"))
    box = np.array([t["bbox"] for t in truths], dtype=float).reshape(-1, 4)
    truth = Detections(image, category, box, rng.uniform(0.5, 1, len(truths)))
    return _PERTURBATIONS[perturbation](truth, level, rng, dataset)


@lru_cache(maxsize=2)
def _dataset(n: int, seed: int) -> dict[str, Any]:
    return scenes(n, seed=seed).coco


def _jitter(found: Detections, level: float, rng: np.random.Generator, dataset: dict[str, Any]) -> Detections:
    noise = level * rng.standard_normal(found.box.shape)
    corner, sides = found.box[:, :2], found.box[:, 2:]
    grown = sides * np.exp(noise[:, 2:])
    return found._replace(box=np.c_[corner + noise[:, :2] * sides - (grown - sides) / 2, grown])


def _drop(found: Detections, level: float, rng: np.random.Generator, dataset: dict[str, Any]) -> Detections:
    return found.select(rng.random(len(found.score)) >= level)


def _duplicate(found: Detections, level: float, rng: np.random.Generator, dataset: dict[str, Any]) -> Detections:
    twice = rng.random(len(found.score)) < level
    second = _jitter(found, 0.05, rng, dataset)._replace(score=rng.uniform(0.5, 1, len(found.score)))
    return found.join(second.select(twice))


def _score_noise(found: Detections, level: float, rng: np.random.Generator, dataset: dict[str, Any]) -> Detections:
    false = _false_positives(found, rng, dataset)
    both = found.join(false._replace(score=false.score - 0.5))
    return both._replace(score=both.score + level * rng.standard_normal(len(both.score)))


def _class_swap(found: Detections, level: float, rng: np.random.Generator, dataset: dict[str, Any]) -> Detections:
    ids = np.sort([category["id"] for category in dataset["categories"]])
    other = np.searchsorted(ids, found.category) + rng.integers(1, len(ids), len(found.score))
    swapped = rng.random(len(found.score)) < level
    return found._replace(category=np.where(swapped, ids[other % len(ids)], found.category))


def _background(found: Detections, level: float, rng: np.random.Generator, dataset: dict[str, Any]) -> Detections:
    false = _false_positives(found, rng, dataset)
    return found.join(false.select(rng.random(len(found.score)) < level))


def _false_positives(found: Detections, rng: np.random.Generator, dataset: dict[str, Any]) -> Detections:
    """One for each detection, with its sides, at a random place of its image and of a random class."""
    size = {image["id"]: (image["width"], image["height"]) for image in dataset["images"]}
    room = np.array([size[image] for image in found.image.tolist()]).reshape(-1, 2) - found.box[:, 2:]
    corner = rng.random(room.shape) * room
    category = rng.choice(np.sort([entry["id"] for entry in dataset["categories"]]), len(room))
    return Detections(found.image, category, np.c_[corner, found.box[:, 2:]], rng.uniform(0.5, 1, len(room)))


_PERTURBATIONS: dict[str, Callable[[Detections, float, np.random.Generator, dict[str, Any]], Detections]] = {
    "jitter": _jitter,
    "drop": _drop,
    "duplicate": _duplicate,
    "score_noise": _score_noise,
    "class_swap": _class_swap,
    "background": _background,
}
