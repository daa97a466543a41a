"""BEiT: its masker, backbone, transform and preset. Imports no torch."""

from __future__ import annotations

from ssl_beit.options import BeitVitOptions, BlockMaskerOptions, TwoViewOptions
from ssl_beit.recipes import PRESET, RECIPES
from ssl_beit.recipes_v2 import PRESET_V2, RECIPES_V2
from ssl_core.api import Component, MaskedModelingOptions, hookimpl

_PAPER = ("BEiT (Bao et al. 2021), arXiv 2106.08254",)
_SECOND_PAPER = "BEiT v2 (Peng et al. 2022), arXiv 2208.06366"


@hookimpl
def register_methods() -> list[Component]:
    return [
        Component(
            kind="method",
            name="beit",
            summary="Predict the discrete codes of hidden patches",
            target="ssl_core.masked_modeling:MaskedModeling",
            options=MaskedModelingOptions,
            references=_PAPER,
            slots={
                "backbone": "beit:vit",
                "tokenizer": "tokenizers:dvae",
                "masker": "beit:block",
                "head": "heads:mim",
                "transform": "beit:two_view",
            },
            settings=PRESET,
            recipes=RECIPES,
        ),
        Component(
            kind="method",
            name="beitv2",
            summary="As beit, with a teacher's features as codes and a CLS token that has to sum up the image",
            target="ssl_core.masked_modeling:MaskedModeling",
            options=MaskedModelingOptions,
            references=(_SECOND_PAPER,),
            slots={
                "backbone": "beit:vit",
                "tokenizer": "tokenizers:vqkd",
                "masker": "beit:block",
                "head": "heads:patch_aggregation",
                "transform": "beit:two_view",
            },
            settings=PRESET_V2,
            recipes=RECIPES_V2,
        ),
    ]


@hookimpl
def register_backbones() -> list[Component]:
    return [
        Component(
            kind="backbone",
            name="vit",
            summary="BEiT's ViT: shared relative-position bias and LayerScale, or plain absolute positions",
            target="ssl_beit.backbone:BeitVit",
            options=BeitVitOptions,
            names=("vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge"),
            name_option="model",
            provides=("any_size", "cls", "branch"),
            references=_PAPER,
        )
    ]


@hookimpl
def register_maskers() -> list[Component]:
    return [
        Component(
            kind="masker",
            name="block",
            summary="Hides rectangles of patches until a given number is hidden",
            target="ssl_beit.masker:BlockMasker",
            options=BlockMaskerOptions,
            references=(*_PAPER, _SECOND_PAPER),
        )
    ]


@hookimpl
def register_transforms() -> list[Component]:
    return [
        Component(
            kind="transform",
            name="two_view",
            summary="Jitter, flip, and one crop seen at two sizes, in the reference's order",
            target="ssl_beit.two_view:TwoView",
            options=TwoViewOptions,
            references=_PAPER,
        )
    ]


@hookimpl
def register_checkpoint_formats() -> list[Component]:
    return [
        Component(
            kind="checkpoint_format",
            name="microsoft",
            summary="BEiT and BEiT v2 in Microsoft's names, which are timm's too: pre-trained or fine-tuned",
            target="ssl_beit.microsoft_format:MicrosoftFormat",
            references=(*_PAPER, _SECOND_PAPER),
        ),
        Component(
            kind="checkpoint_format",
            name="transformers",
            summary="Folders of Hugging Face's BeitModel, alone or with a head",
            target="ssl_beit.transformers_format:TransformersFormat",
            references=_PAPER,
        ),
    ]
