"""The first stage: a tokenizer that has to learn before the method can start."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.batch import ViewSpec
from ssl_core.contracts.data import BadImage, ImageSet, Transform, Views
from ssl_core.contracts.target import TargetSource
from ssl_core.data.colours import same_colours
from ssl_core.data.cutting import cut_views
from ssl_core.data.order import SampleOrder
from ssl_core.data.seeding import sample_rng
from ssl_core.loading import read_export, write_export
from ssl_core.pixels import to_unit
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.state import load_model_state

_DRY_RUN_IMAGES = 512


class FirstStage:
    """What the engine lends to `TargetSource.prepare`. See `ssl_core.contracts.target.Stage`.

    Args:
        train: trains another method on the same data: (qualified name, settings, folder, reporter) -> folder.
        folder: RUN/tokenizer, or a scratch folder in a dry run.
        dry_run: use a handful of images and one update.
    """

    def __init__(
        self,
        config: RunConfig,
        images: ImageSet,
        transform: Transform,
        device: torch.device,
        reporter: Reporter,
        folder: Path,
        train: Callable[[str, Mapping[str, Any], Path, Reporter], Path],
        dry_run: bool = False,
    ):
        self.config = config
        self.seed = config.seed
        self.device = device
        self.reporter = reporter
        self.folder = folder
        self.dry_run = dry_run
        self._images = images
        self._transform = transform
        self._train = train

    def images(self, size: int, count: int, batch_size: int = 256) -> Iterator[Tensor]:
        """Yields up to `count` training images in a seeded random order, (B, 3, size, size) float in [0, 1]."""
        count = min(count, len(self._images), _DRY_RUN_IMAGES if self.dry_run else count)
        order = SampleOrder(len(self._images), 1, self.seed)
        views = {"image": ViewSpec(size)}
        batch = []
        for position in range(count):
            index = order.batch(position)[0].index
            draw = partial(self._generator, index)
            try:
                batch.append(cut_views(self._images, index, self._transform, views, draw))
            except BadImage:
                continue  # the training loop counts and lists it
            if len(batch) == batch_size:
                yield _unit_images(batch)
                batch = []
        if batch:
            yield _unit_images(batch)

    def _generator(self, index: int, view: str) -> random.Random:
        return sample_rng(self.seed, 0, index, f"stage {view}")

    def train(self, method: str, settings: Mapping[str, Any]) -> Path:
        """Trains a method of its own on the same data and returns its run folder."""
        settings = {**settings, **self._length(), "seed": self.seed}
        if self.dry_run:
            settings["train.steps"] = 1
            settings.pop("train.epochs", None)
        return self._train(method, settings, self.folder, self.reporter.nested())

    def say(self, line: str) -> None:
        """Prints one line of progress."""
        self.reporter.nested().say(line)

    def _length(self) -> dict[str, Any]:
        """`tokenizer.train.*`, by default at most as long as the method's own training."""
        chosen = dict(self.config.tokenizer_train)
        length = {key: chosen.pop(key) for key in ("epochs", "steps") if key in chosen}
        return {**{f"train.{key}": value for key, value in length.items()}, **chosen}


def _unit_images(cuts: Sequence[Views]) -> Tensor:
    """Returns the view `image` of B images, its colours changed, (B, 3, size, size) float in [0, 1]."""
    colours = [cut.colours.get("image", same_colours(1)) for cut in cuts]
    return to_unit(torch.cat([cut.pixels["image"] for cut in cuts]), torch.cat(colours))


def prepare_target(
    target: TargetSource, stage: FirstStage, qualified: str, options: Mapping[str, Any], first: bool
) -> None:
    """Makes the target source ready, and keeps what it learnt in the stage's folder.

    A tokenizer that an interrupted run had finished is read back instead of trained again.

    Args:
        qualified: the component's name, `tokenizers:kmeans`.
        options: its options as plain values.
        first: whether this process writes.
    """
    export = stage.folder / "export" / "tokenizer.safetensors"
    if export.is_file() and export.with_suffix(".json").is_file():
        values, state = read_export(export)
        if values.get("component") == qualified:
            load_model_state(target, state, str(export))
            stage.reporter.say(f"tokenizer {qualified}: read from {stage.folder}")
            return
    start = time.perf_counter()
    stage.reporter.say(f"tokenizer {qualified}: learning from the same images first")
    target.to(stage.device)
    target.prepare(stage)
    if first and not stage.dry_run and not export.is_file():
        write_export(
            export, target.state_dict(), {"slot": "tokenizer", "component": qualified, "options": dict(options)}
        )
    stage.reporter.say(f"tokenizer {qualified}: ready after {time.perf_counter() - start:.0f} s")


def scratch_folder() -> tempfile.TemporaryDirectory:
    """Returns a folder for the first stage of a dry run, which writes nothing that stays."""
    return tempfile.TemporaryDirectory(prefix="ssl-dry-run-")
