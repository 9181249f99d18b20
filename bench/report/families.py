"""The families of leaderboards: whose records a family's table ranks, by which measure, and what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """A family of entries: its tasks in order of preference, and the measures that rank it and stand beside the rank.

    The first measure that the records have ranks them where none is asked for. ``rows`` are parameters that make rows
    of their own beside the entry and its options; ``kind`` is the catalogue of the entries, and of what is published.
    """

    tasks: tuple[str, ...]
    measures: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[str, ...] = ()
    kind: str = ""
    title: str = ""
    setting: tuple[tuple[str, Any], ...] = ()  # that a table is of where several are there and none is asked for


FAMILIES = {
    "samplers": Family(
        tasks=(
            "sampler_quality", "model_quality", "sampler_latency", "sampler_error", "sampler_spectrum", "sampler_order",
            "sampler_ledger", "sampler_overhead", "sampler_choice", "sampler_audit",
        ),
        measures=("fd_fmnist", "fd", "sliced_w2", "solver_error", "rms_error", "w2", "finest_error", "overhead"),
        columns=("rms_error", "solver_error", "order", "latency", "overhead"),
        kind="samplers",
        title="Samplers",
        setting=(("oracle", "classes"), ("nfe", 10), ("schedule", "karras"), ("path", "vp")),
    ),
    "losses": Family(
        tasks=("iou_regression", "iou_choice", "iou_agreement", "iou_gradient", "iou_properties"),
        measures=("error_final", "iou_final", "kendall_all"),
        columns=("iou_final", "kendall_all", "seconds"),
        kind="losses",
        title="Box losses",
    ),
    "nms": Family(
        tasks=("nms_quality", "nms_speed"),
        measures=("AP", "time"),
        columns=("AP75", "recall", "time"),
        kind="nms",
        title="NMS methods",
    ),
    "metrics": Family(
        tasks=("metric_speed", "metric_bias", "metric_sensitivity", "coverage"),
        measures=("ratio", "fd_fmnist"),
        columns=("time", "difference"),
        rows=("contest",),
        kind="metrics",
        title="Metrics",
    ),
    "detections": Family(
        tasks=("evaluate_detections", "detection_ap"),
        measures=("AP", "mAP"),
        columns=("AP50", "AP75", "AR100"),
        title="Detections",
    ),
    "images": Family(
        tasks=("evaluate_images",),
        measures=("fd_fmnist", "fd_inception", "fid", "fd_dinov2"),
        columns=("kid_fmnist", "precision", "recall"),
        title="Images",
    ),
}  # fmt: skip


def family_of(task: str) -> str | None:
    """The family that a task belongs to, None for a task of one's own."""
    return next((name for name, family in FAMILIES.items() if task in family.tasks), None)
