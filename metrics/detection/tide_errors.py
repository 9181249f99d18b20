"""TIDE's types of error, one small class each: which detections have it, and how the ranking changes if it is mended.

``metrics.detection.tide`` defines them in words; ``TYPES`` stand in the order in which they are tested.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Evidence(NamedTuple):
    """The truths that a detection overlaps most, and the two thresholds."""

    same: Float[np.ndarray, " detection"]  # IoU with the truths of its class
    same_truth: Int[np.ndarray, " detection"]  # -1: none
    other: Float[np.ndarray, " detection"]  # with those of other classes
    other_truth: Int[np.ndarray, " detection"]
    threshold: float  # the smallest IoU that makes a detection right
    background: float


class Ranking(NamedTuple):
    """What AP is computed from: detections in order of falling score, and their errors."""

    category: Int[np.ndarray, " detection"]
    hit: Bool[np.ndarray, " detection"]
    scored: Bool[np.ndarray, " detection"]  # takes part in the ranking
    positives: Int[np.ndarray, " category"]
    truth_category: Int[np.ndarray, " truth"]
    error: Int[np.ndarray, " detection"]
    target: Int[np.ndarray, " detection"]  # the free truth that it would take if its error were mended, -1: none
    best: Bool[np.ndarray, " detection"]  # whether it is the best of those with this target
    missed: Bool[np.ndarray, " truth"]
    free: Bool[np.ndarray, " truth"]  # counts, and no detection takes it


class Kind(ABC):
    """Something that can be mended: its name, and the ranking when it is."""

    name: str

    @abstractmethod
    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """The ranking without what is wrong; ``number`` is the position of the type in ``TYPES``."""


class Error(Kind):
    """A type of error that a detection can have."""

    @abstractmethod
    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        """Which detections have the error, provided that they have none of the earlier types."""

    def target(self, e: Evidence) -> Int[np.ndarray, " detection"]:
        """The truth that the error points to; -1 where the detection is removed to mend it."""
        return np.full(len(e.same), -1)

    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """Of the errors that point to one free truth the best becomes right; the other errors are removed."""
        own = ranking.error == number
        right = own & ranking.best
        category = np.where(right, np.append(ranking.truth_category, -1)[ranking.target], ranking.category)
        return ranking._replace(category=category, hit=ranking.hit | right, scored=ranking.scored & (~own | right))


class Localisation(Error):
    """The class is right, the box is not."""

    name = "localisation"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return (e.background <= e.same) & (e.same < e.threshold)

    def target(self, e: Evidence) -> Int[np.ndarray, " detection"]:
        return e.same_truth


class Classification(Error):
    """The box is right, the class is not."""

    name = "classification"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return e.other >= e.threshold

    def target(self, e: Evidence) -> Int[np.ndarray, " detection"]:
        return e.other_truth


class Duplicate(Error):
    """Box and class are right, but a detection with a higher score has the truth."""

    name = "duplicate"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return e.same >= e.threshold


class Background(Error):
    """There is no truth where the detection is."""

    name = "background"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return (e.same <= e.background) & (e.other <= e.background)


class Both(Error):
    """Neither box nor class is right."""

    name = "both"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return np.ones(len(e.same), bool)


class Missed(Kind):
    """Truths that no detection takes, nor would take if its error were mended."""

    name = "missed"

    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """The ranking without those truths."""
        return _without(ranking, ranking.missed)


class FalsePositives(Kind):
    """Every detection that is not right."""

    name = "false positives"

    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """The ranking with right detections alone."""
        return ranking._replace(scored=ranking.scored & ranking.hit)


class FalseNegatives(Kind):
    """Every truth that no detection takes."""

    name = "false negatives"

    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """The ranking with the truths alone that a detection takes."""
        return _without(ranking, ranking.free)


TYPES = (Localisation(), Classification(), Duplicate(), Background(), Both())  # in the order of the tests
EVERY = (*TYPES, Missed(), FalsePositives(), FalseNegatives())


def _without(ranking: Ranking, truths: Bool[np.ndarray, " truth"]) -> Ranking:
    gone = np.bincount(ranking.truth_category[truths], minlength=len(ranking.positives))
    return ranking._replace(positives=ranking.positives - gone)
