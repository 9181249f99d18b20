"""The own U-Net and DiT beside those of diffusers with equal weights: time and memory of a pass and a training step.

    python tests/benchmarks/networks_beside_diffusers.py forward           six sizes, without gradients
    python tests/benchmarks/networks_beside_diffusers.py training          a step of AdamW at batch 32
    python tests/benchmarks/networks_beside_diffusers.py profile --size unet-cifar

float32, eager, on the CPU. The weights of the peer's are random and come here through the key map. Both take turns in
one run, in an order that is shuffled in each round; the ratio is the median over the rounds, with its 95 % bootstrap
interval. The second peer is the same network with its channels last in memory (a DiT has hardly any such tensor).
Memory is the highest that one call has allocated beyond what was there before it. ``--clock cpu`` counts the time of
the processor and not that of the wall, for a machine that others use too.
"""

import argparse
import copy
import platform
import random
import time
from collections.abc import Callable

import diffusers
import torch
from torch import Tensor, nn

from bench.tasks.cost import measure_peak
from bench.tasks.networks.equal import draw_inputs, make_networks
from bench.tasks.networks.sizes import SIZES
from bench.timing import paired_ratio

NAMES = {f"{kind}-{name}": (kind, size) for kind, sizes in SIZES.items() for name, size in sizes.items()}
BATCHES = {
    "unet-fmnist": 32, "unet-small": 8, "unet-cifar": 4, "dit-fmnist": 32, "dit-small": 8, "dit-base": 2
}  # fmt: skip

Call = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def make(name: str) -> tuple[dict[str, nn.Module], dict[str, Call]]:
    """The networks of a size by whose they are, with equal weights, and how each is called."""
    kind, size = NAMES[name]
    theirs, ours = make_networks([f"diffusers_{kind}", kind], size).values()
    last = copy.deepcopy(theirs).to(memory_format=torch.channels_last)

    def call_last(x: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
        return last(x.contiguous(memory_format=torch.channels_last), time, labels)

    networks = {"fidmap": ours, "diffusers": theirs, "diffusers, channels last": last}
    return networks, networks | {"diffusers, channels last": call_last}


def compare(runs: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each run in each round, in an order that is drawn anew in each; the first round warms up."""
    order, taken = random.Random(0), {name: [] for name in runs}
    for i in range(rounds + 2):
        for name in order.sample(list(runs), len(runs)):
            begin = clock()
            runs[name]()
            if i >= 2:
                taken[name].append(clock() - begin)
    return taken


def show(label: str, runs: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> None:
    """Print one row per network: milliseconds, what the own takes of its time, and memory."""
    memory = {name: measure_peak(run) / 1e6 for name, run in runs.items()}
    taken = compare(runs, rounds, clock)
    print(label)
    for name, seconds in taken.items():
        median = 1e3 * torch.tensor(seconds).median().item()
        line = f"  {name:<26} {median:9.2f} ms {memory[name]:8.1f} MB"
        if name != "fidmap":
            middle, (low, high) = paired_ratio(taken["fidmap"], seconds)
            line += f"   fidmap takes {middle:.3f} ({low:.3f} to {high:.3f}) of the time"
            line += f", {memory['fidmap'] / memory[name]:.2f} of the memory"
        print(line, flush=True)


def forward(name: str, rounds: int, clock: Callable[[], float]) -> None:
    """One pass without gradients, after a check that all give the same."""
    networks, calls = make(name)
    given = draw_inputs(NAMES[name][1], BATCHES[name])
    with torch.inference_mode():
        outs = [call(*given) for call in calls.values()]
        for out in outs[1:]:
            torch.testing.assert_close(outs[0], out, rtol=1e-3, atol=1e-4 * out.abs().max().item())
        runs = {key: (lambda call=call: call(*given)) for key, call in calls.items()}
        millions = sum(p.numel() for p in networks["fidmap"].parameters()) / 1e6
        show(f"{name}, {millions:.1f} M parameters, batch {BATCHES[name]}", runs, rounds, clock)


def training(name: str, rounds: int, clock: Callable[[], float]) -> None:
    """A step of AdamW on the mean squared output at batch 32."""
    networks, calls = make(name)
    given = draw_inputs(NAMES[name][1], 32)

    def step(key: str, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        calls[key](*given).square().mean().backward()
        optimiser.step()

    runs: dict[str, Callable[[], object]] = {}
    for key, network in networks.items():
        network.train()
        optimiser = torch.optim.AdamW(network.parameters(), 1e-5)
        runs[key] = lambda key=key, optimiser=optimiser: step(key, optimiser)
    show(f"{name}, a training step at batch 32", runs, rounds, clock)


def profile(name: str) -> None:
    """The ten operations that take most of a pass, of both."""
    _, calls = make(name)
    given = draw_inputs(NAMES[name][1], BATCHES[name])
    for key, call in calls.items():
        with torch.inference_mode():
            call(*given)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                for _ in range(10):
                    call(*given)
        print(key)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=48))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["forward", "training", "profile"])
    parser.add_argument("--size", nargs="+", choices=NAMES, help="default: all, in training those of Fashion-MNIST")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    versions = (
        f"torch {torch.__version__}, diffusers {diffusers.__version__}, {platform.processor() or platform.machine()}"
    )
    print(f"{versions}, {options.threads} threads, {options.clock} time, {options.rounds} rounds")
    small = [name for name in NAMES if "fmnist" in name] if options.part == "training" else list(NAMES)
    for name in options.size or small:
        if options.part == "profile":
            profile(name)
        else:
            (forward if options.part == "forward" else training)(name, options.rounds, clock)


if __name__ == "__main__":
    main()
