"""Files of plain ViTs that timm, or transformers, reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from ssl_core.api import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PLAIN_VIT_KEYS,
    BackboneSpec,
    BuildContext,
    CheckpointFormat,
    HuggingFaceVitFormat,
    NoOptions,
    metadata_object,
    plain_vit_spec,
    plain_vit_state,
)
from ssl_core.builtin.vit_names import is_timm_vit


class TimmVitFormat(CheckpointFormat):
    """ViTs in timm's names: timm's own, DeiT's, and what MAE and DINO publish as their encoder alone.

    The architecture is taken from what timm says beside the weights, else the sizes are read from the tensors.
    """

    ignored = ("head.*", "head_dist.*", "fc_norm.*", "attn_pool.*", "mask_token")
    general = True

    def __init__(self, options: NoOptions, context: BuildContext):
        pass

    def matches(self, keys: Collection[str], metadata: Mapping[str, str]) -> bool:
        return set(keys) >= PLAIN_VIT_KEYS

    def convert(
        self, state: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> tuple[BackboneSpec, dict[str, Tensor]]:
        cfg, model = _timm_config(metadata)
        mean, std = tuple(cfg.get("mean", IMAGENET_MEAN)), tuple(cfg.get("std", IMAGENET_STD))
        return plain_vit_spec(state, model=model, mean=mean, std=std), plain_vit_state(state)


class VitModelFormat(HuggingFaceVitFormat):
    """Folders of transformers' `ViTModel`: Google's, DINO's, and others'."""

    model_type = "vit"
    ignored = ("pooler.*", "classifier.*", "mask_token", "embeddings.mask_token", "decoder.*")


def _timm_config(metadata: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    """Returns timm's pretrained config, {} where there is none, and the architecture, None where nothing names one."""
    if "timm.architecture" in metadata:
        return metadata_object(metadata, "timm.pretrained_cfg"), metadata["timm.architecture"]
    config, arguments = metadata_object(metadata, "config.json"), metadata_object(metadata, "args")
    named = [config.get("architecture"), arguments.get("model"), arguments.get("arch")]
    model = next((name for name in named if isinstance(name, str) and is_timm_vit(name)), None)
    cfg = config.get("pretrained_cfg")
    return cfg if isinstance(cfg, dict) else {}, model
