"""Noise that depends neither on how samples are batched nor on what other calls drew."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from implementations.diffusion.checks import check_integer
from implementations.diffusion.path import Images

Noise = Callable[[int, Images], Images]
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator]
Stream = Literal["start", "steps", "forward", "probes", "levels"]
STREAMS: tuple[Stream, ...] = ("start", "steps", "forward", "probes", "levels")
Result = TypeVar("Result")


class PerSampleNoise:
    """Standard normal noise that depends neither on batching nor on other calls, called as ``noise(draw, like)``.

    It gives the draw for the whole batch; that of sample i is a pure function of ``(seeds[i], draw)``. Philox (Salmon
    et al., 2011, 10.1145/2063384.2063405) keyed by the seed; its counter holds the draw and the stream. Numbers are
    drawn in float64 on the CPU and then cast, so that they are bit-identical over batches and devices. Calling it gives
    the stream ``start``. A function that takes a noise as an argument draws from a stream of its own: a sampler from
    ``steps``, a forward process from ``forward``, a likelihood from ``probes``, dequantisation from ``levels``. So a
    start drawn with the seeds of a call never equals a noise of that call. Raises ValueError where a seed is no integer
    in [0, 2^128), or where there are not as many seeds as samples.
    """

    def __init__(self, seeds: Iterable[Any], stream: Stream = "start"):
        self.seeds, self.stream = _check_seeds(seeds), stream
        self._word = STREAMS.index(stream)

    def of(self, stream: Stream) -> PerSampleNoise:
        """Give the noise of the same seeds in another stream (``start``, ``steps``, ...), independent of this one."""
        return PerSampleNoise(self.seeds, stream)

    def __call__(self, draw: int, like: Images) -> Images:
        """Give draw number ``draw`` of standard normals, with the shape, dtype and device of ``like``."""
        if len(like) != len(self.seeds):
            raise ValueError(f"{len(self.seeds)} seeds were given for a batch of {len(like)}")
        draw = check_integer("draw", draw, 0)
        values = np.empty((len(like), like[0].numel()))
        for row, seed in zip(values, self.seeds, strict=True):
            # the draw is the counter's highest word: no draw is long enough to run into the next
            counter = [0, 0, self._word, draw]
            np.random.Generator(np.random.Philox(key=seed, counter=counter)).standard_normal(out=row)
        return torch.from_numpy(values).reshape(like.shape).to(like)


def noise_of(noise: Noise | None, generator: Generators | None, stream: Stream) -> Noise:
    """Give the noise of one call from the arguments of its caller; no seed is drawn before the first draw of noise.

    ``noise``, a function ``noise(draw, like)``, is used as it is, a ``PerSampleNoise`` in its ``stream``. ``generator``
    gives one base of 64 bits, and sample i has the seed ``base 2^64 + i``; a list of generators, one per sample, gives
    a base each, so that a sample's noise does not depend on its batch. With neither, the base is drawn from torch's
    global generator: ``torch.manual_seed`` repeats the call, and a second call has new noise.
    Raises ValueError where both are given, or where either is something else.
    """
    if noise is not None and generator is not None:
        raise ValueError("noise and generator exclude each other: give one of them")
    if noise is None:
        return _LazyNoise(_check_generators(generator), stream)
    if isinstance(noise, PerSampleNoise):
        return noise.of(stream)
    if isinstance(noise, torch.Generator):
        raise ValueError("noise must be a function noise(draw, like); a torch.Generator is given as generator=")
    if isinstance(noise, Tensor) or not callable(noise):
        what = f"a tensor of shape {tuple(noise.shape)}" if isinstance(noise, Tensor) else repr(noise)
        raise ValueError(f"noise must be a function noise(draw, like) that gives draw k of the batch, got {what}")
    return functools.partial(_draw, noise)


def draws(stream: Stream) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorator of a function that takes ``noise``: makes it optional, and adds the keyword ``generator`` beside it.

    The function is given ``noise_of`` the two: the caller's noise, or one seeded by the generator or by torch's global
    one, in the stream named here.
    """

    def wrap(function: Callable[..., Result]) -> Callable[..., Result]:
        @functools.wraps(function)
        def call(*args: Any, noise: Noise | None = None, generator: Generators | None = None, **kwargs: Any) -> Result:
            return function(*args, noise=noise_of(noise, generator, stream), **kwargs)

        signature = inspect.signature(function)
        options = {"noise": _option("noise", "Noise"), "generator": _option("generator", "Generators")}
        made: Any = call
        made.__signature__ = signature.replace(parameters=[*{**signature.parameters, **options}.values()])
        return call

    return wrap


def _option(name: str, kind: str) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=f"{kind} | None")


class _LazyNoise:
    """Noise whose seeds are drawn with its first draw, so that a call without noise draws nothing."""

    def __init__(self, generator: Generators | None, stream: Stream):
        self.generator, self.stream = generator, stream
        self.noise: PerSampleNoise | None = None

    def __call__(self, draw: int, like: Images) -> Images:
        if self.noise is None:
            self.noise = PerSampleNoise(self._seeds(len(like)), self.stream)
        return self.noise(draw, like)

    def _seeds(self, n: int) -> list[int]:
        if isinstance(self.generator, torch.Generator) or self.generator is None:
            base = _base(self.generator) << 64
            return [base + i for i in range(n)]
        if len(self.generator) != n:
            raise ValueError(f"{len(self.generator)} generators were given for a batch of {n}")
        return [_base(one) << 64 for one in self.generator]


def _base(generator: torch.Generator | None) -> int:
    """Draw 64 random bits, as an unsigned integer."""
    device = "cpu" if generator is None else generator.device
    bits = torch.empty((), dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)
    return int(bits) + 2**63


def _draw(noise: Noise, draw: int, like: Images) -> Images:
    z = noise(draw, like)
    if not isinstance(z, Tensor) or z.shape != like.shape:
        found = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(f"noise must give draws of the batch's shape {tuple(like.shape)}, got {found}")
    return z


def _check_seeds(seeds: Any) -> list[int]:
    if isinstance(seeds, str | bytes) or not isinstance(seeds, Iterable):
        raise ValueError(f"seeds must be a sequence of integers, one per sample, got {seeds!r}")
    found = []
    for seed in seeds:
        try:
            boolean = isinstance(seed, bool | np.bool_) or (isinstance(seed, Tensor) and seed.dtype == torch.bool)
            whole = -1 if boolean else operator.index(seed)
        except TypeError:
            whole = -1
        if not 0 <= whole < 2**128:
            raise ValueError(f"seeds must be integers, none negative and all below 2^128, got {seed!r}")
        found.append(whole)
    return found


def _check_generators(generator: Any) -> Generators | None:
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    if isinstance(generator, list | tuple) and all(isinstance(one, torch.Generator) for one in generator):
        return generator
    raise ValueError(f"generator must be a torch.Generator, or a list of them, one per sample, got {generator!r}")
