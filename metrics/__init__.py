"""What it is measured with: pure functions on arrays; imports nothing from bench or implementations."""

import importlib
from typing import Any

# Imported on use, so that `import metrics` needs no torch. No module here has the name of its function: importing it
# would put the module in the function's place.
_EXPORTS = {
    "Assignment": "metrics.assignment",
    "BitsPerDim": "metrics.sum_metrics",
    "BlockKid": "metrics.kid_metric",
    "CalibrationResult": "metrics.detection_calibration",
    "CocoAP": "metrics.coco_metric",
    "CocoResult": "metrics.coco",
    "ConditionalAccuracy": "metrics.sum_metrics",
    "ConfusionMatrix": "metrics.confusion",
    "Estimate": "metrics.uncertainty",
    "FeatureMetric": "metrics.feature_metric",
    "FeatureStatistics": "metrics.frechet",
    "FrechetDistance": "metrics.frechet_metric",
    "InceptionScore": "metrics.sum_metrics",
    "OrderFit": "metrics.order",
    "SlicedSketch": "metrics.sliced_sketch",
    "SlicedWasserstein": "metrics.sliced_metric",
    "Slices": "metrics.sliced_sketch",
    "TideResult": "metrics.tide",
    "assign_detections": "metrics.assignment",
    "authenticity": "metrics.memorisation",
    "bits_per_dim": "metrics.likelihood",
    "bootstrap": "metrics.uncertainty",
    "classifier_two_sample_test": "metrics.two_sample",
    "cmmd": "metrics.kernel_distance",
    "conditional_accuracy": "metrics.accuracy",
    "confusion_matrix": "metrics.confusion",
    "data_copying": "metrics.memorisation",
    "debiased_frechet_distance": "metrics.extrapolation",
    "density_coverage": "metrics.manifold",
    "energy_distance": "metrics.energy",
    "evaluate_calibration": "metrics.detection_calibration",
    "evaluate_coco": "metrics.coco",
    "evaluate_voc": "metrics.voc",
    "evaluate_tide": "metrics.tide",
    "exact_wasserstein": "metrics.transport",
    "fd_infinity": "metrics.extrapolation",
    "find_best_f1": "metrics.operating_point",
    "fit_order": "metrics.order",
    "floor": "metrics.uncertainty",
    "frechet_distance": "metrics.frechet",
    "frechet_distance_from_features": "metrics.frechet",
    "inception_score": "metrics.inception",
    "kid": "metrics.kernel_distance",
    "kid_subsets": "metrics.kernel_distance",
    "maximum_mean_discrepancy": "metrics.kernel_distance",
    "nearest_neighbour_ratio": "metrics.memorisation",
    "prdc": "metrics.manifold",
    "precision_recall": "metrics.manifold",
    "sliced_wasserstein": "metrics.sliced",
    "sliced_wasserstein_of_sketches": "metrics.sliced_sketch",
    "spatial_features": "metrics.spatial",
    "spatial_statistics": "metrics.spatial",
    "vendi_score": "metrics.vendi",
    "vendi_score_from_similarity": "metrics.vendi",
    "vendi_scores": "metrics.vendi",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
