"""DINO's full checkpoints become `core:vit`; the projection head stays behind.

The files that hold the backbone alone have nothing of DINO's in them: `core:timm_vit` reads those, and
`core:huggingface_vit` the folders on the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from ssl_core.api import (
    PLAIN_VIT_KEYS,
    BackboneSpec,
    BuildContext,
    CheckpointFormat,
    NoOptions,
    plain_vit_spec,
    plain_vit_state,
)


class DinoFormat(CheckpointFormat):
    """`{"student": ..., "teacher": ...}`; the engine hands over the teacher's tensors, which DINO evaluates."""

    ignored = ("head.*",)

    def __init__(self, options: NoOptions, context: BuildContext):
        pass

    def matches(self, keys: Collection[str], metadata: Mapping[str, str]) -> bool:
        head = any(key.startswith(("head.mlp.", "head.last_layer.")) for key in keys)
        return head and set(keys) >= PLAIN_VIT_KEYS

    def convert(
        self, state: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> tuple[BackboneSpec, dict[str, Tensor]]:
        return plain_vit_spec(state), plain_vit_state(state)
