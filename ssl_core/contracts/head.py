"""Head: features to a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ssl_core.contracts.backbone import Features
from ssl_core.contracts.batch import MaskBatch

if TYPE_CHECKING:
    from ssl_core.contracts.method import Progress


class Head(nn.Module, ABC):
    """Predicts the targets at the hidden places and says how wrong it was.

    Built as `Head(options, context)`, with `context.backbone` and `context.target`.

    Attributes:
        blocks: set by a head that has transformer blocks, or other large modules in a row, of its own (a decoder);
            absent otherwise. Sharding and compiling work on them as on a backbone's: so call each as a module.
    """

    blocks: nn.ModuleList

    layers: tuple[int, ...] = ()
    """Block outputs that it reads, found in `features.layers` in this order."""

    @abstractmethod
    def loss(self, features: Features, targets: Tensor, mask: MaskBatch) -> dict[str, Tensor]:
        """Returns 0-d tensors: `loss`, which is minimised, and anything else worth logging.

        It computes only what is asked for: the places in `mask.ids`.

        Args:
            features: of the corrupted image.
            targets: (B, N) ids or (B, N, Dt) vectors.
            mask: what was hidden.
        """

    def forward(self, features: Features, targets: Tensor, mask: MaskBatch) -> dict[str, Tensor]:
        return self.loss(features, targets, mask)

    def predict(self, features: Features, mask: MaskBatch) -> Tensor | None:
        """Returns the best guess at `mask.ids`, (B, K) ids or (B, K, Dt) vectors, for pictures.

        None where the head has no such guess."""
        return None

    def diagnose(self, values: Mapping[str, float], progress: Progress) -> dict[str, str]:
        """Returns what is wrong, a line each; see `Method.diagnose`."""
        return {}

    def pictures(self) -> dict[str, Tensor]:
        """Returns pictures of what it has seen, name -> (3, H, W) float in [0, 1]; see `Method.pictures`."""
        return {}
