"""What each task of samplers takes and measures, in words and types, without torch: a plan is quick.

A record's hash holds the values of parameters and the source of the function that measures; what is declared here
changes no number.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bench.task import Measure, PathName, SamplerName, ScheduleName, TaskParameters, declare
from bench.tasks.budget import Budgeted
from bench.tasks.checkpoints import CheckpointName, find_missing, hash_checkpoints
from bench.tasks.measures import BATCH, COSTS, FIGURES, OF_MODELS
from implementations.catalogue import WEIGHTS

CHECKS = {  # of the audit, in the words of their functions
    "determinism": "A repeated call gives the same bits and leaves its arguments and the global generators alone.",
    "noise": "Samples, calls, steps and starts share no noise; the figure is the largest correlation.",
    "few_steps": "One, two and three steps from end to end of every path give finite samples.",
    "order": "The error falls with the number of steps as fast as the sampler's stated order; the figure is the slope.",
    "defect": "The error of one step from exact history falls with its length to the power p + 1, at step "
    "ratios 1/2 and 2.",
    "equivariance": "One log-SNR grid gives the same samples on every path, rescaled.",
    "start": "The network is first evaluated at the level of ``times[0]``, for any number of steps.",
    "conditioning": "The network is always evaluated at the level of the state that it is given.",
    "end": "No noise is left where sigma = 0; the figure is the standard deviation of what remains.",
    "idle": "Every evaluation is followed by another state; the figure is how many are not.",
    "cost": "The number of evaluations is the number that the sampler states; the figure is the largest difference.",
    "batch": "A sample does not depend on its neighbours.",
    "precision": "The state keeps the precision of its start, and float32 at least, whatever the precision of the "
    "network.",
}


class OnNetwork(Budgeted):
    """Parameters of tasks whose oracle may also be a checkpoint, on the path that it was trained on."""

    oracle: str

    @property
    def checkpoint(self) -> str:
        """The checkpoint that is asked; empty for an oracle."""
        return self.oracle if self.oracle in WEIGHTS or self.oracle.endswith(".safetensors") else ""

    def unavailable(self, device: str) -> str:
        return find_missing([self.checkpoint]) if self.checkpoint else ""

    def contents(self) -> dict[str, str]:
        return hash_checkpoints([self.checkpoint]) if self.checkpoint else {}


class OrderParameters(TaskParameters):
    """A sampler whose order is measured, on grids whose ends lie strictly inside the path.

    ``steps`` defaults to 80, 160 and 320, and to 160, 320 and 640 for order 4 and above. They are doubled, up to 1,280,
    until the slope has settled, and the last three count. ``grid="uniform"`` takes equal steps of the sampler's
    coordinate in place of Karras's grid, without a graded start. The oracle is a Gaussian in 16 dimensions or a mixture
    of two Gaussians, on which no sampler is linear. For a sampler without noise the mixture is in the plane, with a
    reference by DOP853; with noise it is in one dimension, and ``steps`` defaults to 20, 40 and 80, or up to eight
    times as many.
    """

    sampler: SamplerName = Field(examples=["dpmpp_2m"])
    options: dict[str, Any] = {}
    path: PathName = "vp"
    oracle: Literal["gaussian", "mixture"] = "gaussian"
    grid: Literal["karras", "uniform"] = "karras"
    steps: list[int] | None = Field(default=None, min_length=2)
    tolerances: list[float] = Field(default=[1e-3, 1e-4, 1e-5, 1e-6], min_length=2)  # inverses must be integers
    rho: float = 7.0
    sigma_min: float = 0.02  # sigma/alpha at the ends, strictly inside every path of the catalogue
    sigma_max: float = 40.0
    samples: int = Field(default=64, ge=1)
    points: int = Field(default=13, ge=4, le=16)  # log2 of the Brownian paths of each of eight replicates


sampler_order = declare(
    "bench.tasks.samplers.order:sampler_order", OrderParameters,
    kind="ladder",
    entry="sampler",
    catalogue="samplers",
    measures=[
        Measure(
            "order", "least-squares slope of log error over log steps", direction="target", window=0.02, floor=0.02
        ),
        Measure("theory", "nominal order of the method, weak if it is stochastic", direction="target", window=0.0),
        Measure("deviation", "order minus theory", direction="target", window=0.0, floor=0.02),
        Measure("reached", "whether order is at least theory - .1 (.2 from order 3 on, .15 if weak)", unit="yes/no",
                direction="higher", window=0.0),
        Measure("follows", "slope of log error over log tolerance", direction="target", window=0.02, floor=0.02),
        Measure("residual", "RMS of the fit, in log error", direction="target", window=0.0, floor=0.02),
        Measure("finest_error", "error at the most steps, or the least tolerance", window=0.02),
    ],
)  # fmt: skip


class ErrorParameters(OnNetwork):
    """A sampler with a budget of evaluations, on an oracle whose exact flow and law are known, or on a learned model.

    A checkpoint in place of an oracle is asked for each class in turn, from pure noise, and has no law to compare with:
    rms_error is the distance to its own converged solution, and reference_error that of this solution.
    """

    oracle: Literal["gaussian", "mixture", "classes"] | CheckpointName = "gaussian"
    samples: int = Field(default=2000, ge=2)


sampler_error = declare(
    "bench.tasks.samplers.error:sampler_error", ErrorParameters,
    entry="sampler",
    catalogue="samplers",
    samples=True,
    measures=[
        Measure("rms_error", "RMS distance to the exact flow of the same start, per coordinate", window=0.02),
        Measure("rms_in_basin", "the same over the paths that end in the basin of the exact flow", window=0.02),
        Measure("changed_basin", "share of paths that end in another basin", window=0.02, floor=1e-3),
        Measure("reference_error", "error of the fine solve that stands for the exact flow", direction="target"),
        Measure("sliced_w2", "sliced 2-Wasserstein distance to exact draws", window=0.02),
        Measure("sliced_w2_floor", "the same for other exact draws", direction="target", window=0.02),
        Measure("energy", "energy distance to exact draws", window=0.02, floor=1e-6),
        Measure("energy_floor", "the same for other exact draws", direction="target", window=0.02, floor=1e-6),
        *COSTS,
    ],
)  # fmt: skip


class SpectrumParameters(Budgeted):
    """A sampler with a budget, on a Gaussian of 16 modes or of the 784 of the Fashion-MNIST test images."""

    spectrum: Literal["toy", "fmnist"] = "fmnist"


sampler_spectrum = declare(
    "bench.tasks.samplers.spectrum:sampler_spectrum",
    SpectrumParameters,
    entry="sampler",
    catalogue="samplers",
    measures=[
        Measure("w2", "2-Wasserstein distance to the exact law"),
        Measure("kl", "relative entropy KL(output || exact law)", unit="nats"),
        Measure("mean_error", "distance of the means, which is part of w2"),
        Measure("variance_error", "RMS over the modes of the relative error of the variance"),
        *COSTS,
    ],
)


class LedgerParameters(Budgeted):
    """A sampler with a budget on a Gaussian of some spectrum, as it is used: from the prior to an early stop.

    It is judged by ``samples`` samples.
    """

    spectrum: Literal["toy", "fmnist"] = "fmnist"
    schedule_options: dict[str, Any] = {"clean": False}
    samples: int = Field(default=1000, ge=2)


sampler_ledger = declare(
    "bench.tasks.samplers.ledger:sampler_ledger",
    LedgerParameters,
    entry="sampler",
    catalogue="samplers",
    measures=[
        Measure("total", "squared W2 of the samples' means and variances to the data's", window=0.02),
        *(
            Measure(name, summary, direction="target", window=0.02, floor=1e-3)
            for name, summary in {
                "prior": "part that vanishes with the exact marginal at the start",
                "stop": "part that vanishes with the exact flow from the last time to the clean end",
                "solver": "part that vanishes with the exact flow in place of the steps",
                "finite_n": "part that vanishes with the exact law in place of the samples",
                "parts": "sum of the four parts",
                "remainder": "total minus the sum of the parts",
            }.items()
        ),
        *COSTS,
    ],
)


class ImageParameters(Budgeted):
    """A sampler with a budget whose images are judged: on an exact denoiser, of Fashion-MNIST images or of its classes.

    ``empirical`` is the denoiser of the first ``images`` test images. ``classes`` is that of a mixture of one Gaussian
    per class; its data are ``images`` exact draws.
    """

    oracle: Literal["empirical", "classes"] = "empirical"
    images: int = Field(default=2000, ge=65, le=10000)
    samples: int = Field(default=500, ge=65)  # more than the 64 features, so that covariances have full rank


class QualityParameters(OnNetwork):
    """A sampler with a budget whose images are judged, on an exact denoiser or on a learned model.

    ``empirical`` is the denoiser of the first ``images`` test images of Fashion-MNIST. ``classes`` is that of a mixture
    of one Gaussian per class; its data are ``images`` exact draws. A checkpoint is asked for each class in turn, from
    pure noise, and its data are the first ``images`` test images; the time of a batch is measured where there are
    eight.
    """

    oracle: Literal["empirical", "classes"] | CheckpointName = "empirical"
    images: int = Field(default=2000, ge=65, le=10000)
    samples: int = Field(default=500, ge=65)  # more than the 64 features, so that covariances have full rank

    def runs_alone(self, timing: bool) -> bool:
        return timing and bool(self.checkpoint) and self.samples >= 8 * BATCH


class LatencyParameters(ImageParameters):
    """A sampler with a budget whose latency is measured.

    A model call on ``batch`` images is taken to cost ``model_ms``.
    """

    batch: int = Field(default=64, ge=1)
    model_ms: float = Field(default=64.0, ge=0)  # about that of a DiT with 1.8 million parameters on two cores
    max_seconds: float = Field(default=2.0, gt=0)


sampler_quality = declare(
    "bench.tasks.samplers.quality:sampler_quality",
    QualityParameters,
    entry="sampler",
    catalogue="samplers",
    samples=True,
    measures=[
        *FIGURES,
        *OF_MODELS,
        *COSTS,
    ],
)


sampler_latency = declare(
    "bench.tasks.samplers.quality:sampler_latency",
    LatencyParameters,
    entry="sampler",
    catalogue="samplers",
    measures=[
        *FIGURES[:2],
        Measure("latency", "assumed time of the model calls plus overhead", unit="ms", deterministic=False),
        Measure("overhead", "measured time of the sampler without the model", unit="ms", deterministic=False),
        *COSTS,
    ],
)


class ChoiceParameters(TaskParameters):
    """A budget of evaluations, the libraries, and the samplers and schedules from which each may choose its best."""

    nfe: int = Field(ge=1, examples=[10])
    sides: list[str] = Field(["fidmap", "diffusers", "k-diffusion"], examples=[["fidmap", "diffusers"]])
    ours: list[SamplerName] = [
        "ddim", "heun", "ipndm", "lms", "deis_tab", "dpm_solver_multistep", "dpmpp_2m", "dpmpp_3m", "unipc_bh1",
        "unipc_bh2", "res_multistep", "er_sde",
    ]  # fmt: skip
    theirs: list[SamplerName] = [
        "diffusers_ddim", "diffusers_heun", "diffusers_plms", "diffusers_lms", "diffusers_deis", "diffusers_dpmpp_2m",
        "diffusers_dpmpp_3m", "diffusers_dpmpp_2s", "diffusers_unipc_bh2", "diffusers_dpm_solver_multistep_2",
        "k_diffusion_euler", "k_diffusion_heun", "k_diffusion_dpm_2", "k_diffusion_lms", "k_diffusion_dpmpp_2m",
        "k_diffusion_dpmpp_2m_sde", "k_diffusion_dpmpp_3m_sde",
    ]  # fmt: skip
    schedules: list[ScheduleName] = ["karras", "log_snr", "uniform", "quadratic", "trailing"]
    samples: int = Field(default=300, ge=65)
    choosing: int = Field(default=4, ge=1)  # seeds
    judging: int = Field(default=10, ge=2)  # other seeds, on which the choices are compared
    finalists: int = Field(default=4, ge=1)  # combinations that go on after the first seed


sampler_choice = declare(
    "bench.tasks.samplers.choice:sampler_choice",
    ChoiceParameters,
    kind="contest",
    entry="sides",
    measures=[
        Measure("fd_fmnist", "mean over the judging seeds, of the side's best combination", window=0.02),
        # It is near 0, so no relative change can be allowed; the floor is 2 % of the distances.
        Measure("difference", "ours minus theirs, mean over the seeds", window=0, floor=0.003),
        Measure("tie", "1 where the difference is not significant", direction="target"),
        Measure(
            "detectable", "the difference that would be significant in four of five repetitions", direction="target"
        ),
    ],
)


class OverheadParameters(TaskParameters):
    """Samplers whose own time and memory are measured with the same number of steps.

    Ratios are to the first of them.
    """

    samplers: list[SamplerName] = Field(min_length=1, examples=[["euler", "dpmpp_2m"]])
    options: dict[str, dict[str, Any]] = {}  # by sampler
    head: Literal["eps", "x0", "v", "velocity"] = "eps"
    path: PathName = "vp"
    schedule: ScheduleName = "karras"
    steps: int = Field(default=10, ge=1)
    shape: list[int] = [16, 4, 64, 64]
    max_seconds: float = Field(default=10.0, gt=0)


sampler_overhead = declare(
    "bench.tasks.samplers.overhead:sampler_overhead",
    OverheadParameters,
    kind="contest",
    entry="samplers",
    catalogue="samplers",
    measures=[
        Measure("overhead", "median time of the sampler per model call", unit="ms", deterministic=False),
        Measure("ratio", "median of paired ratios to the first sampler, per model call", unit="", deterministic=False),
        Measure("allocated", "memory allocated per model call", unit="states"),
        Measure("peak", "most memory in use, beside the start", unit="states"),
        Measure("growth", "what four times the steps add to it", unit="states", floor=0.01),
    ],
)


class AuditParameters(TaskParameters):
    """A sampler under audit with its options, or all its ``variants``.

    These are each coordinate and order, with noise and without.
    """

    sampler: SamplerName = Field(examples=["dpmpp_2m"])
    options: dict[str, Any] = {}
    variants: bool = False


sampler_audit = declare(
    "bench.tasks.samplers.audit:sampler_audit", AuditParameters,
    entry="sampler",
    catalogue="samplers",
    measures=[
        *(
            measure
            for name, summary in CHECKS.items()
            for measure in (
                Measure(name, summary, "yes/no", "target", window=0, floor=0),
                # The figure of a check that holds is often rounding, which differs between machines.
                Measure(f"{name}_figure", "its figure, the worst of all variants", "", "target", True, 0.1, 1e-4),
            )
        ),
        Measure("passes", "checks that hold", direction="target", window=0, floor=0),
        Measure("failures", "checks that fail", window=0, floor=0),
        Measure("errors", "checks in which the sampler raised, or that could not be measured", window=0, floor=0),
        Measure("not_applicable", "checks without a meaning for this method", direction="target",
                window=0, floor=0),
    ],
)  # fmt: skip
