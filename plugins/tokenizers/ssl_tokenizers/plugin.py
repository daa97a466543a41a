"""What this plugin offers. Imports no torch."""

from __future__ import annotations

from ssl_core.api import Component, hookimpl
from ssl_tokenizers.options import (
    DalleOptions,
    DvaeOptions,
    DvaeTrainingOptions,
    HogOptions,
    KMeansOptions,
    PixelOptions,
    VqkdOptions,
    VqkdTrainingOptions,
)
from ssl_tokenizers.recipes import DVAE_RECIPES, DVAE_SETTINGS
from ssl_tokenizers.vqkd_recipes import VQKD_RECIPES, VQKD_SETTINGS

_DALLE = "DALL-E (Ramesh et al. 2021), arXiv 2102.12092, appendix A"
_BEIT_V2 = "BEiT v2 (Peng et al. 2022), arXiv 2208.06366"
_VQ_VAE = "VQ-VAE (van den Oord et al. 2017), arXiv 1711.00937"


@hookimpl
def register_tokenizers() -> list[Component]:
    return [
        Component(
            kind="tokenizer",
            name="kmeans",
            summary="k-means on pixel windows, raw or whitened: fitted in seconds, uses all its codes",
            target="ssl_tokenizers.kmeans:KMeansTokenizer",
            options=KMeansOptions,
            references=("Learning Feature Representations with K-means (Coates and Ng 2012)",),
        ),
        Component(
            kind="tokenizer",
            name="dvae",
            summary="a discrete VAE trained on the same images: decodes to pixels",
            target="ssl_tokenizers.dvae:DvaeTokenizer",
            options=DvaeOptions,
            provides=("dvae",),
            references=(_DALLE,),
        ),
        Component(
            kind="tokenizer",
            name="dalle",
            summary="the discrete VAE that OpenAI trained for DALL-E, as in BEiT's paper: decodes to pixels",
            target="ssl_tokenizers.dalle:DalleTokenizer",
            options=DalleOptions,
            references=(_DALLE, "BEiT (Bao et al. 2021), arXiv 2106.08254"),
        ),
        Component(
            kind="tokenizer",
            name="vqkd",
            summary="a VQ-VAE or VQ-KD trained on the same images: its codes stand for pixels or a teacher's features",
            target="ssl_tokenizers.vqkd:VqkdTokenizer",
            options=VqkdOptions,
            provides=("vqkd",),
            references=(_BEIT_V2, _VQ_VAE),
        ),
    ]


@hookimpl
def register_targets() -> list[Component]:
    return [
        Component(
            kind="target",
            name="pixel",
            summary="the patch's pixels, normalised per patch or not: no tokens, nothing to fit",
            target="ssl_tokenizers.pixel:PixelTarget",
            options=PixelOptions,
            requires=("head:vectors",),
            slots={"head": "heads:regression"},
            references=(
                "MAE (He et al. 2021), arXiv 2111.06377",
                "SimMIM (Xie et al. 2021), arXiv 2111.09886",
            ),
        ),
        Component(
            kind="target",
            name="hog",
            summary="histograms of oriented gradients of the patch's cells: edges, whatever their contrast",
            target="ssl_tokenizers.hog:HogTarget",
            options=HogOptions,
            requires=("head:vectors",),
            slots={"head": "heads:regression"},
            references=("MaskFeat (Wei et al. 2021), arXiv 2112.09133",),
        ),
    ]


@hookimpl
def register_methods() -> list[Component]:
    return [
        Component(
            kind="method",
            name="dvae",
            summary="trains the tokenizer 'dvae' by itself; reuse it with tokenizer.checkpoint=RUN",
            target="ssl_tokenizers.dvae_method:DvaeTraining",
            options=DvaeTrainingOptions,
            references=(_DALLE, "Gumbel-softmax (Jang et al. 2017), arXiv 1611.01144"),
            requires=("tokenizer:dvae",),
            slots={"tokenizer": "tokenizers:dvae", "transform": "core:augment"},
            settings=DVAE_SETTINGS,
            recipes=DVAE_RECIPES,
        ),
        Component(
            kind="method",
            name="vqkd",
            summary="trains the tokenizer 'vqkd' by itself; reuse it with tokenizer.checkpoint=RUN",
            target="ssl_tokenizers.vqkd_method:VqkdTraining",
            options=VqkdTrainingOptions,
            references=(_BEIT_V2, _VQ_VAE),
            requires=("tokenizer:vqkd",),
            slots={"tokenizer": "tokenizers:vqkd", "transform": "core:augment"},
            settings=VQKD_SETTINGS,
            recipes=VQKD_RECIPES,
        ),
    ]
