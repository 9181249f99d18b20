"""What each task of guidance takes and measures, in words and types, without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from bench.task import GuidanceName, Measure, SamplerName, ScheduleName, TaskParameters, declare
from bench.tasks.budget import require_budget
from bench.tasks.checkpoints import CheckpointName, find_missing, hash_checkpoints
from bench.tasks.measures import FIGURES, OF_MODELS
from implementations.catalogue import GUIDANCE


class TruthParameters(TaskParameters):
    """A guidance scheme at a scale w, on the exact denoisers of three classes in the plane.

    The truth is the density ``p(x) p(c | x)^w`` of class ``condition``. ``options`` are the scheme's beside its scale;
    a correction of a guided prediction corrects classifier-free guidance. Samples come from ``sampler`` in ``steps``
    steps of Karras's levels, fine enough for its own error to stay below the floor. The scores are compared at the
    noise levels ``levels``, sigma/alpha, at ``points`` draws of the noised truth. Schemes that need attention, images
    or a measurement cannot be measured on points of the plane.
    """

    guidance: GuidanceName = Field(examples=["classifier_free"])
    scale: float = Field(default=2.0, ge=0)
    options: dict[str, Any] = {}
    condition: int = Field(default=0, ge=0, le=2)
    sampler: SamplerName = "heun"
    steps: int = Field(default=40, ge=1)
    samples: int = Field(default=2000, ge=2)
    levels: list[float] = Field(default=[0.3, 1.0, 3.0], min_length=1)
    points: int = Field(default=200, ge=2)

    @model_validator(mode="after")
    def _has_levels(self) -> TruthParameters:
        if any(level <= 0 for level in self.levels):
            raise ValueError(f"levels: sigma/alpha above 0 are accepted, got {self.levels}")
        return self


guidance_truth = declare(
    "bench.tasks.guidance.truth:guidance_truth",
    TruthParameters,
    entry="guidance",
    catalogue="guidance",
    samples=True,
    measures=[
        Measure("sliced_w2", "sliced 2-Wasserstein distance of the samples to p(x) p(c|x)^w", window=0.02),
        Measure("sliced_w2_floor", "the same for other exact draws", direction="target", window=0.02),
        Measure("energy", "energy distance of the samples to p(x) p(c|x)^w", window=0.02, floor=1e-6),
        Measure("energy_floor", "the same for other exact draws", direction="target", window=0.02, floor=1e-6),
        Measure("class_w2", "sliced 2-Wasserstein distance of the samples to the class, p(x|c)", window=0.02),
        Measure("score_error", "RMS error of the score to that of the noised truth, in units of its RMS, worst level"),
        Measure("score_error_low", "the same at the least noise level"),
        Measure("score_error_high", "the same at the greatest noise level"),
        Measure("quadrature_error", "of the noised truth's score: the change at half the spacing", direction="target"),
        Measure("purity", "mean of p(c|x) over the samples", direction="target", window=0.01),
        Measure("purity_truth", "the same over exact draws of the truth", direction="target", window=0.01),
        Measure("diversity", "root of the samples' total variance, over that of the class", direction="target"),
        Measure("diversity_truth", "the same for exact draws of the truth", direction="target"),
        Measure(
            "evaluations",
            "evaluations of the model per sample, all of a guided one counted",
            direction="target",
            window=0.0,
        ),
    ],
)


class GuidedParameters(TaskParameters):
    """A guidance scheme at a scale, on a learned model of Fashion-MNIST, with the checkpoints that it may need.

    ``scale`` is the scheme's own; a correction of a guided prediction corrects classifier-free guidance of that scale,
    and frequency_decoupled has w in its high band and (1 + w) / 2 in its low one. ``options`` are the scheme's beside
    its scale; of posterior also ``operator``: inpainting (a hole of 14 x 14), blurring (2 pixels) or super_resolution
    (from 7 x 7). ``nfe`` is the budget of the sampler's calls or, where ``counted`` is network, of evaluations of the
    network per image, of which a guided call may take several.
    """

    guidance: GuidanceName = Field(examples=["classifier_free"])
    scale: float = Field(default=2.0, ge=0)
    options: dict[str, Any] = {}
    network: CheckpointName = "fmnist-edm"
    weak: CheckpointName = "fmnist-weak"
    classifier: CheckpointName = "fmnist-noisy-classifier"
    sampler: SamplerName = "dpmpp_2m"
    schedule: ScheduleName = "karras"
    nfe: int = Field(default=10, ge=1)
    counted: Literal["calls", "network"] = "calls"
    images: int = Field(default=10000, ge=130, le=10000)
    samples: int = Field(default=1000, ge=65)

    @model_validator(mode="after")
    def _fits(self) -> GuidedParameters:
        require_budget(self.sampler, self.nfe)
        return self

    @property
    def checkpoints(self) -> list[str]:
        """The checkpoints that the scheme needs."""
        needs = set(GUIDANCE[self.guidance].needs)
        weak, classifier = "weak" in needs, bool({"classifier", "loss"} & needs)
        return [self.network, *([self.weak] if weak else []), *([self.classifier] if classifier else [])]

    def unavailable(self, device: str) -> str:
        return find_missing(self.checkpoints)

    def contents(self) -> dict[str, str]:
        return hash_checkpoints(self.checkpoints)


guidance_quality = declare(
    "bench.tasks.guidance.quality:guidance_quality",
    GuidedParameters,
    entry="guidance",
    catalogue="guidance",
    samples=True,
    measures=[
        *FIGURES,
        *OF_MODELS,
        Measure("accuracy", "share of images that a classifier, which guides none, takes for their class",
                direction="higher", window=0.01),
        Measure("accuracy_real", "the same for real images", direction="target", window=0.0),
        Measure("saturation", "share of pixels that are white", direction="target", window=0.02),
        Measure("saturation_real", "the same for real images", direction="target", window=0.0),
        Measure("misfit", "RMS distance to the measurement in units of its noise, of posterior", direction="target"),
        Measure("evaluations", "calls of the guided model, the sampler's NFE", direction="target", window=0.0),
        Measure("network_evaluations", "evaluations of the network, or a weaker one, per image", window=0.0),
    ],
)  # fmt: skip
