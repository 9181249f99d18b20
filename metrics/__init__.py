"""Metrics as pure functions on arrays; this package imports nothing from ``bench`` or ``implementations``.

Names are imported when they are used, so that ``import metrics`` needs no torch. No module directly in this package has
the name of a function, since importing it would put the module in the place of the function.
"""

import lazy_loader

from metrics import moved  # noqa: F401  (its finder names the new place of a module)

_EXPORTS = {
    "detection.assignment": ["Assignment", "assign_detections"],
    "detection.calibration": ["CalibrationResult", "evaluate_calibration"],
    "detection.coco": ["CocoResult", "evaluate_coco"],
    "detection.confusion": ["ConfusionMatrix", "confusion_matrix"],
    "detection.operating_point": ["find_best_f1"],
    "detection.paired": ["compare_detections"],
    "detection.tide": ["TideResult", "evaluate_tide"],
    "detection.voc": ["evaluate_voc"],
    "order": ["OrderFit", "fit_order"],
    "samples.accuracy": ["conditional_accuracy"],
    "samples.balls": ["density_coverage", "prdc", "precision_recall"],
    "samples.energy": ["energy_distance"],
    "samples.extrapolation": ["debiased_frechet_distance", "fd_infinity"],
    "samples.frechet": ["FeatureStatistics", "frechet_distance", "frechet_distance_from_features"],
    "samples.inception": ["inception_score"],
    "samples.kernel": ["cmmd", "kid", "kid_subsets", "maximum_mean_discrepancy"],
    "samples.likelihood": ["bits_per_dim"],
    "samples.memorisation": ["authenticity", "data_copying", "nearest_neighbour_ratio"],
    "samples.paired": ["compare_samples"],
    "samples.sketch": ["SlicedSketch", "Slices", "sliced_wasserstein_of_sketches"],
    "samples.sliced": ["sliced_wasserstein"],
    "samples.spatial": ["spatial_features", "spatial_statistics"],
    "samples.transport": ["exact_wasserstein"],
    "samples.two_sample": ["classifier_two_sample_test"],
    "samples.vendi": ["vendi_score", "vendi_score_from_similarity", "vendi_scores"],
    "streams.coco": ["CocoAP"],
    "streams.features": ["FeatureMetric"],
    "streams.frechet": ["FrechetDistance"],
    "streams.kid": ["BlockKid"],
    "streams.sliced": ["SlicedWasserstein"],
    "streams.sums": ["BitsPerDim", "ConditionalAccuracy", "InceptionScore"],
    "uncertainty": ["Estimate", "bootstrap", "floor"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)
