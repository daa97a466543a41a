"""MAE: its preset and decoder, and the checkpoints that its authors and Hugging Face publish. Imports no torch."""

from __future__ import annotations

from ssl_core.api import Component, MaskedModelingOptions, hookimpl
from ssl_mae.options import DecoderOptions
from ssl_mae.recipes import PRESET, RECIPES

_PAPER = ("MAE (He et al. 2021), arXiv 2111.06377",)


@hookimpl
def register_methods() -> list[Component]:
    return [
        Component(
            kind="method",
            name="mae",
            summary="Encode a quarter of the patches, decode the pixels of the rest",
            target="ssl_core.masked_modeling:MaskedModeling",
            options=MaskedModelingOptions,
            requires=("backbone:drop_tokens",),
            references=_PAPER,
            slots={
                "backbone": "core:vit",
                "tokenizer": "tokenizers:pixel",
                "masker": "core:random",
                "head": "mae:decoder",
                "transform": "core:augment",
            },
            settings=PRESET,
            recipes=RECIPES,
        )
    ]


@hookimpl
def register_heads() -> list[Component]:
    return [
        Component(
            kind="head",
            name="decoder",
            summary="Small ViT over all patches, mask tokens for those left out, squared error at the hidden ones",
            target="ssl_mae.decoder:Decoder",
            options=DecoderOptions,
            provides=("vectors",),
            references=_PAPER,
        )
    ]


@hookimpl
def register_checkpoint_formats() -> list[Component]:
    return [
        Component(
            kind="checkpoint_format",
            name="pretrain",
            summary="facebookresearch/mae's pre-training checkpoints, encoder and decoder; the decoder is left out",
            target="ssl_mae.checkpoint_format:MaePretrainFormat",
            references=_PAPER,
        ),
        Component(
            kind="checkpoint_format",
            name="huggingface",
            summary="folders of transformers' ViTMAEModel and ViTMAEForPreTraining",
            target="ssl_mae.checkpoint_format:HuggingFaceMaeFormat",
            references=_PAPER,
        ),
    ]
