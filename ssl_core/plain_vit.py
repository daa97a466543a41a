"""What many projects call a plain ViT: its sizes are read from its tensors, its names turned into timm's.

For checkpoint formats whose files become `core:vit`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ssl_core.contracts.evaluation import BackboneSpec
from ssl_core.errors import CheckpointError
from ssl_core.imagenet import IMAGENET_MEAN, IMAGENET_STD

PLAIN_VIT_KEYS = frozenset({"pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight"})
"""Tensors that every plain ViT has, in timm's names."""

_BACKBONE = ("cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed.", "norm_pre.", "blocks.", "norm.")
_PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")
_HEAD_WIDTH = 64
_HEADS = {1280: 16, 1408: 16, 1664: 16}
"""Heads of the widths (huge, giant, gigantic) whose heads are not 64 wide."""

_FROM_HUGGING_FACE = (
    (r"^vit\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.(\d+)\.", r"blocks.\2."),
    (r"^(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"^(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"^(blocks\.\d+)\.attention\.(output\.dense|o_proj)\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.attention\.(attention\.)?(query|q_proj)\.", r"\1.attn.q."),
    (r"^(blocks\.\d+)\.attention\.(attention\.)?(key|k_proj)\.", r"\1.attn.k."),
    (r"^(blocks\.\d+)\.attention\.(attention\.)?(value|v_proj)\.", r"\1.attn.v."),
    (r"^(blocks\.\d+)\.(intermediate\.dense|mlp\.fc1)\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.(output\.dense|mlp\.fc2)\.", r"\1.mlp.fc2."),
    (r"^layernorm\.", "norm."),
)


def plain_vit_spec(
    state: Mapping[str, Tensor],
    *,
    model: str | None = None,
    heads: int | None = None,
    norm_eps: float | None = None,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> BackboneSpec:
    """Returns what a plain ViT is built from, as `core:vit`.

    Args:
        state: tensors in timm's names, `PLAIN_VIT_KEYS` among them.
        model: timm's name of the architecture; None = the sizes are read from the tensors.
        heads: None = width / 64, as all the usual sizes have it; no tensor tells.
        norm_eps: of the LayerNorms; None = timm's 1e-6.
        mean, std: how pixels in [0, 1] are normalised.

    Raises:
        CheckpointError: the tensors are not those of a plain ViT on square images.
    """
    patches = state["patch_embed.proj.weight"]  # (D, C, P, P)
    if patches.ndim != 4:
        raise CheckpointError(f"patch_embed.proj.weight is {tuple(patches.shape)}, not (width, channels, P, P)")
    width, patch_size = patches.shape[0], patches.shape[-1]
    prefix = sum(state[name].shape[-2] for name in _PREFIX_TOKENS if name in state)
    tokens = state["pos_embed"].shape[-2]
    side = next((math.isqrt(n) for n in (tokens - prefix, tokens) if n > 0 and math.isqrt(n) ** 2 == n), None)
    if side is None:
        raise CheckpointError(f"pos_embed has {tokens} places, which is no square of patches beside {prefix} tokens")
    options: dict[str, Any] = {"model": model, "patch_size": patch_size}
    if model is None:
        options |= _sizes(state, width, heads)
        # LayerScale: DeiT III has no position for its CLS token, DINOv2 has one.
        scaled = "deit3_base_patch16_224" if tokens == side**2 else "vit_base_patch14_dinov2"
        options["model"] = scaled if "blocks.0.ls1.gamma" in state else "vit_base"
    if norm_eps is not None:
        options["norm_eps"] = norm_eps
    if "norm.weight" not in state:
        options["final_norm"] = False  # it was fine-tuned on the mean of the patches, and its norm follows the mean
    return BackboneSpec("core:vit", options, side * patch_size, mean, std)


def plain_vit_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors, in timm's names, under those of `core:vit`; what no ViT has keeps its name."""
    return {f"vit.{name}" if name.startswith(_BACKBONE) else name: tensor for name, tensor in state.items()}


def from_huggingface_vit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a Hugging Face `ViTModel` or `ViTMAEModel` in timm's names, query, key and value in one.

    Both the names of its files and those of transformers 5 in memory are known; all others stay.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = name
        for pattern, replacement in _FROM_HUGGING_FACE:
            short = re.sub(pattern, replacement, short)
        renamed[short] = tensor
    for name in [name for name in renamed if ".attn.q." in name]:
        parts = [name.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if all(part in renamed for part in parts):
            merged = torch.cat([renamed.pop(part) for part in parts])  # (3 D, D), or (3 D,)
            renamed[name.replace(".attn.q.", ".attn.qkv.")] = merged
    return renamed


def huggingface_vit_spec(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> BackboneSpec:
    """Returns what a Hugging Face ViT is built from, as `core:vit`.

    Args:
        state: what `from_huggingface_vit` returned.
        metadata: with `config.json` and perhaps `preprocessor_config.json`, see `CheckpointFormat.matches`.

    Raises:
        CheckpointError: the config is missing, damaged, or of another kind of ViT.
    """
    try:
        config = json.loads(metadata["config.json"])
        heads, eps, act = int(config["num_attention_heads"]), float(config["layer_norm_eps"]), config["hidden_act"]
        pixels = json.loads(metadata.get("preprocessor_config.json", "{}"))
        mean, std = (tuple(map(float, pixels.get(key, default))) for key, default in _PIXELS)
    except KeyError as error:
        raise CheckpointError(f"no {error} beside the weights or in their config.json; name the whole folder") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json or preprocessor_config.json is damaged: {error}") from None
    if act != "gelu":
        raise CheckpointError(f"config.json says hidden_act {act!r}; core:vit has gelu")
    return plain_vit_spec(state, heads=heads, norm_eps=eps, mean=mean, std=std)


def metadata_object(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """Returns the JSON object in the metadata of a checkpoint under this key; {} where there is none."""
    try:
        value = json.loads(metadata.get(key, "{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


_PIXELS = (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD))


def _sizes(state: Mapping[str, Tensor], width: int, heads: int | None) -> dict[str, Any]:
    numbers = [int(name.split(".")[1]) for name in state if re.match(r"blocks\.\d+\.", name)]
    if heads is None:
        heads = _HEADS.get(width) or width // _HEAD_WIDTH
        if not heads or (width % _HEAD_WIDTH and width not in _HEADS):
            raise CheckpointError(
                f"nothing says how many heads a ViT of width {width} has; save its timm architecture with it: "
                'a config.json with {"architecture": NAME} beside model.safetensors'
            )
    sizes = {"width": width, "depth": max(numbers) + 1, "heads": heads}
    if "blocks.0.mlp.fc1.weight" in state:
        sizes["mlp_ratio"] = state["blocks.0.mlp.fc1.weight"].shape[0] / width
    return sizes
