"""Where the time of a step of Euler on a rectified flow goes, ours and diffusers', without a network.

The state has 16 x 4 x 64 x 64 float32 numbers. A step cannot take less than one addition over the state, which is
timed alone; what is beside it is the watch for numbers that are not finite, and Python. Medians of interleaved rounds.
"""

import statistics
import time

import torch

from bench.tasks.samplers.overhead import Idle
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion import RectifiedFlow

STEPS, ROUNDS = 10, 200

torch.set_num_threads(1)
x, output = torch.randn(2, 16, 4, 64, 64, generator=torch.Generator().manual_seed(0))
denoiser, times = Idle(RectifiedFlow(), output, "velocity"), SCHEDULES["uniform"](RectifiedFlow(), STEPS)
small = Idle(RectifiedFlow(), output[:1, :1, :1, :1], "velocity")
peer = SAMPLERS["diffusers_flow_euler"].resolve().bare(x, denoiser.network, STEPS, lambda: output)


def additions() -> None:
    """One addition per step, each into memory of its own."""
    state = x
    for _ in range(STEPS):
        state = torch.add(state, output, alpha=0.1)


def watch() -> None:
    """What looks for numbers that are not finite: one element per sample after each step, all at the end."""
    sums = x.new_zeros(STEPS)
    for place in sums.unbind():
        torch.sum(x.as_strided((16,), (x.stride(0),)), 0, out=place)
    sums[-1] = x.sum()


runs = {
    "diffusers": peer,
    "fidmap": lambda: SAMPLERS["flow_euler"](denoiser, x, times),
    "its additions": additions,
    "its watch": watch,
    "its Python (a state of one number)": lambda: SAMPLERS["flow_euler"](small, x[:1, :1, :1, :1], times),
}
taken: dict[str, list[float]] = {name: [] for name in runs}
for _ in range(ROUNDS):
    for name, run in runs.items():
        begin = time.perf_counter()
        run()
        taken[name].append((time.perf_counter() - begin) / STEPS)
medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
for name, seconds in medians.items():
    print(f"{name:<36} {1e6 * seconds:7.1f} us per step, {seconds / medians['diffusers']:.2f} of diffusers'")
