"""Clean views of whole images with their labels, for scores: the loader of evaluations inside a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.data import BadImage, ImageSet
from ssl_core.data.cropping import center_view
from ssl_core.data.killed_workers import surviving_batches
from ssl_core.data.loader import start_worker
from ssl_core.data.reading import read_clean

_SMALL_IMAGE = 64
"""Pixels up to which decoding is so cheap that worker processes cost more than they bring."""
_FEW_IMAGES = 1024


def clean_loader(
    images: ImageSet,
    indices: Sequence[int],
    *,
    size: int,
    crop_fraction: float,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterable[Batch]:
    """Makes the batches of one process; those of all processes together hold each image once.

    Every process gets equally many batches of equal sizes, as sharded models need it: where the images
    do not divide, fillers with label -1 follow. An image that cannot be read is such a filler, too.

    Args:
        images: one split.
        indices: which of its images.
        size: pixels of the view `image`, (3, size, size) uint8.
        crop_fraction: share of the shorter side that is kept, see `center_view`.
        batch_size: images at once.
        rank: of this process.
        world_size: number of processes.
        workers: processes that load images; 0 = this one.
        pin_memory: whether batches are put into page-locked memory.
    """
    own = list(indices[rank::world_size])
    fillers = -(-len(indices) // world_size) - len(own)
    return _CleanBatches(images, [*own, *([None] * fillers)], size, crop_fraction, batch_size, workers, pin_memory)


def default_batch_size(size: int, device: torch.device) -> int:
    """Returns how many images of that many pixels go through a backbone at once."""
    if device.type == "cuda":
        return 512
    return 256 if size <= _SMALL_IMAGE else 32


def default_workers(images: ImageSet, count: int) -> int:
    """Returns 0 where decoding is cheap, else one process a core, at most 8."""
    try:
        shorter = min(images.size(0))
    except BadImage:
        shorter = _SMALL_IMAGE + 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if count < _FEW_IMAGES or shorter <= _SMALL_IMAGE or cores == 1 else min(cores, 8)


class _CleanBatches:
    """An iterable of batches that outlives the death of a worker."""

    def __init__(
        self,
        images: ImageSet,
        indices: Sequence[int | None],
        size: int,
        crop_fraction: float,
        batch_size: int,
        workers: int,
        pin_memory: bool,
    ):
        self._images = images
        self._indices = indices
        self._size = size
        self._crop_fraction = crop_fraction
        self._batch_size = batch_size
        self._workers = workers
        self._pin_memory = pin_memory

    def __len__(self) -> int:
        return -(-len(self._indices) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return surviving_batches(self._rest)

    def _rest(self, done: int) -> DataLoader:
        left = self._indices[done * self._batch_size :]
        return DataLoader(
            _CleanViews(self._images, left, self._size, self._crop_fraction),
            batch_size=self._batch_size,
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=self._pin_memory,
            worker_init_fn=start_worker,
            # Else the DataLoader draws a number from the global generator, which the model may be using.
            generator=torch.Generator(),
        )


class _CleanViews(Dataset):
    """(view (3, S, S) uint8, index, label); black, with label -1, where there is no image."""

    def __init__(self, images: ImageSet, indices: Sequence[int | None], size: int, crop_fraction: float):
        self._images = images
        self._indices = indices
        self._size = size
        self._crop_fraction = crop_fraction

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[Tensor, int, int]:
        index = self._indices[position]
        if index is not None:
            try:
                view = center_view(read_clean(self._images, index), self._size, self._crop_fraction)
                return view, index, self._images.label(index)
            except BadImage:
                pass
        return torch.zeros(3, self._size, self._size, dtype=torch.uint8), -1, -1


def _collate(samples: Sequence[tuple[Tensor, int, int]]) -> Batch:
    views, indices, labels = zip(*samples, strict=True)
    index = torch.tensor(indices)
    return Batch({"image": torch.stack(views)}, index=index, source=index, label=torch.tensor(labels))
