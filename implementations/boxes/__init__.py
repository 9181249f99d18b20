"""Box losses over one geometry core, and losses of class scores; the catalogues name them without importing torch."""

from implementations.catalogue import CLASSIFICATION_LOSSES, LOSSES

__all__ = ["CLASSIFICATION_LOSSES", "LOSSES"]
