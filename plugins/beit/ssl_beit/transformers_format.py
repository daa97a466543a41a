"""Folders of transformers' `BeitModel`, alone or within a model for masked images or for classes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ssl_beit.adaptation import without_index_buffers
from ssl_beit.file_layout import INCEPTION, beit_spec
from ssl_core.api import BackboneSpec, BuildContext, CheckpointError, CheckpointFormat, NoOptions, metadata_object

_MODEL = "beit."
"""Starts the names of the backbone's tensors beside a head."""

_RENAMED = (
    (r"^embeddings\.(cls_token|mask_token)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.relative_position_bias|shared_position_bias)\.", "rel_pos_bias."),
    (r"^(encoder\.layer|layers)\.(\d+)\.", r"blocks.\2."),
    (r"^(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"^(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"^(blocks\.\d+)\.(attention\.attention\.)?relative_position_bias\.", r"\1.attn."),
    (r"^(blocks\.\d+)\.attention\.(attention\.query|q_proj)\.", r"\1.attn.q_"),
    (r"^(blocks\.\d+)\.attention\.(attention\.key|k_proj)\.", r"\1.attn.k_"),
    (r"^(blocks\.\d+)\.attention\.(attention\.value|v_proj)\.", r"\1.attn.v_"),
    (r"^(blocks\.\d+)\.attention\.(output\.dense|o_proj)\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.(intermediate\.dense|mlp\.fc1)\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.(output\.dense|mlp\.fc2)\.", r"\1.mlp.fc2."),
    (r"^(blocks\.\d+)\.lambda_", r"\1.gamma_"),
    (r"^layernorm\.", "norm."),
    (r"^pooler\.layernorm\.", "fc_norm."),
)
"""Names in files (and, where they differ, in models of transformers 5) to Microsoft's, one after the other."""


class TransformersFormat(CheckpointFormat):
    """`BeitModel`, `BeitForMaskedImageModeling` and `BeitForImageClassification`.

    `patches` are the model's `last_hidden_state` and `summary` its `pooler_output`; of a model for masked images,
    which normalises once more before its head, they are normalised so.
    """

    ignored = ("mask_token", "lm_head.*", "classifier.*")

    def __init__(self, options: NoOptions, context: BuildContext):
        pass

    def matches(self, keys: Collection[str], metadata: Mapping[str, str]) -> bool:
        model_type = metadata_object(metadata, "config.json").get("model_type")
        return model_type == "beit" or (
            model_type is None and any(key.startswith(f"{_MODEL}embeddings.") for key in keys)
        )

    def convert(
        self, state: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> tuple[BackboneSpec, dict[str, Tensor]]:
        config = metadata_object(metadata, "config.json")
        if not config:
            raise CheckpointError("a BEiT of transformers without its config.json; name the folder that holds both")
        activation = config.get("hidden_act", "gelu")
        if activation != "gelu":
            raise CheckpointError(f"its activation is '{activation}'; only gelu is supported")
        processor = metadata_object(metadata, "preprocessor_config.json")
        image_size = config.get("image_size")
        renamed = _fused(without_index_buffers(_renamed(state)))
        spec = beit_spec(
            renamed,
            normalisation=(processor.get("image_mean", INCEPTION[0]), processor.get("image_std", INCEPTION[1])),
            heads=config.get("num_attention_heads", 12),
            image_size=image_size if isinstance(image_size, int) else None,
            # transformers' own default, which a config need not repeat; the published files say 1e-12 too.
            norm_eps=config.get("layer_norm_eps", 1e-12),
            init_values=config.get("layer_scale_init_value"),
        )
        return spec, renamed


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix(_MODEL)
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if name in renamed:  # the norm of `BeitModel(use_mean_pooling=False)`, and the head's after it
            raise CheckpointError(f"two of its tensors are '{name}': {key} comes after another norm")
        renamed[name] = tensor
    return renamed


def _fused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Puts the projections of queries, keys and values one below the other, as Microsoft has them."""
    fused = dict(state)
    for query in [name for name in state if name.endswith(".attn.q_weight")]:
        start = query.removesuffix("q_weight")
        parts = [f"{start}{part}_weight" for part in "qkv"]
        if all(part in fused for part in parts):
            fused[f"{start}qkv.weight"] = torch.cat([fused.pop(part) for part in parts])  # (3 * D, D)
    return fused
