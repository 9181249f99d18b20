"""A sampler with a budget of model evaluations, as the parameters of several families of tasks have it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from bench.task import PathName, SamplerName, ScheduleName, TaskParameters
from implementations.catalogue import SAMPLERS


def require_budget(sampler: str, nfe: int | None) -> None:
    """Raise ValueError where a sampler goes from data to noise, or its budget ``nfe`` is missing or does not fit it."""
    entry = SAMPLERS[sampler]
    if entry.ascending:
        raise ValueError(f"sampler: {sampler} goes from data to noise only")
    if entry.adaptive and nfe is not None:
        raise ValueError(f"nfe: {sampler} chooses its steps; set its tolerance in options")
    if not entry.adaptive and nfe is None:
        raise ValueError("nfe: a budget of evaluations is needed")
    if nfe is not None and entry.source != "fidmap" and nfe < (stages := entry.load().stages):
        raise ValueError(f"nfe: one step of {sampler} takes {stages} evaluations, the budget is {nfe}")


class Budgeted(TaskParameters):
    """Parameters of tasks of samplers: a sampler with at most ``nfe`` evaluations, on a path and a schedule.

    It runs from exact draws at the first time of its schedule. A sampler that chooses its steps has a tolerance instead
    of ``nfe``.
    """

    sampler: SamplerName = Field(examples=["dpmpp_2m"])
    options: dict[str, Any] = {}
    path: PathName = "vp"
    schedule: ScheduleName = "karras"
    schedule_options: dict[str, Any] = {}
    nfe: int | None = Field(default=None, ge=1, examples=[10])  # none for a sampler that chooses its steps

    @model_validator(mode="after")
    def _fits(self) -> Budgeted:
        require_budget(self.sampler, self.nfe)
        if SAMPLERS[self.sampler].source != "fidmap":
            from bench.tasks.samplers.calls import try_sampler

            try_sampler(self.sampler, self.options, self.path, self.schedule, self.schedule_options)
        return self
