"""Denoisers, which samplers call, and their predictions, which have five views."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from implementations.diffusion.path import Images, Path, Time, as_float64

Head = Literal["x0", "eps", "v", "velocity", "score"]
Number: TypeAlias = float | Tensor  # a float for a scalar t, (n,) for one value per sample
HEADS: tuple[Head, ...] = ("v", "velocity", "eps", "score", "x0")  # from the most to the least regular at the ends


class Prediction:
    """What a denoiser predicts of ``x = alpha x0 + sigma eps`` at ``t``, in five views of the form ``p x0 + r eps``.

    | view     | p      | r        |
    |----------|--------|----------|
    | x0       | 1      | 0        |
    | eps      | 0      | 1        |
    | v        | -sigma | alpha    |
    | velocity | alpha' | sigma'   |
    | score    | 0      | -1/sigma |

    Give one or more of them. A view that is given is returned as it is, the others are computed from it and ``x`` in
    one step (``eps`` by way of ``x0`` would lose its digits at small sigma). Where both ``x0`` and ``eps`` are given,
    which a wrapper may have set apart, every combination is made of these two. Where sigma' is infinite, as at t = 0 of
    ``VP``, a score that is given makes the velocity ``f x - g^2/2 score`` (2011.13456, eq. 13). Arithmetic is in
    float32 at least. ``t`` is a scalar or has one value per sample, of shape (n,).
    Raises ValueError on a t outside the path, and for a view that does not exist, such as ``x0`` from ``eps`` at
    alpha = 0.
    """

    def __init__(
        self,
        path: Path,
        x: Images,
        t: Time,
        *,
        x0: Images | None = None,
        eps: Images | None = None,
        v: Images | None = None,
        velocity: Images | None = None,
        score: Images | None = None,
        aux: Any = None,
    ):
        named = zip(HEADS, (v, velocity, eps, score, x0), strict=True)
        views: dict[Head, Images] = {name: view for name, view in named if view is not None}
        if not views:
            raise ValueError("a Prediction needs at least one of x0, eps, v, velocity, score")
        shape, dtype = x.shape, torch.promote_types(x.dtype, torch.float32)
        for name, view in views.items():
            if view.shape != shape:
                raise ValueError(f"{name} has shape {tuple(view.shape)} where x has {tuple(shape)}")
            dtype = torch.promote_types(dtype, view.dtype)
        self.path, self.t, self.aux = path, path.inside(t), aux
        if self.t.ndim and self.t.shape != shape[:1]:
            raise ValueError(f"t must be a scalar or of shape ({len(x)},), got {tuple(self.t.shape)}")
        self._heads: tuple[Head, ...] = tuple(views)
        if x.dtype is not dtype or any(view.dtype is not dtype for view in views.values()):
            x, views = x.to(dtype), {name: view.to(dtype) for name, view in views.items()}
        self.x, self._views = x, views
        self._known_scales: tuple[Number, Number] | None = None

    @property
    def x0(self) -> Images:
        """The predicted data, ``E[x0 | x]``, of the shape of x."""
        return self._view("x0")

    @property
    def eps(self) -> Images:
        """The predicted noise, ``E[eps | x]``, of the shape of x."""
        return self._view("eps")

    @property
    def v(self) -> Images:
        """The v-prediction, ``alpha eps - sigma x0``, of the shape of x (2202.00512, app. D)."""
        return self._view("v")

    @property
    def velocity(self) -> Images:
        """The velocity of the probability flow, ``dx/dt = alpha' x0 + sigma' eps``, with the derivatives in t."""
        return self._view("velocity")

    @property
    def score(self) -> Images:
        """The score of the noised data, ``grad log p_t(x) = -eps / sigma``."""
        return self._view("score")

    @property
    def heads(self) -> tuple[Head, ...]:
        """The views that were given, from the most to the least regular at the ends of the path."""
        return self._heads

    def combine(self, p: float, r: float) -> Images:
        """Give ``p x0 + r eps`` in one step from the view that was given; raises ValueError where it does not exist.

        One step loses no digits: eps by way of x0 would, at small sigma.
        """
        return self._combine(p, r, f"{p:.6g} x0 + {r:.6g} eps")

    def _view(self, name: Head) -> Images:
        if name not in self._views:
            row = self.row(name)
            regular = name == "velocity" and "score" in self._heads and not _finite(*row)
            self._views[name] = self._flow() if regular else self._combine(*row, name)
        return self._views[name]

    def _flow(self) -> Images:
        """``f x - g^2/2 score``: f and g are finite at ends where sigma' is not."""
        f, g = self._at(self.path.drift), self._at(self.path.diffusion)
        if not _finite(f, g):
            raise ValueError(self._reason("velocity"))
        return self._sum(f, self.x, -g * g / 2, self._views["score"])

    def take_scales(self, t: float, alpha: float, sigma: float) -> None:
        """Take alpha and sigma of the path at ``t`` from a caller who knows them.

        Ignored for a prediction at another time.
        """
        if self._known_scales is None and self.t.ndim == 0 and self.t.item() == t:
            self._known_scales = alpha, sigma

    @property
    def scales(self) -> tuple[Number, Number]:
        """alpha and sigma at t."""
        if self._known_scales is None:
            self._known_scales = self._at(self.path.alpha), self._at(self.path.sigma)
        return self._known_scales

    def _at(self, function: Callable[[Tensor], Tensor]) -> Number:
        """A coefficient at t: a float for a scalar t, so that a step of a sampler is arithmetic on floats."""
        value = function(self.t)
        return value if value.ndim else value.item()

    def row(self, name: str) -> tuple[Number, Number]:
        """Give a view as the (p, r) of the class's table."""
        match name:
            case "x0":
                return 1.0, 0.0
            case "eps":
                return 0.0, 1.0
            case "v":
                return -self.scales[1], self.scales[0]
            case "velocity":
                return self._at(self.path.d_alpha), self._at(self.path.d_sigma)
            case _:
                return 0.0, _ratio(-1.0, self.scales[1])

    def _combine(self, p: Number, r: Number, name: str) -> Images:
        noise = "eps" if "eps" in self._heads else "score"
        if "x0" in self._heads and noise in self._heads:
            scale = -self.scales[1] * r if noise == "score" else r
            if not _finite(p, scale):
                raise ValueError(f"{name} does not exist at t = {self._where()}: its coefficients are infinite there")
            return self._sum(p, self._views["x0"], scale, self._views[noise])
        for head in self._heads:
            a, b = self._weights(p, r, head)
            if _finite(a, b):
                return self._sum(a, self.x, b, self._views[head])
        raise ValueError(self._reason(name))

    def _weights(self, p: Number, r: Number, head: str) -> tuple[Number, Number]:
        """Solve ``p x0 + r eps = a x + b head`` for a and b, where ``x`` has the row (alpha, sigma)."""
        alpha, sigma = self.scales
        if head in ("eps", "score"):  # the score is read as eps = -sigma score, which is regular at sigma = 0
            a = _ratio(p, alpha)
            b = r - a * sigma
            return a, -sigma * b if head == "score" else b
        if head == "x0":
            a = _ratio(r, sigma)
            return a, p - a * alpha
        head_p, head_r = self.row(head)
        determinant = alpha * head_r - sigma * head_p
        return _ratio(p * head_r - r * head_p, determinant), _ratio(alpha * r - sigma * p, determinant)

    def _sum(self, a: Number, left: Images, b: Number, right: Images) -> Images:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            shape = (-1,) + (1,) * (left.ndim - 1)
            a, b = (torch.as_tensor(c).to(left).expand(len(left)).reshape(shape) for c in (a, b))
            return a * left + b * right
        if a == 0:
            return right * b
        if a == 1 and b != 0:  # paths of alpha = 1, and steps along the velocity
            return torch.add(left, right, alpha=b)
        return left * a if b == 0 else (left * a).add_(right, alpha=b)

    def _where(self) -> str:
        return f"{self.t.item():.6g}" if self.t.ndim == 0 else f"{self.t.min():.6g} to {self.t.max():.6g}"

    def _reason(self, name: str) -> str:
        alpha, sigma = (float(torch.as_tensor(scale).min()) for scale in self.scales)
        head = self._heads[0]
        if alpha == 0 and head in ("eps", "score"):
            why = "alpha = 0 there: x and eps say nothing of x0"
        elif sigma == 0 and head == "x0":
            why = "sigma = 0 there: x and x0 say nothing of eps"
        elif sigma == 0 and name == "score":
            why = "sigma = 0 there, and the score is -eps / sigma"
        else:
            why = "alpha' or sigma' is infinite there"
        return f"{name} from {head} does not exist at t = {self._where()} of {self.path!r}: {why}"


