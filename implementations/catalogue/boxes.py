"""The tables of box losses, of losses of class scores, and of NMS methods."""

from __future__ import annotations

from implementations.catalogue.entry import Catalogue, Entry, LossEntry, NmsEntry

_LOSSES = "implementations.boxes.losses."
LOSSES = Catalogue("losses", LossEntry, [
    LossEntry("l1", _LOSSES + "coordinates:l1", "sum of the absolute differences of the coordinates", family="coordinates"),
    LossEntry("smooth_l1", _LOSSES + "coordinates:smooth_l1", "L1, quadratic near 0", "1504.08083 (eq. 3)", family="coordinates"),
    LossEntry("bounded_iou", _LOSSES + "coordinates:bounded_iou", "the best IoU that each coordinate still allows", "1711.00164", family="coordinates"),
    LossEntry("iou", _LOSSES + "overlap:iou", "1 - IoU", "1902.09630 (sec. 1)", family="overlap"),
    LossEntry("iou_log", _LOSSES + "overlap:iou_log", "-log IoU", "1608.01471", family="overlap"),
    LossEntry("giou", _LOSSES + "overlap:giou", "IoU and the empty share of the enclosing box", "1902.09630", family="overlap"),
    LossEntry("diou", _LOSSES + "overlap:diou", "IoU and the distance of the centres", "1911.08287 (eq. 7)", family="overlap"),
    LossEntry("ciou", _LOSSES + "overlap:ciou", "DIoU and the aspect ratio", "1911.08287 (eq. 10)", family="overlap"),
    LossEntry("eiou", _LOSSES + "shape:eiou", "DIoU and the differences of the sides", "2101.08158", family="shape"),
    LossEntry("siou", _LOSSES + "shape:siou", "IoU, distance weighed by its angle, and shape", "2205.12740", family="shape"),
    LossEntry("shape_iou", _LOSSES + "shape:shape_iou", "IoU, distance and shape weighed by the target's shape", "2312.17663", family="shape"),
    LossEntry("mpdiou", _LOSSES + "shape:mpdiou", "IoU and the distances of two corners", "2307.07662", family="shape"),
    LossEntry("piou", _LOSSES + "shape:piou", "IoU and the distances of the edges in sides of the target", "10.1016/j.neunet.2023.11.041", family="shape"),
    LossEntry("alpha_iou", _LOSSES + "powers:alpha_iou", "1 - IoU^a", "2110.13675", family="power"),
    LossEntry("alpha_giou", _LOSSES + "powers:alpha_giou", "GIoU, each term to the power a", "2110.13675", family="power"),
    LossEntry("alpha_diou", _LOSSES + "powers:alpha_diou", "DIoU, each term to the power a", "2110.13675", family="power"),
    LossEntry("alpha_ciou", _LOSSES + "powers:alpha_ciou", "CIoU, each term to the power a", "2110.13675", family="power"),
    LossEntry("focal_eiou", _LOSSES + "focusing:focal_eiou", "EIoU weighed by overlap", "2101.08158", family="focusing"),
    LossEntry("wiou_v1", _LOSSES + "focusing:wiou_v1", "1 - IoU times a weight that grows with distance", "2301.10051", family="focusing"),
    LossEntry("wiou_v2", _LOSSES + "focusing:wiou_v2", "WIoU v1 with more weight on poor boxes", "2301.10051", family="focusing"),
    LossEntry("wiou_v3", _LOSSES + "focusing:wiou_v3", "WIoU v1 with more weight on ordinary boxes", "2301.10051", family="focusing"),
    LossEntry("piou_v2", _LOSSES + "focusing:piou_v2", "PIoU with more weight on boxes of medium quality", "10.1016/j.neunet.2023.11.041", family="focusing"),
    LossEntry("inner_iou", _LOSSES + "remapped:inner_iou", "IoU of both boxes scaled about their centres", "2311.02877", family="remapped"),
    LossEntry("focaler_iou", _LOSSES + "remapped:focaler_iou", "IoU stretched from an interval to [0, 1]", "2401.10525", family="remapped"),
    LossEntry("nwd", _LOSSES + "gaussian:nwd", "Wasserstein distance of the boxes as Gaussians", "2110.13389", family="gaussian"),
    LossEntry("kld", _LOSSES + "gaussian:kld", "Kullback-Leibler divergence of the boxes as Gaussians", "2106.01883", family="gaussian"),
    LossEntry("torchvision_giou", "implementations.peers.torchvision_losses:giou", "generalized_box_iou_loss", family="peer"),
    LossEntry("torchvision_diou", "implementations.peers.torchvision_losses:diou", "distance_box_iou_loss", family="peer"),
    LossEntry("torchvision_ciou", "implementations.peers.torchvision_losses:ciou", "complete_box_iou_loss", family="peer"),
], singular="loss")  # fmt: skip

