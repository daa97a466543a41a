"""Fine-tuning as an evaluation: a classifier trained on the checkpoint, beside the same from random weights."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ssl_benchmarks.baselines import majority_accuracy
from ssl_benchmarks.bootstrap import accuracy_interval
from ssl_benchmarks.finetune.options import FinetuneOptions
from ssl_benchmarks.finetune.recipes import PRESET
from ssl_benchmarks.finetune.runs import FinishedRun, fine_tune, numbered
from ssl_benchmarks.layers import spec_of
from ssl_benchmarks.verdict import verdict
from ssl_benchmarks.versions import versions
from ssl_core.api import (
    Backbone,
    BackboneSpec,
    BuildContext,
    DataError,
    DataOptions,
    DataSource,
    DataSpec,
    Evaluator,
    LabelledSplits,
    Processes,
    UsageError,
    crop_fraction_of,
    labelled_indices,
    scored_split,
    with_subset,
)

_RECIPES = {"auto": "auto", "beit": "none", "mae": "mae", "small": "small"}
"""Recipe of the evaluator -> of the method."""
_LARGE = {"beit": "large", "mae": "mae-large"}
"""The same for large backbones."""
_LARGE_DEPTH = 24
_BACKBONE = "backbone."


class FinetuneEvaluator(Evaluator):
    """Trains `benchmarks:finetune` on the checkpoint's backbone, all of it, and scores the last weights.

    It is a run like any other, in a folder of its own beside the result. An evaluation that was killed goes on
    where it was when the same command is given again.
    """

    sets_in_backbone = frozenset(name.removeprefix(_BACKBONE) for name in PRESET if name.startswith(_BACKBONE))

    def __init__(self, options: FinetuneOptions, context: BuildContext):
        self._options = options
        self._context = context

    def run(self, backbone: Backbone, data: DataSource, out: Path | None) -> dict[str, Any]:
        """Returns `evaluator`, `protocol`, `metrics`, `baselines` (accuracies in percent) and `notes`.

        Raises:
            DataError: no labels, a single class, no test split, or one with other classes.
            UsageError: weights that cannot be made to fit another image size.
            Interrupted: stopped by a signal; the same command goes on.
        """
        spec = spec_of(backbone)
        if Processes.of_environment().world_size > 1:
            raise UsageError(
                "ssl-eval finetune runs in one process; to fine-tune on several GPUs, let torchrun start "
                "ssl-train --method finetune --init-from RUN"
            )
        if data.spec is None:
            raise UsageError("the data does not say how to open it again, and fine-tuning does; use `open_source`")
        options = self._options
        subset = DataOptions(fraction=options.fraction, per_class=options.per_class, subset_seed=options.seed)
        splits = scored_split(with_subset(data, subset), options.test_split)
        if splits is None:
            raise DataError(
                f"fine-tuning needs images that it has not learnt from, and the data ({data.describe()}) has a training"
                " split alone; put train/ and test/ (or val/) folders into it"
            )
        settings = self._settings(spec, data.spec, backbone.depth)
        request = {
            "checkpoint": None if spec.source is None else str(spec.source),
            "options": options.model_dump(mode="json"),
            "data": {"component": data.spec.component, **data.spec.options},
        }
        with ExitStack() as stack:
            folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssl-finetune-")))
            path = numbered(folder, request)
            registry = self._context.registry
            runs = {"model": fine_tune(path, request, spec.component, settings, backbone, registry)}
            if options.scratch:
                scratch = path.with_name(f"{path.name}-scratch")
                runs["random_init"] = fine_tune(scratch, request, spec.component, settings, None, registry)
            result = self._result(runs, splits, out is not None)
            for run in runs.values():
                run.close()
        return result

    def _settings(self, spec: BackboneSpec, data: DataSpec, depth: int) -> dict[str, Any]:
        """Returns the options of the run: what the user asked for, and what the checkpoint and the data are."""
        options = self._options
        recipes = {**_RECIPES, **(_LARGE if depth >= _LARGE_DEPTH else {})}
        asked = {
            "train.epochs": options.epochs,
            "train.steps": options.steps,
            "train.batch_size": options.batch_size,
            "train.ema": options.ema,
            "optim.lr": options.lr,
            "method.layer_decay": options.layer_decay,
            "backbone.drop_path": options.drop_path,
            "method.test_split": options.test_split,
            "data.fraction": options.fraction,
            "data.per_class": options.per_class,
            "data.workers": options.workers,
        }
        return {
            **{f"dataset.{name}": value for name, value in data.options.items()},
            # What fine-tuning changes in a backbone (drop path, say) is the recipe's and not the checkpoint's.
            **{
                f"{_BACKBONE}{name}": value for name, value in spec.options.items() if name not in self.sets_in_backbone
            },
            "dataset": data.component,
            "recipe": recipes[options.recipe],
            "data.image_size": spec.image_size,
            "data.mean": spec.mean,
            "data.std": spec.std,
            "data.subset_seed": options.seed,
            "runtime.device": options.device,
            "runtime.precision": options.precision,
            "seed": options.seed,
            **{name: value for name, value in asked.items() if value is not None},
        }

    def _result(self, runs: Mapping[str, FinishedRun], splits: LabelledSplits, kept: bool) -> dict[str, Any]:
        options = self._options
        results = {name: self._score(run.scores(splits.queries_name)) for name, run in runs.items()}
        config = runs["model"].config
        notes = []
        if "random_init" in results:
            notes.append(verdict(results["model"], results["random_init"], "top1", "fine-tuning"))
        size = config["data"]["image_size"]
        protocol = {
            "headline": "top1",
            "unit": "percent",
            "weights": "the last ones" if options.ema is None else f"average of the last ones, decay {options.ema:g}",
            "train": {"split": "train", "images": len(splits.bank)},
            "test": {"split": splits.queries_name, "images": results["model"].pop("images")},
            "classes": len(splits.classes),
            "image_size": size,
            "crop_fraction": crop_fraction_of(config["method"]["crop_pct"], size),
            "recipes": config["recipes"],
            "settings": {
                section: config[section] for section in ("train", "optim", "method", "transform", "backbone", "data")
            },
            "runs": {name: str(run.path) for name, run in runs.items()} if kept else None,
            "seconds": {name: run.seconds for name, run in runs.items()},
            "interval": f"95 % bootstrap over the test images, {options.bootstrap} resamples",
            "device": runs["model"].device,
            "seed": options.seed,
            "versions": versions("timm", "mmengine"),
        }
        baselines: dict[str, Any] = {name: found for name, found in results.items() if name != "model"}
        for found in baselines.values():
            found.pop("images")
        baselines["majority"] = round(_majority(splits), 3)
        return {
            "evaluator": "finetune",
            "protocol": protocol,
            "metrics": results["model"],
            "baselines": baselines,
            "notes": notes,
        }

    def _score(self, found: Mapping[str, float]) -> dict[str, Any]:
        images = int(found["images"])
        correct = round(found["top1"] / 100 * images)
        interval = accuracy_interval(correct, images, self._options.bootstrap, self._options.seed)
        scores: dict[str, Any] = {"top1": round(found["top1"], 3), "top1_ci": [round(bound, 3) for bound in interval]}
        if "top5" in found:
            scores["top5"] = round(found["top5"], 3)
        return {**scores, "loss": round(found["loss"], 4), "images": images}


def _majority(splits: LabelledSplits) -> float:
    assert splits.queries is not None
    labels = [
        torch.tensor([images.label(index) for index in labelled_indices(images)])
        for images in (splits.bank, splits.queries)
    ]
    return majority_accuracy(*labels)
