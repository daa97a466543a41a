"""k nearest neighbours on frozen features (Wu et al. 2018; DINO's protocol)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_benchmarks.baselines import RAW_PIXELS, RawPixels, majority_accuracy
from ssl_benchmarks.device import evaluation_device
from ssl_benchmarks.features import BackboneFeatures, Embedder, Extracted, extract
from ssl_benchmarks.knn.options import KnnOptions
from ssl_benchmarks.knn.scorer import KnnScorer
from ssl_benchmarks.knn.search import unit_rows
from ssl_benchmarks.layers import FINAL, Layer, LayerFeatures, poolings_of, resolve_layers, spec_of
from ssl_benchmarks.verdict import verdict
from ssl_benchmarks.versions import versions
from ssl_core.api import (
    Backbone,
    BuildContext,
    DataError,
    DataSource,
    Evaluator,
    LabelledSplits,
    Processes,
    build_untrained,
    labelled_indices,
    labelled_splits,
)

_HEADLINE_K = 20
_NEAR_DUPLICATE = 0.999
"""Cosine of raw pixels above which a query and an image of the bank count as the same picture."""


class KnnEvaluator(Evaluator):
    """Classifies each query by its most similar images of the bank.

    Features of the clean central square, L2-normalised; cosine similarity; neighbours weighted by
    softmax(cos / T) over the k; weights summed by class. Equal similarities go to the image that
    comes first in the bank, equal votes to the lower class.
    """

    shares_work = True

    def __init__(self, options: KnnOptions, context: BuildContext):
        self._options = options
        self._context = context

    def run(self, backbone: Backbone, data: DataSource, out: Path | None) -> dict[str, Any]:
        """Returns `evaluator`, `protocol`, `metrics`, `baselines` (accuracies in percent) and `notes`.

        With `layers` also `layers`, the metrics of each, and their table in `tables`.

        Raises:
            DataError: no labels, a single class, or fewer than two images that can be read.
            UsageError: a layer or a CLS token that the backbone does not have.
            NumericError: features that are not finite.
        """
        options = self._options
        device = evaluation_device(options.device, options.precision)
        splits = labelled_splits(data, options.train_split, options.test_split)
        _check_classes(splits)
        layers = self._layers(backbone)
        embedders: dict[str, Embedder] = {
            "model": LayerFeatures(backbone, device, layers, poolings_of(options.feature), options.compile)
        }
        if options.baselines:
            untrained = build_untrained(spec_of(backbone), options.seed, self._context.registry)
            embedders["random_init"] = BackboneFeatures(
                untrained, device, options.feature, options.layer, options.compile
            )
            embedders["raw_pixels"] = RawPixels()
        bank, queries, notes = self._extract(splits, embedders, spec_of(backbone).image_size, device.device, out)
        if not Processes.of_environment().first:
            return {}

        leave_one_out = splits.queries is None
        available = len(bank) - leave_one_out
        ks = sorted({min(k, available) for k in options.k})
        headline = f"knn_{min(_HEADLINE_K, available) if _HEADLINE_K in options.k else ks[0]}"
        if max(options.k) > available:
            notes.append(f"k clipped to {available}: the bank has no more images")

        scores: dict[Layer | str, dict[str, Any]] = {}
        near_duplicates = None
        scorer = KnnScorer(options, bank.labels, queries.labels, ks, headline, len(splits.classes), device.device)
        for name, of_bank, of_queries in _feature_sets(bank, queries, layers):
            of_bank = unit_rows(of_bank)
            of_queries = None if leave_one_out else unit_rows(of_queries)
            neighbours = scorer.nearest(of_bank, of_queries)
            scores[name] = scorer.score(neighbours)
            if name == "raw_pixels":
                near_duplicates = int((neighbours.similarities[:, 0] > _NEAR_DUPLICATE).sum())
            if name in ("random_init", "raw_pixels", layers[0]):
                scores[name] |= scorer.few_shot(of_bank, of_queries)
        notes += scorer.notes
        results = {"model" if name == layers[0] else name: found for name, found in scores.items()}
        if near_duplicates:
            share = 100 * near_duplicates / len(queries)
            notes.append(
                f"{near_duplicates} queries ({share:.1f} %) have a near-duplicate in the bank, which flatters k-NN"
            )

        if "random_init" in results:
            notes.insert(0, verdict(results["model"], results["random_init"], headline))

        protocol = {
            "feature": options.feature,
            "layer": options.layer,
            "k": ks,
            "headline": headline,
            "temperature": options.temperature,
            "similarity": "cosine",
            "weights": "softmax(cos / T) over the k neighbours, float32",
            "ties": "similarity: first in the bank; votes: lowest class",
            "unit": "percent",
            "bank": {"split": splits.bank_name, "images": len(bank)},
            "queries": {"split": splits.queries_name, "images": len(queries)},
            "classes": len(splits.classes),
            "leave_one_out": leave_one_out,
            "image_size": spec_of(backbone).image_size,
            "crop_fraction": options.crop_fraction,
            "raw_pixels": RAW_PIXELS if options.baselines else None,
            "near_duplicates": near_duplicates,
            "unreadable": len(bank.unreadable) + (0 if leave_one_out else len(queries.unreadable)),
            "interval": f"95 % bootstrap over the queries, {options.bootstrap} resamples",
            "backend": scorer.backend,
            "device": device.device.type,
            "precision": device.precision,
            "seed": options.seed,
            "few_shot": {"n_per_class": list(options.n_per_class), "tries": options.tries}
            if options.n_per_class
            else None,
            "versions": {**versions(), scorer.backend: scorer.version},
        }
        baselines: dict[str, Any] = {name: results[name] for name in ("random_init", "raw_pixels") if name in results}
        baselines["majority"] = round(majority_accuracy(bank.labels, queries.labels), 3)
        result = {
            "evaluator": "knn",
            "protocol": protocol,
            "metrics": results["model"],
            "baselines": baselines,
            "notes": notes,
        }
        if options.layers is not None:
            wanted = resolve_layers(options.layers, backbone.depth)
            result["layers"] = {str(layer): scores[layer] for layer in wanted}
            result["tables"] = [_layer_table(result["layers"], ks, options.feature)]
            notes.append("the table of layers is measured on the queries: to choose one by it, use another split")
        return result

    def _layers(self, backbone: Backbone) -> tuple[Layer, ...]:
        """Returns the layer of the headline, then those that the table compares with it."""
        options = self._options
        headline = FINAL if options.layer is None else options.layer
        others = () if options.layers is None else resolve_layers(options.layers, backbone.depth)
        return tuple(dict.fromkeys([*resolve_layers((headline,), backbone.depth), *others]))

    def _extract(
        self, splits: LabelledSplits, embedders: dict[str, Embedder], size: int, device: torch.device, out: Path | None
    ) -> tuple[Extracted, Extracted, list[str]]:
        options = self._options
        settings = {
            "size": size,
            "device": device,
            "crop_fraction": options.crop_fraction,
            "batch_size": options.batch_size,
            "workers": options.workers,
            "folder": out,
            "processes": Processes.of_environment(),
        }
        indices = labelled_indices(splits.bank)
        if options.max_bank is not None and len(indices) > options.max_bank:
            indices = sorted(random.Random(options.seed).sample(indices, options.max_bank))
        bank = extract(splits.bank, indices, embedders, label=f"bank ({splits.bank_name})", **settings)
        notes = []
        if splits.queries is None:
            queries = bank
            notes.append(
                f"leave-one-out: '{splits.bank_name}' is bank and queries, each image is compared with the others"
            )
        else:
            indices = labelled_indices(splits.queries)
            queries = extract(splits.queries, indices, embedders, label=f"queries ({splits.queries_name})", **settings)
        for name, found in {splits.bank_name: bank, splits.queries_name: queries}.items():
            if found.unreadable:
                examples = ", ".join(found.unreadable[:3])
                notes.append(f"{len(found.unreadable)} images of '{name}' cannot be read and are left out: {examples}")
            least = 2 if splits.queries is None else 1
            if len(found) < least:
                raise DataError(
                    f"split '{name}': {len(found)} labelled images can be read; k-NN needs at least {least}"
                )
        return bank, queries, notes


def _check_classes(splits: LabelledSplits) -> None:
    """Refuses a bank whose every answer is the same."""
    labels = {splits.bank.label(index) for index in labelled_indices(splits.bank)}
    if len(labels) < 2:
        only = splits.classes[next(iter(labels))]
        raise DataError(
            f"split '{splits.bank_name}': there is only one class, '{only}', so every answer is the same and a score "
            "means nothing; k-NN needs two classes or more"
        )


def _feature_sets(
    bank: Extracted, queries: Extracted, layers: Sequence[Layer]
) -> Iterator[tuple[Layer | str, Tensor, Tensor]]:
    """Yields (layer of the model or baseline, features (n, D) of the bank, (Q, D) of the queries)."""
    for name in bank.features:
        if name != "model":
            yield name, bank.features[name], queries.features[name]
            continue
        for number, layer in enumerate(layers):
            yield layer, bank.features[name][:, number].flatten(1), queries.features[name][:, number].flatten(1)


def _layer_table(layers: Mapping[str, Mapping[str, float]], ks: Sequence[int], feature: str) -> dict[str, Any]:
    columns = [f"knn_{k}" for k in ks]
    rows = [[name, *(found[column] for column in columns)] for name, found in layers.items()]
    return {"title": f"layers ({feature}, percent)", "columns": ["layer", *columns], "rows": rows}
