import pytest
import torch
import torch.nn.functional as F
from torch import nn

from implementations.networks import Preconditioned, attention_layers, bypass_layers, layers, replace_attention
from tests.implementations.networks.small import CONFIGURATIONS, build, inputs

NAMES = list(CONFIGURATIONS)


def identity(q, k, v):
    """Each token attends to itself alone, as in perturbed-attention guidance."""
    return v


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_to_the_modules_in_the_order_of_the_forward_pass(name):
    network = build(name)
    for found in (attention_layers(network), layers(network)):
        assert all(network.get_submodule(key) is module for key, module in found.items())
        seen: list[str] = []
        handles = [
            module.register_forward_hook(lambda *_, seen=seen, key=key: seen.append(key))
            for key, module in found.items()
        ]
        network(*inputs(name))
        assert seen == list(found)
        for handle in handles:
            handle.remove()


def test_a_network_offers_all_of_its_self_attention():
    unet = build("unet-context")
    counted = [m for m in unet.modules() if type(m).__name__ == "SelfAttention"]
    assert {id(m) for m in attention_layers(unet).values()} == {id(m) for m in counted}
    assert list(layers(build("dit"))) == ["blocks.0", "blocks.1", "blocks.2"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "unet-fourier"])
def test_attention_is_replaced_while_the_context_lasts(name):
    network = build(name)
    every = list(attention_layers(network))
    before = network(*inputs(name))
    with replace_attention(network, every, F.scaled_dot_product_attention):
        assert torch.equal(network(*inputs(name)), before)
    with replace_attention(network, every, identity):
        within = network(*inputs(name))
    assert not torch.allclose(within, before, atol=1e-4)
    assert torch.equal(network(*inputs(name)), before)


def test_attend_sees_heads_and_may_treat_rows_differently():
    network = build("dit")
    x, time, labels = inputs("dit")
    shapes = []

    def first_row(q, k, v):
        shapes.append((tuple(q.shape), tuple(k.shape), tuple(v.shape)))
        return torch.cat([v[:1], F.scaled_dot_product_attention(q, k, v)[1:]])

    before = network(x, time, labels)
    with replace_attention(network, ["blocks.1.attention"], first_row):
        within = network(x, time, labels)
    assert shapes == [((3, 4, 16, 8),) * 3]  # 16 patches, 4 heads of 8
    assert not torch.allclose(within[0], before[0], atol=1e-4)
    torch.testing.assert_close(within[1:], before[1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_bypassed_block_leaves_its_rows_as_they_came_in(name):
    network = build(name)
    kept = {}
    chosen = list(layers(network))[1]
    block = network.get_submodule(chosen)
    block.register_forward_hook(lambda module, args, out: kept.update(x=args[0].clone(), out=out.clone()))
    before = network(*inputs(name))
    free = kept["out"]
    with bypass_layers(network, [chosen], rows=[0, 2]):
        network(*inputs(name))
    assert torch.equal(kept["out"][[0, 2]], kept["x"][[0, 2]])
    assert torch.equal(kept["out"][1], free[1])
    with bypass_layers(network, [chosen]):
        network(*inputs(name))
        assert torch.equal(kept["out"], kept["x"])
    assert torch.equal(network(*inputs(name)), before)


def test_contexts_nest_and_restore_each_what_it_found():
    network = build("dit")
    given = inputs("dit")
    plain = network(*given)
    with replace_attention(network, ["blocks.0.attention"], identity):
        outer = network(*given)
        with replace_attention(network, ["blocks.0.attention"], F.scaled_dot_product_attention):
            assert torch.equal(network(*given), plain)
        assert torch.equal(network(*given), outer)
        with bypass_layers(network, ["blocks.2"], rows=slice(0, 1)):
            with bypass_layers(network, ["blocks.2"], rows=slice(1, 3)):
                both = network(*given)
            with bypass_layers(network, ["blocks.2"]):
                torch.testing.assert_close(both, network(*given), rtol=1e-5, atol=1e-5)
        assert torch.equal(network(*given), outer)
    assert torch.equal(network(*given), plain)


@pytest.mark.parametrize(
    "hook", [lambda n: replace_attention(n, ["blocks.0.attention"], identity), lambda n: bypass_layers(n, ["blocks.0"])]
)
def test_an_error_restores_too(hook):
    network = build("dit")
    given = inputs("dit")
    before, state = network(*given), list(network.state_dict())
    with pytest.raises(RuntimeError, match="stop"), hook(network):
        raise RuntimeError("stop")
    assert torch.equal(network(*given), before)
    assert list(network.state_dict()) == state
    assert not {"attend", "forward"} & {key for module in network.modules() for key in vars(module)}


def test_a_module_as_attention_does_not_enter_the_state():
    network = build("dit")
    state = list(network.state_dict())

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, q, k, v):
            return v * self.scale

    with replace_attention(network, ["blocks.0.attention"], Own()):
        assert list(network.state_dict()) == state
        network(*inputs("dit"))


def test_gradients_reach_through_hooks():
    network = build("dit")
    x, time, labels = inputs("dit")
    x.requires_grad_()
    with replace_attention(network, ["blocks.0.attention"], identity), bypass_layers(network, ["blocks.1"], rows=[1]):
        network(x, time, labels).sum().backward()
    assert x.grad.flatten(1).any(1).all()


def test_a_wrapper_offers_what_its_network_does():
    network = build("unet-classes")
    wrapped = Preconditioned(network)
    assert list(layers(wrapped)) == list(layers(network))
    with replace_attention(wrapped, list(attention_layers(wrapped)), identity):
        x, time, labels = inputs("unet-classes")
        within = wrapped(x, time, labels)
    assert not torch.allclose(wrapped(x, time, labels), within, atol=1e-4)


class Own(nn.Module):
    """A user's network with one block that may be hooked."""

    def __init__(self):
        super().__init__()
        self.block = nn.Linear(4, 4)

    def layers(self):
        return {"block": self.block}

    def attention_layers(self):
        return {"block": self.block}

    def forward(self, x, time, condition=None):
        return self.block(x)


def test_a_module_of_ones_own_may_offer_layers():
    x, network = torch.randn(2, 4), Own()
    with bypass_layers(network, ["block"]):
        assert torch.equal(network(x, 0.0), x)


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (lambda: layers(nn.Linear(1, 1)), r"Linear has no method layers\(\)"),
        (lambda: attention_layers(nn.Linear(1, 1)), r"Linear has no method attention_layers\(\)"),
        (lambda: _enter(bypass_layers(build("dit"), ["blocks.3"])), "no layer named 'blocks.3'; there are blocks.0, "),
        (lambda: _enter(replace_attention(build("dit"), "blocks.0", identity)), "no attention layer named 'blocks.0'"),
        (lambda: _enter(replace_attention(_without_attention(), ["x"], identity)), "there are none"),
        (lambda: _enter(replace_attention(Own(), ["block"], identity)), r"block is Linear, which has no attend\("),
    ],
)
def test_what_cannot_be_hooked_is_said_in_one_line(hook, message):
    with pytest.raises(ValueError, match=message) as raised:
        hook()
    assert "\n" not in str(raised.value)


def _without_attention():
    return build("unet-fourier", attention=False)


def _enter(context):
    with context:
        pass
