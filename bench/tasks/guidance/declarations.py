"""What each task of guidance takes and measures, in words and types, without torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from bench.task import GuidanceName, Measure, SamplerName, TaskParameters, declare


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
