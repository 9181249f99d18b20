"""UniPC: a solver under a corrector, which raises the order by one and costs no evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from implementations.catalogue import SAMPLERS
from implementations.catalogue.entry import SamplerEntry
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.grid import Callback, Grid
from implementations.diffusion.path import Images, Time
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import (
    Form,
    FormName,
    History,
    Moments,
    check_order,
    find_form,
    flat_moments,
    midpoint_moments,
    multistep,
)

VARIANTS = {"bh1": flat_moments, "bh2": midpoint_moments}


@sampler(order_of=lambda *, order, lower_order_final, **_: 2 if lower_order_final else order + 1)
def unipc(
    problem: Problem,
    *,
    order: int = 2,
    prediction: FormName = "data",
    variant: Literal["bh1", "bh2"] = "bh2",
    lower_order_final: bool = False,
) -> Images:
    """UniPC-p: the polynomial through p predictions, corrected by the p + 1 once the next is known (2302.04867).

    With ``order`` p it is of order p + 1, at one evaluation per step. ``prediction`` is what the polynomial is of, the
    data or the noise. ``variant`` is the paper's B(h), h or e^h - 1, which stands for the first moment of the kernel
    where two predictions are used; with more it cancels. ``lower_order_final`` uses no more predictions than steps are
    left. The last state is not corrected: that would take one more evaluation. Raises ValueError on an order outside 1
    to 6, and on another prediction or variant.
    """
    form, moments, order = find_form(prediction), _variant(variant), check_order(order, 6)
    corrector = Corrector(problem.denoiser, problem.grid, form, order, moments, lower_order_final)
    corrected = replace(problem, denoiser=corrector, callback=corrector.listen(problem.callback))
    return multistep(corrected, form, order, moments, lower_order_final)


def _count_evaluations(touching: list[bool], *, predictor: str, predictor_options: Any, **_: Any) -> int | None:
    return SAMPLERS[predictor].cost(touching, predictor_options or {})


def _corrected_order(
    *, predictor: str, predictor_options: Mapping[str, Any] | None, order: int | None, **_: Any
) -> int | None:
    predicted = SAMPLERS[predictor].theory(predictor_options or {})
    return order if predicted is None else min(predicted, predicted if order is None else order) + 1


@sampler(count=_count_evaluations, order_of=_corrected_order)
def unic(
    problem: Problem,
    *,
    predictor: str = "dpmpp_2m",
    predictor_options: Mapping[str, Any] | None = None,
    order: int | None = None,
    prediction: FormName = "data",
    variant: Literal["bh1", "bh2"] = "bh2",
) -> Images:
    """UniC-p after any solver of the catalogue that adds no noise: ``predictor`` (2302.04867, sec. 3.2).

    A solver of order p becomes one of order p + 1 without one more evaluation. ``order`` is p, by default the
    predictor's; ``prediction`` is what the corrector's polynomial is of, the data or the noise, and ``variant`` is the
    paper's B(h), h or e^h - 1. Raises ValueError on a predictor that adds noise, chooses its steps or is a peer's, and
    on other options.
    """
    entry, options = SAMPLERS[predictor], predictor_options or {}
    if entry.draws_noise(options) or entry.adaptive or entry.ascending or entry.maps or entry.family == "peer":
        raise ValueError(f"predictor must be a solver of this library without noise, on a given grid, got {predictor}")
    order = check_order(_order(entry, options) if order is None else order, 6)
    corrector = Corrector(problem.denoiser, problem.grid, find_form(prediction), order, _variant(variant))
    callback, times = corrector.listen(problem.callback), torch.stack(problem.times)
    end: Images = entry(corrector, problem.x, times, condition=problem.condition, callback=callback, **options)
    return end


class Corrector(Denoiser):
    """UniC, the corrector of UniPC, as the denoiser that a solver asks: it moves the state before it answers.

    It does so at each time of the grid. The prediction at the solver's own x corrects the step that led there: the last
    corrected state is taken there again, by the polynomial through this prediction and those before. The solver goes on
    from ``prediction.x``, with the same q.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        grid: Grid,
        form: Form,
        order: int,
        moments: Moments,
        lower_order_final: bool = False,
    ):
        self.denoiser, self.path, self.form, self.moments = denoiser, denoiser.path, form, moments
        self.grid, self.lower_order_final = grid, lower_order_final
        self.history = History(order)
        self.x: Images | None = None  # the last state, corrected
        self.i: int | None = 0  # the time of the grid that is next; None while the solver is within a step

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        prediction = self.denoiser(x, t, condition)
        if self.i is None or self.grid.points[self.i].end:
            return prediction
        i, self.i = self.i, None
        here, q = self.grid.points[i], self.form.read(prediction)
        if self.x is not None and self.history.last == i - 1:
            values = self.history.values
            if self.lower_order_final:
                values = values[: len(self.grid) - i + 1]
            x = self.form.integrate(self.grid.points[i - 1], here, self.x, [(here.log_snr, q), *values], self.moments)
            prediction = Prediction(self.path, x, t, **{self.form.view: q}, aux=prediction.aux)
        self.x = prediction.x
        self.history.push(i, here.log_snr, q)
        return prediction

    def listen(self, callback: Callback | None) -> Callback:
        """Give a callback to run the solver with, which tells the corrector that a step has ended.

        It then calls the caller's callback.
        """

        def hear(i: int, t: Tensor, x: Images, prediction: Prediction) -> None:
            self.i = i + 1
            if callback is not None:
                callback(i, t, x, prediction)

        return hear


def _order(entry: SamplerEntry, options: Mapping[str, Any]) -> int:
    order = entry.theory(options)
    if order is None:
        raise ValueError(f"order must be given for {entry.name}, whose own is not stated")
    return order


def _variant(name: str) -> Moments:
    if name not in VARIANTS:
        raise ValueError(f"variant must be bh1 or bh2, got {name!r}")
    return VARIANTS[name]
