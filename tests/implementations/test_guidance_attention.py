"""Guidance by attention: the network's own output with layers perturbed, by hand and by diffusers' processors."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from implementations.catalogue import GUIDANCE
from implementations.diffusion import VP, CountingDenoiser, Network
from implementations.guidance.blur import gaussian_blur
from implementations.guidance.perturbation import attention_names, grid_of
from tests.exact import normal
from tests.given import Tiny, tiny

LABELS, T = torch.tensor([0, 2, 1]), 0.4
X = normal(3, 1, 8, 12)  # 4 x 6 tokens: neither square


def network(seed=0):
    return Network(VP(), tiny(seed, blocks=3), head="eps", dtype=torch.float64)


def worse(change, x=X):
    """The network's eps with ``change(block, q, k, v)`` in its middle block, written without hooks."""
    module = tiny(0, blocks=3)
    block = module.blocks[1]
    block.attend = lambda q, k, v: change(q, k, v)
    return Network(VP(), module, head="eps", dtype=torch.float64)(x, T, LABELS).eps


def test_the_middle_layer_is_the_default():
    assert attention_names(network(), None) == ("blocks.1",)
    assert attention_names(network(), [2, "blocks.0"]) == ("blocks.2", "blocks.0")


def blurred(q, sigma, shape=(4, 6)):
    """Queries blurred over their grid, a pixel at a time."""
    n, heads, _, width = q.shape
    out = np.empty(q.shape)
    if sigma == math.inf:
        return q.mean(2, keepdim=True).expand_as(q)
    reach = [min(math.ceil(6 * sigma) // 2 * 2 + 1, 2 * side - 1) // 2 for side in shape]
    weights = [np.exp(-((np.arange(-r, r + 1) / sigma) ** 2) / 2) for r in reach]
    weights = [w / w.sum() for w in weights]
    grid = q.numpy().reshape(n, heads, *shape, width)
    padded = np.pad(grid, [(0, 0), (0, 0), *((r, r) for r in reach), (0, 0)], mode="reflect")
    for i in range(shape[0]):
        for j in range(shape[1]):
            patch = padded[:, :, i : i + 2 * reach[0] + 1, j : j + 2 * reach[1] + 1]
            out[:, :, i * shape[1] + j] = np.einsum("nhijw,i,j->nhw", patch, *weights)
    return torch.from_numpy(out)


PERTURBED = {
    "perturbed_attention": ({}, lambda q, k, v: v),
    "smoothed_energy": ({}, lambda q, k, v: scaled_dot_product_attention(blurred(q, math.inf), k, v)),
    "smoothed_energy by 0.8": ({"blur": 0.8}, lambda q, k, v: scaled_dot_product_attention(blurred(q, 0.8), k, v)),
    "smoothed_energy by 5": ({"blur": 5.0}, lambda q, k, v: scaled_dot_product_attention(blurred(q, 5.0), k, v)),
}


@pytest.mark.parametrize("case", PERTURBED)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_difference_to_the_perturbed_prediction_is_added(case, scale):
    options, change = PERTURBED[case]
    denoiser = network()
    found = GUIDANCE[case.partition(" ")[0]](denoiser, scale=scale, **options)(X, T, LABELS).eps
    plain = denoiser(X, T, LABELS).eps
    assert (found - (plain + scale * (plain - worse(change)))).abs().max() < 1e-12


def test_a_skipped_layer_leaves_its_rows_as_they_came_in():
    denoiser, module = network(), tiny(0, blocks=3)
    del module.blocks[1]
    without = Network(VP(), module, head="eps", dtype=torch.float64)(X, T, LABELS).eps
    plain = denoiser(X, T, LABELS).eps
    found = GUIDANCE["skip_layer"](denoiser, scale=2.8)(X, T, LABELS).eps
    assert (found - (plain + 2.8 * (plain - without))).abs().max() < 1e-12


def test_self_attention_guidance_in_numbers():
    """2210.00939, algorithm 1, on pixels one by one."""
    denoiser, kept = network(), []

    def keep(q, k, v):
        kept.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).numpy())
        return scaled_dot_product_attention(q, k, v)

    worse(keep)
    plain = denoiser(X, T, LABELS)
    alpha, sigma = float(VP().alpha(T)), float(VP().sigma(T))
    received = kept[0].mean(1).sum(1)
    assert received.mean() == pytest.approx(1)
    mask = np.repeat(np.repeat(received.reshape(3, 1, 4, 6) > 1.0, 2, 2), 2, 3)
    weights = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    weights /= weights.sum()
    padded = np.pad(plain.x0.numpy(), [(0, 0), (0, 0), (4, 4), (4, 4)], mode="reflect")
    blur = sum(
        np.outer(weights, weights)[i, j] * padded[:, :, i : i + 8, j : j + 12] for i in range(9) for j in range(9)
    )
    degraded = torch.from_numpy(np.where(mask, alpha * blur + sigma * plain.eps.numpy(), X.numpy()))
    wanted = plain.eps + 0.75 * (plain.eps - denoiser(degraded, T, LABELS).eps)
    counted = CountingDenoiser(denoiser)
    assert (GUIDANCE["self_attention"](counted)(X, T, LABELS).eps - wanted).abs().max() < 1e-12
    assert counted.rows == 2 * len(X)