_SCORES = "implementations.boxes.classification:"
CLASSIFICATION_LOSSES = Catalogue("classification_losses", Entry, [
    Entry("focal", _SCORES + "focal", "cross-entropy with less weight on easy elements", "1708.02002 (eq. 5)"),
    Entry("quality_focal", _SCORES + "quality_focal", "focal loss on a quality in [0, 1]", "2006.04388 (eq. 2)"),
    Entry("distribution_focal", _SCORES + "distribution_focal", "cross-entropy of a distribution over bins with a distance", "2006.04388 (eq. 6)"),
    Entry("generalised_focal", _SCORES + "generalised_focal", "focal loss of a target between two labels", "2006.04388 (eq. 7)"),
    Entry("varifocal", _SCORES + "varifocal", "quality-weighted positives, focal negatives", "2008.13367 (eq. 2)"),
], singular="classification loss")  # fmt: skip

_NMS = "implementations.boxes.nms."
NMS = Catalogue("nms", NmsEntry, [
    NmsEntry("hard", _NMS + "greedy:hard", "keeps the best box and removes what overlaps it", "1311.2524 (sec. 2.2)", family="greedy"),
    NmsEntry("class_agnostic", _NMS + "greedy:class_agnostic", "hard, over all classes at once", "1311.2524 (sec. 2.2)", family="greedy"),
    NmsEntry("diou", _NMS + "greedy:diou", "hard, on IoU minus the distance of the centres", "1911.08287 (eq. 13)", family="greedy"),
    NmsEntry("iou_guided", _NMS + "greedy:iou_guided", "hard, in the order of predicted IoUs", "1807.11590 (alg. 1)", family="greedy", columns=("ious",)),
    NmsEntry("soft_linear", _NMS + "soft:soft_linear", "scores decay by 1 - IoU", "1704.04503 (eq. 2)", family="soft"),
    NmsEntry("soft_gaussian", _NMS + "soft:soft_gaussian", "scores decay by exp(-IoU^2 / sigma)", "1704.04503 (eq. 3)", family="soft"),
    NmsEntry("matrix", _NMS + "matrix:matrix", "scores decay once, by the better box of strongest effect", "2003.10152", family="matrix"),
    NmsEntry("fast", _NMS + "cluster:fast", "removes what any better box overlaps, kept or not", "1904.02689", family="cluster"),
    NmsEntry("cluster", _NMS + "cluster:cluster", "an iteration whose fixpoint is the result of hard", "2005.03572 (alg. 1)", family="cluster"),
    NmsEntry("spm_cluster", _NMS + "cluster:spm_cluster", "scores decay by every better box that is kept", "2005.03572", family="cluster"),
    NmsEntry("weighted_cluster", _NMS + "cluster:weighted_cluster", "boxes averaged with those that they overlap", "2005.03572", family="cluster"),
    NmsEntry("nmw", _NMS + "fusion:nmw", "boxes averaged with those that they remove", "CAD, ICCV workshops 2017", family="fusion"),
    NmsEntry("weighted_boxes_fusion", _NMS + "fusion:weighted_boxes_fusion", "boxes of several models averaged by score", "1910.13302", family="fusion"),
    NmsEntry("torchvision_nms", "implementations.peers.torchvision_nms:nms", "nms on each class", family="peer"),
    NmsEntry("torchvision_batched_nms", "implementations.peers.torchvision_nms:batched_nms", "batched_nms", family="peer"),
], singular="NMS")  # fmt: skip
