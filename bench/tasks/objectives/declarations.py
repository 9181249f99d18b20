"""What each task of training objectives takes and measures, in words and types, without torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from bench.task import Measure, PathName, TaskParameters, check_name, declare
from implementations.catalogue.objectives import OBJECTIVES, TIMESTEPS

SCORES = tuple(name for name, entry in OBJECTIVES.items() if entry.of == "score")
Regression = Literal["eps", "x0", "v", "edm", "flow_matching", "rectified_flow"]
Weighting = Literal[
    "", "snr", "truncated_snr", "snr_plus_one", "min_snr", "soft_min_snr", "p2", "edm", "sigmoid", "likelihood"
]


def describe_entry(name: str) -> str:
    """A hash of what the table of objectives says of one, which decides what it computes."""
    from bench.files import digest

    return digest([OBJECTIVES[name].target, dict(OBJECTIVES[name].preset)])


class QualityParameters(TaskParameters):
    """A regression objective that trains a small network on eight Gaussians in the plane, from which is then sampled.

    ``weighting`` takes the place of the objective's own, ``timesteps`` is the density of times. ``edm`` has EDM's
    preconditioning, the others predict their view directly. A training is ``steps`` steps of AdamW on fresh draws;
    Heun's method samples in ``sampling`` steps. What needs a teacher, as reflow and consistency do, is not covered.
    """

    objective: Regression = Field(examples=["v"])
    weighting: Weighting = ""
    timesteps: Annotated[str, check_name(TIMESTEPS)] = "logit_normal"
    timestep_options: dict[str, Any] = {}
    path: PathName = "vp"
    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=256, ge=2)
    rate: float = Field(default=2e-3, gt=0)
    sampling: int = Field(default=24, ge=1)
    samples: int = Field(default=2000, ge=2)

    @model_validator(mode="after")
    def _fits(self) -> QualityParameters:
        if self.objective == "edm" and self.path != "edm":
            raise ValueError(f"path: edm is accepted with the objective edm, got {self.path!r}")
        return self

    def contents(self) -> dict[str, str]:
        """A hash of the objective's view and weighting."""
        return {"objective": describe_entry(self.objective)}


objective_quality = declare(
    "bench.tasks.objectives.quality:objective_quality",
    QualityParameters,
    entry="objective",
    samples=True,
    measures=[
        Measure("sliced_w2", "sliced 2-Wasserstein distance of the samples to exact draws", window=0.02),
        Measure("sliced_w2_floor", "the same for other exact draws", direction="target", window=0.02),
        Measure("x0_error", "RMS error of x0 to the exact denoiser at sigma/alpha = 0.5", window=0.02),
        Measure("x0_error_low", "the same at sigma/alpha = 0.1", window=0.02),
        Measure("x0_error_high", "the same at sigma/alpha = 2", window=0.02),
        Measure("loss", "mean over the last tenth of the training", direction="target", window=0.02),
    ],
)


def _are_scores(names: list[str]) -> list[str]:
    if unknown := [name for name in names if name not in SCORES]:
        raise ValueError(f"no objective of scores named {unknown[0]!r}; there are {', '.join(SCORES)}")
    return names


class ScoreMatchingParameters(TaskParameters):
    """Score matching losses that take turns on one small score network and the same draws of noised toy data.

    The data have Gaussian noise of standard deviation ``sigma``, so that all losses have the same minimiser, the score
    of the noised density, which is known. The network is as drawn, or ``fitted`` to that score by ``fit`` steps.
    ``draws`` are those of the value, ``groups`` batches of ``batch`` those of the gradient's variance.
    """

    objectives: Annotated[list[str], AfterValidator(_are_scores)] = Field(
        default=list(SCORES), min_length=1, examples=[list(SCORES)]
    )
    toy: Literal["two_moons", "rings", "eight_gaussians"] = "eight_gaussians"
    sigma: float = Field(default=0.3, gt=0)
    fitted: bool = False
    fit: int = Field(default=500, ge=1)
    draws: int = Field(default=20_000, ge=2)
    groups: int = Field(default=64, ge=2)
    batch: int = Field(default=128, ge=2)
    max_seconds: float = Field(default=2.0, ge=0)

    def contents(self) -> dict[str, str]:
        """Hashes of what the table says of the objectives."""
        return {name: describe_entry(name) for name in self.objectives}


score_matching = declare(
    "bench.tasks.objectives.scores:score_matching",
    ScoreMatchingParameters,
    kind="contest",
    entry="objectives",
    measures=[
        Measure("divergence", "E |score - grad log p|^2 / 2 by the loss and its constant", direction="target"),
        Measure("divergence_exact", "the same by quadrature", direction="target"),
        Measure("quadrature_error", "its change at half the nodes, relative", direction="target"),
        Measure(
            "deviation",
            "divergence minus the exact one, in its standard errors",
            direction="target",
            window=0.0,
            floor=0.1,
        ),
        Measure("loss_deviation", "standard deviation of the loss of one draw", window=0.02),
        Measure(
            "gradient_variance", "total variance of one draw's gradient, over that with the score known", window=0.02
        ),
        Measure("cost", "operations of a step, in passes of the network", unit="passes", window=0.001),
        Measure("time", "median time of a step on a batch", unit="ms", deterministic=False),
        Measure("ratio", "median of the paired ratios of that time to the first loss's", deterministic=False),
    ],
)
