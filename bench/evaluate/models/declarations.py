"""What the task of models takes and measures, in words and types, without torch."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, model_validator

from bench.task import Measure, SamplerName, ScheduleName, TaskParameters, declare
from bench.tasks.budget import Budgeted, require_budget
from bench.tasks.measures import COSTS

RANGE, EXTRACTOR = (-1.0, 1.0), "fmnist"  # of images, where nothing else is said
PAIRED = 256  # starts from which the solver's error is measured


class ModelParameters(TaskParameters):
    """A model of one's own, a sampler with at most ``nfe`` evaluations on a schedule, and the data to compare with.

    ``model`` is a SPEC (``bench.models.spec``). ``data`` is what ``fidmap evaluate images`` reads, or MODULE:FUNCTION
    that returns a tensor; without it there are solver error and latency alone. ``condition`` is MODULE:FUNCTION of
    ``n``, which returns the conditions of n samples, one per row. ``range`` is that of the model's images.
    Where they are not given, it is (-1, 1), and ``extractor`` fmnist; of points there are neither.
    """

    model: str = Field(examples=["mymodel"])  # in a suite file a folder: it may not name code
    sampler: SamplerName = Field(examples=["dpmpp_2m"])
    options: dict[str, Any] = {}
    schedule: ScheduleName = "karras"
    schedule_options: dict[str, Any] = {}
    nfe: int | None = Field(default=None, ge=1, examples=[10])  # none for a sampler that chooses its steps
    data: str | None = None
    extractor: str | None = None
    condition: str | None = None
    range: tuple[float, float] | None = None
    samples: int = Field(default=1000, ge=2)
    batch: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> ModelParameters:
        require_budget(self.sampler, self.nfe)
        if not -math.inf < self.ends[0] < self.ends[1] < math.inf:
            raise ValueError(f"range: two finite numbers, the lower first, are accepted, given {list(self.ends)}")
        return self

    @property
    def drawn(self) -> int:
        """How many samples are drawn: without data, those that the solver's error needs."""
        return self.samples if self.data else min(self.samples, PAIRED)

    @property
    def ends(self) -> tuple[float, float]:
        """The range of the model's images."""
        return self.range or RANGE

    @property
    def extractor_name(self) -> str:
        """The extractor of the images' features."""
        return self.extractor or EXTRACTOR

    @property
    def budget(self) -> Budgeted:
        """The sampler's part of the parameters; the path is the model's own."""
        return Budgeted(
            sampler=self.sampler, options=self.options, schedule=self.schedule,
            schedule_options=self.schedule_options, nfe=self.nfe,
        )  # fmt: skip

    def contents(self) -> dict[str, str]:
        """Hashes of the model's weights, of the data and the conditions, and of the extractor's weights."""
        from bench.evaluate.models.inputs import hash_inputs

        return hash_inputs(self.model, self.data, self.ends, self.extractor_name, self.condition, self.drawn)


model_quality = declare(
    "bench.evaluate.models.quality:model_quality",
    ModelParameters,
    entry="sampler",
    catalogue="samplers",
    packages=("diffusers",),
    samples=True,
    measures=[
        Measure("fd", "Frechet distance of the extractor's features to the data", window=0.02),
        Measure("fd_floor", "the same for as many further rows of the data", direction="target", window=0.02),
        Measure("kid", "kernel distance of the extractor's features to the data, unbiased", window=0.02, floor=1e-6),
        Measure("sliced_w2", "sliced 2-Wasserstein distance of points to the data", window=0.02),
        Measure("sliced_w2_floor", "the same for as many further rows of the data", direction="target", window=0.02),
        Measure("energy", "energy distance of points to the data, unbiased", window=0.02, floor=1e-6),
        Measure("solver_error", "RMS distance to the model's own converged solution from the same starts", window=0.02),
        Measure("reference_error", "RMS by which that solution differs from one of half its steps", direction="target"),
        Measure("latency", "median time of a batch", unit="ms", deterministic=False),
        *COSTS,
    ],
)
