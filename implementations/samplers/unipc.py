"""UniPC: a solver under a corrector, which raises the order by one and costs no evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

from implementations.catalogue import SAMPLERS
from implementations.catalogue.entry import SamplerEntry
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.grid import Callback, Grid, costs, order_of
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images, Time
from implementations.samplers.contract import sampler
from implementations.samplers.exponential import (
    Form,
    History,
    Moments,
    checked_order,
    flat,
    form_named,
    midpoint,
    multistep,
)

Times: TypeAlias = Float[Tensor, " points"]
VARIANTS = {"bh1": flat, "bh2": midpoint}


@sampler
@order_of(lambda *, order, lower_order_final, **_: 2 if lower_order_final else order + 1)
def unipc(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    order: int = 2,
    prediction: Literal["data", "noise"] = "data",
    variant: Literal["bh1", "bh2"] = "bh2",
    lower_order_final: bool = False,
) -> Images:
    """UniPC-p: the polynomial through p predictions, corrected by the p + 1 once the next is known (2302.04867).

    Of order p + 1 for ``order`` p. ``variant`` is the paper's B(h), h or e^h - 1, which stands for the first moment of
    the kernel where two predictions are used; with more it cancels. ``lower_order_final`` looks back no further than
    there are steps left. The last state is not corrected: that would take one more evaluation.
    Raises ValueError on an order outside 1 to 6, and on another prediction or variant.
    """
    form, moments = form_named(prediction), _variant(variant)
    checked_order(order, 6)
    solver = partial(multistep, form=form, order=order, moments=moments, lower_order_final=lower_order_final)
    corrector = Corrector(denoiser, times, form, order, moments, lower_order_final)
    return solver(corrector, x, times, callback=corrector.after(callback), condition=condition)


def _evaluations(touching: list[bool], *, predictor: str, predictor_options: Any, **_: Any) -> int | None:
    return SAMPLERS[predictor].cost(touching, predictor_options or {})


def _corrected_order(
    *, predictor: str, predictor_options: Mapping[str, Any] | None, order: int | None, **_: Any
) -> int | None:
    predicted = SAMPLERS[predictor].theory(predictor_options or {})
    return order if predicted is None else min(predicted, predicted if order is None else order) + 1


@sampler
@costs(_evaluations)
@order_of(_corrected_order)
def unic(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    predictor: str = "dpmpp_2m",
    predictor_options: Mapping[str, Any] | None = None,
    order: int | None = None,
    prediction: Literal["data", "noise"] = "data",
    variant: Literal["bh1", "bh2"] = "bh2",
) -> Images:
    """UniC-p after any solver of the catalogue that adds no noise: ``predictor`` (2302.04867, sec. 3.2).

    A solver of order p becomes one of order p + 1 at no evaluation more. ``order`` is p, by default the predictor's;
    ``prediction`` and ``variant`` are the corrector's, as ``unipc``'s.
    Raises ValueError on a predictor that adds noise, chooses its steps or is a peer's, and on other options.
    """
    entry, options = SAMPLERS[predictor], predictor_options or {}
    if entry.draws_noise(options) or entry.adaptive or entry.ascending or entry.maps or entry.family == "peer":
        raise ValueError(f"predictor must be a solver of this library without noise, on a given grid, got {predictor}")
    order = checked_order(_order(entry, options) if order is None else order, 6)
    corrector = Corrector(denoiser, times, form_named(prediction), order, _variant(variant))
    return entry(corrector, x, times, callback=corrector.after(callback), condition=condition, **options)


class Corrector(Denoiser):
    """UniC: the denoiser that a solver asks, which moves the state at each time of the grid before answering.

    What is predicted at the solver's own x corrects the step that led there: the polynomial through it and the
    predictions before, from the last state as corrected. The solver goes on from ``prediction.x``, with the same q.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        times: Times,
        form: Form,
        order: int,
        moments: Moments,
        lower_order_final: bool = False,
    ):
        self.denoiser, self.path, self.form, self.moments = denoiser, denoiser.path, form, moments
        self.grid, self.lower_order_final = Grid(denoiser.path, times), lower_order_final
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

    def after(self, callback: Callback | None) -> Callback:
        """Give the callback that tells the corrector of a step's end, around the caller's."""

        def watch(i: int, t: Tensor, x: Images, prediction: Prediction) -> None:
            self.i = i + 1
            if callback is not None:
                callback(i, t, x, prediction)

        return watch


def _order(entry: SamplerEntry, options: Mapping[str, Any]) -> int:
    order = entry.theory(options)
    if order is None:
        raise ValueError(f"order must be given for {entry.name}, whose own is not stated")
    return order


def _variant(name: str) -> Moments:
    if name not in VARIANTS:
        raise ValueError(f"variant must be bh1 or bh2, got {name!r}")
    return VARIANTS[name]
