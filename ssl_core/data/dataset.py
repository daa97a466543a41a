"""TrainingImages: from the keys of a micro-batch to the batch, in the data worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_core.contracts.batch import Batch, ViewSpec
from ssl_core.contracts.data import BadImage, ImageSet, Transform, Views
from ssl_core.contracts.masker import Grid, Mask, Masker
from ssl_core.data.collate import collate
from ssl_core.data.cutting import cut_views
from ssl_core.data.order import SampleKey
from ssl_core.data.seeding import batch_rng, sample_rng
from ssl_core.data.target_rows import TargetRows
from ssl_core.errors import DataError, ResourceError, SslError

_REPLACEMENTS = 20
"""Other images that are tried in place of a broken one. With half of them broken, one in a million samples fails."""

_TARGET_VIEW = "tokens"
"""The view that only a target source reads; it is not cut where the targets are known."""


@dataclass(frozen=True)
class Sample:
    """One image as the method sees it.

    Attributes:
        views: name -> (count, 3, size, size) uint8.
        index: place in the data set.
        source: the image that was really read.
        label: -1 where there is none.
        mask: None without a masker.
        colours: changes of colour that are left to the device, see `Views`.
    """

    views: dict[str, Tensor]
    index: int
    source: int
    label: int
    mask: Mask | None = None
    colours: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A user's error on its way out of a worker, whose traceback torch would print otherwise."""

    error: SslError


class TrainingImages(Dataset):
    """Makes samples and batches. Everything random follows from the key.

    Args:
        images: the training images.
        transform: cuts the views.
        views: what the method asked for.
        masker: None for methods without masks.
        grid: (h, w), of the masks; None without a masker.
        seed: of the run.
        fixed_views: how many sets of views an image has, shown in turn, epoch by epoch; None = new ones in each.
            Masks are new in each epoch either way.
        targets: what is known already of the targets of the fixed views.
    """

    def __init__(
        self,
        images: ImageSet,
        transform: Transform,
        views: Mapping[str, ViewSpec],
        masker: Masker | None,
        grid: Grid | None,
        seed: int,
        fixed_views: int | None = None,
        targets: TargetRows | None = None,
    ):
        self.images = images
        self.transform = transform
        self.views = dict(views)
        self.masker = masker
        self.grid = grid
        self.seed = seed
        self.fixed_views = fixed_views
        self.targets = targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> Sample:
        return self._sample(key, self.views)

    def _sample(self, key: SampleKey, specs: Mapping[str, ViewSpec]) -> Sample:
        step, epoch, index = key
        shown = self._view_number(epoch)
        views, source = self._views(shown, index, specs)
        mask = None
        if self.masker is not None:
            rng = sample_rng(self.seed, epoch, index, "mask")
            mask = self.masker.sample(self.grid, rng, batch_rng(self.seed, step))
        return Sample(views.pixels, index, source, self.images.label(source), mask, views.colours)

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch | Failure:
        """Returns the whole micro-batch; the DataLoader prefers this to single samples."""
        try:
            targets = self._known_targets(keys)
            if targets is None:
                return collate([self[key] for key in keys], self.masker, self.grid)
            specs = {name: spec for name, spec in self.views.items() if name != _TARGET_VIEW}
            batch = collate([self._sample(key, specs) for key in keys], self.masker, self.grid)
            return replace(batch, targets=targets)
        except SslError as error:
            return Failure(error)
        except MemoryError:
            return Failure(ResourceError("memory ran out while images were loaded; set data.workers to fewer"))

    def _view_number(self, epoch: int) -> int:
        return epoch if self.fixed_views is None else epoch % self.fixed_views

    def _known_targets(self, keys: Sequence[SampleKey]) -> Tensor | None:
        """Returns the targets (B, N) of a micro-batch, or None unless all of them are known."""
        if self.targets is None:
            return None
        ids = self.targets.read([(self._view_number(key.epoch), key.index) for key in keys])
        return None if ids is None else torch.from_numpy(ids)

    def _views(self, epoch: int, index: int, specs: Mapping[str, ViewSpec]) -> tuple[Views, int]:
        """Returns the views of an image and its index, or a replacement's where it is broken."""
        try:
            return self._cut(index, epoch, index, specs), index
        except BadImage as error:
            reason = error
        rng = sample_rng(self.seed, epoch, index, "replacement")
        for _ in range(_REPLACEMENTS):
            other = rng.randrange(len(self.images))
            try:
                return self._cut(other, epoch, index, specs), other
            except BadImage:
                continue
        raise DataError(
            f"{self.images.name(index)}: cannot be read ({reason}), "
            f"and neither can {_REPLACEMENTS} other images that were tried in its place"
        )

    def _cut(self, source: int, epoch: int, index: int, specs: Mapping[str, ViewSpec]) -> Views:
        """Returns the views of the image `source`, drawn from the generators of the image `index`."""
        return cut_views(
            self.images,
            source,
            self.transform,
            specs,
            lambda view: sample_rng(self.seed, epoch, index, f"view:{view}"),
        )
