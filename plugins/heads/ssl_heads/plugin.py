"""Heads: from features to a loss. Imports no torch."""

from __future__ import annotations

from ssl_core.api import Component, hookimpl
from ssl_heads.options import CodeHeadOptions, PatchAggregationOptions, RegressionHeadOptions


@hookimpl
def register_heads() -> list[Component]:
    return [
        Component(
            kind="head",
            name="mim",
            summary="Linear layer to the vocabulary at the hidden patches, cross-entropy",
            target="ssl_heads.codes:CodeHead",
            options=CodeHeadOptions,
            references=("BEiT (Bao et al. 2021), arXiv 2106.08254",),
        ),
        Component(
            kind="head",
            name="patch_aggregation",
            summary="As mim, and once more by a shallow decoder of early patches and the CLS token",
            target="ssl_heads.patch_aggregation:PatchAggregationHead",
            options=PatchAggregationOptions,
            requires=("backbone:branch",),
            references=("BEiT v2 (Peng et al. 2022), arXiv 2208.06366",),
        ),
        Component(
            kind="head",
            name="regression",
            summary="Linear layer to the target vector (pixels, HOG, features) at the hidden patches",
            target="ssl_heads.regression:RegressionHead",
            options=RegressionHeadOptions,
            provides=("vectors",),
            references=("SimMIM (Xie et al. 2021), arXiv 2111.09886",),
        ),
    ]
