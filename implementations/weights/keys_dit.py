"""The key map of diffusers' DiTTransformer2DModel, and of Transformer2DModel where that is a DiT.

Each of its blocks owns a copy of the embedders of time and class. A checkpoint whose copies are equal loads, as those
do that were converted from the authors'; another is refused by the name of a copy that differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from implementations.networks.dit import DiT
from implementations.weights.keys import KeyMap, known, require

_ACCEPTED: dict[str, tuple[Any, ...]] = {
    "norm_type": ("ada_norm_zero",), "activation_fn": ("gelu-approximate",), "attention_bias": (True,),
    "norm_elementwise_affine": (False,), "dropout": (0.0, 0), "cross_attention_dim": (None,),
    "double_self_attention": (False,), "only_cross_attention": (False,), "num_vector_embeds": (None,),
    "use_linear_projection": (False,), "caption_channels": (None,), "attention_type": ("default",),
    "interpolation_scale": (None, 1, 1.0),
}  # fmt: skip
# norm_num_groups is of no layer of a DiT, and upcast_attention of half precision alone
_FREE = frozenset({
    "num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "num_layers", "sample_size",
    "patch_size", "num_embeds_ada_norm", "norm_eps", "norm_num_groups", "upcast_attention",
})  # fmt: skip
_STATED = ("norm_type", "activation_fn", "attention_bias", "norm_elementwise_affine", "patch_size",
           "num_embeds_ada_norm")  # whose defaults in Transformer2DModel make no DiT  # fmt: skip

_EMBEDDERS = {
    "time.enter": "timestep_embedder.linear_1",
    "time.leave": "timestep_embedder.linear_2",
    "label": "class_embedder.embedding_table",
}
_OUTER = {"stem": "pos_embed.proj", "head": "proj_out_2"}
_INNER = {
    "attention.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attention.out": ("attn1.to_out.0",),
    "enter": ("ff.net.0.proj",),
    "leave": ("ff.net.2",),
}


def configure(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the DiT that a ``config.json`` of diffusers describes.

    Raises ValueError, which names the option, on what is not covered.
    """
    if config.get("_class_name") == "Transformer2DModel":
        for name in _STATED:
            if config.get(name) is None:
                raise ValueError(f"{name} is not stated; a Transformer2DModel is covered where it is a DiT")
    require(config, _ACCEPTED)
    known(config, _FREE | _ACCEPTED.keys())
    channels = config.get("in_channels", 4)
    leaving = config.get("out_channels") or channels
    if leaving not in (channels, 2 * channels):
        raise ValueError(f"out_channels is {leaving}; in_channels, {channels}, or twice as many are covered")
    heads = config.get("num_attention_heads", 16)
    return {
        "channels": channels,
        "size": config.get("sample_size", 32),
        "patch": config.get("patch_size", 2),
        "width": heads * config.get("attention_head_dim", 72),
        "depth": config.get("num_layers", 28),
        "heads": heads,
        "classes": config.get("num_embeds_ada_norm", 1000),
        "learned_variance": leaving == 2 * channels,
        "frequency_shift": 1.0,
        "mlp_eps": float(config.get("norm_eps", 1e-5)),
    }


def map_keys(network: DiT) -> KeyMap:
    """The key map of a DiT of such a configuration."""
    blocks = [f"transformer_blocks.{i}." for i in range(len(network.blocks))]
    parts = {}
    for key in network.state_dict():
        module, _, suffix = key.rpartition(".")
        if found := re.fullmatch(r"blocks\.(\d+)\.(.*)", module):
            parts[key] = tuple(f"{blocks[int(found[1])]}{name}.{suffix}" for name in _INNER[found[2]])
        elif module == "modulation":
            parts[key] = (*(f"{block}norm1.linear.{suffix}" for block in blocks), f"proj_out_1.{suffix}")
        elif module in _EMBEDDERS:
            parts[key] = (f"{blocks[0]}norm1.emb.{_EMBEDDERS[module]}.{suffix}",)
        else:
            parts[key] = (f"{_OUTER[module]}.{suffix}",)
    copies = {
        parts[key][0].replace(blocks[0], block, 1): parts[key][0]
        for block in blocks[1:]
        for key in parts
        if key.rpartition(".")[0] in _EMBEDDERS
    }
    return KeyMap(parts, copies)
