"""Folders of Hugging Face's plain ViTs, which differ in their `model_type` and in what they have beside the encoder."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.evaluation import BackboneSpec, CheckpointFormat
from ssl_core.options import NoOptions
from ssl_core.plain_vit import from_huggingface_vit, huggingface_vit_spec, metadata_object, plain_vit_state


class HuggingFaceVitFormat(CheckpointFormat):
    """The base of a format whose folders hold a plain ViT in Hugging Face's names; it becomes `core:vit`.

    A subclass sets `model_type`, and `ignored` for what the folder has beside the encoder.
    """

    model_type: str
    """What `config.json` calls such a model."""

    def __init__(self, options: NoOptions, context: BuildContext):
        pass

    def matches(self, keys: Collection[str], metadata: Mapping[str, str]) -> bool:
        return metadata_object(metadata, "config.json").get("model_type") == self.model_type

    def convert(
        self, state: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> tuple[BackboneSpec, dict[str, Tensor]]:
        renamed = from_huggingface_vit(state)
        return huggingface_vit_spec(renamed, metadata), plain_vit_state(renamed)
