"""TIDE's types of error, a small class each: when a detection has it, and what becomes of AP's input if it is mended.

What they are in words is told in ``metrics.detection.tide``; ``TYPES`` stand in the order in which they are tested.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Evidence(NamedTuple):
    """What a detection overlaps most."""

    same: Float[np.ndarray, " found"]  # IoU with the truths of its class
    same_truth: Int[np.ndarray, " found"]  # -1: none
    other: Float[np.ndarray, " found"]  # with those of other classes
    other_truth: Int[np.ndarray, " found"]
    enough: float
    background: float


class Case(NamedTuple):
    """Detections, best first, as AP sees them, and their errors."""

    category: Int[np.ndarray, " found"]
    hit: Bool[np.ndarray, " found"]
    scored: Bool[np.ndarray, " found"]  # takes part in the ranking
    positives: Int[np.ndarray, " category"]
    truth_category: Int[np.ndarray, " truth"]
    error: Int[np.ndarray, " found"]
    points_to: Int[np.ndarray, " found"]  # the free truth that mending the error would take, -1: none
    chosen: Bool[np.ndarray, " found"]  # the best of those that point to one truth
    missed: Bool[np.ndarray, " truth"]
    free: Bool[np.ndarray, " truth"]  # counts, and no detection takes it


class Kind(ABC):
    """What can be mended: its name, and AP's input when it is."""

    name: str

    @abstractmethod
    def mend(self, case: Case, number: int) -> Case:
        """The case without what is wrong; ``number`` is the kind's position among ``TYPES``."""


class Error(Kind):
    """What can be wrong with a detection."""

    @abstractmethod
    def holds(self, e: Evidence) -> Bool[np.ndarray, " found"]:
        """Which detections have the error, if they have none of the earlier ones."""

    def target(self, e: Evidence) -> Int[np.ndarray, " found"]:
        """The truth that the error points to; -1 where mending it is taking the detection away."""
        return np.full(len(e.same), -1)

    def mend(self, case: Case, number: int) -> Case:
        """The best of the errors that point to one free truth is right, the others go."""
        own = case.error == number
        right = own & case.chosen
        category = np.where(right, np.append(case.truth_category, -1)[case.points_to], case.category)
        return case._replace(category=category, hit=case.hit | right, scored=case.scored & (~own | right))


class Localisation(Error):
    """The class is right, the box is not."""

    name = "localisation"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " found"]:
        return (e.background <= e.same) & (e.same < e.enough)

    def target(self, e: Evidence) -> Int[np.ndarray, " found"]:
        return e.same_truth


class Classification(Error):
    """The box is right, the class is not."""

    name = "classification"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " found"]:
        return e.other >= e.enough

    def target(self, e: Evidence) -> Int[np.ndarray, " found"]:
        return e.other_truth


class Duplicate(Error):
    """Box and class are right, but a better detection has the truth."""

    name = "duplicate"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " found"]:
        return e.same >= e.enough


class Background(Error):
    """There is nothing."""

    name = "background"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " found"]:
        return (e.same <= e.background) & (e.other <= e.background)


class Both(Error):
    """Neither box nor class is right."""

    name = "both"

    def holds(self, e: Evidence) -> Bool[np.ndarray, " found"]:
        return np.ones(len(e.same), bool)


class Missed(Kind):
    """A truth that no detection has, nor would have if it were mended."""

    name = "missed"

    def mend(self, case: Case, number: int) -> Case:
        """The case without those truths."""
        return _without(case, case.missed)


class FalsePositives(Kind):
    """Every detection that is not right."""

    name = "false positives"

    def mend(self, case: Case, number: int) -> Case:
        """Right detections alone."""
        return case._replace(scored=case.scored & case.hit)


class FalseNegatives(Kind):
    """Every truth that no detection takes."""

    name = "false negatives"

    def mend(self, case: Case, number: int) -> Case:
        """Taken truths alone."""
        return _without(case, case.free)


TYPES = (Localisation(), Classification(), Duplicate(), Background(), Both())  # in the order of the tests
EVERY = (*TYPES, Missed(), FalsePositives(), FalseNegatives())


def _without(case: Case, truths: Bool[np.ndarray, " truth"]) -> Case:
    gone = np.bincount(case.truth_category[truths], minlength=len(case.positives))
    return case._replace(positives=case.positives - gone)
