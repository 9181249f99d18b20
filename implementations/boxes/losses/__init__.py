"""Box losses, one file a family: a few lines each over the geometry of a pair."""

from implementations.boxes.losses.contract import pairwise
from implementations.boxes.losses.focusing import RunningMean

__all__ = ["RunningMean", "pairwise"]
