"""Evaluating a model of one's own: it is probed, its suite is planned and run, and its records are reported."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pydantic import ValidationError

from bench.environment import check_device, import_from_here
from bench.errors import UsageError, printable
from bench.evaluate.models.declarations import EXTRACTOR, PAIRED, RANGE, ModelParameters
from bench.evaluate.models.estimate import estimate_judging
from bench.evaluate.models.inputs import (
    Data,
    find_extractor,
    find_shape,
    load_conditions,
    load_data,
    rows_of,
)
from bench.evaluate.models.report import ModelReport, read_rows
from bench.evaluate.models.template import join_suite, make_suite, require_samplers
from bench.models.probe import Probe, probe
from bench.models.spec import load_model
from bench.plan.cell import Cell
from bench.plan.cells import expand
from bench.plan.suite import Suite
from bench.records.store import Store
from bench.report.save import save
from bench.run.reporter import Reporter
from bench.run.session import run as execute
from bench.run.session import select_missing
from bench.tasks.model_samples import REFERENCE, TIMED
from bench.tasks.samplers.problems import affordable, sampler_of
from bench.toml import explain
from implementations.catalogue import SAMPLERS, SCHEDULES

SAMPLERS_SHOWN = ("ddim", "heun", "dpmpp_2m", "unipc_bh2")
BUDGETS = (5, 10, 20)
MOST = 10_000  # evaluations of a budget
ROWS = 256  # of data on which a model is probed

Tell = Callable[[str], None]


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def evaluate_model(
    model: str,
    *,
    samplers: Sequence[str] = SAMPLERS_SHOWN,
    nfe: Sequence[int] = BUDGETS,
    schedule: str = "karras",
    data: str | None = None,
    extractor: str | None = None,
    condition: str | None = None,
    range: tuple[float, float] | None = None,
    seeds: int = 1,
    samples: int = 1000,
    batch: int = 64,
    device: str = "cpu",
    out: Path | str | None = None,
    tell: Tell = _print,
) -> ModelReport:
    """Run samplers on a model of one's own, and report distance to data, solver error and latency of each.

    ``model`` is a SPEC (``bench.models.spec``), ``data`` what ``fidmap evaluate images`` reads or MODULE:FUNCTION. Of
    images, ``extractor`` is fmnist and ``range`` (-1, 1) where they are not given; points take neither.
    Records go to ``out`` (default: runs/model-NAME), and what is stored there is not run again. ``tell`` is given lines
    on progress. A script that calls this must do so under ``if __name__ == "__main__"``, since the cells run in
    processes of their own. Raises UsageError on what is not accepted.
    """
    plan = Plan.make(model, samplers, nfe, schedule, data, extractor, condition, range, seeds, samples, batch, device)
    return plan.run(out, tell)


@dataclass(frozen=True)
class DryRun:
    """What a run would take: the cells with their states and evaluations, and the time by the model's probe."""

    cells: list[tuple[str, str, int | None]]  # (run or stored, name, evaluations of one sample; None: not known)
    evaluations: int  # of one sample, of what is to run
    network_minutes: float
    judging_minutes: float  # of features, distances, their intervals and floors
    call_ms: float  # of one batch, the median of three calls
    batch: int
    warnings: list[str]

    @property
    def minutes(self) -> float:
        """What is counted of the time in all."""
        return self.network_minutes + self.judging_minutes

    def text(self) -> str:
        """The dry run in lines: one per cell, and what all that is to run takes."""
        lines = [f"{state:<7} {'?' if count is None else f'{count:,}':>12} {name}" for state, name, count in self.cells]
        waiting = sum(state == "run" for state, _, _ in self.cells)
        unknown = any(count is None for state, _, count in self.cells if state == "run")
        total = f"{self.evaluations:,} evaluations of one sample" + (
            ", and those that are not known" if unknown else ""
        )
        time = (
            f"about {self.minutes:.2g} minutes: {self.network_minutes:.2g} of the network, from three calls of "
            f"{self.call_ms:.3g} ms on {self.batch} samples, and {self.judging_minutes:.2g} of the comparison with "
            "data, from one call of each of its parts; the start of a process and pictures come on top"
        )
        return "\n".join([*lines, f"{len(self.cells)} cells, {waiting} to run: {total}, {time}"])

    def as_dict(self) -> dict[str, Any]:
        """The dry run for JSON."""
        return asdict(self) | {"minutes": self.minutes}


