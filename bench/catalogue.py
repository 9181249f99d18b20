"""The catalogues of all that has a name, for ``fidmap list`` and for suites; neither torch nor pandas is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from implementations.catalogue import CATALOGUES
from implementations.catalogue.entry import Catalogue, Entry
from metrics.catalogue import METRICS, Metric
from metrics.extractors import EXTRACTORS

TASKS = Catalogue("tasks", Entry, [
    Entry("sampler_order", "bench.tasks.samplers.declarations:sampler_order", "order of accuracy on an exact Gaussian"),
    Entry("sampler_error", "bench.tasks.samplers.declarations:sampler_error", "error to the exact flow, distances to exact draws"),
    Entry("sampler_spectrum", "bench.tasks.samplers.declarations:sampler_spectrum", "exact bias, W2 and KL per eigenmode of a Gaussian"),
    Entry("sampler_ledger", "bench.tasks.samplers.declarations:sampler_ledger", "how much of an error comes from the prior, the early stop, the solver, finite n"),
    Entry("sampler_quality", "bench.tasks.samplers.declarations:sampler_quality", "fd_fmnist, precision and recall of samples of exact denoisers and networks"),
    Entry("sampler_latency", "bench.tasks.samplers.declarations:sampler_latency", "fd_fmnist over the time of a batch"),
    Entry("sampler_choice", "bench.tasks.samplers.declarations:sampler_choice", "the best pair of solver and schedule of each library, at a budget"),
    Entry("sampler_overhead", "bench.tasks.samplers.declarations:sampler_overhead", "time and memory per model call, without a model"),
    Entry("sampler_audit", "bench.tasks.samplers.declarations:sampler_audit", "thirteen checks of what is right and wrong with a sampler"),
    Entry("guidance_truth", "bench.tasks.guidance.declarations:guidance_truth", "what guidance samples beside p(x) p(c|x)^w, and its score"),
    Entry("guidance_quality", "bench.tasks.guidance.declarations:guidance_quality", "images of a guided network: distance to data, class, saturation, cost"),
    Entry("objective_quality", "bench.tasks.objectives.declarations:objective_quality", "what a regression objective teaches a small network: samples and denoiser beside the truth"),
    Entry("score_matching", "bench.tasks.objectives.declarations:score_matching", "value, variance of the gradient and cost of score matching losses on toys"),
    Entry("latency", "bench.tasks.networks.declarations:latency", "size, operations, time, images per second and memory of networks beside peers"),
    Entry("model_quality", "bench.evaluate.models.declarations:model_quality", "a model of one's own: distance to data, solver error, latency"),
    Entry("iou_regression", "bench.tasks.boxes.declarations:iou_regression", "the published regression experiments: DIoU's, WIoU's, PIoU's"),
    Entry("iou_properties", "bench.tasks.boxes.declarations:iou_properties", "which properties a box loss has, by search for counter-examples"),
    Entry("iou_gradient", "bench.tasks.boxes.declarations:iou_gradient", "gradient fields of a box loss: zeros, spikes, wrong directions"),
    Entry("nms_quality", "bench.tasks.boxes.declarations:nms_quality", "AP of what a suppression keeps as scenes get crowded"),
    Entry("nms_speed", "bench.tasks.boxes.declarations:nms_speed", "time of suppressions that take turns"),
    Entry("iou_agreement", "bench.tasks.boxes.declarations:iou_agreement", "rank correlation of a box loss with IoU, before and after regression"),
    Entry("iou_choice", "bench.tasks.boxes.declarations:iou_choice", "how far and how fast descent on a box loss moves boxes, by situation"),
    Entry("metric_sensitivity", "bench.tasks.metrics.declarations:metric_sensitivity", "how figures of generated images respond to known faults"),
    Entry("coverage", "bench.tasks.metrics.declarations:coverage", "how often an interval covers the value that it is of"),
    Entry("metric_response", "bench.tasks.metrics.declarations:metric_response", "how one metric of generated images responds to known faults"),
    Entry("metric_bias", "bench.tasks.metrics.declarations:metric_bias", "how figures of generated images depend on n"),
    Entry("metric_speed", "bench.tasks.metrics.declarations:metric_speed", "time and agreement of metrics beside other libraries'"),
    Entry("detection_ap", "bench.tasks.metrics.declarations:detection_ap", "AP of perturbed detections on scenes"),
])  # fmt: skip


@dataclass(frozen=True)
class MetricEntry(Entry):
    """The entry of a metric; ``command`` is the ``fidmap evaluate`` command that computes it from files, if there is one."""

    of: str = ""  # images, detections, arrays
    command: str = ""
    others: tuple[str, ...] = ()  # names of earlier versions, which the command still takes


CODE = re.compile(r"(scheduler:)?[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
SUITES_FOLDER = Path(__file__).parent / "suites"


def is_code(name: str) -> bool:
    """Whether a name has the form MODULE:FUNCTION, which names code of the user's."""
    return CODE.fullmatch(name) is not None


@cache
def kinds() -> dict[str, Mapping[str, Any]]:
    """All catalogues by kind of entry: samplers, losses and the like, metrics, extractors, tasks and suites."""
    metric_entries = [
        MetricEntry(m.name, m.target, m.summary, of=m.of, command=_command(m), others=m.others)
        for m in METRICS.values()
    ]
    extractors = [Entry(name, target, summary) for name, (target, summary) in EXTRACTORS.items()]
    suites = [
        Entry(file.stem, f"bench/suites/{file.name}", _summary(file)) for file in sorted(SUITES_FOLDER.glob("*.toml"))
    ]
    return {
        **CATALOGUES,
        "metrics": Catalogue("metrics", _own_metric, metric_entries),
        "extractors": Catalogue("extractors", Entry, extractors),
        "tasks": TASKS,
        "suites": Catalogue("suites", Entry, suites),
    }


def _own_metric(name: str, target: str, *, source: str) -> MetricEntry:
    """A function of the user's, which is a metric of images."""
    return MetricEntry(name, target, source=source, of="images", command=_OF_IMAGES + name)


_OF_IMAGES = "fidmap evaluate images REAL GENERATED --metrics "


def _command(metric: Metric) -> str:
    if metric.of == "images":
        return _OF_IMAGES + metric.name
    return f"fidmap evaluate detections TRUTH DETECTIONS {metric.option}".strip() if metric.of == "detections" else ""


def _summary(file: Path) -> str:
    import tomllib

    head = file.read_text().partition("\n[[")[0]  # the title stands above the blocks, which take long to parse
    return tomllib.loads(head).get("title", "")
