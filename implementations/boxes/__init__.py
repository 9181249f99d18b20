"""Box losses over one geometry core; ``LOSSES`` names them without importing torch."""

from implementations.catalogue import LOSSES

__all__ = ["LOSSES"]
