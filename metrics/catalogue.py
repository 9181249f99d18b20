"""Every metric by name, importable without torch: ``name -> (module:function, summary)``."""

METRICS = {
    "frechet_distance": ("metrics.frechet:frechet_distance", "Frechet distance of two Gaussians fitted to features"),
    "sliced_wasserstein": ("metrics.sliced:sliced_wasserstein", "sliced 2-Wasserstein distance of two samples"),
    "fit_order": ("metrics.order:fit_order", "order of accuracy from errors over a ladder of steps"),
    "coco_ap": ("metrics.coco:evaluate_coco", "COCO's twelve figures"),
}
