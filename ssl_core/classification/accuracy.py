"""Accuracy on a test split while a classifier is trained, and at its end."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from ssl_core.classification.options import ClassifierOptions
from ssl_core.contracts.data import DataSource
from ssl_core.contracts.hooks import RunView, TrainingHook
from ssl_core.contracts.method import Method, Progress
from ssl_core.data.clean import clean_loader, default_batch_size, default_workers
from ssl_core.data.labelled import LabelledSplits, labelled_indices, labelled_splits
from ssl_core.errors import UsageError
from ssl_core.pixels import unit_views
from ssl_core.reduce import mean_over_processes

_EVALUATIONS = 10
"""At most in a run, unless the user says otherwise."""

_SHARE = 0.1
"""Largest share of the training's own work that evaluations before the end may cost, unless the user says otherwise."""

_WORK = 3
"""What learning from an image costs, in evaluations of an image: one pass forward and two back."""

_LARGE_IMAGE = 384
_CROP = 0.875


def crop_fraction_of(crop_pct: float | None, size: int) -> float:
    """Returns the share of the shorter side that BEiT's evaluation keeps: that of whole pixels, as it resizes to them.

    Args:
        crop_pct: as the user wrote it; None = 0.875 below 384 pixels, else 1.
        size: pixels of the view.
    """
    share = crop_pct if crop_pct is not None else 1.0 if size >= _LARGE_IMAGE else _CROP
    return size / int(size / share)


def scored_split(source: DataSource, test_split: str | None) -> LabelledSplits | None:
    """Returns the split that is scored, beside the training split.

    Args:
        test_split: as the user wrote it; None = test, else val.

    Returns:
        the splits, or None where there is only one.

    Raises:
        DataError: splits without labels, an unknown split, or splits whose classes differ.
        UsageError: the training split itself.
    """
    if test_split == "train":
        raise UsageError("test_split=train: these are the images that it learns from; name another split")
    splits = labelled_splits(source, "train", test_split)
    return None if splits.queries is None else splits


class AccuracyHook(TrainingHook):
    """Scores every image of the test split once, shared out over the processes.

    Images are resized (bicubic) and cut to the central square. Where the run averages its weights, the average is
    scored, since that is what it exports.

    Args:
        run: what the engine lends.
        splits: the training and the test split.
        options: of the method.
        size: pixels of the view.
    """

    def __init__(self, run: RunView, splits: LabelledSplits, options: ClassifierOptions, size: int):
        assert splits.queries is not None
        self._run = run
        self._images = splits.queries
        self._name = splits.queries_name
        self._classes = len(splits.classes)
        self._indices = labelled_indices(splits.queries)
        self._epochs = options.eval_every
        self._size = size
        self._crop_fraction = crop_fraction_of(options.crop_pct, size)
        self._writes = False

    def before_run(self, method: Method, progress: Progress, out: Path | None) -> None:
        self._writes = out is not None

    def after_step(self, method: Method, progress: Progress) -> None:
        every = self._steps(progress)
        if every and progress.step % every == 0 and progress.step < progress.total_steps:
            self._evaluate(method, progress)

    def after_run(self, method: Method, progress: Progress) -> None:
        # Here and not after the last step: a run that was stopped in between gets here when it is resumed.
        self._evaluate(method, progress)

    def _steps(self, progress: Progress) -> int:
        """Returns the updates between two evaluations; 0 = none before the end."""
        if self._epochs is None:
            learnt_from = progress.total_steps * len(self._run.images) / progress.steps_per_epoch
            before_the_end = int(_SHARE * _WORK * learnt_from / len(self._indices))
            return -(-progress.total_steps // min(before_the_end + 1, _EVALUATIONS))
        return max(1, round(self._epochs * progress.steps_per_epoch)) if self._epochs else 0

    def _evaluate(self, method: Method, progress: Progress) -> None:
        if not self._writes:
            return
        started = time.perf_counter()
        method.eval()
        try:
            values = self._measure(progress)
        finally:
            method.train()
        self._run.record(self._name, values, progress)
        top5 = f", top-5 {values['top5']:.2f} %" if "top5" in values else ""
        self._run.say(
            f"{self._name:<9} step {progress.step}: top-1 {values['top1']:.2f} %{top5}, loss {values['loss']:.3f} "
            f"({values['images']:,} images in {time.perf_counter() - started:.1f} s)"
        )

    def _measure(self, progress: Progress) -> dict[str, float]:
        run = self._run
        device = run.device.device
        totals = torch.zeros(4, dtype=torch.float64, device=device)
        loader = clean_loader(
            self._images,
            self._indices,
            size=self._size,
            crop_fraction=self._crop_fraction,
            batch_size=default_batch_size(self._size, device),
            rank=run.rank,
            world_size=run.world_size,
            workers=min(run.workers, default_workers(self._images, len(self._indices))),
            pin_memory=device.type == "cuda",
        )
        with torch.no_grad(), run.averaged():
            for batch in loader:
                batch = unit_views(batch.to(device))
                with run.device.autocast():
                    output = run.model(batch, progress)
                logs = output.logs
                totals += torch.stack([output.loss, logs["images"], logs["top1"], logs["top5"]])
        loss, images, top1, top5 = (mean_over_processes(totals) * run.world_size).tolist()
        values = {"top1": 100 * top1 / images, "loss": loss / images, "images": int(images)}
        # With five classes or fewer the right one is always among the first five.
        return {**values, "top5": 100 * top5 / images} if self._classes > 5 else values
