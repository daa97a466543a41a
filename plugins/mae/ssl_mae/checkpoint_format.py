"""MAE's checkpoints become `core:vit`; the decoder and the mask token stay behind.

The files that hold the encoder alone have nothing of MAE's in them: `core:timm_vit` reads those.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from ssl_core.api import (
    PLAIN_VIT_KEYS,
    BackboneSpec,
    BuildContext,
    CheckpointFormat,
    HuggingFaceVitFormat,
    NoOptions,
    plain_vit_spec,
    plain_vit_state,
)


class MaePretrainFormat(CheckpointFormat):
    """What facebookresearch/mae saves while it pre-trains: `decoder_*` beside the encoder."""

    ignored = ("mask_token", "decoder_*")

    def __init__(self, options: NoOptions, context: BuildContext):
        pass

    def matches(self, keys: Collection[str], metadata: Mapping[str, str]) -> bool:
        return set(keys) >= {*PLAIN_VIT_KEYS, "mask_token", "decoder_pos_embed", "decoder_embed.weight"}

    def convert(
        self, state: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> tuple[BackboneSpec, dict[str, Tensor]]:
        return plain_vit_spec(state), plain_vit_state(state)


class HuggingFaceMaeFormat(HuggingFaceVitFormat):
    """A folder of `ViTMAEModel`, or of `ViTMAEForPreTraining` with its decoder."""

    model_type = "vit_mae"
    ignored = ("decoder.*",)
