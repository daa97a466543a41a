"""k nearest neighbours on frozen features (Wu et al. 2018; DINO's protocol)."""

from __future__ import annotations

import platform
import random
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_benchmarks.baselines import RAW_PIXELS, RawPixels, majority_accuracy
from ssl_benchmarks.bootstrap import accuracy_interval
from ssl_benchmarks.device import evaluation_device
from ssl_benchmarks.features import BackboneFeatures, Embedder, Extracted, extract, spec_of
from ssl_benchmarks.options import KnnOptions
from ssl_benchmarks.search import CandidateSearch, Neighbours, nearest, unit_rows
from ssl_benchmarks.search_faiss import choose_search
from ssl_benchmarks.splits import LabelledSplits, labelled_indices, labelled_splits
from ssl_core.api import (
    Backbone,
    BuildContext,
    DataError,
    DataSource,
    Evaluator,
    build_untrained,
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

    def __init__(self, options: KnnOptions, context: BuildContext):
        self._options = options
        self._context = context

    def run(self, backbone: Backbone, data: DataSource, out: Path | None) -> dict[str, Any]:
        """Returns `evaluator`, `protocol`, `metrics`, `baselines` (accuracies in percent) and `notes`.

        Raises:
            DataError: no labels, or fewer than two images that can be read.
            UsageError: a layer or a CLS token that the backbone does not have.
            NumericError: features that are not finite.
        """
        options = self._options
        device = evaluation_device(options.device, options.precision)
        splits = labelled_splits(data, options.train_split, options.test_split)
        embedders: dict[str, Embedder] = {"model": BackboneFeatures(backbone, device, options.feature, options.layer)}
        if options.baselines:
            untrained = build_untrained(spec_of(backbone), options.seed, self._context.registry)
            embedders["random_init"] = BackboneFeatures(untrained, device, options.feature, options.layer)
            embedders["raw_pixels"] = RawPixels()
        bank, queries, notes = self._extract(splits, embedders, spec_of(backbone).image_size, device.device)

        leave_one_out = splits.queries is None
        available = len(bank) - leave_one_out
        ks = sorted({min(k, available) for k in options.k})
        headline = f"knn_{min(_HEADLINE_K, available) if _HEADLINE_K in options.k else ks[0]}"
        if max(options.k) > available:
            notes.append(f"k clipped to {available}: the bank has no more images")
        if len(splits.classes) == 1:
            notes.append("there is only one class: every accuracy is 100 % and means nothing")

        results: dict[str, dict[str, Any]] = {}
        near_duplicates = None
        for name in embedders:
            neighbours, search, note = self._search(
                bank.features[name], queries.features[name], ks[-1], leave_one_out, device.device
            )
            notes += [note] if note and note not in notes else []
            results[name] = self._score(neighbours, bank.labels, queries.labels, ks, headline, len(splits.classes))
            if name == "raw_pixels":
                near_duplicates = int((neighbours.similarities[:, 0] > _NEAR_DUPLICATE).sum())
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
            "backend": search.name,
            "device": device.device.type,
            "precision": device.precision,
            "seed": options.seed,
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("ssl-vision", "torch", "numpy", "pillow")},
                search.name: search.version,
            },
        }
        baselines: dict[str, Any] = {name: result for name, result in results.items() if name != "model"}
        baselines["majority"] = round(majority_accuracy(bank.labels, queries.labels), 3)
        return {
            "evaluator": "knn",
            "protocol": protocol,
            "metrics": results["model"],
            "baselines": baselines,
            "notes": notes,
        }

    def _extract(
        self, splits: LabelledSplits, embedders: dict[str, Embedder], size: int, device: torch.device
    ) -> tuple[Extracted, Extracted, list[str]]:
        options = self._options
        settings = {
            "size": size,
            "device": device,
            "crop_fraction": options.crop_fraction,
            "batch_size": options.batch_size,
            "workers": options.workers,
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

    def _search(
        self, bank: Tensor, queries: Tensor, k: int, leave_one_out: bool, device: torch.device
    ) -> tuple[Neighbours, CandidateSearch, str | None]:
        bank, queries = unit_rows(bank).to(device), unit_rows(queries).to(device)
        search, note = choose_search(self._options.backend, bank, k)
        exclude = torch.arange(len(queries), device=device) if leave_one_out else None
        found = nearest(search, bank, queries, k, exclude)
        return Neighbours(found.similarities.cpu(), found.ids.cpu()), search, note

    def _score(
        self, found: Neighbours, bank_labels: Tensor, labels: Tensor, ks: Sequence[int], headline: str, classes: int
    ) -> dict[str, Any]:
        options = self._options
        scores: dict[str, Any] = {}
        for k in ks:
            answers = vote(found.similarities[:, :k], bank_labels[found.ids[:, :k]], options.temperature, classes)
            correct = int((answers == labels).sum())
            scores[f"knn_{k}"] = round(100 * correct / len(labels), 3)
            if headline == f"knn_{k}":
                interval = accuracy_interval(correct, len(labels), options.bootstrap, options.seed)
                scores[f"{headline}_ci"] = [round(bound, 3) for bound in interval]
        return scores


def verdict(model: Mapping[str, Any], random_init: Mapping[str, Any], headline: str) -> str:
    """Returns which number to read against which, and what it says."""
    ours, theirs = model[headline], random_init[headline]
    start = f"read {headline} of the model, {ours:.2f}, against random init, {theirs:.2f}: "
    if ours <= theirs:
        return start + "not above it, so k-NN sees nothing that was learnt"
    if model[f"{headline}_ci"][0] <= random_init[f"{headline}_ci"][1]:
        return start + "above it, but the intervals overlap, so it may be chance"
    return start + "above it, and the intervals are disjoint"


def vote(similarities: Tensor, labels: Tensor, temperature: float, classes: int) -> Tensor:
    """Returns the class (Q,) int64 with the largest sum of weights softmax(cos / T); the lowest on a tie.

    Args:
        similarities: (Q, k) float32 cosines of the neighbours.
        labels: (Q, k) int64, their classes.
        temperature: T.
        classes: how many there are.
    """
    weights = (similarities / temperature).softmax(dim=1)  # (Q, k)
    # Summed in float64: there the order of the neighbours cannot break a tie of float32 weights.
    votes = torch.zeros(len(labels), classes, dtype=torch.float64).scatter_add_(
        1, labels, weights.double()
    )  # (Q, classes)
    return votes.argmax(dim=1)
