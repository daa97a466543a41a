"""BuildContext: what a part may know of the others when it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_core.contracts.backbone import Backbone
    from ssl_core.contracts.head import Head
    from ssl_core.contracts.hooks import RunAccess
    from ssl_core.contracts.masker import Grid, Masker
    from ssl_core.contracts.target import TargetSource
    from ssl_core.plugins.registry import Registry


@dataclass(frozen=True)
class BuildContext:
    """Given to each part as `Part(options, context)`.

    Parts are built in this order: backbone, tokenizer (the target source), masker, head, method;
    each finds the earlier ones in `parts` by slot name.

    Attributes:
        image_size: pixels of the view `image`.
        channels: C, of the images.
        mean, std: how the method normalises pixels in [0, 1].
        train_images: number of training images; 0 when unknown (a part that is loaded, not trained).
        classes: names of the training images' classes, by label; None = unlabelled, or unknown. Only
            supervised methods may read it.
        seed: of the run.
        parts: slot name -> part, as far as they are built.
        registry: where further parts are found by name (an evaluator builds untrained backbones and
            starts trainings); None = the installed plugins.
        names: slot name -> the part's name as a person would write it, for messages.
        run: what the engine lends to a monitor; None for every other part.
    """

    image_size: int = 224
    channels: int = 3
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    train_images: int = 0
    classes: tuple[str, ...] | None = None
    seed: int = 0
    parts: Mapping[str, Any] = field(default_factory=dict)
    registry: Registry | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    run: RunAccess | None = None

    @property
    def backbone(self) -> Backbone:
        """The backbone. Raises KeyError in a method that has none."""
        return self.parts["backbone"]

    @property
    def grid(self) -> Grid:
        """(h, w), the backbone's patches at `image_size`."""
        return self.backbone.grid(self.image_size, self.image_size)

    @property
    def target(self) -> TargetSource:
        """The part in the slot `tokenizer`."""
        return self.parts["tokenizer"]

    @property
    def masker(self) -> Masker:
        return self.parts["masker"]

    @property
    def head(self) -> Head:
        return self.parts["head"]
