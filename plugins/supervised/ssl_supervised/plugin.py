"""The supervised baseline: a preset of classification, from random weights. Imports no torch."""

from __future__ import annotations

from ssl_core.api import ClassifierOptions, Component, hookimpl
from ssl_supervised.recipes import PRESET, RECIPES


@hookimpl
def register_methods() -> list[Component]:
    return [
        Component(
            kind="method",
            name="supervised",
            summary="Learn the classes of labelled images from random weights: what the others are compared with",
            target="ssl_core.classification.classifier:Classifier",
            options=ClassifierOptions,
            references=(
                "DeiT (Touvron et al. 2020), arXiv 2012.12877",
                "MAE (He et al. 2021), arXiv 2111.06377, appendix A.2",
            ),
            slots={"backbone": "core:vit", "transform": "benchmarks:randaugment"},
            settings=PRESET,
            recipes=RECIPES,
        )
    ]
