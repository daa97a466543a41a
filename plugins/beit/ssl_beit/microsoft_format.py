"""Files in the names that Microsoft's BEiT and BEiT v2 have, and timm's BEiTs too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from ssl_beit.adaptation import without_index_buffers
from ssl_beit.file_layout import IMAGENET, INCEPTION, beit_spec
from ssl_core.api import BackboneSpec, BuildContext, CheckpointFormat, NoOptions, metadata_object

_SIGNS = frozenset({"cls_token", "patch_embed.proj.weight", "blocks.0.attn.q_bias", "blocks.0.attn.v_bias"})
"""No other ViT has biases of the queries and of the values, and none of the keys."""


class MicrosoftFormat(CheckpointFormat):
    """BEiT and BEiT v2, pre-trained or fine-tuned, of any size.

    Fine-tuned ones normalise the mean of the patches (`fc_norm`), not the tokens, so they become a backbone with
    `pool=mean`. BEiT v2's two extra blocks serve pre-training alone and are left out.
    """

    ignored = ("mask_token", "lm_head.*", "head.*", "cls_pt_*")

    def __init__(self, options: NoOptions, context: BuildContext):
        pass

    def matches(self, keys: Collection[str], metadata: Mapping[str, str]) -> bool:
        architecture, _ = _timm_config(metadata)
        return set(keys) >= _SIGNS and (architecture is None or architecture.startswith("beit"))

    def convert(
        self, state: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> tuple[BackboneSpec, dict[str, Tensor]]:
        """See `CheckpointFormat.convert`.

        Pixels are normalised as the file says: timm's config, or the training arguments. Where it says nothing, by
        ImageNet's statistics for BEiT v2's pre-training (`cls_pt_*`) and for pre-trained files with
        absolute positions alone (the authors' ImageNet-1K model), else by 0.5.
        """
        kept = without_index_buffers(state)
        arguments = metadata_object(metadata, "args")
        spec = beit_spec(
            kept,
            normalisation=_normalisation(kept, arguments, _timm_config(metadata)[1]),
            image_size=arguments.get("input_size"),
            init_values=arguments.get("layer_scale_init_value"),
        )
        return spec, kept


def _timm_config(metadata: Mapping[str, str]) -> tuple[str | None, dict[str, Any]]:
    """Returns timm's name of the architecture, and its config of the weights, of a timm name or a folder of timm's."""
    if "timm.architecture" in metadata:
        return metadata["timm.architecture"], metadata_object(metadata, "timm.pretrained_cfg")
    config = metadata_object(metadata, "config.json")
    architecture = config.get("architecture")
    return architecture if isinstance(architecture, str) else None, config.get("pretrained_cfg", {})


def _normalisation(state: Mapping[str, Tensor], arguments: Mapping[str, Any], config: Mapping[str, Any]):
    if "mean" in config and "std" in config:
        return config["mean"], config["std"]
    if "imagenet_default_mean_and_std" in arguments:
        return IMAGENET if arguments["imagenet_default_mean_and_std"] else INCEPTION
    second = any(name.startswith("cls_pt_") for name in state)
    has_table = any(name.endswith("relative_position_bias_table") for name in state)
    return IMAGENET if second or ("mask_token" in state and not has_table) else INCEPTION
