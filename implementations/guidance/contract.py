"""The contract of every guidance scheme: a denoiser that is a formula over a few evaluations of another one.

A scheme says which evaluations it needs at a noise level, and makes its prediction of them and of what it wraps:

    class ClassifierFree(Guidance):
        def own_evaluations(self, level):
            return (CONDITIONAL, UNCONDITIONAL)

        def act(self, total, at):
            return add_difference(total, self.scale - 1, at[CONDITIONAL], at[UNCONDITIONAL])

All schemes of a stack share the evaluations, which are one batched call of the innermost denoiser.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images, Time
from implementations.guidance.perturbation import Perturbation, perturbed

Level: TypeAlias = float | Float[Tensor, " n"]  # sigma/alpha: a float for a scalar t, else one value per sample


class Evaluation(NamedTuple):
    """What a formula needs to know at (x, t): a prediction with the condition or without it.

    It may be that of the network with some of its layers perturbed, or of another denoiser, which is ``weak``.
    """

    conditional: bool
    perturbation: Perturbation | None = None
    weak: Denoiser | None = None


CONDITIONAL, UNCONDITIONAL = Evaluation(True), Evaluation(False)


class Guidance(Denoiser):
    """Base of the guidance schemes: a denoiser made of another one, ``denoiser``, which may be guided already.

    Called as a denoiser is. Where the condition is None, all predictions are unconditional, and schemes that compare
    the two change nothing. ``unconditional`` is the condition that stands for none in a batch: a label, or a tensor
    of the shape of one sample's condition, such as the embedding of a negative prompt. By default it is the one that
    the denoiser states; where there is none, and with ``batched=False``, which needs less memory, predictions with and
    without condition are calls of their own. An evaluation is a row per sample either way: NFE is
    ``CountingDenoiser.rows`` over the number of samples. Raises ValueError on a class out of range.
    """

    def __init__(self, denoiser: Denoiser, *, unconditional: Any = None, batched: bool = True):
        if not isinstance(denoiser, Denoiser):
            made = "Network(path, module, head='eps') makes one of a module"
            raise ValueError(f"guidance wraps a Denoiser; {made}; got {type(denoiser).__name__}")
        self.denoiser, self.path = denoiser, denoiser.path
        inner = denoiser if isinstance(denoiser, Guidance) else None
        self.base: Denoiser = inner.base if inner else denoiser
        stated = inner.dropped if inner else denoiser.unconditional
        self.dropped: Any = stated if unconditional is None else unconditional
        self.batched: bool = batched and (inner is None or inner.batched)

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        if not self.needs_gradient():
            at = Evaluations(self, x, t, condition)
            at.fetch(self.evaluations(at.level), self.observers(at.level))
            return self.guide(at)
        keep = torch.is_grad_enabled()  # the caller differentiates through the guided prediction
        with torch.enable_grad():
            tracked = x if x.requires_grad else x.detach().requires_grad_()
            at = Evaluations(self, tracked, t, condition, keep)
            at.fetch(self.evaluations(at.level), self.observers(at.level))
            found = self.guide(at)
        if keep:
            return found
        views = {head: getattr(found, head).detach() for head in found.heads}
        return Prediction(self.path, x if found.x is tracked else found.x.detach(), t, aux=found.aux, **views)

    @abstractmethod
    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        """Name the evaluations that this scheme needs at a noise level, beside those of what it wraps."""

    @abstractmethod
    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        """Guide ``total``, the prediction of what this scheme wraps; it is ``total`` itself at a neutral value."""

    def own_observers(self, level: Level) -> Sequence[Perturbation]:
        """Name the perturbations that only read layers, of the conditional evaluation."""
        return ()

    def differentiates(self) -> bool:
        """Whether this scheme takes the gradient of a prediction in x."""
        return False

    def evaluations(self, level: Level) -> list[Evaluation]:
        """Name all evaluations of the stack at a noise level, sigma/alpha, in the order of their rows."""
        inner = self.denoiser.evaluations(level) if isinstance(self.denoiser, Guidance) else [CONDITIONAL]
        return list(dict.fromkeys([*inner, *self.own_evaluations(level)]))

    def observers(self, level: Level) -> list[Perturbation]:
        """Name all observers of the stack at a noise level."""
        inner = self.denoiser.observers(level) if isinstance(self.denoiser, Guidance) else []
        return [*inner, *self.own_observers(level)]

    def needs_gradient(self) -> bool:
        """Whether the stack takes a gradient in x, so that its evaluations must be recorded."""
        return self.differentiates() or (isinstance(self.denoiser, Guidance) and self.denoiser.needs_gradient())

    def guide(self, at: Evaluations) -> Prediction:
        """Give the prediction of the stack from its evaluations."""
        return self.act(self.denoiser.guide(at) if isinstance(self.denoiser, Guidance) else at[CONDITIONAL], at)


class Evaluations:
    """The evaluations of a stack at one (x, t, condition): ``at[CONDITIONAL]`` is a prediction.

    ``level`` is sigma/alpha. What has not been fetched is evaluated when it is asked for.
    """

    def __init__(self, stack: Guidance, x: Images, t: Time, condition: Any, create_graph: bool | None = None):
        self.base, self.path, self.x, self.t, self.condition = stack.base, stack.path, x, t, condition
        self.batched, self.dropped = stack.batched, stack.dropped
        self.create_graph = torch.is_grad_enabled() if create_graph is None else create_graph
        level = stack.path.ratio(stack.path.inside(t))
        self.level: Level = level if level.ndim else level.item()
        self._found: dict[Evaluation, Prediction] = {}
        if condition is not None:
            _check_classes(condition, self.base)

    def __getitem__(self, evaluation: Evaluation) -> Prediction:
        key = self._key(evaluation)
        if key not in self._found:
            self.fetch([key])
        return self._found[key]

    def evaluate(self, x: Images) -> Prediction:
        """Evaluate the denoiser with the condition at another state, a call of its own."""
        return self.base(x, self.t, self.condition)

    def fetch(self, evaluations: Iterable[Evaluation], observers: Sequence[Perturbation] = ()) -> None:
        """Evaluate what is missing: in one call of the denoiser where conditions can be joined, else one per kind."""
        missing = [key for key in dict.fromkeys(map(self._key, evaluations)) if key not in self._found]
        own = [key for key in missing if key.weak is None]
        for key in missing:
            if key.weak is not None:
                self._found[key] = key.weak(self.x, self.t, self.condition if key.conditional else None)
        joined = self._joined() if len({key.conditional for key in own}) == 2 else None
        if not self.batched:
            groups = [[key] for key in own]
        elif joined is None:
            groups = [[key for key in own if key.conditional], [key for key in own if not key.conditional]]
        else:
            groups = [own]
        for group in groups:
            if group:
                self._evaluate(group, joined, observers)

    def _key(self, evaluation: Evaluation) -> Evaluation:
        """Without a condition, what is asked with it is what is asked without."""
        return evaluation._replace(conditional=False) if self.condition is None else evaluation

    def _evaluate(self, keys: list[Evaluation], joined: tuple[Tensor, Tensor] | None, observers: Any) -> None:
        n, k = len(self.x), len(keys)
        watched = [(slice(i * n, (i + 1) * n), key) for i, key in enumerate(keys)]
        changes = [(rows, key.perturbation) for rows, key in watched if key.perturbation is not None]
        plain = self._key(CONDITIONAL)
        changes += [(rows, one) for rows, key in watched if key == plain for one in observers]
        condition = self._conditions(keys, joined)
        if k == 1 and not changes:
            self._found[keys[0]] = self.base(self.x, self.t, condition)
            return
        x = self.x if k == 1 else torch.cat([self.x] * k)
        t = self.t.repeat(k) if isinstance(self.t, Tensor) and self.t.ndim and k > 1 else self.t
        if changes:
            with perturbed(self.base, changes, tuple(self.x.shape[-2:])):
                found = self.base(x, t, condition)
        else:
            found = self.base(x, t, condition)
        for rows, key in watched:
            self._found[key] = found if k == 1 else _part(found, self.x, self.t, rows)

    def _conditions(self, keys: list[Evaluation], joined: tuple[Tensor, Tensor] | None) -> Any:
        """The condition of a call: of several rows per sample the conditions one after another."""
        if not any(key.conditional for key in keys):
            return None
        if len(keys) == 1:
            return self.condition
        given, dropped = joined or (_rows(self.condition, len(self.x)), None)
        return torch.cat([given if key.conditional else dropped for key in keys])  # type: ignore[misc]

    def _joined(self) -> tuple[Tensor, Tensor] | None:
        """The condition and the one that stands for none, per sample; None where they cannot be one batch."""
        if self.dropped is None or not self.batched:
            return None
        given = _rows(self.condition, len(self.x))
        return given, torch.as_tensor(self.dropped, dtype=given.dtype, device=given.device).expand_as(given)


def add_difference(total: Prediction, weight: float, left: Prediction, right: Prediction) -> Prediction:
    """Give ``total + weight (left - right)``, predictions of the same x, which is so in every view at once."""
    if weight == 0 or left is right:
        return total
    views = {
        head: torch.add(getattr(total, head), getattr(left, head) - getattr(right, head), alpha=weight)
        for head in total.heads
    }
    return Prediction(total.path, total.x, total.t, aux=total.aux, **views)


def check_scale(name: str, value: Any) -> float:
    """Give a scale as a float; raises ValueError unless it is a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return number


def _rows(condition: Any, n: int) -> Tensor:
    """A condition with one row per sample."""
    condition = torch.as_tensor(condition)
    return condition.expand(n) if condition.ndim == 0 else condition.expand(n, *condition.shape[1:])


def _part(found: Prediction, x: Images, t: Time, rows: slice) -> Prediction:
    """The rows of a batched prediction that belong to one evaluation."""
    aux = found.aux
    if isinstance(aux, Tensor) and len(aux) == len(found.x):
        aux = aux[rows]
    views = {head: getattr(found, head)[rows] for head in found.heads}
    return Prediction(found.path, x, t, aux=aux, **views)


def _check_classes(condition: Any, base: Denoiser) -> None:
    """Raise ValueError on a class that the network behind the denoiser does not have."""
    classes = base.unconditional
    if base.network is None or not isinstance(classes, int):  # an oracle says so itself
        return
    labels = torch.as_tensor(condition).reshape(-1)
    if labels.is_floating_point():
        return
    wrong = labels[(labels < 0) | (labels > classes)]
    if len(wrong):
        known = f"0 to {classes - 1} are, and {classes} stands for none"
        raise ValueError(f"condition {wrong[0].item()} is no class of the network; {known}")
