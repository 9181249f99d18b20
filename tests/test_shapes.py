"""The shape checker of these tests: what it must still find when it looks at each kind of call once."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import weakref

import beartype
import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import implementations.diffusion.path  # noqa: F401  (a module to look at)
from tests import shapes
from tests.shapes import checked

check = checked(typechecker=beartype.beartype)


@check
def double(x: Float[Tensor, "n d"], weights: Float[Tensor, " n"] | None = None) -> Float[Tensor, "n d"]:
    return 2 * x if len(x) < 5 else x.sum(1)


def outer(right: bool):
    @check
    def inner(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return x if right else x[:, None]

    return inner


@check
@dataclasses.dataclass
class Pair:
    a: Float[Tensor, " n"]
    b: Float[Tensor, " n"]


@check
def columns(x: Tensor, wide: int) -> Float[Tensor, "n {wide}"]:
    return x


def wrong(function, *arguments, **options):
    with pytest.raises(jaxtyping.TypeCheckError):
        function(*arguments, **options)
    return True


def test_arguments_are_checked_whatever_has_passed_before():
    for _ in range(3):
        assert torch.equal(double(torch.ones(2, 3)), 2 * torch.ones(2, 3))
        assert wrong(double, torch.ones(2))
        assert wrong(double, torch.ones(2, 3).long())
        assert wrong(double, torch.ones(2, 3), torch.ones(3))  # n is 2
        assert wrong(double, torch.ones(2, 3), weights=torch.ones(3))
        assert wrong(double, [[1.0]])
        assert torch.equal(double(torch.ones(2, 3), torch.ones(2)), 2 * torch.ones(2, 3))


def test_results_are_checked_for_every_new_shape_and_after_a_failure_too():
    double(torch.ones(4, 3))
    for _ in range(2):
        assert wrong(double, torch.ones(5, 3))


def test_a_size_that_is_another_arguments_value_is_always_checked():
    x = torch.ones(2, 3)
    assert columns(x, 3) is x
    assert wrong(columns, x, 2)


def test_inner_functions_and_dataclasses_are_checked():
    assert wrong(outer(right=False), torch.ones(3))
    assert torch.equal(outer(right=True)(torch.ones(3)), torch.ones(3))  # the same place in the source
    assert wrong(outer(right=True), torch.ones(3, 1))
    Pair(torch.ones(3), torch.ones(3))
    assert wrong(Pair, torch.ones(3), torch.ones(2))


def test_an_inner_function_is_its_own_and_keeps_nothing_alive():
    made = [outer(right=True) for _ in range(2)]
    assert made[0] is not made[1]

    def closing(value: Tensor):
        @check
        def inner(x: int) -> int:
            return x + len(value)

        return inner

    large = torch.ones(3)
    seen, function = weakref.ref(large), closing(large)
    assert function(1) == 4
    del large, function
    assert seen() is None


@pytest.mark.unchecked
def test_what_is_marked_runs_as_a_user_runs():
    with pytest.raises(IndexError):
        double(torch.ones(5))


def test_every_function_of_what_is_loaded_is_under_the_checker():
    loaded = [module for name, module in sys.modules.items() if name.startswith(("implementations.", "metrics."))]
    named = []
    for module in loaded:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.FunctionDef) and not node.decorator_list:
                named.append(f"{module.__name__}.{node.name}")
                assert vars(module)[node.name].__code__.co_filename == shapes.__file__, named[-1]
    assert "implementations.diffusion.path.as_float64" in named
