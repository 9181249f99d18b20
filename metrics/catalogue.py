"""Every metric by name, importable without torch: ``name -> (module:function, summary)``."""

METRICS = {
    "frechet_distance": (
        "metrics.samples.frechet:frechet_distance",
        "Frechet distance of two Gaussians fitted to features",
    ),
    "fd_infinity": (
        "metrics.samples.extrapolation:fd_infinity",
        "Frechet distance extrapolated to infinitely many samples",
    ),
    "debiased_frechet_distance": (
        "metrics.samples.extrapolation:debiased_frechet_distance",
        "Frechet distance of the laws, with an interval that covers it",
    ),
    "spatial_statistics": (
        "metrics.samples.spatial:spatial_statistics",
        "statistics of feature maps, for a spatial Frechet distance (sFID)",
    ),
    "kid": ("metrics.samples.kernel:kid", "kernel distance: unbiased MMD² of a cubic kernel over all pairs"),
    "kid_subsets": ("metrics.samples.kernel:kid_subsets", "kernel distance over random subsets: mean and deviation"),
    "cmmd": ("metrics.samples.kernel:cmmd", "MMD² of a Gaussian kernel of width 10, times 1000 (for CLIP features)"),
    "energy_distance": ("metrics.samples.energy:energy_distance", "energy distance of two samples"),
    "sliced_wasserstein": ("metrics.samples.sliced:sliced_wasserstein", "sliced 2-Wasserstein distance of two samples"),
    "sliced_wasserstein_of_sketches": (
        "metrics.samples.sketch:sliced_wasserstein_of_sketches",
        "the same of streams at constant memory, with its bound",
    ),
    "exact_wasserstein": (
        "metrics.samples.transport:exact_wasserstein",
        "exact 2-Wasserstein distance of two small samples",
    ),
    "c2st": (
        "metrics.samples.two_sample:classifier_two_sample_test",
        "classifier two-sample test: held-out accuracy and p-value",
    ),
    "inception_score": ("metrics.samples.inception:inception_score", "Inception score of any classifier"),
    "conditional_accuracy": (
        "metrics.samples.accuracy:conditional_accuracy",
        "share of samples that a classifier takes for their condition",
    ),
    "bits_per_dim": ("metrics.samples.likelihood:bits_per_dim", "bits a dimension from log-likelihoods in nats"),
    "precision_recall": ("metrics.samples.balls:precision_recall", "improved precision and recall, by either school"),
    "density_coverage": ("metrics.samples.balls:density_coverage", "density and coverage"),
    "prdc": ("metrics.samples.balls:prdc", "precision, recall, density and coverage with the package prdc's counts"),
    "data_copying": ("metrics.samples.memorisation:data_copying", "data-copying test C_T"),
    "authenticity": ("metrics.samples.memorisation:authenticity", "share of samples that copy none"),
    "nearest_neighbour_ratio": ("metrics.samples.memorisation:nearest_neighbour_ratio", "the memorised share"),
    "vendi_score": ("metrics.samples.vendi:vendi_score", "effective number of different samples, of any order"),
    "vendi_scores": ("metrics.samples.vendi:vendi_scores", "the same of both sets, and their ratio"),
    "fit_order": ("metrics.order:fit_order", "order of accuracy from errors over a ladder of steps"),
    "coco_ap": ("metrics.detection.coco:evaluate_coco", "COCO's twelve figures"),
    "voc_ap": ("metrics.detection.voc:evaluate_voc", "VOC's average precision, 11-point and all-point"),
    "tide": ("metrics.detection.tide:evaluate_tide", "TIDE's six types of detection error and what each costs in AP"),
    "detection_calibration": ("metrics.detection.calibration:evaluate_calibration", "D-ECE and LaECE of detections"),
    "confusion_matrix": (
        "metrics.detection.confusion:confusion_matrix",
        "which class is taken for which at a score and an IoU",
    ),
    "best_f1": (
        "metrics.detection.operating_point:find_best_f1",
        "score thresholds of the best F1, overall and by class",
    ),
}
