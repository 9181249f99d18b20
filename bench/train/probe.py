"""How fast a recipe trains by number format and memory layout, measured by some steps of each; a recipe pins one."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from bench.errors import UsageError
from bench.train.loop import Job, reproducible, take_step
from bench.train.optimiser import make_optimiser
from bench.train.recipe import change, load_recipe
from bench.train.run import make_job
from bench.train.team import Team

WARM, TIMED = 3, 10  # steps


def probe_speed(recipe: str | Path, *, device: str = "cpu") -> Iterator[str]:
    """Time steps of a recipe by dtype and layout, and give a line for each as it is known; nothing is written.

    What is fastest depends on the machine, and the bits of a training on what is taken: so the recipe says it, and a
    training never chooses by itself. Raises UsageError on a recipe that trains nothing.
    """
    plan = load_recipe(recipe)
    for dtype, channels_last in itertools.product(("float32", "bfloat16"), (False, True)):
        own = change(plan, dtype=dtype, channels_last=channels_last)
        team = Team(device)
        with reproducible(own), tempfile.TemporaryDirectory() as folder:
            job = make_job(own, Path(folder))
            if not isinstance(job, Job):
                raise UsageError(f"recipe {plan.name}: task {plan.task} trains nothing")
            model = job.model.to(team.device)
            optimiser = make_optimiser(own.optimiser, model)
            seconds = []
            for step in range(WARM + TIMED):
                began = time.perf_counter()
                take_step(job, own, step, model, optimiser, team)
                if team.device.type == "cuda":
                    torch.cuda.synchronize(team.device)
                seconds.append(time.perf_counter() - began)
        rate = own.batch / statistics.median(seconds[WARM:])
        yield f'dtype = "{dtype}", channels_last = {str(channels_last).lower()}: {rate:.0f} images/s'