class Denoiser(ABC):
    """A model on a path, which at a noised state x and a time t predicts the data, and by it noise, score and velocity.

    Called as ``denoiser(x, t)`` it gives a ``Prediction``, which has all of these views. A wrapper, as for guidance or
    for counting calls, is again a denoiser.
    """

    path: Path

    @abstractmethod
    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        """Predict at ``x`` and ``t``, a scalar or of shape (n,); what ``condition`` means is up to the denoiser."""

    @property
    def network(self) -> torch.nn.Module | None:
        """The torch module behind the denoiser and its wrappers, whose attribute ``denoiser`` is what they wrap.

        None where there is none, as behind an oracle.
        """
        inner = getattr(self, "denoiser", None)
        return inner.network if isinstance(inner, Denoiser) else None

    @property
    def unconditional(self) -> Any:
        """The condition that stands for none where it is one of a batch; None where only ``condition=None`` does."""
        inner = getattr(self, "denoiser", None)
        return inner.unconditional if isinstance(inner, Denoiser) else None

    def flow_map(self, x: Images, t: Time, s: float | Tensor, condition: Any = None) -> Images:
        """Carry ``x`` from ``t`` to ``s`` along the probability flow, in one evaluation; both are scalars.

        A few-step model learns this map. Here it is one first-order step, ``alpha_s x0 + sigma_s eps`` of the
        prediction: the map of a consistency model distilled into a network's own head (2310.04378; 2402.19159), and no
        better than DDIM for any other denoiser.
        """
        return self(x, t, condition).combine(float(self.path.alpha(s)), float(self.path.sigma(s)))


