"""Box losses over one geometry core, losses of class scores, and NMS; importing the names imports no torch."""

from implementations.catalogue import CLASSIFICATION_LOSSES, LOSSES, NMS

__all__ = ["CLASSIFICATION_LOSSES", "LOSSES", "NMS"]
