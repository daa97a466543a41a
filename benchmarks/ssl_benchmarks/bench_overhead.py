"""`ssl-bench overhead`: a training run as it comes against the loop that one would write with PyTorch alone."""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_benchmarks.bench_help import BACKBONES, add_common_flags, bench_parser, run_bench
from ssl_benchmarks.timing import not_measured, row
from ssl_core.api import (
    Batch,
    BuildContext,
    CachedImages,
    Device,
    Method,
    Parser,
    Progress,
    Registry,
    SampleOrder,
    TrainingHook,
    at_least,
    open_source,
    train,
    training_loader,
    unit_views,
)

GOAL, GOAL_ON_GPU = 1.03, 1.02
"""At most this share of the bare loop's time."""

_STEPS_OF_THE_RUN = 10_000
"""Of which only the first ones are done: what comes now and then comes as often as in a run of this length."""
_STEPS_BETWEEN_CHECKPOINTS = 100
"""The fewest that a run leaves between two by itself."""
_LOG_EVERY = 20
_DATA, _DATA_SETTINGS = "textures", {"dataset.images": 128}
_TRANSFORM, _CLIP = "beit:two_view", 3.0


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    summary = "A step of a training run as it comes: its time over that of a bare PyTorch loop."
    return run_bench(arguments, parser(), summary, measure)


def measure(flags: argparse.Namespace, device: Device) -> list[dict[str, Any]]:
    """Measures what the flags ask for."""
    batch_size = flags.batch_size or (256 if device.device.type == "cuda" else 8)
    found = rows(device, flags.backbone, flags.image_size, batch_size, flags.steps, flags.repeats, flags.workers)
    other, goal = ("CPU", GOAL) if device.device.type == "cuda" else ("GPU", GOAL_ON_GPU)
    why = "the GPU was measured" if other == "CPU" else "there is no GPU here"
    return [*found, not_measured(f"step of a run, {other}", "a bare PyTorch loop", why, goal)]


def rows(
    device: Device,
    backbone: str = "vit_tiny",
    image_size: int = 64,
    batch_size: int = 8,
    steps: int = 20,
    repeats: int = 5,
    workers: int = 0,
) -> list[dict[str, Any]]:
    """Measures BEiT on pixels, which has the cheapest targets, in blocks of steps that take turns with a bare loop.

    The run logs, watches, monitors and saves as it does by itself. Both sides read the same images through the same
    loader and have equal networks, fused AdamW, clipping and precision. Nothing that comes before the first block
    counts: imports, building, the monitor's first look, a block of each side to get warm. Every second block of the
    run holds a checkpoint, and the run waits for it to be on disk, so it costs more than in a run that goes on
    beside it; it is charged to the hundred steps that lie at least between two. The evaluations of the monitor are
    further apart than that; `monitor.max_share` is what bounds them.

    Args:
        device: where, and in which precision.
        backbone: BEiT's ViT by name.
        image_size: pixels of its view.
        batch_size: images in a step.
        steps: of a block, which has at least one log line.
        repeats: pairs of blocks.
        workers: processes that load images, on either side.
    """
    with tempfile.TemporaryDirectory(prefix="ssl-overhead-") as scratch:
        turns = _Turns(device, batch_size, steps, repeats, workers)
        settings = {
            **_DATA_SETTINGS,
            "backbone.model": backbone,
            "data.image_size": image_size,
            "data.workers": workers,
            "train.batch_size": batch_size,
            "train.micro_batch_size": batch_size,
            "train.steps": _STEPS_OF_THE_RUN,
            "train.checkpoint_every": 2 * steps,
            "optim.clip_grad": _CLIP,
            "log.every": min(_LOG_EVERY, steps),
            "runtime.device": device.device.type,
            "runtime.precision": device.precision,
            "recipe": "none",
        }
        parts = {"backbone": "beit:vit", "tokenizer": "tokenizers:pixel", "transform": _TRANSFORM}
        with suppress(_Enough):
            train(
                "beit:beit",
                data=_DATA,
                out=Path(scratch) / "run",
                settings=settings,
                hooks=[turns],
                registry=Registry.load(safe=True),
                **parts,
            )
    size = {"backbone": backbone, "image_size": image_size, "batch_size": batch_size, "steps": steps}
    return [{**found, **size} for found in turns.rows()]


@dataclass(frozen=True)
class _Block:
    """What some steps took, in seconds.

    Attributes:
        wall, cpu: time that passed, and time of this process's threads.
        saved: whether a checkpoint was among them.
    """

    wall: float
    cpu: float
    saved: bool = False


class _Enough(Exception):
    """Ends the run when all has been measured."""


