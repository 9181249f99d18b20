"""TIDE's types of error, one small class each: which detections have it, and how the ranking changes if it is mended.

``metrics.detection.tide`` defines them in words; ``TYPES`` stand in the order in which they are tested.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Evidence(NamedTuple):
    """What TIDE judges a detection by: its greatest IoU with a truth of its class and with one of another, and which.

    ``threshold`` is the smallest IoU that makes a detection right, ``background`` the greatest of the background.
    """

    same: Float[np.ndarray, " detection"]  # IoU with the truths of its class
    same_truth: Int[np.ndarray, " detection"]  # -1: none
    other: Float[np.ndarray, " detection"]  # with those of other classes
    other_truth: Int[np.ndarray, " detection"]
    threshold: float  # the smallest IoU that makes a detection right
    background: float


class Ranking(NamedTuple):
    """What TIDE computes AP from: detections in order of falling score, which of them are right, and their errors.

    ``scored`` says which take part; ``positives`` is the number of truths by category.
    """

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
    """Something that costs a detector AP, and that TIDE mends to measure the cost: a type of error, or an oracle."""

    name: str

    @abstractmethod
    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """Give the ranking of detections from which AP is computed once this is mended.

        ``number`` is the position of the type of error in ``TYPES``.
        """


class Error(Kind):
    """A type of error that TIDE gives a wrong detection; the first in ``TYPES`` that holds is the one it has."""

    @abstractmethod
    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        """Which detections have this type of error, provided that they have none of the earlier types."""

    def target(self, e: Evidence) -> Int[np.ndarray, " detection"]:
        """The truth that each detection would take without the error; -1 where the detection is removed to mend it."""
        return np.full(len(e.same), -1)

    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """Give the ranking with these errors mended: of those that point to one free truth, the best becomes right.

        The other errors of the type are removed. ``number`` is the position of the type in ``TYPES``.
        """
        own = ranking.error == number
        right = own & ranking.best
        category = np.where(right, np.append(ranking.truth_category, -1)[ranking.target], ranking.category)
        return ranking._replace(category=category, hit=ranking.hit | right, scored=ranking.scored & (~own | right))


class Localisation(Error):
    """TIDE's localisation error: right class, wrong box, with an IoU from the background's to below the threshold."""

    name = "localisation"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return (e.background <= e.same) & (e.same < e.threshold)

    def target(self, e: Evidence) -> Int[np.ndarray, " detection"]:
        return e.same_truth


class Classification(Error):
    """TIDE's classification error: right box, wrong class, with an IoU of the threshold or more to another class."""

    name = "classification"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return e.other >= e.threshold

    def target(self, e: Evidence) -> Int[np.ndarray, " detection"]:
        return e.other_truth


class Duplicate(Error):
    """TIDE's duplicate error: box and class are right, but a detection with a higher score has the truth."""

    name = "duplicate"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return e.same >= e.threshold


class Background(Error):
    """TIDE's background error: no truth of any class overlaps the detection by more than the background's IoU."""

    name = "background"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return (e.same <= e.background) & (e.other <= e.background)


class Both(Error):
    """TIDE's error of class and box: an IoU below the threshold with a truth of another class alone.

    With its own class the IoU is below the background's.
    """

    name = "both"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " detection"]:
        return np.ones(len(e.same), bool)


class Missed(Kind):
    """TIDE's missed truths: no detection takes them, nor would take them if its own error were mended."""

    name = "missed"

    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """Give the ranking in which the missed truths do not count as positives, as if they had not been there."""
        return _without(ranking, ranking.missed)


class FalsePositives(Kind):
    """TIDE's oracle of false positives: every detection that is not right."""

    name = "false positives"

    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """Give the ranking with the right detections alone, as if there were no false positives."""
        return ranking._replace(scored=ranking.scored & ranking.hit)


class FalseNegatives(Kind):
    """TIDE's oracle of false negatives: every truth that no detection takes."""

    name = "false negatives"

    def mend(self, ranking: Ranking, number: int) -> Ranking:
        """Give the ranking in which only the truths that a detection takes count as positives."""
        return _without(ranking, ranking.free)


TYPES = (Localisation(), Classification(), Duplicate(), Background(), Both())  # in the order of the tests
EVERY = (*TYPES, Missed(), FalsePositives(), FalseNegatives())


def _without(ranking: Ranking, truths: Bool[np.ndarray, " truth"]) -> Ranking:
    gone = np.bincount(ranking.truth_category[truths], minlength=len(ranking.positives))
    return ranking._replace(positives=ranking.positives - gone)
