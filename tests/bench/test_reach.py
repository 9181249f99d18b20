"""What a record depends on: what a task loads and opens is in its closure, and what it does not reach moves no hash."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.catalogue import TASKS
from bench.plan.blocks import find_entries
from bench.plan.reach import reach, read
from tests.tiny import write_checkpoint

ROOT = Path(__file__).parents[2]
NO_NUMBER = {
    "implementations.moved", "metrics.moved",  # which say where a module of earlier versions is
    "bench.tasks.budget", "bench.tasks.checkpoints", "bench.tasks.measures",  # which declarations share
}  # fmt: skip
TABLES = "implementations.catalogue"  # a catalogue counts by the entries that are resolved

# Forks one process per job, with other packages loaded and none of ours; prints a line of JSON per job.
SERVER = """
import json, os, pathlib, pkgutil, sys
import numpy, pandas, pydantic, rich, scipy.optimize, scipy.stats, torch, torchmetrics
ours = lambda: [name for name in sys.modules if name.partition(".")[0] in ("bench", "implementations", "metrics")]

def load(root, target, parameters):
    opened, strangers = set(), ours()
    own = tuple(os.path.join(root, package, "") for package in ("bench", "implementations", "metrics"))
    def hear(event, arguments):
        if event == "open" and str(arguments[0]).startswith(own) and not str(arguments[0]).endswith((".py", ".pyc")):
            opened.add(arguments[0])
    sys.addaudithook(hear)
    task = pkgutil.resolve_name(target)
    from bench.task import Context
    chosen = task.parameters.model_validate(parameters)
    task.run(chosen, Context(0))
    return [strangers, ours(), sorted(opened), chosen.model_dump(mode="json")]

def hashes(root, suite):
    from bench.plan.cells import expand
    from bench.plan.suite import read
    cells = [cell.identity for cell in expand(read(pathlib.Path(suite)))]
    return {cell.task + " " + cell.entry: cell.hash for cell in cells}

for job in json.load(sys.stdin):
    if not os.fork():
        sys.path.insert(0, job["root"])
        try:
            answer = {"load": load, "hashes": hashes}[job.pop("do")](**job)
        except BaseException as error:
            answer = repr(error)
        print(json.dumps(answer), flush=True)
        os._exit(0)
    os.wait()
