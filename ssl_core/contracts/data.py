"""DataSource, ImageSet and Transform: where images come from and how views are cut."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from ssl_core.contracts.batch import ViewSpec


class BadImage(Exception):
    """An image that cannot be read. The engine replaces it, counts it and lists it."""


class Picture(ABC):
    """One image that has not been decoded yet, for a transform that needs a part of it, or less than all its pixels."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright, at full size. Raises `BadImage`."""

    @abstractmethod
    def pixels(self, shrink: int = 1) -> Tensor:
        """Decodes it.

        Args:
            shrink: 1, 2, 4 or 8: how many times smaller the image may be that is returned.

        Returns:
            RGB, upright, (3, H, W) uint8, in any memory format. H and W are those of `size`, or about 1/`shrink` of
            them where the file's format saves work by it. The same arguments always give the same pixels.

        Raises:
            BadImage: it cannot be decoded.
        """

    def image(self) -> Image.Image:
        """Decodes it at full size, as Pillow's image: RGB, upright. Raises `BadImage`."""
        return Image.fromarray(self.pixels().permute(1, 2, 0).numpy())


class ImageSet(ABC):
    """One split: a sequence of images, picklable, with labels or without.

    Attributes (set by the subclass):
        classes: names by label; None when unlabelled.
    """

    classes: tuple[str, ...] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Image.Image:
        """Returns the image as RGB, upright. Raises `BadImage` where it cannot be read."""

    def picture(self, index: int) -> Picture | None:
        """Returns the image undecoded, or None where the set can only `read` it in full. Raises `BadImage`.

        Optional: it makes transforms faster that take pictures. At full size it has the pixels of `read`, to the last
        rounding of the decoder.
        """
        return None

    def label(self, index: int) -> int:
        """Returns the class, or -1 where there is none. Never reads the image."""
        return -1

    def name(self, index: int) -> str:
        """Returns what a person would call it: the path inside the folder, or its number."""
        return str(index)

    def stamp(self, index: int) -> str:
        """Returns what changes when the image does: size and time of its file. Where that says nothing, ""."""
        return ""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Returns (width, height) in pixels without decoding the image. Raises `BadImage`."""


@dataclass(frozen=True)
class DataSpec:
    """What opens a data source again.

    Attributes:
        component: qualified name, `core:folder`.
        options: its options as plain values.
    """

    component: str
    options: Mapping[str, Any]


class DataSource(ABC):
    """Named splits. Built as `DataSource(options, context)`.

    Split names are `train`, `val` and `test`; a source without splits has `train` alone.
    """

    spec: DataSpec | None = None
    """What it was built from; set by the engine."""

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits there are, `train` first."""

    @abstractmethod
    def open(self, split: str) -> ImageSet:
        """Returns one split. Raises `DataError` where it is missing or empty."""

    def describe(self) -> str:
        """Returns a few words for the header of a run."""
        return type(self).__name__


@dataclass(frozen=True)
class Views:
    """The views of one image, and what the engine is to do to them on the device.

    Attributes:
        pixels: name -> (count, 3, size, size) uint8.
        colours: name -> (count, 3, 4) float32, a change of colour for each crop: red, green and blue of the result as
            shares of red, green and blue, and what is added to them, in grey levels. The result is cut off at 0 and
            255, and fractions are dropped. Views that are not named stay as they are. `colour_matrix` makes one of
            brightness, contrast and saturation.
    """

    pixels: dict[str, Tensor]
    colours: dict[str, Tensor] = field(default_factory=dict)


class Transform(ABC):
    """Cuts the views of one image, on the CPU, in the data worker. Built as `Transform(options, context)`.

    It must draw from nothing but the generators that it is given.
    """

    takes_pictures: bool = False
    """Whether it is given a `Picture` and decodes for itself, as much as it needs; else a decoded image."""

    faster: str | None = None
    """What to set so that it cuts faster, for a run that waits for its images: `transform.recipe=fast`; None = there is
    nothing."""

    @abstractmethod
    def __call__(
        self, image: Image.Image | Picture, views: Mapping[str, ViewSpec], rng: Callable[[str], random.Random]
    ) -> dict[str, Tensor] | Views:
        """Cuts one image.

        Args:
            image: RGB; a `Picture` where `takes_pictures` is set.
            views: what the method asked for.
            rng: name of a view -> its generator.

        Returns:
            name -> (count, 3, size, size) uint8; or `Views`, where changes of colour are left to the device, which
            takes them off the workers' hands. Memory in the order of `channels_last` is kept as it is.

        Raises:
            BadImage: a picture cannot be decoded; another image takes its place.
        """
