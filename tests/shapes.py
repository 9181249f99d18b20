"""The shape checker of the tests: every function of fidmap against its annotations, once for each kind of arguments.

jaxtyping with beartype checks a call in some 100 us, and an inner function in some ms, since it is made anew with every
call of the outer one. Whether arguments meet their annotations depends on their types, shapes and dtypes alone: what
has passed once passes again. So a call is checked, with what it returns, where its function has not yet had arguments
of these types, shapes and dtypes, and else it is run as it is.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import torch

MODULES = ["bench.data", "implementations", "metrics"]
LONG = 8  # entries of a sequence; of a longer one not every entry is looked at
_whole = jaxtyping.jaxtyped


class Unkindly(Exception):
    """An argument whose annotation may ask for more than its kind."""


def install() -> None:
    """Have fidmap's functions checked that are imported from here on."""
    jaxtyping.jaxtyped = checked
    jaxtyping.install_import_hook(MODULES, "beartype.beartype")


def checked(function: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """What jaxtyping's import hook decorates every function and class with, in the place of its own ``jaxtyped``."""
    if function is None:
        return functools.partial(checked, typechecker=typechecker)
    if not isinstance(function, types.FunctionType):
        return _whole(function, typechecker=typechecker)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        return _check_of(function, typechecker)(function, args, kwargs)

    return call


class Check:
    """The check of one place in the source, which makes many functions where it stands within another."""

    def __init__(self, function: types.FunctionType, typechecker: Callable[[Any], Any]):
        self.passed: set[Any] = set()
        self.waiting: list[Callable[..., Any]] = []
        waiting = self.waiting

        def through(*args: Any, **kwargs: Any) -> Any:
            return waiting.pop()(*args, **kwargs)

        stub = types.FunctionType(through.__code__, function.__globals__, closure=through.__closure__)
        functools.update_wrapper(stub, function)
        del stub.__wrapped__  # it would keep what an inner function has closed over
        stub.__signature__ = inspect.signature(function)
        self.whole = _whole(stub, typechecker=typechecker)
        # a size that an annotation takes from the value of another argument
        self.always = any("{" in str(a) for a in function.__annotations__.values())

    def __call__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function, with the check where these kinds of arguments are new."""
        __tracebackhide__ = True
        try:
            kinds = (*map(kind, args), *((name, kind(value)) for name, value in kwargs.items()))
        except Unkindly:
            kinds = None
        if kinds in self.passed and not self.always:
            return function(*args, **kwargs)
        self.waiting.append(function)
        depth = len(self.waiting)
        try:
            result = self.whole(*args, **kwargs)
        finally:
            del self.waiting[depth - 1 :]
        if kinds is not None:
            self.passed.add(kinds)
        return result


_CHECKS: dict[int, tuple[types.CodeType, Check]] = {}  # by identity: equal code of two modules has two checks


def _check_of(function: types.FunctionType, typechecker: Callable[[Any], Any]) -> Check:
    found = _CHECKS.get(id(function.__code__))
    if found is None:
        found = _CHECKS[id(function.__code__)] = (function.__code__, Check(function, typechecker))
    return found[1]


def kind(value: Any) -> Any:
    """All of a value that an annotation can see: its type, its shape and dtype, a text itself."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return type(value), value.shape, value.dtype
    what = type(value)
    if what is str:
        return value
    if what in (tuple, list):
        if len(value) > LONG:
            raise Unkindly
        return (what, *map(kind, value))
    if what in (dict, set, frozenset):
        raise Unkindly
    return what
