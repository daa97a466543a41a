"""What this plugin offers. Imports no torch."""

from __future__ import annotations

from ssl_benchmarks.attention.options import AttentionOptions
from ssl_benchmarks.feature_files.options import FeaturesOptions
from ssl_benchmarks.finetune.options import FinetuneOptions, RandAugmentOptions
from ssl_benchmarks.finetune.recipes import PRESET, PROTOCOLS, RECIPES
from ssl_benchmarks.knn.options import KNN_PROTOCOLS, KnnOptions
from ssl_benchmarks.linear.options import LINEAR_PROTOCOLS, LinearOptions
from ssl_benchmarks.online.options import OnlineOptions
from ssl_core.api import ClassifierOptions, Component, hookimpl

_FINETUNING = ("BEiT (Bao et al. 2021), arXiv 2106.08254", "MAE (He et al. 2021), arXiv 2111.06377")


@hookimpl
def register_evaluators() -> list[Component]:
    return [
        Component(
            kind="evaluator",
            name="knn",
            summary="k nearest neighbours on frozen features, beside random initialisation and raw pixels",
            target="ssl_benchmarks.knn.evaluator:KnnEvaluator",
            options=KnnOptions,
            recipes=KNN_PROTOCOLS,
            references=(
                "Wu et al. 2018, arXiv 1805.01978 (weighted k-NN)",
                "Caron et al. 2021, arXiv 2104.14294 (protocol)",
            ),
        ),
        Component(
            kind="evaluator",
            name="linear",
            summary="linear heads on frozen features: layers, poolings and learning rates in one pass",
            target="ssl_benchmarks.linear.evaluator:LinearEvaluator",
            options=LinearOptions,
            recipes=LINEAR_PROTOCOLS,
            references=(
                "BEiT (Bao et al. 2021), arXiv 2106.08254, appendix D",
                "MAE (He et al. 2021), arXiv 2111.06377, appendix A.1",
                "DINO (Caron et al. 2021), arXiv 2104.14294",
            ),
        ),
        Component(
            kind="evaluator",
            name="features",
            summary="writes the features of every image to a file, for use elsewhere; gives no number",
            target="ssl_benchmarks.feature_files.evaluator:FeaturesEvaluator",
            options=FeaturesOptions,
        ),
        Component(
            kind="evaluator",
            name="finetune",
            summary="trains a classifier on the whole backbone and scores it on the test split",
            target="ssl_benchmarks.finetune.evaluator:FinetuneEvaluator",
            options=FinetuneOptions,
            references=_FINETUNING,
            recipes=PROTOCOLS,
        ),
        Component(
            kind="evaluator",
            name="attention",
            summary="draws where chosen patches look, head by head, and patch features as colours; gives no number",
            target="ssl_benchmarks.attention.evaluator:AttentionEvaluator",
            options=AttentionOptions,
            references=("BEiT (Bao et al. 2021), arXiv 2106.08254, section 3.4",),
        ),
    ]


@hookimpl
def register_methods() -> list[Component]:
    return [
        Component(
            kind="method",
            name="finetune",
            summary="Learn the classes of labelled images, starting from a trained backbone (--init-from)",
            target="ssl_core.classification.classifier:Classifier",
            options=ClassifierOptions,
            references=_FINETUNING,
            slots={"backbone": "beit:vit", "transform": "benchmarks:randaugment"},
            settings=PRESET,
            recipes=RECIPES,
        )
    ]


@hookimpl
def register_transforms() -> list[Component]:
    return [
        Component(
            kind="transform",
            name="randaugment",
            summary="random resized crops, flips and timm's RandAugment",
            target="ssl_benchmarks.finetune.randaugment:RandAugmentCrops",
            options=RandAugmentOptions,
            references=("RandAugment (Cubuk et al. 2019), arXiv 1909.13719",),
        )
    ]


@hookimpl
def register_monitors() -> list[Component]:
    return [
        Component(
            kind="monitor",
            name="online",
            summary="evaluates while training: k-NN, RankMe and feature std on a few training images, and a verdict",
            target="ssl_benchmarks.online.monitor:OnlineMonitor",
            options=OnlineOptions,
            references=(
                "Garrido et al. 2023, arXiv 2210.02885 (RankMe)",
                "Chen and He 2021, arXiv 2011.10566 (feature std)",
            ),
        )
    ]
