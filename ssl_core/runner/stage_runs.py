"""Runs inside a run: the training of a tokenizer on the same data, as a first stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_core.config.files import read_config
from ssl_core.config.recipes import DataFacts
from ssl_core.config.request import Request
from ssl_core.config.resolve import from_resolved, resolve
from ssl_core.config.run_config import RunConfig
from ssl_core.config.sections import SUBSET, TrainOptions
from ssl_core.config.select import select
from ssl_core.contracts.data import DataSource
from ssl_core.data.facts import median_size
from ssl_core.plugins.registry import Registry
from ssl_core.runner import checkpoint
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.run_folder import RunFolder

_INHERITED = ("data.max_bad_fraction", "data.workers", *(f"data.{name}" for name in SUBSET), "log.every")


@dataclass(frozen=True)
class StageRuns:
    """Trains another method on the data of the run that it serves.

    Attributes:
        config: of the run that is served.
        run: trains a resolved config: (config, folder, reporter, checkpoint to resume from) -> anything.
    """

    config: RunConfig
    registry: Registry
    source: DataSource
    run: Callable[[RunConfig, RunFolder, Reporter, Path | None], Any]

    def train(self, method: str, settings: Mapping[str, Any], path: Path, reporter: Reporter) -> Path:
        """Trains `method` in `path`, or goes on with what an interrupted run left there."""
        folder = RunFolder(path)
        if folder.read_status().get("state") == "finished":
            return path
        resume_from = None
        if folder.config.is_file():
            config = from_resolved(read_config(folder.config), self.registry, {})
            resume_from, _ = checkpoint.newest(folder.checkpoints)
        else:
            config = self._config(method, settings)
        self.run(config, folder, reporter, resume_from)
        return path

    def _config(self, method: str, settings: Mapping[str, Any]) -> RunConfig:
        dataset = self.config.parts["dataset"]
        given = {f"dataset.{name}": value for name, value in dataset.options.model_dump(mode="json").items()}
        given |= {f"runtime.{name}": value for name, value in self.config.runtime.model_dump(mode="json").items()}
        for key in _INHERITED:
            section, _, name = key.partition(".")
            given[key] = getattr(getattr(self.config, section), name)
        request = Request.from_keywords(method=method, data=dataset.match.qualified, settings={**given, **settings})
        images = self.source.open("train")
        facts = DataFacts(len(images), median_size(images), self.config.demonstration)
        config = resolve(select(request, self.registry), facts)
        if "train.epochs" in settings or "train.steps" in settings:
            return config
        return replace(config, train=_at_most(config.train, self.config.train, len(images)))


def _at_most(stage: TrainOptions, own: TrainOptions, images: int) -> TrainOptions:
    """Cuts a stage to as many images as the method that it serves will see: longer is never what was meant."""
    seen = own.epochs * images if own.steps is None and own.epochs is not None else (own.steps or 0) * own.batch_size
    planned = stage.epochs * images if stage.steps is None and stage.epochs is not None else 0
    planned = planned or (stage.steps or 0) * stage.batch_size
    if planned <= seen:
        return stage
    return stage.model_copy(update={"epochs": None, "steps": max(1, int(seen // stage.batch_size))})