"""

CELLS = {
    "sampler_order": {"sampler": "dpmpp_2m", "steps": [4, 8, 16], "samples": 2},
    "sampler_error": {"sampler": "dpm_solver_v3", "nfe": 5, "oracle": "mixture", "samples": 50},
    "sampler_spectrum": {"sampler": "heun", "nfe": 5, "spectrum": "toy"},
    "sampler_ledger": {"sampler": "ddim", "nfe": 5, "samples": 20},
    "sampler_quality": {"sampler": "unipc_bh2", "nfe": 3, "images": 65, "samples": 65},
    "sampler_latency": {
        "sampler": "euler", "nfe": 2, "images": 65, "samples": 65, "batch": 1, "model_ms": 0, "max_seconds": 0.01,
    },
    "sampler_choice": {
        "nfe": 5, "sides": ["fidmap", "k-diffusion"], "ours": ["ddim"], "theirs": ["k_diffusion_euler"],
        "schedules": ["karras"], "samples": 65, "choosing": 1, "judging": 2, "finalists": 1,
    },
    "sampler_overhead": {"samplers": ["euler", "diffusers_ddim"], "shape": [1, 1, 8, 8], "max_seconds": 0.01},
    "sampler_audit": {"sampler": "ddim"},
    "guidance_truth": {"guidance": "interval", "options": {"low": 0.3}, "samples": 20, "points": 4, "steps": 3},
    "objective_quality": {"objective": "v", "timesteps": "mode", "steps": 2, "sampling": 2, "samples": 20},
    "score_matching": {"draws": 20, "groups": 2, "batch": 4, "max_seconds": 0.01},
    "latency": {"networks": ["diffusers_dit", "dit"], "size": "fmnist", "batches": [1], "max_seconds": 0.01},
    "guidance_quality": {  # with files of weights
        "guidance": "universal", "nfe": 1, "images": 130, "samples": 65, "network": "edm", "weak": "weak",
        "classifier": "classifier",
    },
    "iou_regression": {"loss": "wiou_v3", "points": 1, "iterations": 10},
    "iou_properties": {"loss": "giou", "cases": 100, "starts": 2},
    "iou_gradient": {"loss": "siou", "points": 4},
    "nms_quality": {"nms": "soft_linear", "boxes": 20, "images": 2},
    "nms_speed": {"nms": ["hard", "torchvision_nms"], "boxes": 20, "max_seconds": 0.01},
    "iou_agreement": {"loss": "ciou", "pairs": 50, "iterations": 10, "resamples": 20},
    "iou_choice": {"loss": "diou", "situation": "apart", "pairs": 20, "iterations": 10},
    "model_quality": {"model": "tests.exact:plane", "sampler": "ddim", "nfe": 2, "samples": 4, "batch": 4},
    "metric_sensitivity": {"disturbance": "blur", "n": 100},
    "coverage": {"interval": "AP", "law": "strong", "n": 20, "trials": 20, "resamples": 2},
    "metric_response": {"metric": "energy", "disturbance": "blur", "n": 100},
    "metric_bias": {"figure": "kid_fmnist", "n": 100, "draws": 2},
    "metric_speed": {"entries": ["fidmap", "prdc"], "contest": "prdc", "rounds": 2, "share": 0.01},
    "detection_ap": {"perturbation": "jitter", "scenes": 2},
}  # fmt: skip


def answers(jobs):
    done = subprocess.run(
        [sys.executable, "-c", SERVER], input=json.dumps(jobs), env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What each task loaded and opened in a process of its own."""
    folder = tmp_path_factory.mktemp("weights")
    cells = dict(CELLS)
    files = {
        role: write_checkpoint(folder, cells["guidance_quality"][role]) for role in ("network", "weak", "classifier")
    }
    cells["guidance_quality"] = cells["guidance_quality"] | files
    jobs = [
        {"do": "load", "root": str(ROOT), "target": TASKS[task].target, "parameters": parameters}
        for task, parameters in cells.items()
    ]
    return dict(zip(CELLS, answers(jobs), strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_what_a_task_loads_and_opens_is_in_its_closure(task, loaded):
    assert isinstance(loaded[task], list), loaded[task]
    strangers, modules, opened, parameters = loaded[task]
    assert not strangers
    own = TASKS[task].resolve()
    reached = reach((own.module,), tuple(find_entries(parameters, own.catalogue)))
    of_effect = {name for name in modules if read(name).exports is None and not name.startswith(TABLES)}
    of_effect -= {name for name in of_effect if name.endswith(".declarations")}
    assert of_effect - NO_NUMBER - set(reached.modules) == set()
    assert set(opened) <= {str(path) for module in reached.modules for path in read(module).opens}


SUITE = """
name = "reached"
title = "one cell of each family"
seeds = [0]
timeout_s = 60
memory_gib = 4.0
block = [
    { task = "sampler_error", settings = { sampler = "ddim", nfe = 5 } },
    { task = "sampler_error", settings = { sampler = "dpmpp_2m", nfe = 5 } },
    { task = "sampler_spectrum", settings = { sampler = "heun", nfe = 5 } },
    { task = "sampler_quality", settings = { sampler = "heun", nfe = 5 } },
    { task = "sampler_audit", settings = { sampler = "ddim" } },
    { task = "iou_regression", settings = { loss = "giou" } },
    { task = "nms_quality", settings = { nms = "soft_linear" } },
    { task = "detection_ap", settings = { perturbation = "jitter" } },
]
"""
SAMPLERS_TABLE = "implementations/catalogue/samplers.py"
OF_SAMPLERS = {
    "sampler_error ddim",
    "sampler_error dpmpp_2m",
    "sampler_spectrum heun",
    "sampler_quality heun",
    "sampler_audit ddim",
}
OF_BOXES = {"iou_regression giou", "nms_quality soft_linear", "detection_ap jitter"}
CODE = ("\n\n\n", "\n\nOTHER = 1\n\n\n")
ENTRY = ("SAMPLERS = ", "_OTHER = SamplerEntry('other', 'other:other')\nSAMPLERS = ")
CHANGES = {  # what is changed: file, from and to, cells whose hash moves
    "a comment": ("implementations/samplers/exponential.py", ("\n\n\n", "\n\n\n# a remark\n"), set()),
    "a docstring": ("metrics/samples/frechet.py", ('"""', '"""Otherwise said. '), set()),
    "another entry": (SAMPLERS_TABLE, ENTRY, set()),
    "another family": ("implementations/samplers/picard.py", CODE, set()),
    "the exact law": ("implementations/diffusion/law.py", CODE, {"sampler_spectrum heun", "sampler_audit ddim"}),
    "the audit": ("bench/audit/order.py", CODE, {"sampler_audit ddim"}),
    "a sampler": ("implementations/samplers/dpm_solver.py", CODE, {"sampler_error dpmpp_2m"}),
    "a metric": ("metrics/samples/frechet.py", CODE, {"sampler_quality heun"}),
    "AP": ("metrics/detection/coco.py", CODE, {"detection_ap jitter", "nms_quality soft_linear"}),
    "the path": ("implementations/diffusion/path.py", CODE, OF_SAMPLERS),
    "a box loss": ("implementations/boxes/losses/overlap.py", CODE, {"iou_regression giou"}),
    "the worker": ("bench/run/worker.py", CODE, OF_SAMPLERS | OF_BOXES),
    "weights": ("metrics/extractors/fmnist.safetensors", None, OF_SAMPLERS - {"sampler_audit ddim"}),
}
TOGETHER = (  # made in one tree, since the cells that they move differ; all that moves nothing is in the first
    ("a comment", "a docstring", "another entry", "another family"),
    ("the exact law", "a sampler", "a metric", "AP", "a box loss"),
    ("the audit",),
    ("the path",),
    ("the worker",),
    ("weights",),
)


def test_every_change_is_made_once_and_moves_cells_of_its_own():
    assert sorted(what for changes in TOGETHER for what in changes) == sorted(CHANGES)
    for changes in TOGETHER:
        cells = [cell for what in changes for cell in CHANGES[what][2]]
        assert len(cells) == len(set(cells))


def test_a_change_moves_the_hashes_of_what_reaches_it_alone(tmp_path):
    suite = tmp_path / "reached.toml"
    suite.write_text(SUITE)
    roots = [ROOT]
    for changes in TOGETHER:
        root = tmp_path / changes[-1].replace(" ", "_")
        root.mkdir()
        for package in ("bench", "implementations", "metrics"):
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("*.pyc"))
        for file, change, _ in map(CHANGES.get, changes):
            content = (root / file).read_bytes()
            if change is None:
                changed = content[:-1] + bytes([content[-1] ^ 1])
            else:
                old, new = (text.encode() for text in change)
                assert old in content
                changed = content.replace(old, new, 1)
            (root / file).write_bytes(changed)
        roots.append(root)
    before, *after = answers([{"do": "hashes", "root": str(root), "suite": str(suite)} for root in roots])
    assert isinstance(before, dict), before
    for changes, hashes in zip(TOGETHER, after, strict=True):
        moved = {cell for cell in before if hashes[cell] != before[cell]}
        assert moved == set().union(*(CHANGES[what][2] for what in changes)), changes
