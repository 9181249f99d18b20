"""The suite that evaluates a model: samplers times budgets times seeds, with its table and its pictures."""

from __future__ import annotations

import os
from typing import Any

from bench.errors import UsageError
from bench.plan.plot import LinePlot, SamplesPlot
from bench.plan.spec import TableSpec
from bench.plan.suite import Block, Suite
from implementations.catalogue import SAMPLERS

TASK = "model_quality"
HOURS = 24 * 3600.0  # seconds that a cell may take: how long a model takes is its own affair
QUALITY = ("fd", "sliced_w2", "solver_error")  # the first that a record has decides which points are dominated
YLABELS = {"fd": "FD ({})", "sliced_w2": "sliced W2 to the data", "solver_error": "RMS error of the solver"}
NOTE = (
    "solver_error is the RMS distance, per coordinate, to the model's own converged solution from the same starts: the "
    "error of the solver alone. Distances to data have the model's error too; their floor is what as many further rows "
    "of the data reach. evaluations are counted per batch."
)


SOURCES = ("sampler_quality", "sampler_latency", "sampler_error")  # of whose blocks a model takes samplers and budgets
KEPT = ("sampler", "options", "schedule", "schedule_options", "nfe")  # what it takes of them; path and data are its own


def make_suite(
    settings: dict[str, Any], samplers: list[str], nfe: list[int], seeds: int, *, quality: str, xlabel: str
) -> Suite:
    """The suite of a model: ``settings`` of the task, each sampler at each budget, and seeds from 0.

    Samplers that choose their steps run once per seed. ``quality`` is the measure of the Pareto picture.
    """
    fixed = [name for name in samplers if not SAMPLERS[name].adaptive]
    adaptive = [name for name in samplers if SAMPLERS[name].adaptive]
    shared: dict[str, Any] = {"task": TASK, "settings": settings, "threads": count_cores()}
    blocks = [Block(**shared, axes={"sampler": fixed, "nfe": nfe})] if fixed else []
    blocks += [Block(**shared, axes={"sampler": adaptive})] if adaptive else []
    return Suite(
        name="model", title=f"samplers on {settings['model']}", seeds=list(range(seeds)), timeout_s=HOURS,
        memory_gib=1024.0, block=blocks, table=[make_table(quality)],
        plot=make_plots(quality, xlabel, settings["extractor"]),
    )  # fmt: skip


def make_table(quality: str) -> TableSpec:
    """The table of a model's records: distances to data where there are data, else the solver's error."""
    distances = {"fd": ["fd", "fd_floor", "kid"], "sliced_w2": ["sliced_w2", "sliced_w2_floor", "energy"]}
    return TableSpec(
        name="model", title="Samplers on the model", task=TASK, rows=["sampler", "nfe"], note=NOTE,
        values=[*distances.get(quality, []), "solver_error", "latency", "evaluations"],
    )  # fmt: skip


def make_plots(quality: str, xlabel: str, extractor: str) -> list[Any]:
    """The Pareto picture, quality over the time of a batch, and the picture of samples."""
    pareto = LinePlot(
        name="pareto", title="Quality over the time of a batch, with 95 % intervals", task=TASK, x="latency", y=quality,
        series="sampler", log="xy", pareto=True, floor=f"{quality}_floor" if quality != "solver_error" else None,
        floor_label="floor (as many rows of the data)", xlabel=xlabel, ylabel=YLABELS[quality].format(extractor),
    )  # fmt: skip
    samples = SamplesPlot(
        kind="samples", name="samples", title="Samples from the same starts, by sampler and evaluations (NFE)",
        task=TASK, x="@grid", series="sampler", facet="nfe",
    )  # fmt: skip
    return [pareto, samples]


def join_suite(suite: Suite, settings: dict[str, Any], *, quality: str, xlabel: str) -> Suite:
    """A suite of samplers with a model as one more oracle: its samplers and budgets, run on the model too.

    These are those of the suite's blocks on images; where it has none, of its blocks on exact flows. Raises UsageError
    on a suite that has neither.
    """
    joined = [_on_model(block, settings) for block in require_samplers(suite)]
    named = {spec.name for spec in (*suite.table, *suite.plot)}
    where = {"schedule": "karras"}
    tables = [make_table(quality)]
    plots = [
        plot.model_copy(update={"name": f"model_{plot.name}", "where": where})
        for plot in make_plots(quality, xlabel, settings["extractor"])
    ]
    if taken := named & {spec.name for spec in (*tables, *plots)}:
        raise UsageError(f"--model: {suite.name} has a table or plot named {min(taken)}, as the model's is")
    return suite.model_copy(
        update={
            "block": [*suite.block, *joined],
            "table": [*suite.table, *tables],
            "plot": [*suite.plot, *plots],
            "timeout_s": max(suite.timeout_s, HOURS),
        }
    )


def require_samplers(suite: Suite) -> list[Block]:
    """The blocks of a suite whose samplers and budgets a model takes; raises UsageError where there are none."""
    images = [block for block in suite.block if block.task in SOURCES[:2]]
    blocks = images or [block for block in suite.block if block.task in SOURCES]
    if not blocks:
        raise UsageError(f"--model: {suite.name} runs no samplers at a budget; a suite with {', '.join(SOURCES)} does")
    return blocks


def _on_model(block: Block, settings: dict[str, Any]) -> Block:
    """A block of the same samplers, schedules and budgets on a model; rows that differ in their path alone are one."""
    rows = [dict(zip(block.zip, values, strict=True)) for values in zip(*block.zip.values(), strict=True)]
    kept = {str(row): row for row in ({name: row[name] for name in KEPT if name in row} for row in rows)}
    zipped = {name: [row[name] for row in kept.values()] for name in next(iter(kept.values()), {})}
    own = {name: value for name, value in block.settings.items() if name in KEPT}
    axes = {name: value for name, value in block.axes.items() if name in KEPT}
    exclude = [one for one in block.exclude if set(one.match) <= {*own, *axes, *zipped}]
    return Block(
        task=TASK, settings=settings | own, axes=axes, zip=zipped, exclude=exclude, seeds=block.seeds,
        threads=count_cores(),
    )  # fmt: skip


def count_cores() -> int:
    """The cores that this process may use: the cells run alone, so that a model has all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
