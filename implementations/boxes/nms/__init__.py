"""Non-maximum suppression, one file per family: each method is a few lines over batches of groups of boxes."""

from implementations.boxes.nms.contract import Kept

__all__ = ["Kept"]
