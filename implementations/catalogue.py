"""Every entry by name: literal tables that import no torch; an entry is resolved when it is used.

Adding a method is one function and one line in its table. Outside packages add theirs through an entry point of the
catalogue's group (``fidmap.samplers``, ...): it is listed without being imported.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from typing import Any, Generic, TypeVar


class UnknownName(LookupError):
    """A name that no catalogue holds; the message names the nearest ones."""


@dataclass(frozen=True)
class Entry:
    """A name, the object behind it as ``module:attribute``, and what is known of it without importing it."""

    name: str
    target: str
    summary: str = ""
    paper: str = ""
    source: str = field(default="fidmap", kw_only=True)  # the distribution that it comes from

    def resolve(self) -> Any:
        """Import the module and return the object; raises ImportError with the entry's name."""
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # outside code may raise anything while it is imported
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise ImportError(f"cannot load {self.name!r} from {self.target!r}: {reason}") from error

    @cached_property
    def _resolved(self) -> Any:
        return self.resolve()

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._resolved(*args, **options)


@dataclass(frozen=True)
class SamplerEntry(Entry):
    """A sampler; ``order`` is that of its global error on a smooth denoiser, weak order if it is stochastic."""

    family: str = "custom"
    order: int | None = None
    stochastic: bool = False
    coordinate: str | None = None  # sigma, lambda, angle, t; None: not stated
    coordinates: tuple[str, ...] = ()  # those it takes as an option
    stages: int = 1  # evaluations in a step strictly inside the path
    noisy: tuple[str, ...] = ()  # options that add noise unless they are 0

    def loaded(self) -> SamplerEntry:
        """Import the sampler; an outside one's function may state ``order``, ``stages``, ... as attributes."""
        function = self._resolved
        names = ("family", "order", "stochastic", "coordinate", "coordinates", "stages", "noisy")
        return replace(self, **{name: getattr(function, name) for name in names if hasattr(function, name)})

    def draws_noise(self, options: Mapping[str, Any]) -> bool:
        """Whether it is stochastic with these options."""
        return self.stochastic or any(options.get(name) for name in self.noisy)

    def evaluations(self, times: Any, *, path: Any = None, **options: Any) -> int | None:
        """Evaluations of the denoiser over ``times``.

        A step that touches alpha = 0 or sigma = 0 costs one. The path says which times those are; without it, a time
        of exactly 0 is taken for sigma = 0 (not so on ``VE`` and ``DiscreteVP``), and alpha = 0 is not seen.
        """
        steps = len(times) - 1
        if path is None:
            ends = [float(t) == 0.0 for t in times]
        else:
            ends = [bool(a == 0) or bool(s == 0) for a, s in zip(path.alpha(times), path.sigma(times), strict=True)]
        touching = sum(ends[i] or ends[i + 1] for i in range(steps))
        return self.stages * (steps - touching) + touching

    def steps_for(self, nfe: int, *, ends: int = 1) -> int:
        """The most steps whose evaluations stay within ``nfe``, of which ``ends`` touch an end of the path."""
        return max(1, (nfe + min(ends, nfe) * (self.stages - 1)) // self.stages)


@dataclass(frozen=True)
class LossEntry(Entry):
    """A box loss; suites choose by ``family``, the file that it stands in, or ``peer``."""

    family: str = "custom"


@dataclass(frozen=True)
class NmsEntry(Entry):
    """A non-maximum suppression; suites choose by ``family``, the file that it stands in, or ``peer``."""

    family: str = "custom"
    columns: tuple[str, ...] = ()  # options it needs that hold a value a box


E_ = TypeVar("E_", bound=Entry)


class Catalogue(Mapping[str, E_], Generic[E_]):
    """A lazy mapping ``name -> Entry`` over a literal table and the entry points of one group."""

    def __init__(self, kind: str, entry_type: Callable[..., E_], entries: list[E_], singular: str = ""):
        self.kind, self.entry_type = kind, entry_type
        self.singular = singular or kind.removesuffix("s")  # what a message calls one of them
        self._own = {entry.name: entry for entry in entries}

    @cached_property
    def _entries(self) -> dict[str, E_]:
        found = dict(self._own)
        for point in metadata.entry_points(group=f"fidmap.{self.kind}"):
            source = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            # A name that is taken stays with its owner; the newcomer goes by its distribution's as well.
            name = f"{source.partition(' ')[0]}.{point.name}" if point.name in found else point.name
            found[name] = self.entry_type(name, point.value, source=source)
        return found

    def __getitem__(self, name: str) -> E_:
        if name in self._entries:
            return self._entries[name]
        if ":" in name:  # a single function of the user's, module:function
            return self.entry_type(name, name, source=name.partition(":")[0])
        near = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(self._entries)}"
        raise UnknownName(f"no {self.singular} named {name!r}; {hint}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries


PATHS = Catalogue("paths", Entry, [
    Entry("vp", "implementations.diffusion.path:VP", "variance preserving, linear beta", "2011.13456 (eq. 11)"),
    Entry("cosine", "implementations.diffusion.path:Cosine", "variance preserving, squared-cosine alpha-bar", "2102.09672 (eq. 17)"),
    Entry("subvp", "implementations.diffusion.path:SubVP", "sub-variance preserving, linear beta", "2011.13456 (eq. 12)"),
    Entry("ve", "implementations.diffusion.path:VE", "variance exploding, geometric sigma", "2011.13456 (eq. 9)"),
    Entry("edm", "implementations.diffusion.path:EDM", "alpha = 1, sigma = t", "2206.00364 (table 1)"),
    Entry("rectified_flow", "implementations.diffusion.path:RectifiedFlow", "alpha = 1 - t, sigma = t", "2209.03003"),
    Entry("trigflow", "implementations.diffusion.path:TrigFlow", "alpha = cos t, sigma = sin t", "2410.11081"),
    Entry("discrete_vp", "implementations.diffusion.discrete:DiscreteVP", "a table of betas, interpolated", "2006.11239"),
])  # fmt: skip

SCHEDULES = Catalogue("schedules", Entry, [
    Entry("uniform", "implementations.diffusion.schedule:uniform", "equal steps of t"),
    Entry("karras", "implementations.diffusion.schedule:karras", "equal steps of (sigma/alpha)^(1/rho)", "2206.00364 (eq. 5)"),
    Entry("log_snr", "implementations.diffusion.schedule:log_snr", "equal steps of log alpha/sigma", "2206.00927"),
])  # fmt: skip

_RK = ("sigma", "lambda", "angle", "t")
SAMPLERS = Catalogue("samplers", SamplerEntry, [
    SamplerEntry("euler", "implementations.samplers.runge_kutta:euler", "explicit Euler", "2206.00364",
                 family="runge_kutta", order=1, coordinate="sigma", coordinates=_RK),
    SamplerEntry("heun", "implementations.samplers.runge_kutta:heun", "explicit trapezoid", "2206.00364 (alg. 1)",
                 family="runge_kutta", order=2, coordinate="sigma", coordinates=_RK, stages=2),
    SamplerEntry("ddim", "implementations.samplers.ancestral:ddim", "constant x0 over a step, eta of noise", "2010.02502 (eq. 12)",
                 family="ancestral", order=1, coordinate="lambda", noisy=("eta",)),
    SamplerEntry("ddpm", "implementations.samplers.ancestral:ddpm", "ancestral sampling", "2006.11239 (alg. 2)",
                 family="ancestral", order=1, stochastic=True, coordinate="lambda"),
    SamplerEntry("dpmpp_2m", "implementations.samplers.dpm_solver:dpmpp_2m", "two-step exponential integrator on x0", "2211.01095 (alg. 2)",
                 family="exponential", order=2, coordinate="lambda"),
])  # fmt: skip

_LOSSES = "implementations.boxes.losses."
LOSSES = Catalogue("losses", LossEntry, [
    LossEntry("l1", _LOSSES + "coordinates:l1", "sum of the coordinates' absolute differences", family="coordinates"),
    LossEntry("smooth_l1", _LOSSES + "coordinates:smooth_l1", "L1, quadratic near 0", "1504.08083 (eq. 3)", family="coordinates"),
    LossEntry("bounded_iou", _LOSSES + "coordinates:bounded_iou", "the IoU that each coordinate bounds", "1711.00164", family="coordinates"),
    LossEntry("iou", _LOSSES + "overlap:iou", "1 - IoU", "1902.09630 (sec. 1)", family="overlap"),
    LossEntry("iou_log", _LOSSES + "overlap:iou_log", "-log IoU", "1608.01471", family="overlap"),
    LossEntry("giou", _LOSSES + "overlap:giou", "IoU and the empty part of the enclosing box", "1902.09630", family="overlap"),
    LossEntry("diou", _LOSSES + "overlap:diou", "IoU and the centre distance", "1911.08287 (eq. 7)", family="overlap"),
    LossEntry("ciou", _LOSSES + "overlap:ciou", "DIoU and the aspect ratio", "1911.08287 (eq. 10)", family="overlap"),
    LossEntry("eiou", _LOSSES + "shape:eiou", "DIoU and the difference of both sides", "2101.08158", family="shape"),
    LossEntry("siou", _LOSSES + "shape:siou", "distance weighed by its angle, and shape", "2205.12740", family="shape"),
    LossEntry("shape_iou", _LOSSES + "shape:shape_iou", "distance and shape weighed by the target's shape", "2312.17663", family="shape"),
    LossEntry("mpdiou", _LOSSES + "shape:mpdiou", "distances of two corners", "2307.07662", family="shape"),
    LossEntry("piou", _LOSSES + "shape:piou", "distances of the edges in sides of the target", "10.1016/j.neunet.2023.11.041", family="shape"),
    LossEntry("alpha_iou", _LOSSES + "powers:alpha_iou", "1 - IoU^a", "2110.13675", family="power"),
    LossEntry("alpha_giou", _LOSSES + "powers:alpha_giou", "GIoU, each term to the power a", "2110.13675", family="power"),
    LossEntry("alpha_diou", _LOSSES + "powers:alpha_diou", "DIoU, each term to the power a", "2110.13675", family="power"),
    LossEntry("alpha_ciou", _LOSSES + "powers:alpha_ciou", "CIoU, each term to the power a", "2110.13675", family="power"),
    LossEntry("focal_eiou", _LOSSES + "focusing:focal_eiou", "EIoU weighed by overlap", "2101.08158", family="focusing"),
    LossEntry("wiou_v1", _LOSSES + "focusing:wiou_v1", "IoU times attention to distance", "2301.10051", family="focusing"),
    LossEntry("wiou_v2", _LOSSES + "focusing:wiou_v2", "WIoU v1, poor boxes weighed up", "2301.10051", family="focusing"),
    LossEntry("wiou_v3", _LOSSES + "focusing:wiou_v3", "WIoU v1, ordinary boxes weighed up", "2301.10051", family="focusing"),
    LossEntry("piou_v2", _LOSSES + "focusing:piou_v2", "PIoU, boxes of middling quality weighed up", "10.1016/j.neunet.2023.11.041", family="focusing"),
    LossEntry("inner_iou", _LOSSES + "remapped:inner_iou", "IoU of both boxes scaled about their centres", "2311.02877", family="remapped"),
    LossEntry("focaler_iou", _LOSSES + "remapped:focaler_iou", "IoU stretched from an interval to [0, 1]", "2401.10525", family="remapped"),
    LossEntry("nwd", _LOSSES + "gaussian:nwd", "Wasserstein distance of the boxes as Gaussians", "2110.13389", family="gaussian"),
    LossEntry("kld", _LOSSES + "gaussian:kld", "divergence of the boxes as Gaussians", "2106.01883", family="gaussian"),
    LossEntry("torchvision_giou", "implementations.peers.torchvision_losses:giou", "generalized_box_iou_loss", family="peer"),
    LossEntry("torchvision_diou", "implementations.peers.torchvision_losses:diou", "distance_box_iou_loss", family="peer"),
    LossEntry("torchvision_ciou", "implementations.peers.torchvision_losses:ciou", "complete_box_iou_loss", family="peer"),
], singular="loss")  # fmt: skip

_SCORES = "implementations.boxes.classification:"
CLASSIFICATION_LOSSES = Catalogue("classification_losses", Entry, [
    Entry("focal", _SCORES + "focal", "cross-entropy that fades on easy elements", "1708.02002 (eq. 5)"),
    Entry("quality_focal", _SCORES + "quality_focal", "focal loss on a quality in [0, 1]", "2006.04388 (eq. 2)"),
    Entry("distribution_focal", _SCORES + "distribution_focal", "a distance as a distribution over bins", "2006.04388 (eq. 6)"),
    Entry("generalised_focal", _SCORES + "generalised_focal", "focal loss between two labels", "2006.04388 (eq. 7)"),
    Entry("varifocal", _SCORES + "varifocal", "quality-weighted positives, focal negatives", "2008.13367 (eq. 2)"),
], singular="classification loss")  # fmt: skip

_NMS = "implementations.boxes.nms."
NMS = Catalogue("nms", NmsEntry, [
    NmsEntry("hard", _NMS + "greedy:hard", "the best box stays, what overlaps it goes", "1311.2524 (sec. 2.2)", family="greedy"),
    NmsEntry("class_agnostic", _NMS + "greedy:class_agnostic", "hard over all classes", "1311.2524 (sec. 2.2)", family="greedy"),
    NmsEntry("diou", _NMS + "greedy:diou", "hard on overlap less distance of the centres", "1911.08287 (eq. 13)", family="greedy"),
    NmsEntry("iou_guided", _NMS + "greedy:iou_guided", "hard in the order of predicted IoUs", "1807.11590 (alg. 1)", family="greedy", columns=("ious",)),
    NmsEntry("soft_linear", _NMS + "soft:soft_linear", "scores decay by 1 - IoU", "1704.04503 (eq. 2)", family="soft"),
    NmsEntry("soft_gaussian", _NMS + "soft:soft_gaussian", "scores decay by exp(-IoU^2 / sigma)", "1704.04503 (eq. 3)", family="soft"),
    NmsEntry("matrix", _NMS + "matrix:matrix", "scores decay by the better box that matters most", "2003.10152", family="matrix"),
    NmsEntry("fast", _NMS + "cluster:fast", "what any better box overlaps goes", "1904.02689", family="cluster"),
    NmsEntry("cluster", _NMS + "cluster:cluster", "an iteration whose fixpoint is hard", "2005.03572 (alg. 1)", family="cluster"),
    NmsEntry("spm_cluster", _NMS + "cluster:spm_cluster", "scores decay by every box that stands", "2005.03572", family="cluster"),
    NmsEntry("weighted_cluster", _NMS + "cluster:weighted_cluster", "boxes averaged with what they overlap", "2005.03572", family="cluster"),
    NmsEntry("nmw", _NMS + "fusion:nmw", "boxes averaged with what they remove", "CAD, ICCV workshops 2017", family="fusion"),
    NmsEntry("weighted_boxes_fusion", _NMS + "fusion:weighted_boxes_fusion", "several models' boxes averaged by score", "1910.13302", family="fusion"),
    NmsEntry("torchvision_nms", "implementations.peers.torchvision_nms:nms", "nms on each class", family="peer"),
    NmsEntry("torchvision_batched_nms", "implementations.peers.torchvision_nms:batched_nms", "batched_nms", family="peer"),
], singular="NMS")  # fmt: skip

CATALOGUES: dict[str, Catalogue[Any]] = {
    c.kind: c for c in (PATHS, SCHEDULES, SAMPLERS, LOSSES, CLASSIFICATION_LOSSES, NMS)
}
