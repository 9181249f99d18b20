"""Non-maximum suppression, one file a family: each method a few lines over batches of groups of boxes."""

from implementations.boxes.nms.contract import Kept

__all__ = ["Kept"]