@dataclass(frozen=True, eq=False)
class Plan:
    """A model with all that it is evaluated by, checked, and the suite that does so."""

    parameters: ModelParameters  # of the first cell
    data: Data | None
    suite: Suite
    quality: str
    device: str

    @classmethod
    def make(
        cls, model: str, samplers: Sequence[str], nfe: Sequence[int], schedule: str, data: str | None,
        extractor: str | None, condition: str | None, range: tuple[float, float] | None, seeds: int, samples: int,
        batch: int, device: str,
    ) -> Plan:  # fmt: skip
        """Check every option, load model and data, and make the suite; raises UsageError on what is not accepted."""
        check_device(device)
        _require_names(samplers, schedule)
        if not nfe or not 1 <= min(nfe) <= max(nfe) <= MOST:
            raise UsageError(f"--nfe {','.join(map(str, nfe))!r}: whole numbers from 1 to {MOST} are accepted")
        for option, number in (("--seeds", seeds), ("--samples", samples - 1), ("--batch", batch)):
            if number < 1:
                raise UsageError(f"{option} is too small; at least {2 if option == '--samples' else 1} is accepted")
        settings = {
            "model": model, "data": data, "extractor": extractor, "condition": condition,
            "range": None if range is None else list(range), "samples": samples, "batch": batch,
        }  # fmt: skip
        settings, found, quality = check_inputs(settings)
        settings["schedule"] = schedule
        suite = make_suite(
            settings, list(dict.fromkeys(samplers)), sorted(set(nfe)), seeds, quality=quality, xlabel=_xlabel(batch)
        )
        first = next(iter(suite.block))
        point = {name: values[0] for name, values in first.axes.items() if isinstance(values, list)}
        try:
            parameters = ModelParameters.model_validate(settings | point)
        except ValidationError as error:
            raise UsageError(explain(error)) from None
        return cls(parameters, found, suite, quality, device)

    def probe(self) -> Probe:
        """Ask the model at three levels on noised data; without rows of data, on noise, for the time alone."""
        return ask(self.parameters, self.data, self.device)

    def store(self, out: Path | str | None, *, repair: bool) -> Store:
        """The store of the records: ``out``, or runs/model-NAME."""
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", self.parameters.model).strip("-")[-60:]
        return Store(Path(out) if out is not None else Path("runs") / f"model-{name}", repair=repair)

    def dry_run(self, out: Path | str | None) -> DryRun:
        """What a run would take, by the number of evaluations and the time of three calls of the model."""
        store, found = self.store(out, repair=False), self.probe()
        cells = self._expand()
        waiting = {cell.identity.hash for cell in select_missing(cells, store)}
        warnings = [found.warning] if found.warning else []
        listed: list[tuple[str, str, int | None]] = []
        for cell in cells:
            try:
                count = self._count(cell)
            except Exception as error:  # a schedule that refuses the number of steps, or own code
                reason = printable(f"{type(error).__name__}: {error}")
                count, warnings = None, [*warnings, f"{cell.name}: its evaluations cannot be counted: {reason}"]
            listed.append(("run" if cell.identity.hash in waiting else "stored", cell.name, count))
        total = sum(count or 0 for state, _, count in listed if state == "run")
        paired = {cell.identity.seed for cell in cells if cell.identity.hash in waiting and _is_paired(cell)}
        total += len(paired) * min(PAIRED, self.parameters.drawn) * 4 * (REFERENCE + REFERENCE // 2)
        network = total / self.parameters.batch * found.seconds / 60
        seeds = {cell.identity.seed for cell in cells if cell.identity.hash in waiting}
        judging = estimate_judging(self.parameters, self.data, self.device, len(waiting), len(seeds)) / 60
        return DryRun(listed, total, network, judging, 1e3 * found.seconds, self.parameters.batch, warnings)

    def run(self, out: Path | str | None, tell: Tell) -> ModelReport:
        """Probe the model, run what is not stored, write tables and pictures, and report."""
        store, suite = self.store(out, repair=True), self.suite
        warning = self.probe().warning
        if warning:
            tell(f"model {self.parameters.model}: {warning}")
        cells = self._expand()
        store.create()
        store.write_suite(
            suite.name, suite.model_dump(mode="json"), [c.identity.hash for c in cells], [c.identity.key for c in cells]
        )
        waiting = select_missing(cells, store)
        tell(f"{len(cells)} cells, {len(cells) - len(waiting)} stored, {len(waiting)} to run into {store.folder}")
        reporter = Reporter(waiting, 1)
        try:
            execute(waiting, store, jobs=1, progress=reporter)
        finally:
            reporter.close()
        save(store, store.folder / "report")
        tell(f"tables and pictures are in {store.folder / 'report'}")
        records = [record for cell in cells if (record := store.get(cell.identity.hash))]
        found = [m for record in records if (m := record.measure("fd")) and m.extractor]
        extractor = found[0].extractor or "" if found else ""
        return ModelReport(
            self.parameters.model, self.quality, extractor, read_rows(records, self.quality),
            [warning] if warning else [], store.folder,
        )  # fmt: skip

    def _expand(self) -> list[Cell]:
        return expand(self.suite, device=self.device, where="evaluate model")

    def _count(self, cell: Cell) -> int | None:
        """Evaluations of one sample that a cell takes; None for a sampler that chooses its steps."""
        own = ModelParameters.model_validate(cell.identity.parameters)
        budget, path = own.budget, load_model(own.model).denoiser.path
        if budget.nfe is None:
            return None
        calls: int | None = budget.nfe
        if not SCHEDULES[budget.schedule].prepare:
            calls = sampler_of(budget).evaluations(affordable(budget, path), path=path, **budget.options)
        batch = min(own.batch, own.drawn)
        extra = max(0, TIMED + 1 - own.drawn // batch) * batch
        return (budget.nfe if calls is None else calls) * (own.drawn + extra)


def join_model(suite: Suite, settings: dict[str, Any], device: str, tell: Tell) -> Suite:
    """A suite of samplers with a model of one's own as one more oracle (``fidmap run SUITE --model SPEC``).

    ``settings`` are of the task ``model_quality``; ``tell`` is given a warning of the model's probe. Raises UsageError
    where the suite has no samplers at a budget, and on what ``evaluate_model`` does not accept.
    """
    require_samplers(suite)
    settings, data, quality = check_inputs(settings)
    parameters = ModelParameters.model_construct(**settings)
    if warning := ask(parameters, data, device).warning:
        tell(f"model {parameters.model}: {warning}")
    return join_suite(suite, settings, quality=quality, xlabel=_xlabel(parameters.batch))


def ask(parameters: ModelParameters, data: Data | None, device: str) -> Probe:
    """Probe a model, on rows of its data where there are some; else on noise, for the time of a call alone.

    Raises UsageError where the model's own code raises.
    """
    model = load_model(parameters.model)
    denoiser, shape = model.on(device), find_shape(model, data)
    rows = rows_of(model, data, device, parameters.batch)
    rows = None if rows is None else rows[:ROWS]
    n = parameters.batch if rows is None else len(rows)
    conditions = None
    if parameters.condition:
        held = load_conditions(parameters.condition, parameters.drawn)
        conditions = held[torch.arange(n) % len(held)].to(device)
    try:
        if rows is None:
            return Probe((), (), _time_calls(denoiser, shape, n, conditions, device))
        no_pixels = data is None or data.kind != "images" or model.autoencoder is not None
        range = None if no_pixels else parameters.ends
        found = probe(denoiser, rows, range=range, condition=conditions)
        return found._replace(seconds=found.seconds * parameters.batch / n)
    except Exception as error:  # the model's own code
        reason = printable(f"{type(error).__name__}: {error}")
        raise UsageError(
            f"model {parameters.model}: cannot be asked about {n} samples of shape {shape}: {reason}"
        ) from None


def check_inputs(settings: dict[str, Any]) -> tuple[dict[str, Any], Data | None, str]:
    """Load the model and all that it is compared with.

    ``settings`` are of the task ``model_quality``. They come back with the extractor and the range of images, where
    there are images; then the data, and the measure that decides the front. Raises UsageError on what cannot be read,
    or does not fit the model.
    """
    low, high = settings["range"] or RANGE
    if not -math.inf < low < high < math.inf:
        raise UsageError(f"--range {low:g},{high:g}: two finite numbers, the lower first, are accepted")
    found = load_data(settings["data"], low, high) if settings["data"] else None
    shape = find_shape(load_model(settings["model"]), found)
    if found is not None and found.kind != "points":
        settings = settings | {"extractor": settings["extractor"] or EXTRACTOR}
        find_extractor(settings["extractor"])
    elif settings["extractor"]:
        raise UsageError(f"--extractor is of images: --data {settings['data'] or 'is not given'} has none")
    if len(shape) == 3:
        settings = settings | {"range": [low, high]}
    elif settings["range"]:
        raise UsageError(f"--range is of images: a sample of {settings['model']} has the shape {shape}")
    if settings["condition"]:
        load_conditions(settings["condition"], ModelParameters.model_construct(**settings).drawn)
    return settings, found, "solver_error" if found is None else "sliced_w2" if found.kind == "points" else "fd"


def _is_paired(cell: Cell) -> bool:
    """Whether a cell's samples are held against the converged solution: its sampler adds no noise."""
    return not SAMPLERS[cell.identity.entry].load().draws_noise({})


def _xlabel(batch: int) -> str:
    return f"time of a batch of {batch} (ms)"


def _require_names(samplers: Sequence[str], schedule: str) -> None:
    import_from_here()
    if not samplers:
        raise UsageError("--samplers is empty; names with commas between are accepted")
    for option, catalogue, names in (("--samplers", SAMPLERS, samplers), ("--schedule", SCHEDULES, [schedule])):
        for name in names:
            try:
                entry: Any = catalogue[name]
                entry.resolve()
            except (LookupError, ImportError) as error:
                raise UsageError(f"{option} {error}") from None


@torch.no_grad()
def _time_calls(denoiser: Any, shape: tuple[int, ...], n: int, conditions: Any, device: str) -> float:
    """The median time of three calls on noise."""
    path, seconds = denoiser.path, []
    for level in (0.2, 1.0, 5.0):
        t = path.time(-torch.tensor(level, dtype=torch.float64).log()).clamp(path.t_min, path.t_max)
        x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        began = time.perf_counter()
        float(denoiser(x, t, conditions).x0.sum())
        seconds.append(time.perf_counter() - began)
    return median(seconds)
