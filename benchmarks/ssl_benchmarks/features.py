"""Features of clean, whole images: each image is decoded once, for all the features that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_benchmarks.layers import FINAL, LayerFeatures, poolings_of
from ssl_benchmarks.tables import new_table
from ssl_core.api import (
    Backbone,
    BadImage,
    Device,
    ImageSet,
    NumericError,
    Processes,
    center_view,
    default_batch_size,
    default_workers,
    progress,
    read_clean,
    surviving_batches,
)

Embedder = Callable[[Tensor], Tensor]
"""(B, 3, S, S) uint8 on the device to (B, ...) float32."""

_Loaded = tuple[Tensor, Tensor, Tensor, tuple[int, ...]]
"""What `_collate` returns."""

_ALONE = Processes()


@dataclass(frozen=True)
class Extracted:
    """Features of one image set.

    Attributes:
        features: name of the embedder -> (n, ...) on the CPU, (n, D) where it makes one vector.
        labels: (n,) int64.
        unreadable: names of the images that are left out because they cannot be read.
        indices: (n,) int64, the images' places in their set.
    """

    features: dict[str, Tensor]
    labels: Tensor
    unreadable: tuple[str, ...]
    indices: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class EmbeddedBatch:
    """Features of some images.

    Attributes:
        features: name of the embedder -> (b, ...) float32 on the device.
        labels: (b,) int64.
        indices: (b,) int64, places in the set.
        unreadable: places of those that cannot be read.
    """

    features: dict[str, Tensor]
    labels: Tensor
    indices: Tensor
    unreadable: tuple[int, ...]


class BackboneFeatures:
    """Embeds images with a frozen backbone, which is moved to the device.

    Args:
        backbone: with its `spec`.
        device: where and in which precision.
        feature: `mean` of the patch tokens, the `cls` token, or both side by side.
        layer: 0-based block, negative from the end, before the final norm; None = after it.
        compiled: whether its blocks are compiled.

    Raises:
        UsageError: there is no such layer, or no CLS token.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: Device,
        feature: Literal["mean", "cls", "cls+mean"] = "mean",
        layer: int | None = None,
        compiled: bool = False,
    ):
        layers = (FINAL if layer is None else layer,)
        self._embed = LayerFeatures(backbone, device, layers, poolings_of(feature), compiled)

    def __call__(self, pixels: Tensor) -> Tensor:
        return self._embed(pixels).flatten(1)  # (B, D) or (B, 2 D)


def extract(
    images: ImageSet,
    indices: Sequence[int],
    embedders: Mapping[str, Embedder],
    *,
    size: int,
    device: torch.device,
    crop_fraction: float = 1.0,
    batch_size: int | None = None,
    workers: int | None = None,
    label: str = "features",
    dtype: torch.dtype = torch.float32,
    folder: Path | None = None,
    processes: Processes = _ALONE,
) -> Extracted:
    """Computes every feature of the given images, in their order, in one pass.

    Args:
        images: one split.
        indices: which of its images.
        embedders: name -> what makes features.
        size: pixels of the central square that the embedders see.
        device: where they want it.
        crop_fraction: share of the shorter side that the square keeps.
        batch_size: images at once; None = by device and size.
        workers: decoding processes; None = by cores and images.
        label: what the progress says.
        dtype: in which the features are kept.
        folder: where they are kept if they are too large for memory; None = with the system's temporary files.
        processes: that share the images, if every one of them calls this. The features are the first one's then; the
            others get the rest.

    Raises:
        NumericError: a feature is not finite.
    """
    tables: dict[str, Tensor] = {}
    labels: list[Tensor] = []
    places: list[Tensor] = []
    unreadable: list[str] = []
    broken = dict.fromkeys(embedders, 0)
    done = 0
    batches = embedded_batches(
        images,
        indices,
        embedders,
        size=size,
        device=device,
        crop_fraction=crop_fraction,
        batch_size=batch_size,
        workers=workers,
        processes=processes,
    )
    with progress(label, len(indices)) as advance:
        for batch in batches:
            end = done + len(batch.labels)
            for name, values in batch.features.items():
                if name not in tables:
                    tables[name] = new_table((len(indices), *values.shape[1:]), dtype, folder)
                kept = tables[name][done:end].copy_(values)
                broken[name] += int((~kept.flatten(1).isfinite()).any(1).sum())
            done = end
            labels.append(batch.labels)
            places.append(batch.indices)
            unreadable += [images.name(index) for index in batch.unreadable]
            advance(len(batch.labels) + len(batch.unreadable))
    done, broken, labels, places, unreadable = processes.share((done, broken, labels, places, unreadable))
    for name, count in broken.items():
        if count:
            store = ", and keep the features in fp32" if dtype == torch.float16 else ""
            raise NumericError(f"features '{name}': not finite for {count} of {done} images; try precision=fp32{store}")
    empty = torch.empty(0, dtype=torch.int64)
    return Extracted(
        {name: tables[name][:done] if name in tables else torch.empty(0, 1) for name in embedders},  # (n, ...)
        torch.cat(labels) if labels else empty,
        tuple(unreadable),
        torch.cat(places) if places else empty,
    )


