"""The command ``fidmap evaluate model``: it parses, calls and prints; what is slow to import is imported inside."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bench.errors import UsageError
from bench.output import prints_aside

if TYPE_CHECKING:
    from bench.plan.suite import Suite

N = TypeVar("N", int, float)


def model(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="SPEC",
            help="MODULE:FUNCTION that returns a Denoiser or (path, module, head[, time]), a folder that diffusers "
            "saved, or hf:ORG/NAME.",
        ),
    ],
    samplers: Annotated[str, typer.Option(help="Names, or MODULE:FUNCTION, with commas between.")] = (
        "ddim,heun,dpmpp_2m,unipc_bh2"
    ),
    nfe: Annotated[str, typer.Option(help="Budgets of evaluations, with commas between.")] = "5,10,20",
    schedule: Annotated[str, typer.Option(help="The time grid; see fidmap list schedules.")] = "karras",
    data: Annotated[
        str | None,
        typer.Option(help="What fidmap evaluate images reads, or MODULE:FUNCTION that returns a tensor."),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(help="Of features, by name or as a file; see fidmap list extractors  [default: fmnist]"),
    ] = None,
    condition: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Of n; returns the conditions of n samples.")
    ] = None,
    range: Annotated[str | None, typer.Option(help="Of the model's images, as LOW,HIGH  [default: -1,1]")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each sampler runs with.")] = 1,
    samples: Annotated[int, typer.Option(min=2, help="Samples per sampler, budget and seed.")] = 1000,
    batch: Annotated[int, typer.Option(min=1, help="Samples per batch, whose time is the latency.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder of the records  [default: runs/model-SPEC]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say the evaluations, and the minutes by three calls, and stop.")
    ] = False,
) -> int:
    """Run samplers on a model: distance to data, solver error, latency, and which of them pay."""
    budgets, ends = _numbers("--nfe", nfe, int), read_range(range)
    from bench.evaluate.models.run import Plan

    with prints_aside():
        plan = Plan.make(
            spec, split_names(samplers), budgets, schedule, data, extractor, condition, ends, seeds, samples, batch,
            device,
        )  # fmt: skip
        asked = plan.dry_run(out) if dry_run else None
    if asked is not None:
        for line in asked.warnings:
            _tell(f"model {spec}: {line}")
        print(json.dumps(asked.as_dict(), indent=1) if as_json else asked.text())
        return 0
    with prints_aside():
        report = plan.run(out, _tell)
    print(json.dumps(report.as_dict(), indent=1) if as_json else report.table())
    return int(any(row.status != "ok" and not row.status.startswith("diverged") for row in report.rows))


def join_by_options(suite: Suite, spec: str, options: Mapping[str, str | None], device: str) -> Suite:
    """A suite of samplers with a model as one more oracle, by the options of ``fidmap run``; raises UsageError."""
    ends = read_range(options["range"])
    from bench.evaluate.models.run import join_model

    given = {name: value for name, value in options.items() if value is not None}
    none = {"data": None, "condition": None, "extractor": None}
    settings = none | given | {"model": spec, "range": None if ends is None else list(ends)}
    return join_model(suite, settings, device, _tell)


def read_range(text: str | None) -> tuple[float, float] | None:
    """The two ends of ``--range LOW,HIGH``, None without it; raises UsageError."""
    if text is None:
        return None
    ends = _numbers("--range", text, float)
    if len(ends) != 2:
        raise UsageError(f"--range {text!r}: two numbers with a comma between, the lower first, are accepted")
    return ends[0], ends[1]


def split_names(text: str) -> list[str]:
    """Split names at commas, but for those inside parentheses, which names of other programs may have."""
    return [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def _numbers(option: str, text: str, kind: type[N]) -> list[N]:
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{option} {text!r}: {what} with commas between are accepted") from None


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
