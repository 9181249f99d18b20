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

from bench.timing import paired_ratio
from implementations.weights.published import from_diffusers

DOWN, UP = "DownBlock2D", "UpBlock2D"


def _unet(widths: tuple[int, ...], attention: tuple[bool, ...], channels: int, **options: object) -> dict:
    kinds = ["Attn" if own else "" for own in attention]
    return {"block_out_channels": widths, "in_channels": channels, "out_channels": channels,
            "down_block_types": tuple(kind + DOWN for kind in kinds),
            "up_block_types": tuple(kind + UP for kind in reversed(kinds)), **options}  # fmt: skip


def _dit(heads: int, width: int, layers: int, **options: object) -> dict:
    return {"num_attention_heads": heads, "attention_head_dim": width // heads, "num_layers": layers, **options}


_LATENTS = {"in_channels": 4, "out_channels": 8, "sample_size": 16}
_U, _T = "UNet2DModel", "DiTTransformer2DModel"
# name -> class, configuration, height and width, batch of a pass
SIZES: dict[str, tuple[str, dict, int, int]] = {
    "unet-fmnist": (_U, _unet((48, 72), (False, True), 4, layers_per_block=1, norm_num_groups=8, num_class_embeds=11,
                              time_embedding_dim=96, attention_head_dim=None), 14, 32),
    "unet-small": (_U, _unet((64, 128, 128), (False, True, True), 3, layers_per_block=1, attention_head_dim=32), 32, 8),
    "unet-cifar": (_U, _unet((128, 256, 256, 256), (False, True, False, False), 3, attention_head_dim=None), 32, 4),
    "dit-fmnist": (_T, _dit(4, 128, 6, in_channels=1, sample_size=28, patch_size=4, num_embeds_ada_norm=10), 28, 32),
    "dit-small": (_T, _dit(6, 384, 12, **_LATENTS), 16, 8),
    "dit-base": (_T, _dit(12, 768, 12, **_LATENTS), 16, 2),
}  # fmt: skip

Call = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def make(name: str) -> tuple[dict[str, nn.Module], dict[str, Call]]:
    """The networks of a size by whose they are, with equal weights, and how each is called."""
    kind, options, _, _ = SIZES[name]
    torch.manual_seed(0)
    peer = getattr(diffusers, kind)(**options)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    if kind.startswith("DiT"):
        for block in peer.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(peer.transformer_blocks[0].norm1.emb.state_dict())
    networks = {
        "fidmap": from_diffusers({"_class_name": kind, **peer.config}, peer.state_dict()),
        "diffusers": peer.eval(),
        "diffusers, channels last": copy.deepcopy(peer).to(memory_format=torch.channels_last).eval(),
    }

    def theirs(network: nn.Module, last: bool) -> Call:
        def call(x: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
            x = x.contiguous(memory_format=torch.channels_last) if last else x
            known = {} if labels is None else {"class_labels": labels}
            return network(x, timestep=time, **known).sample

        return call

    calls: dict[str, Call] = {"fidmap": networks["fidmap"]}
    calls |= {key: theirs(networks[key], "last" in key) for key in list(networks)[1:]}
    return networks, calls


def draw(name: str, batch: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """A state, times and labels."""
    _, options, size, _ = SIZES[name]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, options["in_channels"], size, size, generator=generator)
    classes = options.get("num_class_embeds") or (options.get("num_embeds_ada_norm", 1000) if "dit" in name else 0)
    labels = torch.randint(0, classes, (batch,), generator=generator) if classes else None
    return x, torch.randint(0, 1000, (batch,), generator=generator).float(), labels


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


def peak_memory(run: Callable[[], object]) -> float:
    """MB that a call has allocated at its highest beyond what was there before it."""
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest / 1e6


def show(label: str, runs: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> None:
    """Print one row per network: milliseconds, what the own takes of its time, and memory."""
    memory = {name: peak_memory(run) for name, run in runs.items()}
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
    given = draw(name, SIZES[name][3])
    with torch.inference_mode():
        outs = [call(*given) for call in calls.values()]
        for out in outs[1:]:
            torch.testing.assert_close(outs[0], out, rtol=1e-3, atol=1e-4 * out.abs().max().item())
        runs = {key: (lambda call=call: call(*given)) for key, call in calls.items()}
        millions = sum(p.numel() for p in networks["fidmap"].parameters()) / 1e6
        show(f"{name}, {millions:.1f} M parameters, batch {SIZES[name][3]}", runs, rounds, clock)


def training(name: str, rounds: int, clock: Callable[[], float]) -> None:
    """A step of AdamW on the mean squared output at batch 32."""
    networks, calls = make(name)
    given = draw(name, 32)

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
    given = draw(name, SIZES[name][3])
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
    parser.add_argument("--size", nargs="+", choices=SIZES, help="default: all, in training those of Fashion-MNIST")
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
    small = [name for name in SIZES if "fmnist" in name] if options.part == "training" else list(SIZES)
    for name in options.size or small:
        if options.part == "profile":
            profile(name)
        else:
            (forward if options.part == "forward" else training)(name, options.rounds, clock)


if __name__ == "__main__":
    main()