class Network(Denoiser):
    """A torch module ``module(x, time[, condition])`` as a denoiser; its output is the view ``head``.

    ``x`` is cast to ``dtype`` (default: the module's own, else that of ``x``); ``time`` maps the path's t to the
    network's (default: ``path.network_time``), which reaches it as a float vector of shape (n,), in float32 at least,
    since bfloat16 has no 999. The condition is passed if it is not None. The module may return a tensor, an object with
    one as ``.sample`` (diffusers' networks) or a tuple that begins with one. Raises ValueError on an unknown head and
    TypeError where the module returns something else.
    """

    def __init__(
        self,
        path: Path,
        module: Callable[..., Tensor],
        head: Head = "eps",
        dtype: torch.dtype | None = None,
        time: Callable[[Tensor], Tensor] | None = None,
    ):
        if head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}, got {head!r}")
        self.path, self.module, self.head, self.time = path, module, head, time or path.network_time
        parameters = module.parameters() if isinstance(module, torch.nn.Module) else ()
        self.dtype = dtype or next((p.dtype for p in parameters if p.is_floating_point()), None)

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        return Prediction(self.path, x, t, **{self.head: self._ask(x, condition, t)})

    @property
    def network(self) -> torch.nn.Module | None:
        return self.module if isinstance(self.module, torch.nn.Module) else None

    @property
    def unconditional(self) -> Any:
        """The label after the last class, of a module whose ``configuration`` says how many ``classes`` it has.

        The module may hold that one as its ``network``, as a preconditioned one does.
        """
        module: Any = self.module
        while module is not None and not hasattr(module, "configuration"):
            module = getattr(module, "network", None)
        known = getattr(module, "configuration", {})
        return known.get("classes") or None if known.get("droppable", True) else None

    def _ask(self, x: Images, condition: Any, *times: Time) -> Tensor:
        """Call the module, with each time as a vector in the network's own units."""
        dtype = self.dtype or x.dtype
        inputs = [x.to(dtype)]
        for t in times:
            own = self.time(as_float64(t)).expand(len(x))
            inputs.append(own.to(x.device, torch.promote_types(dtype, torch.float32)))
        answer = self.module(*inputs) if condition is None else self.module(*inputs, condition)
        return answer if isinstance(answer, Tensor) else _tensor_of(answer)