def test_the_network_is_as_it_was_afterwards():
    denoiser = network()
    before = denoiser(X, T, LABELS).eps
    for name in ("perturbed_attention", "smoothed_energy", "skip_layer", "self_attention"):
        GUIDANCE[name](denoiser)(X, T, LABELS)
        assert torch.equal(denoiser(X, T, LABELS).eps, before)
    guided = GUIDANCE["perturbed_attention"](denoiser)
    with pytest.raises(RuntimeError, match="size"):
        guided(normal(3, 2, 8, 12), T, LABELS)
    assert torch.equal(denoiser(X, T, LABELS).eps, before)


def test_rows_that_are_not_perturbed_do_not_see_those_that_are():
    """Of one call with conditional, unconditional and perturbed rows, each is what a call of its own gives."""
    denoiser = network()
    stack = GUIDANCE["perturbed_attention"](GUIDANCE["classifier_free"](denoiser, scale=2.0), scale=1.5)
    c, u = denoiser(X, T, LABELS).eps, denoiser(X, T).eps
    wanted = u + 2.0 * (c - u) + 1.5 * (c - worse(lambda q, k, v: v))
    assert (stack(X, T, LABELS).eps - wanted).abs().max() < 1e-12


def test_tokens_that_are_no_grid_are_refused():
    assert grid_of(24, (8, 12)) == (4, 6)
    assert grid_of(49, (28, 28)) == (7, 7)
    for tokens, size in ((25, (8, 12)), (7, (4, 4))):
        with pytest.raises(ValueError, match=f"{tokens} tokens are no grid over an image of"):
            grid_of(tokens, size)


# diffusers' own processors


def transformer():
    """A small transformer of diffusers with random weights, and its attention layers offered to the hooks."""
    models = pytest.importorskip("diffusers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=1, num_layers=3, sample_size=8, patch_size=2,
            num_embeds_ada_norm=4, norm_num_groups=1,
        ).eval()  # fmt: skip


def peers_output(model, hook, x, labels):
    from diffusers.hooks import HookRegistry

    hook(model)
    try:
        with torch.no_grad():
            return model(x, torch.full((len(x),), 100), labels).sample
    finally:
        for module in model.modules():
            registry = getattr(module, "_diffusers_hook", None)
            if isinstance(registry, HookRegistry):
                registry.remove_hook("test", recurse=False)