def embedded_batches(
    images: ImageSet,
    indices: Sequence[int],
    embedders: Mapping[str, Embedder],
    *,
    size: int,
    device: torch.device,
    crop_fraction: float = 1.0,
    batch_size: int | None = None,
    workers: int | None = None,
    processes: Processes = _ALONE,
) -> Iterator[EmbeddedBatch]:
    """Yields the features of the given images batch by batch, in their order. See `extract` for the arguments.

    Of several processes each computes whole batches in turn, so the features are bit by bit those of one process.
    The first one yields them all, the others none.
    """
    processes.connect(torch.device("cpu"))
    at_once = batch_size or default_batch_size(size, device)
    batches = [range(start, min(start + at_once, len(indices))) for start in range(0, len(indices), at_once)]
    own = batches[processes.rank :: processes.world_size]
    count = default_workers(images, len(indices)) if workers is None else workers

    def load(done: int) -> DataLoader:
        return DataLoader(
            _CleanViews(images, indices, size, crop_fraction),
            batch_sampler=own[done:],
            num_workers=count,
            collate_fn=_collate,
            pin_memory=device.type == "cuda",
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # else the DataLoader draws a number from the global one
        )

    found = _embed(surviving_batches(load, option="workers"), embedders, device)
    yield from found if processes.world_size == 1 else _in_turn(found, len(batches), processes)


def _embed(
    loaded: Iterable[_Loaded], embedders: Mapping[str, Embedder], device: torch.device
) -> Iterator[EmbeddedBatch]:
    for pixels, labels, places, unreadable in loaded:
        features = {}
        if len(labels):
            pixels = pixels.to(device, non_blocking=True)
            features = {name: embed(pixels) for name, embed in embedders.items()}
        yield EmbeddedBatch(features, labels, places, unreadable)


def _in_turn(own: Iterator[EmbeddedBatch], batches: int, processes: Processes) -> Iterator[EmbeddedBatch]:
    """Yields the batches of all processes, in the first of them."""
    for _ in range(-(-batches // processes.world_size)):
        batch = next(own, None)
        if batch is not None:
            batch = replace(batch, features={name: table.cpu() for name, table in batch.features.items()})
        yield from (found for found in processes.bring_to_first(batch) or () if found is not None)


@dataclass(frozen=True)
class _View:
    """One image; `pixels` (3, S, S) uint8 is None where it cannot be read."""

    pixels: Tensor | None
    label: int
    index: int


class _CleanViews(Dataset):
    """The central squares of some images."""

    def __init__(self, images: ImageSet, indices: Sequence[int], size: int, crop_fraction: float):
        self._images = images
        self._indices = indices
        self._size = size
        self._crop_fraction = crop_fraction

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> _View:
        index = int(self._indices[position])
        try:
            pixels = center_view(read_clean(self._images, index), self._size, self._crop_fraction)
        except BadImage:
            pixels = None
        return _View(pixels, self._images.label(index), index)


def _collate(views: list[_View]) -> _Loaded:
    """Returns pixels (b, 3, S, S), labels (b,) and places (b,) of what can be read, and the places of the rest."""
    good = [view for view in views if view.pixels is not None]
    pixels = [view.pixels for view in good]
    return (
        torch.stack(pixels) if pixels else torch.empty(0, dtype=torch.uint8),  # (b, 3, S, S)
        torch.tensor([view.label for view in good], dtype=torch.int64),
        torch.tensor([view.index for view in good], dtype=torch.int64),
        tuple(view.index for view in views if view.pixels is None),
    )


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)  # N workers must not start N times all threads
