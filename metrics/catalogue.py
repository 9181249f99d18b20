"""Every metric by name, importable without torch: ``name -> (module:function, summary)``."""

METRICS = {
    "frechet_distance": ("metrics.frechet:frechet_distance", "Frechet distance of two Gaussians fitted to features"),
    "fd_infinity": ("metrics.extrapolation:fd_infinity", "Frechet distance extrapolated to infinitely many samples"),
    "debiased_frechet_distance": (
        "metrics.extrapolation:debiased_frechet_distance",
        "Frechet distance of the laws, with an interval that covers it",
    ),
    "spatial_statistics": (
        "metrics.spatial:spatial_statistics",
        "statistics of feature maps, for a spatial Frechet distance (sFID)",
    ),
    "kid": ("metrics.kernel_distance:kid", "kernel distance: unbiased MMD² of a cubic kernel over all pairs"),
    "kid_subsets": ("metrics.kernel_distance:kid_subsets", "kernel distance over random subsets: mean and deviation"),
    "cmmd": ("metrics.kernel_distance:cmmd", "MMD² of a Gaussian kernel of width 10, times 1000 (for CLIP features)"),
    "energy_distance": ("metrics.energy:energy_distance", "energy distance of two samples"),
    "sliced_wasserstein": ("metrics.sliced:sliced_wasserstein", "sliced 2-Wasserstein distance of two samples"),
    "sliced_wasserstein_of_sketches": (
        "metrics.sliced_sketch:sliced_wasserstein_of_sketches",
        "the same of streams at constant memory, with its bound",
    ),
    "exact_wasserstein": ("metrics.transport:exact_wasserstein", "exact 2-Wasserstein distance of two small samples"),
    "c2st": (
        "metrics.two_sample:classifier_two_sample_test",
        "classifier two-sample test: held-out accuracy and p-value",
    ),
    "inception_score": ("metrics.inception:inception_score", "Inception score of any classifier"),
    "conditional_accuracy": (
        "metrics.accuracy:conditional_accuracy",
        "share of samples that a classifier takes for their condition",
    ),
    "bits_per_dim": ("metrics.likelihood:bits_per_dim", "bits a dimension from log-likelihoods in nats"),
    "precision_recall": ("metrics.manifold:precision_recall", "improved precision and recall, by either school"),
    "density_coverage": ("metrics.manifold:density_coverage", "density and coverage"),
    "prdc": ("metrics.manifold:prdc", "precision, recall, density and coverage with the package prdc's counts"),
    "data_copying": ("metrics.memorisation:data_copying", "data-copying test C_T"),
    "authenticity": ("metrics.memorisation:authenticity", "share of samples that copy none"),
    "nearest_neighbour_ratio": ("metrics.memorisation:nearest_neighbour_ratio", "the memorised share"),
    "vendi_score": ("metrics.vendi:vendi_score", "effective number of different samples, of any order"),
    "vendi_scores": ("metrics.vendi:vendi_scores", "the same of both sets, and their ratio"),
    "fit_order": ("metrics.order:fit_order", "order of accuracy from errors over a ladder of steps"),
    "coco_ap": ("metrics.coco:evaluate_coco", "COCO's twelve figures"),
    "voc_ap": ("metrics.voc:evaluate_voc", "VOC's average precision, 11-point and all-point"),
    "tide": ("metrics.tide:evaluate_tide", "TIDE's six types of detection error and what each costs in AP"),
    "detection_calibration": ("metrics.detection_calibration:evaluate_calibration", "D-ECE and LaECE of detections"),
    "confusion_matrix": ("metrics.confusion:confusion_matrix", "which class is taken for which at a score and an IoU"),
    "best_f1": ("metrics.operating_point:find_best_f1", "score thresholds of the best F1, overall and by class"),
}