class Adapted(torch.nn.Module):
    """diffusers' transformer as a module with hooks: its attention asks ``attend``, its blocks are layers."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        for block in model.transformer_blocks:
            block.attn1.set_processor(Asking(block.attn1))

    def attention_layers(self):
        return {f"transformer_blocks.{i}.attn1": b.attn1 for i, b in enumerate(self.model.transformer_blocks)}

    def layers(self):
        return {f"transformer_blocks.{i}": b for i, b in enumerate(self.model.transformer_blocks)}

    def forward(self, x, time, condition=None):
        return self.model(x, torch.full((len(x),), 100), condition).sample


class Asking:
    """An attention processor that asks its layer for ``attend(q, k, v)``."""

    def __init__(self, layer):
        layer.attend = scaled_dot_product_attention

    def __call__(self, attn, hidden_states, **_):
        n, tokens, width = hidden_states.shape
        q, k, v = (
            project(hidden_states).view(n, tokens, attn.heads, -1).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        return attn.to_out[0](attn.attend(q, k, v).transpose(1, 2).reshape(n, tokens, width))


def hooks_of(case):
    """diffusers' hook of a scheme, on its second block."""
    from diffusers.hooks import LayerSkipConfig, smoothed_energy_guidance_utils
    from diffusers.hooks.layer_skip import _apply_layer_skip_hook

    if case == "smoothed_energy":
        config = smoothed_energy_guidance_utils.SmoothedEnergyGuidanceConfig([1], fqn="transformer_blocks")
        return lambda model: smoothed_energy_guidance_utils._apply_smoothed_energy_guidance_hook(
            model, config, 1.0, "test"
        )
    scores = case == "perturbed_attention"
    config = LayerSkipConfig(
        [1], fqn="transformer_blocks", skip_attention=not scores, skip_ff=not scores, skip_attention_scores=scores
    )
    return lambda model: _apply_layer_skip_hook(model, config, "test")


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["perturbed_attention", "skip_layer", "smoothed_energy"])
def test_the_perturbed_network_predicts_what_diffusers_hooks_make_it_predict(name):
    """For SEG, whose diffusers' hook takes the mean of the queries at every finite sigma, that is our blur = inf."""
    x, labels = normal(2, 1, 8, 8).float(), torch.tensor([1, 3])
    wanted = peers_output(transformer(), hooks_of(name), x, labels)
    denoiser = Network(VP(), Adapted(transformer()), head="eps", time=lambda t: t)
    with torch.no_grad():
        plain = denoiser(x, 0.4, labels).eps
        found = GUIDANCE[name](denoiser, scale=1.0, layers=1)(x, 0.4, labels).eps
    assert (plain - peers_output(transformer(), lambda model: None, x, labels)[:, :1]).abs().max() < 1e-5
    assert ((2 * plain - found) - wanted[:, :1]).abs().max() < 1e-5
    assert (found - plain).abs().max() > 1e-3


def test_the_blur_is_diffusers_own():
    """Its function blurs where it should take the mean, and the reverse: asked the other way round, it is ours."""
    utils = pytest.importorskip("diffusers.hooks.smoothed_energy_guidance_utils")
    queries = normal(2, 49, 6).float()
    for sigma in (0.7, 1.0):
        size = math.ceil(6 * sigma) // 2 * 2 + 1
        theirs = utils._gaussian_blur_2d(queries.clone(), size, sigma, sigma_threshold_inf=0.0)
        ours = gaussian_blur(queries.mT.reshape(2, 6, 7, 7), sigma).flatten(2).mT
        assert (ours - theirs).abs().max() < 1e-5
    mean = utils._gaussian_blur_2d(queries.clone(), 7, 1.0, sigma_threshold_inf=9999.9)
    assert (mean - queries.mean(1, keepdim=True)).abs().max() < 1e-6


def test_a_module_of_one_s_own_offers_its_layers():
    class Own(Tiny):
        def attention_layers(self):
            return {"mid.attention": self.blocks[0], "up.attention": self.blocks[1]}

    denoiser = Network(VP(), Own().double(), head="eps")
    assert attention_names(denoiser, None) == ("mid.attention",)
    assert GUIDANCE["perturbed_attention"](denoiser)(X, T, LABELS).eps.isfinite().all()


# the networks that are here


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["unet", "dit"])
def test_every_network_here_takes_every_scheme(name):
    from implementations.networks import NETWORKS

    small = {
        "unet": {"widths": (8, 16), "depth": 1, "attention": (True, True), "heads": 2, "groups": 4},
        "dit": {"size": 8, "width": 24, "depth": 3, "heads": 2},
    }[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = NETWORKS[name](1, classes=3, **small).eval().requires_grad_(False)
        for parameter in module.parameters():  # some begin at zero, so that layers would do nothing
            parameter.copy_(0.2 * torch.randn_like(parameter))
    denoiser, x = CountingDenoiser(Network(VP(), module, head="eps")), normal(3, 1, 8, 8).float()
    plain = denoiser(x, 0.4, LABELS).eps
    stack = GUIDANCE["classifier_free"](denoiser, scale=2.0)
    for scheme in ("perturbed_attention", "smoothed_energy", "skip_layer"):
        alone = GUIDANCE[scheme](denoiser)(x, 0.4, LABELS).eps
        assert alone.isfinite().all()
        assert (alone - plain).abs().max() > 1e-5 * plain.abs().max(), scheme
        stack = GUIDANCE[scheme](stack)
    assert GUIDANCE["self_attention"](stack)(x, 0.4, LABELS).eps.isfinite().all()
    denoiser.calls = 0
    stack(x, 0.4, LABELS)
    assert denoiser.calls == 1  # labels and the one that is dropped are one batch
    assert torch.equal(denoiser(x, 0.4, LABELS).eps, plain)
    with pytest.raises(ValueError, match="condition 4 is no class of the network; 0 to 2 are, and 3 stands for none"):
        stack(x, 0.4, 4)
