"""TargetSource: what is to be predicted. Tokenizer: a target source with a vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ssl_core.contracts.batch import ViewSpec
from ssl_core.contracts.masker import Grid

if TYPE_CHECKING:
    from ssl_core.contracts.backbone import Backbone
    from ssl_core.contracts.method import Progress


class Stage(Protocol):
    """What the engine lends to a target source that has to learn before the method can start."""

    seed: int
    device: torch.device

    def images(self, size: int, count: int, batch_size: int = 256) -> Iterator[Tensor]:
        """Yields up to `count` training images in a seeded random order, (B, 3, size, size) float
        in [0, 1], each a random crop as in training."""
        ...

    def train(self, method: str, settings: Mapping[str, Any]) -> Path:
        """Trains a method of its own on the same data (a dVAE, say) and returns the run folder.

        Args:
            method: qualified name, `tokenizers:dvae`.
            settings: dotted option -> value.
        """
        ...

    def say(self, line: str) -> None:
        """Prints one line of progress."""
        ...


class TargetSource(nn.Module, ABC):
    """Turns an image into one target per patch. Built as `TargetSource(options, context)`.

    It is called in inference mode, and its parameters are not trained by the method that uses it. What a call shall
    leave behind is written into a buffer with `copy_`: a tensor made there cannot be changed elsewhere.

    Attributes (set by the subclass):
        width: Dt, of a source that gives vectors.
        can_decode: whether `picture` works.
    """

    width: int
    can_decode: bool = False

    takes_places: bool = False
    """Whether `targets` also takes `places`, (B, K) int64: the only patches whose targets will be read. It still
    returns all N, of which the others may be anything: so that a source may save work there."""

    @abstractmethod
    def targets(self, views: Mapping[str, Tensor], grid: Grid) -> Tensor:
        """Returns the targets of a batch.

        Args:
            views: name -> (B, C, H, W) float in [0, 1].
            grid: (h, w), the backbone's patches, N = h * w.

        Returns:
            ids (B, N) int64 below `vocab_size`, or vectors (B, N, Dt) float.
        """

    def view(self, image: ViewSpec, grid: Grid) -> ViewSpec | None:
        """Returns the extra view that `targets` reads as `views["tokens"]`; None = `views["image"]` will do.

        Args:
            image: the backbone's view.
            grid: the backbone's patches.
        """
        return None

    def picture(self, targets: Tensor, views: Mapping[str, Tensor], grid: Grid) -> Tensor:
        """Turns targets, some of them guessed, back into images. Only if `can_decode`.

        Args:
            targets: (B, N) ids or (B, N, Dt) vectors.
            views: of the images that they stand for, as in `targets`.
            grid: (h, w), N = h * w.

        Returns:
            (B, C, H, W) float in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__} cannot make pictures of its targets")

    def bind(self, backbone: Backbone) -> None:
        """Called once before training, for sources that follow the backbone (an EMA teacher).

        Keep a copy whose parameters need no gradient; the backbone itself, as a submodule of the source,
        would be put into eval mode with it.
        """

    def after_step(self, backbone: Backbone, progress: Progress) -> None:
        """Called after each optimizer update."""

    @property
    def ready(self) -> bool:
        """Whether it can be used as it is; if not, the engine calls `prepare` as a first stage."""
        return True

    def prepare(self, stage: Stage) -> None:
        """Learns from the training images, until `ready`."""
        raise NotImplementedError(f"{type(self).__name__} is not ready and cannot prepare itself")


class Tokenizer(TargetSource):
    """A target source with a discrete vocabulary, frozen while a method trains on it.

    Attributes (set by the subclass):
        vocab_size: V.
        can_decode: whether `decode` works (for pictures).
    """

    vocab_size: int

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Returns ids (B, h, w) int64 of images (B, C, H, W), float in [0, 1]."""

    def decode(self, ids: Tensor) -> Tensor:
        """Returns images (B, C, H, W), float in [0, 1], of ids (B, h, w). Only if `can_decode`."""
        raise NotImplementedError(f"{type(self).__name__} cannot decode")

    def targets(self, views: Mapping[str, Tensor], grid: Grid) -> Tensor:
        return self.encode(views["tokens"] if "tokens" in views else views["image"]).flatten(1)  # (B, N)

    def picture(self, targets: Tensor, views: Mapping[str, Tensor], grid: Grid) -> Tensor:
        return self.decode(targets.unflatten(1, grid))