class _Turns(TrainingHook):
    """Runs last of all hooks: measures blocks of the run, and a block of the bare loop after each."""

    def __init__(self, device: Device, batch_size: int, steps: int, repeats: int, workers: int):
        self._device = device
        self._batch_size = batch_size
        self._steps = steps
        self._blocks = 2 * -(-repeats // 2) + 1  # the first one is to get warm; as many with a checkpoint as without
        self._workers = workers
        self._ours: list[_Block] = []
        self._bare: list[_Block] = []
        self._folder = Path()

    def before_run(self, method: Method, progress: Progress, out: Path | None) -> None:
        assert out is not None
        self._folder = out / "checkpoints"
        twin = copy.deepcopy(method).train()
        self._loop = _bare_loop(twin, _batches(twin, self._batch_size, self._workers), self._device)
        self._start = self._now()

    def after_step(self, method: Method, progress: Progress) -> None:
        # Blocks end half-way between two checkpoints, so that one has time to be written.
        if (progress.step + self._steps // 2) % self._steps:
            return
        saved = self._wait_for_checkpoint(progress.step)
        self._ours.append(self._since_start(saved))
        self._start = self._now()
        for _ in range(self._steps):
            next(self._loop)
        self._bare.append(self._since_start())
        if len(self._ours) == self._blocks:
            raise _Enough
        self._start = self._now()

    def rows(self) -> list[dict[str, Any]]:
        """Returns a line for wall time and one for CPU time."""
        found = []
        for clock in ("wall", "cpu"):
            ours, bare = ([getattr(block, clock) for block in blocks[1:]] for blocks in (self._ours, self._bare))
            saved = [block.saved for block in self._ours[1:]]
            step = statistics.median(bare) / self._steps
            plain = [mine / theirs for mine, theirs, held in zip(ours, bare, saved, strict=True) if not held]
            extra = statistics.median(
                mine - theirs * statistics.median(plain)
                for mine, theirs, held in zip(ours, bare, saved, strict=True)
                if held
            )
            checkpoint = max(extra, 0.0) / (_STEPS_BETWEEN_CHECKPOINTS * step)
            spread = (max(plain) - min(plain)) / 2
            ratio = statistics.median(plain) + checkpoint
            goal = GOAL_ON_GPU if self._device.device.type == "cuda" else GOAL
            line = row(f"step of a run, {clock} time", "a bare PyTorch loop", ratio, spread, goal)
            details = {
                "clock": clock,
                "without_checkpoints": round(statistics.median(plain), 4),
                "checkpoint_seconds": round(max(extra, 0.0), 3),
                "bare_step_seconds": round(step, 5),
            }
            found.append({**line, **details})
        return found

    def _wait_for_checkpoint(self, step: int) -> bool:
        """Returns whether there is one in this block, after it has been written."""
        last = step - step % (2 * self._steps)
        if not last or step - last > self._steps:
            return False
        while not (self._folder / f"step-{last:08d}").is_dir():
            time.sleep(0.001)
        return True

    def _now(self) -> tuple[float, float]:
        if self._device.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def _since_start(self, saved: bool = False) -> _Block:
        now = self._now()
        return _Block(now[0] - self._start[0], now[1] - self._start[1], saved)


def _batches(method: Method, batch_size: int, workers: int) -> Iterator[Batch]:
    """Yields what the run sees: its images, views and masks."""
    image_size = method.views["image"].size
    component = Registry.load(safe=True).find(_TRANSFORM, "transform").component
    transform = component.load()(component.options(), BuildContext(image_size=image_size))
    images = CachedImages(open_source(_DATA, settings=_DATA_SETTINGS).open("train"), processes=max(1, workers))
    return iter(
        training_loader(
            images,
            transform,
            method.views,
            masker=method.masker,
            grid=method.grid,
            order=SampleOrder(len(images), batch_size, 0),
            seed=0,
            first_step=0,
            total_steps=_STEPS_OF_THE_RUN,
            micro_batch_size=batch_size,
            workers=workers,
            pin_memory=torch.cuda.is_available(),
        )
    )


def _bare_loop(method: Method, batches: Iterator[Batch], device: Device) -> Iterator[None]:
    """Trains a step whenever it is asked for the next value."""
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    progress = Progress(0, _STEPS_OF_THE_RUN, 1)
    for batch in batches:
        batch = unit_views(batch.to(device.device))
        with device.autocast():
            loss = method(batch, progress).loss
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, _CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield


def parser() -> Parser:
    """Returns the flags."""
    found = bench_parser("overhead")
    add = found.add_argument
    sizes = f"{', '.join(BACKBONES)} (default vit_tiny)"
    add("--backbone", metavar="NAME", choices=BACKBONES, default="vit_tiny", help=sizes)
    add("--image-size", metavar="PIXELS", type=at_least(1), default=64, help="of the backbone's view (default 64)")
    add("--batch-size", metavar="N", type=at_least(1), help="images in a step; 256 on a GPU, 8 on a CPU by default")
    add("--steps", metavar="N", type=at_least(1), default=20, help="steps of a block (default 20)")
    add("--workers", metavar="N", type=at_least(0), default=0, help="processes that load images (default 0)")
    return add_common_flags(found, repeats=6)
