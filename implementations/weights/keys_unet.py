"""The key maps of diffusers' UNet2DModel and UNet2DConditionModel.

What a configuration may say is in the tables below, and everything else is refused by its name. Not covered are the
blocks with skips of images (NCSN++ as published), levels of unlike attention on the way down and up, class embeddings
other than a table, and added conditions (SDXL).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from implementations.networks.unet import UNet
from implementations.weights.keys import KeyMap, known, require

# Option -> the values that are covered, the default first.
_BOTH: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,), "mid_block_scale_factor": (1, 1.0), "act_fn": ("silu", "swish"),
    "class_embed_type": (None,), "resnet_time_scale_shift": ("default", "scale_shift"),
    "time_embedding_type": ("positional",), "downsample_padding": (1, 0),
}  # fmt: skip
_PLAIN: dict[str, tuple[Any, ...]] = {
    **_BOTH, "mid_block_type": ("UNetMidBlock2D",), "downsample_type": ("conv",), "upsample_type": ("conv",),
    "num_train_timesteps": (None,),
}  # fmt: skip
_CROSS: dict[str, tuple[Any, ...]] = {
    **_BOTH, "mid_block_type": ("UNetMidBlock2DCrossAttn",), "only_cross_attention": (False,),
    "dual_cross_attention": (False,), "encoder_hid_dim": (None,), "encoder_hid_dim_type": (None,),
    "num_attention_heads": (None,), "addition_embed_type": (None,), "addition_time_embed_dim": (None,),
    "num_class_embeds": (None,), "resnet_skip_time_act": (False,), "resnet_out_scale_factor": (1.0, 1),
    "time_embedding_act_fn": (None,), "timestep_post_act": (None,), "time_cond_proj_dim": (None,),
    "conv_in_kernel": (3,), "conv_out_kernel": (3,), "projection_class_embeddings_input_dim": (None,),
    "attention_type": ("default",), "class_embeddings_concat": (False,), "cross_attention_norm": (None,),
    "mid_block_only_cross_attention": (None, False), "reverse_transformer_layers_per_block": (None,),
}  # fmt: skip
_FREE = frozenset({
    "sample_size", "in_channels", "out_channels", "time_embedding_dim", "freq_shift", "flip_sin_to_cos",
    "down_block_types", "up_block_types", "block_out_channels", "layers_per_block", "dropout", "attention_head_dim",
    "norm_num_groups", "norm_eps",
})  # fmt: skip
_PLAIN_FREE = _FREE | {"attn_norm_num_groups", "add_attention", "num_class_embeds"}
# upcast_attention is of half precision alone, and a 1x1 convolution and a linear layer are the same here
_CROSS_FREE = _FREE | {
    "cross_attention_dim", "transformer_layers_per_block", "use_linear_projection", "upcast_attention",
    "addition_embed_type_num_heads",
}  # fmt: skip

# A piece of a key of the network -> that of the checkpoint; the first that matches at a place holds.
_NAMES = (
    (r"^stem\.", "conv_in."), (r"^head\.", "conv_out."), (r"^norm\.", "conv_norm_out."),
    (r"^time\.enter\.", "time_embedding.linear_1."), (r"^time\.leave\.", "time_embedding.linear_2."),
    (r"^label\.", "class_embedding."),
    (r"^down\.", "down_blocks."), (r"^up\.", "up_blocks."), (r"^middle\.", "mid_block."),
    (r"(?<=\.)attentions\.(\d+)\.blocks\.(\d+)\.", r"attentions.\1.transformer_blocks.\2."),
    (r"(?<=\d\.|k\.)blocks\.(\d+)\.", r"resnets.\1."),
    (r"\.shortcut\.", ".conv_shortcut."),
    (r"^down_blocks\.(\d+)\.resample\.", r"down_blocks.\1.downsamplers.0."),
    (r"^up_blocks\.(\d+)\.resample\.", r"up_blocks.\1.upsamplers.0."),
)  # fmt: skip
_OF_ATTENTION = ((r"(attentions\.\d+)\.norm\.", r"\1.group_norm."), (r"(attentions\.\d+)\.attention\.", r"\1."))
_OF_TRANSFORMER = (
    (r"(attentions\.\d+)\.enter\.", r"\1.proj_in."), (r"(attentions\.\d+)\.leave\.", r"\1.proj_out."),
    (r"(transformer_blocks\.\d+)\.attention\.", r"\1.attn1."), (r"(transformer_blocks\.\d+)\.cross\.", r"\1.attn2."),
    (r"(transformer_blocks\.\d+)\.gate\.", r"\1.ff.net.0.proj."),
    (r"(transformer_blocks\.\d+)\.leave\.", r"\1.ff.net.2."),
)  # fmt: skip
_PRODUCTS = {
    "qkv": ("to_q", "to_k", "to_v"), "query": ("to_q",), "key_value": ("to_k", "to_v"), "out": ("to_out.0",)
}  # fmt: skip
_FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def configure(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the U-Net that a ``config.json`` of UNet2DModel or UNet2DConditionModel describes.

    Raises ValueError, which names the option, on what is not covered.
    """
    cross = config.get("_class_name", "UNet2DModel") == "UNet2DConditionModel"
    accepted, free = (_CROSS, _CROSS_FREE) if cross else (_PLAIN, _PLAIN_FREE)
    require(config, accepted)
    known(config, free | accepted.keys())
    widths = list(config.get("block_out_channels", (320, 640, 1280, 1280) if cross else (224, 448, 672, 896)))
    groups = config.get("norm_num_groups", 32)
    if groups is None:
        raise ValueError("norm_num_groups is null; a number is covered")
    scale_shift = config.get("resnet_time_scale_shift", "default") == "scale_shift"
    found = {
        "channels": config.get("in_channels", 4 if cross else 3),
        "out_channels": config.get("out_channels", 4 if cross else 3),
        "widths": widths,
        "depth": _listed(config.get("layers_per_block", 2)),
        "attention": _attention(config, cross),
        "embedding": "sinusoidal",
        "time_width": config.get("time_embedding_dim"),
        "frequency_shift": float(config.get("freq_shift", 0)),
        "cosine_first": config.get("flip_sin_to_cos", True),
        "scale_shift": scale_shift,
        "groups": groups,
        "eps": float(config.get("norm_eps", 1e-5)),
        "dropout": float(config.get("dropout", 0.0)),
        "pad_end": config.get("downsample_padding", 1) == 0,
    }
    head = config.get("attention_head_dim", 8)
    if cross:
        found["heads"] = _listed(head)  # which this class names attention_head_dim
        found["context"] = config.get("cross_attention_dim", 1280)
        found["transformer_depth"] = _listed(config.get("transformer_layers_per_block", 1))
        if not isinstance(found["context"], int):
            raise ValueError(f"cross_attention_dim is {found['context']}; a number is covered")
        return found
    middle = config.get("add_attention", True)
    inner = config.get("attn_norm_num_groups")
    if middle and inner != groups and not (inner is None and not scale_shift):
        raise ValueError(f"attn_norm_num_groups is {inner}; norm_num_groups, {groups}, is covered")
    found["middle_attention"] = middle
    found["heads"] = [1 if head is None else width // head for width in widths]
    if config.get("num_class_embeds") is not None:
        found |= {"classes": config["num_class_embeds"], "droppable": False}
    return found


def map_keys(network: UNet) -> KeyMap:
    """The key map of a U-Net of such a configuration."""
    rules = _NAMES + (_OF_TRANSFORMER if network.configuration["context"] is not None else _OF_ATTENTION)
    parts = {key: tuple(_names(key, rules)) for key in network.state_dict() if not key.startswith("modulation.")}
    for suffix in ("weight", "bias"):
        parts[f"modulation.{suffix}"] = tuple(
            _translate(f"{name}.time_emb_proj.{suffix}", rules) for name in network.residual_blocks()
        )
    return KeyMap(parts)


def rename_former(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the attention of checkpoints of before 2023 its present names: ``query`` is ``to_q``, and so on."""
    former = re.compile(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.(?=weight$|bias$)")
    return {former.sub(lambda found: f"{found[1]}.{_FORMER[found[2]]}.", key): value for key, value in state.items()}


def _names(key: str, rules: tuple[tuple[str, str], ...]) -> list[str]:
    """The keys of the checkpoint that make one of the network."""
    module, _, suffix = key.rpartition(".")
    place, _, last = module.rpartition(".")
    if last in _PRODUCTS and ("attention" in place or place.endswith("cross")):
        return [_translate(f"{place}.{name}.{suffix}", rules) for name in _PRODUCTS[last]]
    return [_translate(key, rules)]


def _translate(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _attention(config: Mapping[str, Any], cross: bool) -> list[bool]:
    """Whether each level has attention, the same on the way down and up."""
    kind = "CrossAttn" if cross else "Attn"
    levels = {}
    for way, default in (("Down", "down_block_types"), ("Up", "up_block_types")):
        names = list(config.get(default, _default_blocks(cross, way)))
        for name in names:
            if name not in (f"{way}Block2D", f"{kind}{way}Block2D"):
                raise ValueError(f"{default} has {name}; {way}Block2D and {kind}{way}Block2D are covered")
        levels[way] = [name.startswith(kind) for name in names]
    if levels["Up"] != levels["Down"][::-1]:
        raise ValueError(
            "up_block_types is not the reverse of down_block_types; attention on the same levels is covered"
        )
    return levels["Down"]


def _default_blocks(cross: bool, way: str) -> list[str]:
    kind = "CrossAttn" if cross else "Attn"
    names = [f"{kind}{way}Block2D"] * 3
    plain = [f"{way}Block2D"]
    return (names + plain) if cross == (way == "Down") else (plain + names)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
