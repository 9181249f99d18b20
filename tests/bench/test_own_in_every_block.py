"""A function of the documented form passes through every block of its family's suites whose options it takes."""

import importlib
import itertools
import math
import sys

import pytest
import torch

from bench.plan.cells import find_task, stream
from bench.plan.suite import find, read
from bench.task import Context, Value
from bench.tasks.samplers import quality
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
GUESTS = {  # what the README prints, a scheduler and a metric of the documented form
    "midpoint:midpoint": "samplers",
    "scheduler:tests.bench.own_schedulers:Multistep": "samplers",
    "myboxes:myloss": "losses",
    "myboxes:mynms": "nms",
    "mymetric:gap": "metrics",
}
SUITES = {
    "samplers": ["samplers", "quick", "audit"],
    "losses": ["iou", "quick"],
    "nms": ["nms"],
    "metrics": ["metrics"],
}
SMALL = {  # each task at a size at which it takes a moment
    "sampler_order": {"steps": [4, 8], "samples": 2, "points": 4},
    "sampler_error": {"samples": 20},
    "sampler_spectrum": {"spectrum": "toy"},
    "sampler_ledger": {"spectrum": "toy", "samples": 20},
    "sampler_quality": {"images": 65, "samples": 65},
    "sampler_latency": {"images": 65, "samples": 65, "batch": 1, "max_seconds": 0.01},
    "sampler_overhead": {"shape": [1, 1, 8, 8], "max_seconds": 0.01},
    "sampler_audit": {},
    "iou_properties": {"cases": 100, "starts": 2},
    "iou_gradient": {"points": 4},
    "iou_agreement": {"pairs": 50, "iterations": 10, "resamples": 20},
    "iou_choice": {"pairs": 20, "iterations": 10},
    "iou_regression": {"points": 1, "iterations": 10},
    "nms_quality": {"boxes": 20, "images": 2},
    "nms_speed": {"boxes": 20, "images": 2, "max_seconds": 0.01},
    "metric_bias": {"n": 100, "draws": 2},
    "metric_response": {"n": 100},
}
REASONS = ("takes no option", "mode must be solver", "nfe: ")  # for which a guest may be left out


def _readme(first_line):
    begin = README.index(f"```python\n{first_line}")
    return README[begin:].split("```")[1].removeprefix("python\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("midpoint", "myboxes", "mymetric"):
        (tmp_path / f"{name}.py").write_text(_readme(f"# {name}.py"))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("midpoint", "myboxes", "mymetric"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    monkeypatch.setattr(quality, "POOL", 200)


def blocks(guest):
    """Each block of the guest's suites that has an axis of its kind, as a suite of its own."""
    kind = GUESTS[guest]
    own = SUITES[kind] if ":" not in guest.partition(":")[2] else ["samplers", "quick"]  # of a scheduler: time
    for suite in map(read, map(find, own)):
        for index, block in enumerate(suite.block):
            task = find_task(block.task)
            if task.catalogue == kind and task.entry in {**block.axes, **block.settings}:
                alone = suite.model_copy(
                    update={"block": [block], "table": [], "plot": [], "ranking": [], "seeds": [0]}
                )
                yield f"{suite.name}, block {index} ({block.task})", alone, task


@pytest.mark.unchecked
@pytest.mark.parametrize("guest", GUESTS)
def test_a_function_of_the_documented_form_passes_through_every_block_whose_options_it_takes(guest, folder):
    ran = 0
    for where, suite, task in blocks(guest):
        cells = (cell for cell in stream(suite, guests={GUESTS[guest]: [guest]}) if _takes_part(cell, guest))
        cells = list(itertools.islice(cells, 200))
        assert cells, where
        run = next((cell for cell in cells if cell.skip is None and guest in cell.identity.entries), None)
        if run is None:
            left_out = {reason for cell in cells for name, reason in cell.left_out if name == guest}
            assert left_out, where
            assert all(any(reason in why for reason in REASONS) for why in left_out), (where, left_out)
            continue
        values = run.identity.parameters | SMALL[task.name]
        if task.kind == "contest":
            values |= {task.entry: [run.identity.entries[0], guest]}
        with torch.random.fork_rng():
            found = task.run(task.parameters.model_validate(values), Context())
        found = found[guest] if task.kind == "contest" else found
        assert found, where
        assert set(found) <= set(task.measures), where
        values = [value.value if isinstance(value, Value) else value for value in found.values()]
        assert all(math.isfinite(value) for value in values), (where, found)
        ran += 1
    assert ran >= {"samplers": 12, "losses": 5, "nms": 4, "metrics": 2}[GUESTS[guest]]


def _takes_part(cell, guest):
    return guest in cell.identity.entries or any(name == guest for name, _ in cell.left_out)
