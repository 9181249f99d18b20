"""What guidance changes in a network while it runs: the attention of some layers, or whether a block runs at all.

A network offers its parts by two methods, ``attention_layers()`` and ``layers()``, each a mapping from a dotted name
to a module in the order of the forward pass. A module of one's own offers them too: each of its attention layers asks
``self.attend(q, k, v)``, and each of its layers is called with the state first and returns one of the same shape.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

Attend = Callable[..., Float[Tensor, "n heads tokens width"]]  # attend(q, k, v) -> out


def attention_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Give a network's self-attention layers by dotted name, in the order of the forward pass.

    Raises ValueError where the network does not offer them.
    """
    return _offered(network, "attention_layers")


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Give a network's blocks that keep the shape of their input, by dotted name, in the order of the forward pass.

    Raises ValueError where the network does not offer them.
    """
    return _offered(network, "layers")


@contextlib.contextmanager
def replace_attention(network: nn.Module, names: Iterable[str], attend: Attend) -> Iterator[None]:
    """Let the named self-attention layers use ``attend(q, k, v) -> out`` while the context lasts.

    q, k, v and out have the shape (n, heads, tokens, width / heads); rows of the batch may be treated differently.
    Contexts nest, the inner one counts, and each restores what it found, also after an error. Raises ValueError on a
    name that is no attention layer, and where a layer has no ``attend`` to replace.
    """
    chosen = _choose(attention_layers(network), names, "attention layer")
    for name, layer in chosen.items():
        if not hasattr(layer, "attend"):
            raise ValueError(f"{name} is {type(layer).__name__}, which has no attend(q, k, v) to be replaced")
    with contextlib.ExitStack() as stack:
        for layer in chosen.values():
            stack.enter_context(_set(layer, "attend", attend))
        yield


@contextlib.contextmanager
def bypass_layers(network: nn.Module, names: Iterable[str], rows: Any = None) -> Iterator[None]:
    """Let the given rows of the batch leave the named blocks as they came in, while the context lasts.

    ``rows`` is anything that indexes the first dimension; None is every row, and then the block is not computed.
    Contexts nest and add up, and each restores what it found, also after an error. Raises ValueError on a name that is
    no layer.
    """
    with contextlib.ExitStack() as stack:
        for layer in _choose(layers(network), names, "layer").values():
            stack.enter_context(_set(layer, "forward", _bypass(layer.forward, rows)))
        yield


def _bypass(forward: Callable[..., Tensor], rows: Any) -> Callable[..., Tensor]:
    def bypassed(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if rows is None:
            return x
        out = forward(x, *arguments, **options).clone()  # autograd may have kept the block's own output
        out[rows] = x[rows].to(out.dtype)
        return out

    return bypassed


def _offered(network: nn.Module, method: str) -> dict[str, nn.Module]:
    offer = getattr(network, method, None)
    if offer is None:
        raise ValueError(
            f"{type(network).__name__} has no method {method}(), by which a network names the parts to hook"
        )
    return dict(offer())


def _choose(offered: dict[str, nn.Module], names: Iterable[str], what: str) -> dict[str, nn.Module]:
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in offered:
            raise ValueError(f"no {what} named {name!r}; there are {', '.join(offered) or 'none'}")
    return {name: offered[name] for name in wanted}


@contextlib.contextmanager
def _set(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of the module itself, past nn.Module's own rules, so that a module is no part of the state."""
    attributes = vars(module)
    found = attributes.get(name)
    attributes[name] = value
    try:
        yield
    finally:
        if found is None:
            del attributes[name]
        else:
            attributes[name] = found
