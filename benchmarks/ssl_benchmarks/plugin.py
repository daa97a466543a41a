"""What this plugin offers. Imports no torch."""

from __future__ import annotations

from ssl_benchmarks.online_options import OnlineOptions
from ssl_benchmarks.options import KnnOptions
from ssl_benchmarks.protocols import KNN_PROTOCOLS
from ssl_core.api import Component, hookimpl


@hookimpl
def register_evaluators() -> list[Component]:
    return [
        Component(
            kind="evaluator",
            name="knn",
            summary="k nearest neighbours on frozen features, beside random initialisation and raw pixels",
            target="ssl_benchmarks.knn:KnnEvaluator",
            options=KnnOptions,
            recipes=KNN_PROTOCOLS,
            references=(
                "Wu et al. 2018, arXiv 1805.01978 (weighted k-NN)",
                "Caron et al. 2021, arXiv 2104.14294 (protocol)",
            ),
        )
    ]


@hookimpl
def register_monitors() -> list[Component]:
    return [
        Component(
            kind="monitor",
            name="online",
            summary="evaluates while training: k-NN, RankMe and feature std on a few training images, and a verdict",
            target="ssl_benchmarks.online:OnlineMonitor",
            options=OnlineOptions,
            references=(
                "Garrido et al. 2023, arXiv 2210.02885 (RankMe)",
                "Chen and He 2021, arXiv 2011.10566 (feature std)",
            ),
        )
    ]
