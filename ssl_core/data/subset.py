"""A part of the training images, the same share of each class: few labels, or few images."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ssl_core.config.sections import DataOptions
from ssl_core.contracts.data import DataSource, ImageSet, Picture
from ssl_core.data.seeding import torch_seed
from ssl_core.errors import DataError


class SubsetImages(ImageSet):
    """Some images of a set, in its order.

    Args:
        images: the whole set.
        indices: (n,) int64, ascending places in it.
    """

    def __init__(self, images: ImageSet, indices: np.ndarray):
        self.images = images
        self.indices = indices
        self.classes = images.classes

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Image.Image:
        return self.images.read(int(self.indices[index]))

    def picture(self, index: int) -> Picture | None:
        return self.images.picture(int(self.indices[index]))

    def label(self, index: int) -> int:
        return self.images.label(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.images.name(int(self.indices[index]))

    def stamp(self, index: int) -> str:
        return self.images.stamp(int(self.indices[index]))

    def size(self, index: int) -> tuple[int, int]:
        return self.images.size(int(self.indices[index]))


class SubsetSource(DataSource):
    """A source whose training split is a part of another's; the other splits stay whole.

    Args:
        source: the whole data.
        options: `data.fraction` or `data.per_class`, and `data.subset_seed`.
    """

    def __init__(self, source: DataSource, options: DataOptions):
        self.source = source
        self.spec = source.spec
        self._options = options

    @property
    def splits(self) -> tuple[str, ...]:
        return self.source.splits

    def open(self, split: str) -> ImageSet:
        images = self.source.open(split)
        return SubsetImages(images, choose_subset(images, self._options)) if split == "train" else images

    def describe(self) -> str:
        options = self._options
        some = f"{options.per_class} a class" if options.fraction is None else f"{100 * options.fraction:g} %"
        return f"{some} of {self.source.describe()}"


def with_subset(source: DataSource, options: DataOptions) -> DataSource:
    """Returns the source with as many training images as the options say; itself where they say nothing."""
    if options.fraction is None and options.per_class is None:
        return source
    return SubsetSource(source, options)


def choose_subset(images: ImageSet, options: DataOptions) -> np.ndarray:
    """Chooses images of each class by seeded random numbers.

    With one seed, a smaller subset is part of every larger one.

    Args:
        images: the whole set. Its unlabelled images count as a class of their own for `data.fraction`
            and are left out by `data.per_class`.
        options: of the section `data`.

    Returns:
        (n,) int64, ascending. Of a class with fewer images than `data.per_class` all are taken; of each
        class `data.fraction` takes at least one.

    Raises:
        DataError: `data.per_class` without labels.
    """
    labels = np.fromiter((images.label(index) for index in range(len(images))), np.int64, len(images))
    present = np.unique(labels)
    if options.per_class is not None:
        present = present[present >= 0]
        if not len(present):
            raise DataError(
                f"data.per_class={options.per_class}, but the training images have no labels; use data.fraction"
            )
    # Raw bits and a stable sort: numpy promises these streams between versions, but not its shuffle.
    bits = np.random.PCG64(torch_seed(options.subset_seed, "subset")).random_raw(len(images))
    order = np.argsort(bits, kind="stable")
    chosen = []
    for label in present:
        own = order[labels[order] == label]
        count = options.per_class if options.fraction is None else max(1, round(options.fraction * len(own)))
        chosen.append(own[:count])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
