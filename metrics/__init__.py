"""What it is measured with: pure functions on arrays; imports nothing from bench or implementations."""

import importlib
from typing import Any

# Imported on use, so that `import metrics` needs no torch. No module here has the name of its function: importing it
# would put the module in the function's place.
_EXPORTS = {
    "CocoResult": "metrics.coco",
    "FeatureMetric": "metrics.feature_metric",
    "FeatureStatistics": "metrics.frechet",
    "FrechetDistance": "metrics.frechet_metric",
    "OrderFit": "metrics.order",
    "bootstrap": "metrics.uncertainty",
    "evaluate_coco": "metrics.coco",
    "fit_order": "metrics.order",
    "floor": "metrics.uncertainty",
    "frechet_distance": "metrics.frechet",
    "frechet_distance_from_features": "metrics.frechet",
    "sliced_wasserstein": "metrics.sliced",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