def _tensor_of(answer: Any) -> Tensor:
    """Find the prediction in what a module returns instead of a tensor."""
    found = getattr(answer, "sample", None)
    if found is None and isinstance(answer, Mapping):
        found = answer.get("sample")
    if found is None and isinstance(answer, tuple | list) and answer:
        found = answer[0]
    if isinstance(found, Tensor):
        return found
    raise TypeError(
        f"the module returned {type(answer).__name__}; a tensor, an object with a tensor as .sample, or a tuple that "
        "begins with a tensor is accepted"
    )


class AverageVelocity(Network):
    """A few-step model as a denoiser with a flow map: a module that gives the mean velocity of the flow from t to s.

    It is called as ``module(x, t, s[, condition])``. ``x_s = x - (t - s) u(x, t, s)`` (MeanFlow, 2505.13447; shortcut
    models, 2410.12557); at s = t it is the velocity itself. ``dtype`` and ``time`` are as ``Network``'s; both times
    reach the module as vectors (n,).
    """

    def __init__(
        self,
        path: Path,
        module: Callable[..., Tensor],
        dtype: torch.dtype | None = None,
        time: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__(path, module, "velocity", dtype, time)

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        return Prediction(self.path, x, t, velocity=self._ask(x, condition, t, t))

    def flow_map(self, x: Images, t: Time, s: float | Tensor, condition: Any = None) -> Images:
        """Carry ``x`` from ``t`` to ``s`` by one call of the module, ``x_s = x - (t - s) u``, u the mean velocity."""
        average = self._ask(x, condition, t, s)
        dtype = torch.promote_types(torch.promote_types(x.dtype, torch.float32), average.dtype)
        return torch.add(x.to(dtype), average.to(dtype), alpha=float(s) - float(t))


class CountingDenoiser(Denoiser):
    """A denoiser that counts its evaluations in ``calls``: the NFE of a sampler that is run on it.

    ``rows`` counts the samples of every call. Guidance joins several evaluations per sample in one call, so around the
    denoiser that it wraps, ``rows`` over the number of samples is the NFE, and counts all of them.
    """

    def __init__(self, denoiser: Denoiser):
        self.denoiser, self.path, self.calls, self.rows = denoiser, denoiser.path, 0, 0

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        self.calls += 1
        self.rows += len(x)
        return self.denoiser(x, t, condition)

    def flow_map(self, x: Images, t: Time, s: float | Tensor, condition: Any = None) -> Images:
        """Carry ``x`` from ``t`` to ``s`` by the denoiser's own flow map, and count one evaluation."""
        self.calls += 1
        self.rows += len(x)
        return self.denoiser.flow_map(x, t, s, condition)


def _ratio(a: Number, b: Number) -> Number:
    """``a / b``; 0 where a is 0, even over 0, since a term of weight 0 need not exist; infinite where only b is 0."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.where(torch.as_tensor(a == 0), 0.0, a / b)
    return 0.0 if a == 0 else a / b if b != 0 else math.inf


def _finite(a: Number, b: Number) -> bool:
    return all(bool(c.isfinite().all()) if isinstance(c, Tensor) else math.isfinite(c) for c in (a, b))
