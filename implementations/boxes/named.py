"""What a contract makes of a function: an object that is called under the contract and keeps the function's name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


class Named:
    """Base of what a decorator makes of a loss or an NMS: an object with the function's name, docstring and options.

    Its signature is that of its own ``__call__``, with the function's keyword-only parameters, ``options``, in the
    place of ``**options``. It is pickled by name, as a function is.
    """

    def __init__(self, function: Callable[..., Any]):
        parameters = inspect.signature(function).parameters.values()
        self.options = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
        self.__name__ = self.__qualname__ = function.__name__
        self.__doc__, self.__module__ = function.__doc__, function.__module__
        call = inspect.signature(self.__call__)  # type: ignore[operator]
        fixed = [parameter for parameter in call.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        self.__signature__ = call.replace(parameters=[*fixed, *self.options])

    def __repr__(self) -> str:
        return f"{self.__name__}{self.__signature__}"

    def __reduce__(self) -> str:
        return self.__name__
