"""Backbone: pixels to patch features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ssl_core.contracts.evaluation import BackboneSpec
from ssl_core.contracts.masker import Grid
from ssl_core.errors import UsageError


@dataclass(frozen=True)
class Features:
    """What a backbone makes of a batch.

    Attributes:
        patches: (B, K, D) after the final norm; K = N, or the number of kept patches.
        summary: (B, D), the image in one vector: the CLS token after the final norm, or the mean
            of the patches where the architecture has none.
        prefix: (B, P, D), every token that is no patch (CLS first); P may be 0.
        grid: (h, w) of the full image.
        ids: (B, K), which patches these are; None = all of them in row-major order.
        layers: the block outputs that were asked for, each (B, P + K, D), before the final norm.
    """

    patches: Tensor
    summary: Tensor
    prefix: Tensor
    grid: Grid
    ids: Tensor | None = None
    layers: tuple[Tensor, ...] = ()


class Backbone(nn.Module, ABC):
    """A vision transformer, or anything that turns an image into a grid of vectors.

    Masking happens between `embed` and `encode`, in the method, so a backbone knows of no mask.
    It is built as `Backbone(options, context)`, with `context.image_size` and `context.channels`.

    Attributes (set by the subclass):
        width: D, the width of a feature.
        depth: number of blocks.
        patch_size: pixels a patch is high and wide.
        num_prefix: P, tokens that are no patch.
        blocks: the blocks in order; sharding, compiling and layer decay work on them.
    """

    width: int
    depth: int
    patch_size: int
    num_prefix: int
    blocks: nn.ModuleList

    spec: BackboneSpec | None = None
    """What it was built from; set by the engine."""

    provides: frozenset[str] = frozenset()
    """Capabilities beyond the basic ones: `drop_tokens` (encode accepts `ids`), `cls` (the summary
    is a token of its own), `pooled` (it is the normalised mean of patches that are not normalised themselves, as a
    classifier wants it), `any_size` (other image sizes than the one it was built for),
    `attention` (`attention` works)."""

    entry_points: tuple[str, ...] = ("embed", "encode")
    """Methods other than `forward` that the runner must make known to sharding and compiling."""

    @abstractmethod
    def embed(self, pixels: Tensor) -> Tensor:
        """Cuts into patches and projects.

        Args:
            pixels: (B, C, H, W) float, normalised.

        Returns:
            tokens (B, N, D0), always the full grid, without positions and prefix tokens.
        """

    @abstractmethod
    def encode(self, tokens: Tensor, grid: Grid, ids: Tensor | None = None, layers: Sequence[int] = ()) -> Features:
        """Adds positions, then keeps `ids` if given, then runs the blocks and the final norm.

        Args:
            tokens: (B, N, D0) as `embed` gave them, perhaps with some replaced by a mask token.
            grid: (h, w), h * w = N.
            ids: (B, K) int64, the patches to keep; None = all. Needs `drop_tokens`.
            layers: 0-based block indices (negative from the end) whose outputs are wanted.
        """

    def forward(self, pixels: Tensor, layers: Sequence[int] = ()) -> Features:
        """Encodes whole, unmasked images: (B, C, H, W) normalised float to `Features`."""
        return self.encode(self.embed(pixels), self.grid(*pixels.shape[-2:]), layers=layers)

    def attention(self, pixels: Tensor, layer: int = -1) -> Tensor:
        """Returns which token attends to which in one block. Needs `attention` among what it provides.

        Args:
            pixels: (B, C, H, W) float, normalised; whole, unmasked images.
            layer: 0-based block, negative from the end.

        Returns:
            (B, heads, P + N, P + N), the weights after the softmax, as the block in eval mode uses them. A row is
            the token that attends, its sum is 1; prefix tokens come first.
        """
        raise UsageError("this backbone does not show its attention")

    def grid(self, height: int, width: int) -> Grid:
        """Returns (h, w), the patches of an image of that many pixels."""
        return height // self.patch_size, width // self.patch_size

    @abstractmethod
    def layer_id(self, name: str) -> int:
        """Returns the depth of a parameter, for layer-wise learning rate decay.

        0 = patch embedding, positions, CLS; k + 1 = block k; `depth` + 1 = what follows the blocks.

        Args:
            name: as in this module's `named_parameters`.
        """

    def adapt_state(self, state: Mapping[str, Tensor], source: BackboneSpec) -> dict[str, Tensor]:
        """Makes the weights of a backbone that was built from `source` fit this one, built in another way.

        It is asked when a checkpoint is loaded for another image size or with other options, so that
        positions are resized and tables are expanded. Tensors that need no change pass as they are;
        what still differs afterwards is refused by the loader.

        Args:
            state: name -> tensor, as saved.
            source: what that backbone was built from.

        Raises:
            UsageError: the weights cannot be made to fit; the message says what to set.
        """
        return dict(state)

    def no_weight_decay(self) -> frozenset[str]:
        """Returns parameters (besides biases and vectors) that get no weight decay."""
        return frozenset()
