"""The training loader: every micro-batch of a run from any step on, with any number of workers."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from ssl_core.contracts.batch import Batch, ViewSpec
from ssl_core.contracts.data import ImageSet, Transform
from ssl_core.contracts.masker import Grid, Masker
from ssl_core.data.dataset import Failure, TrainingImages
from ssl_core.data.killed_workers import surviving_batches
from ssl_core.data.order import SampleKey, SampleOrder
from ssl_core.data.target_rows import TargetRows
from ssl_core.data.worker_signals import leave_signals_to_the_main_process
from ssl_core.errors import UsageError

SMALL_AREA = 64 * 64
"""Pixels of an image whose views cost less than a worker's hand-over is worth on a busy CPU."""

_MOST_WORKERS = 16


def training_loader(
    images: ImageSet,
    transform: Transform,
    views: Mapping[str, ViewSpec],
    *,
    masker: Masker | None,
    grid: Grid | None,
    order: SampleOrder,
    seed: int,
    first_step: int,
    total_steps: int,
    micro_batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
    fixed_views: int | None = None,
    targets: TargetRows | None = None,
    warn: Callable[[str], Any] | None = None,
) -> TrainingLoader:
    """Makes the loader of a run, or of the rest of it.

    What it yields depends on the seed and the step alone: neither on the workers nor on where the
    run was resumed; and the ranks' batches together are those of one process.

    Args:
        images: the training images.
        transform: cuts the views.
        views: what the method asked for.
        masker: None for methods without masks.
        grid: (h, w), of the masks; None without a masker.
        order: which images each step sees; its batch size is the global one.
        seed: of the run.
        first_step: optimizer steps that are done already.
        total_steps: of the whole run.
        micro_batch_size: images that this process holds at once.
        rank: of this process.
        world_size: number of processes.
        workers: processes that load images; 0 = this one.
        pin_memory: whether batches are put into page-locked memory, for copies to a GPU.
        fixed_views: how many sets of views an image has, shown in turn, epoch by epoch; None = new ones in each.
        targets: known targets of the fixed views.
        warn: takes a line when killed workers had to be started again; None = it is printed on stderr.

    Returns:
        an iterable of micro-batches, `micro_batches` of them for each step.

    Raises:
        UsageError: the global batch cannot be cut evenly.
    """
    dataset = TrainingImages(images, transform, views, masker, grid, seed, fixed_views, targets)
    sampler = MicroBatchSampler(order, first_step, total_steps, micro_batch_size, rank, world_size)
    return TrainingLoader(dataset, sampler, workers, pin_memory, warn)


def choose_workers(option: int | None, device_type: str, image_area: int, cpu_count: int | None = None) -> int:
    """Returns how many worker processes load images.

    On a GPU: all cores but one, at most 16. On a CPU the model needs the cores: a quarter of them,
    at most 16, and at least one, so that decoding overlaps with the model; but none for small
    images (up to 64x64 pixels) on two cores or fewer, where a worker gains nothing.

    Args:
        option: what the user asked for; None = choose.
        device_type: `cpu` or `cuda`.
        image_area: pixels of a typical image.
        cpu_count: cores for this process; None = those it may run on.
    """
    if option is not None:
        return option
    cores = cpu_count or usable_cores()
    if device_type != "cpu":
        return min(max(cores - 1, 1), _MOST_WORKERS)
    if cores <= 2 and image_area <= SMALL_AREA:
        return 0
    return min(max(cores // 4, 1), _MOST_WORKERS)


class MicroBatchSampler(Sampler):
    """Yields the keys of each micro-batch that one rank sees, from a step to the end of the run.

    Attributes:
        micro_batches: of one step.

    Raises:
        UsageError: the global batch cannot be cut evenly.
    """

    def __init__(
        self,
        order: SampleOrder,
        first_step: int,
        total_steps: int,
        micro_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        if order.batch_size % (world_size * micro_batch_size):
            raise UsageError(
                f"a batch of {order.batch_size} images cannot be cut into micro-batches of {micro_batch_size} "
                f"for {world_size} processes"
            )
        self.per_rank = order.batch_size // world_size
        self.order = order
        self.steps = range(first_step, total_steps)
        self.micro_batch_size = micro_batch_size
        self.micro_batches = self.per_rank // micro_batch_size
        self.rank = rank
        self.done = 0

    def __len__(self) -> int:
        return len(self.steps) * self.micro_batches - self.done

    def __iter__(self) -> Iterator[list[SampleKey]]:
        steps, places = divmod(self.done, self.micro_batches)
        for step in self.steps[steps:]:
            own = self.order.batch(step)[self.rank * self.per_rank : (self.rank + 1) * self.per_rank]
            for first in range(places * self.micro_batch_size, self.per_rank, self.micro_batch_size):
                yield own[first : first + self.micro_batch_size]
            places = 0

    def after(self, done: int) -> MicroBatchSampler:
        """Returns a sampler of what is left when so many micro-batches are done."""
        rest = copy.copy(self)
        rest.done = done
        return rest


class TrainingLoader:
    """An iterable of micro-batches; each iteration starts at the first step again.

    One DataLoader serves the whole run, so workers are started once and not in every epoch; but where one of them was
    killed, another DataLoader goes on from there.

    Attributes:
        micro_batches: of one optimizer step.
    """

    def __init__(
        self,
        dataset: TrainingImages,
        sampler: MicroBatchSampler,
        workers: int,
        pin_memory: bool,
        warn: Callable[[str], Any] | None = None,
    ):
        self.micro_batches = sampler.micro_batches
        self._dataset = dataset
        self._sampler = sampler
        self._workers = workers
        self._pin_memory = pin_memory
        self._warn = warn

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Batch]:
        for batch in surviving_batches(self._rest, self._warn):
            if isinstance(batch, Failure):
                raise batch.error
            yield batch

    def _rest(self, done: int) -> DataLoader:
        return DataLoader(
            self._dataset,
            batch_sampler=self._sampler.after(done),
            num_workers=self._workers,
            collate_fn=_as_is,
            pin_memory=self._pin_memory,
            worker_init_fn=start_worker,
            # Else the DataLoader draws a number from the global generator, which the model may be using.
            generator=torch.Generator(),
        )


def usable_cores() -> int:
    """Returns how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _as_is(batch: Any) -> Any:
    return batch


def start_worker(_: int) -> None:
    """Prepares a process that loads images."""
    leave_signals_to_the_main_process()
    torch.set_num_threads(1)  # N workers must not start N times all threads
