"""Our weights under the names of transformers. (timm uses ours.)"""

from __future__ import annotations

from torch import Tensor, nn

_BLOCK_TO_TRANSFORMERS = {
    "norm1.weight": "layernorm_before.weight",
    "norm1.bias": "layernorm_before.bias",
    "norm2.weight": "layernorm_after.weight",
    "norm2.bias": "layernorm_after.bias",
    "attn.q_bias": "attention.q_proj.bias",
    "attn.v_bias": "attention.v_proj.bias",
    "attn.proj.weight": "attention.o_proj.weight",
    "attn.proj.bias": "attention.o_proj.bias",
    "mlp.fc1.weight": "mlp.fc1.weight",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.weight": "mlp.fc2.weight",
    "mlp.fc2.bias": "mlp.fc2.bias",
    "gamma_1": "lambda_1",
    "gamma_2": "lambda_2",
}

_TO_TRANSFORMERS = {
    "mask_token": "beit.embeddings.mask_token",
    "backbone.cls_token": "beit.embeddings.cls_token",
    "backbone.pos_embed": "beit.embeddings.position_embeddings",
    "backbone.patch_embed.proj.weight": "beit.embeddings.patch_embeddings.projection.weight",
    "backbone.patch_embed.proj.bias": "beit.embeddings.patch_embeddings.projection.bias",
    "backbone.rel_pos_bias.relative_position_bias_table": "beit.shared_position_bias.relative_position_bias_table",
    "backbone.norm.weight": "layernorm.weight",
    "backbone.norm.bias": "layernorm.bias",
    "head.lm_head.weight": "lm_head.weight",
    "head.lm_head.bias": "lm_head.bias",
}


def to_transformers(method: nn.Module) -> dict[str, Tensor]:
    """Returns the method's parameters as `transformers.BeitForMaskedImageModeling` names them."""
    state: dict[str, Tensor] = {}
    for name, value in method.named_parameters():
        value = value.detach()
        if name in _TO_TRANSFORMERS:
            state[_TO_TRANSFORMERS[name]] = value
            continue
        number, inner = name.removeprefix("backbone.blocks.").split(".", 1)
        layer = f"beit.layers.{number}."
        if inner == "attn.qkv.weight":
            for part, rows in zip(("q", "k", "v"), value.chunk(3), strict=True):
                state[f"{layer}attention.{part}_proj.weight"] = rows
        else:
            state[layer + _BLOCK_TO_TRANSFORMERS[inner]] = value
    return state
