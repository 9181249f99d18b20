"""What each task of networks takes and measures, in words and types, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bench.environment import compiling_lacks
from bench.task import Measure, TaskParameters, declare
from bench.tasks.networks.sizes import SIZES

ARCHITECTURES = {"unet": "unet", "diffusers_unet": "unet", "dit": "dit", "diffusers_dit": "dit"}
CHECKPOINTS = ("fmnist-edm", "fmnist-flow", "fmnist-weak", "fmnist-flow-2", "fmnist-consistency")


class LatencyParameters(TaskParameters):
    """Networks that take turns: one architecture at a stated ``size`` with equal weights, or shipped checkpoints.

    ``mode`` says how they run: eager, compiled by torch.compile for each batch, or as a CUDA graph of the eager pass.
    Of ``batches``, which begin with 1, the larger ones are tried until none of the networks gains by the next. A timing
    has at least ``rounds`` rounds, and more for up to ``max_seconds``. Ratios are to the first network.
    """

    networks: list[str] = Field(min_length=1, examples=[["diffusers_unet", "unet"]])
    size: str = Field(default="", examples=["small"])  # empty for checkpoints
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    mode: Literal["eager", "compiled", "cuda_graph"] = "eager"
    batches: list[int] = [1, 2, 4, 8, 16, 32, 64]
    rounds: int = Field(default=20, ge=20)  # an interval of ratios needs 20
    max_seconds: float = Field(default=5.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> LatencyParameters:
        known = (*ARCHITECTURES, *CHECKPOINTS)
        if unknown := [name for name in self.networks if name not in known]:
            raise ValueError(f"networks: no network named {unknown[0]!r}; there are {', '.join(known)}")
        kinds = {ARCHITECTURES.get(name, "") for name in self.networks}
        if len(kinds) > 1:
            raise ValueError("networks: those of one architecture, or checkpoints, take turns")
        sizes = SIZES.get(kinds.pop())
        if sizes is None and self.size:
            raise ValueError(f"size: a checkpoint has its own, got {self.size!r}")
        if sizes is not None and self.size not in sizes:
            raise ValueError(f"size: {', '.join(sizes)} are accepted, got {self.size!r}")
        if self.batches != sorted({*self.batches, 1}) or self.batches[0] < 1:
            raise ValueError(f"batches: rising numbers from 1 on are accepted, got {self.batches}")
        return self

    def contents(self) -> dict[str, str]:
        """Hashes of the weights of the checkpoints."""
        from bench.files import digest
        from implementations.weights.files import FOLDER

        files = [name for name in self.networks if name in CHECKPOINTS]
        return {name: digest((FOLDER / f"{name}.safetensors").read_bytes()) for name in files}

    def unavailable(self, device: str) -> str:
        """Name what is not here: CUDA, what torch.compile needs, a checkpoint."""
        if self.mode == "cuda_graph" and not device.startswith("cuda"):
            return "a CUDA graph needs a GPU (--device cuda): not measured here"
        if self.mode == "compiled" and (missing := compiling_lacks(device)):
            return f"torch.compile lacks {missing}: not measured here"
        if names := [name for name in self.networks if name in CHECKPOINTS]:
            from implementations.weights import shipped

            if missing := ", ".join(name for name in names if name not in shipped()):
                return f"{missing} does not come with fidmap yet (fidmap train {missing})"
        return ""


latency = declare(
    "bench.tasks.networks.latency:latency",
    LatencyParameters,
    kind="contest",
    entry="networks",
    catalogue="networks",
    measures=[
        Measure("parameters", "millions of numbers that are learned", "M", direction="target", window=0.0),
        Measure("flops", "operations per image, a multiply-add counted as two", "GFLOP", window=0.001),
        Measure("time", "median time of a pass at batch 1", "ms", deterministic=False),
        Measure("ratio", "median of the paired ratios of that time to the first network's", deterministic=False),
        Measure("memory", "peak memory of a pass at batch 1, beside weights and input", "MB", window=0.02),
        Measure("throughput", "images per second at the best batch", "1/s", "higher", deterministic=False),
        Measure("batch", "the batch at which images per second are most", "", "target", deterministic=False),
        Measure(
            "ratio_throughput",
            "median of the paired ratios of the time per image to the first network's, each at its best batch",
            deterministic=False,
        ),
        Measure("memory_batch", "peak memory of a pass at the best batch", "MB", deterministic=False),
        Measure("compile", "time of the first call at batch 1, which compiles", "s", deterministic=False),
        Measure(
            "difference",
            "largest difference of the output from the first network's, in units of its largest value",
            direction="target",
            window=0.0,
            floor=0.01,
        ),
    ],
)
