"""Linear probe: what a linear classifier can read out of frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ssl_benchmarks.baselines import majority_accuracy
from ssl_benchmarks.device import evaluation_device
from ssl_benchmarks.features import extract
from ssl_benchmarks.layers import spec_of
from ssl_benchmarks.linear.data import ProbeData, probe_data
from ssl_benchmarks.linear.heads import HeadBank
from ssl_benchmarks.linear.logistic import logistic_scores
from ssl_benchmarks.linear.norm import FeatureNorm, standardize
from ssl_benchmarks.linear.options import LinearOptions
from ssl_benchmarks.linear.result import (
    HEADLINE,
    StoredFeatures,
    head_values,
    metrics,
    protocol_values,
    unreadable_notes,
)
from ssl_benchmarks.linear.scores import HeadScore, choose, score_bank
from ssl_benchmarks.linear.sources import ProbeSource, probe_sources
from ssl_benchmarks.linear.sweep import draw_sweep, sweep_table
from ssl_benchmarks.linear.training import Plan, augmented_batches, stored_batches, train_heads
from ssl_benchmarks.numbering import next_number
from ssl_benchmarks.tables import fits
from ssl_benchmarks.verdict import verdict
from ssl_core.api import (
    Backbone,
    BuildContext,
    DataError,
    DataSource,
    Device,
    Evaluator,
    Processes,
    Registry,
    UsageError,
)


class LinearEvaluator(Evaluator):
    """Trains a head for every layer, pooling and learning rate in one pass and reports one of them.

    It is chosen on images of the training split that no head saw; the test split is only reported.
    """

    shares_work = True

    def __init__(self, options: LinearOptions, context: BuildContext):
        self._options = options
        self._context = context

    def run(self, backbone: Backbone, data: DataSource, out: Path | None) -> dict[str, Any]:
        """Returns `evaluator`, `protocol`, `metrics`, `baselines` (accuracies in percent), `notes`, and of the model
        `heads` (every head) and `tables` (its layers); `files` names the picture, where there is a folder.

        Raises:
            DataError: no labels, one class, or too few images.
            UsageError: a layer or a CLS token that the backbone does not have; nothing to choose heads by.
            NumericError: features or losses that are not finite.
        """
        options = self._options
        device = evaluation_device(options.device, options.precision)
        registry = self._context.registry or Registry.load()
        sources = probe_sources(backbone, device, options, registry)
        self._check_choice(sources)
        images = probe_data(data, options)
        size = spec_of(backbone).image_size
        stored = self._extract(images, sources, size, device.device, out)
        if not Processes.of_environment().first:
            return {}
        plan = Plan.of(options, len(images.fit) if stored.fit is None else len(stored.fit))

        scores, notes = self._scores(images, sources, stored, plan, size, device, registry)
        chosen = {name: choose(found) for name, found in scores.items()}
        results = {name: metrics(score, len(images.classes), options) for name, score in chosen.items()}
        notes = [*images.notes, *notes, *unreadable_notes(images, stored)]
        if options.baselines:
            notes.insert(0, verdict(results["model"], results["random_init"], HEADLINE, "a linear head"))
        baselines: dict[str, Any] = {name: found for name, found in results.items() if name != "model"}
        learnt = torch.tensor([images.train.label(index) for index in images.fit])
        baselines["majority"] = round(majority_accuracy(learnt, stored.test.labels), 3)
        result = {
            "evaluator": "linear",
            "protocol": protocol_values(options, images, stored, plan, size, device, chosen),
            "metrics": results["model"],
            "baselines": baselines,
            "notes": notes,
            "heads": [head_values(score, options) for score in scores["model"]],
            "tables": [sweep_table(scores["model"])],
        }
        if out is not None:
            lines = {
                name: found[HEADLINE] if isinstance(found, Mapping) else found for name, found in baselines.items()
            }
            file = out / f"linear-{next_number(out, 'linear')}.png"
            draw_sweep(scores["model"], chosen["model"], lines, f"linear probe on {data.describe()}", file)
            result["files"] = [str(file)]
        return result

    def _check_choice(self, sources: Mapping[str, ProbeSource]) -> None:
        """Refuses several heads with nothing to choose them by."""
        options = self._options
        each = len(options.c if options.optimizer == "logistic" else options.lr)
        heads = each * len(sources["model"].inputs)
        if heads > 1 and not options.holdout:
            raise UsageError(
                f"holdout=0 leaves nothing to choose one of {heads} heads by; set holdout=0.1, or one layer, one "
                "feature and one learning rate"
            )

    def _extract(
        self, images: ProbeData, sources: Mapping[str, ProbeSource], size: int, device: torch.device, out: Path | None
    ) -> StoredFeatures:
        options = self._options
        embedders = {name: source.embed for name, source in sources.items()}
        settings = {
            "size": size,
            "device": device,
            "crop_fraction": options.crop_fraction,
            "batch_size": options.forward_batch_size,
            "workers": options.workers,
            "dtype": torch.float16 if options.store == "fp16" else torch.float32,
            "folder": out,
            "processes": Processes.of_environment(),
        }
        fit = held_out = None
        if not options.augment:
            fit = extract(images.train, images.fit, embedders, label=f"train ({images.train_name})", **settings)
        if images.held_out:
            held_out = extract(images.train, images.held_out, embedders, label="held out", **settings)
        test = extract(images.test, images.tested, embedders, label=f"test ({images.test_name})", **settings)
        for name, found, least in (("training", fit, 2), ("held-out", held_out, 1), ("test", test, 1)):
            if found is not None and len(found) < least:
                raise DataError(
                    f"{len(found)} of {len(found) + len(found.unreadable)} {name} images can be read; "
                    f"a linear head needs at least {least}"
                )
        return StoredFeatures(fit, held_out, test)

    def _scores(
        self,
        images: ProbeData,
        sources: Mapping[str, ProbeSource],
        stored: StoredFeatures,
        plan: Plan,
        size: int,
        device: Device,
        registry: Registry,
    ) -> tuple[dict[str, list[HeadScore]], list[str]]:
        """Trains and scores every head of every source; returns the scores and what a reader should know."""
        options, classes = self._options, len(images.classes)
        norms = self._norms(stored)
        pairs = {
            name: [
                None if part is None else (part.features[name], part.labels) for part in (stored.held_out, stored.test)
            ]
            for name in sources
        }
        if options.optimizer == "logistic":
            assert stored.fit is not None  # the options refuse `augment`
            scores, unfinished = {}, 0
            for name, source in sources.items():
                fit = (stored.fit.features[name], stored.fit.labels)
                scores[name], stopped = logistic_scores(
                    source.inputs, norms[name], options.c, fit, *pairs[name], classes=classes
                )
                unfinished += stopped
            note = f"{unfinished} logistic regressions stopped before they converged; a smaller c converges sooner"
            return scores, [note] if unfinished else []

        banks = {}
        for name, source in sources.items():
            shape = stored.test.features[name].shape[1:]
            apart = options.optimizer == "lars"  # its trust ratio is that of one head
            bank = HeadBank(source.inputs, shape, len(plan.rates), classes, norms[name], options.seed, apart)
            banks[name] = bank.to(device.device)
        if stored.fit is None:
            embedders = {name: source.embed for name, source in sources.items()}
            batches = augmented_batches(
                images.train, images.fit, embedders, plan, options, size=size, device=device.device, registry=registry
            )
        else:
            tables = stored.fit.features
            if fits(sum(table.nbytes for table in tables.values()), device.device):
                tables = {name: table.to(device.device) for name, table in tables.items()}
            rows = torch.arange(len(stored.fit))
            batches = stored_batches(tables, stored.fit.labels, rows, plan, device.device, options.seed)
        train_heads(banks, batches, options, plan)
        return {
            name: score_bank(bank, plan.rates, *pairs[name], device=device.device) for name, bank in banks.items()
        }, []

    def _norms(self, stored: StoredFeatures) -> dict[str, FeatureNorm]:
        """Returns what features pass in every step, after those that are stored were standardised, if they are."""
        kind = self._options.normalize
        if kind == "auto":
            kind = "batchnorm" if self._options.augment else "standardize"
        for name, learnt in () if stored.fit is None or kind != "standardize" else stored.fit.features.items():
            others = [part.features[name] for part in (stored.held_out, stored.test) if part is not None]
            standardize(learnt, others)
        return {name: FeatureNorm(table.shape[1:], kind) for name, table in stored.test.features.items()}
