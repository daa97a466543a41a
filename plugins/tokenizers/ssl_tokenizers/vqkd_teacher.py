"""The frozen backbone whose features a VQ-KD tokenizer reconstructs."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from ssl_core.api import CheckpointError, Normalize, Registry, UsageError, load
from ssl_tokenizers.options import VqkdOptions
from ssl_tokenizers.vqkd_network import VqkdShape


class Teacher(nn.Module):
    """A trained backbone, in eval mode and without gradient, with the pixels and the size it was trained with.

    Args:
        options: of the tokenizer: `teacher`, which is anything that `load` takes, and `teacher_size`.
        shape: of the tokenizer that learns from it.
        registry: where its plugin is found; None = the installed plugins.

    Attributes:
        size: pixels of the images it sees.
        width: Dt, of a feature.

    Raises:
        CheckpointError: it cannot be loaded.
        UsageError: it divides images into another grid than the tokenizer, or cannot be resized.
    """

    def __init__(self, options: VqkdOptions, shape: VqkdShape, registry: Registry | None):
        super().__init__()
        try:
            self.backbone = load(options.teacher, registry, image_size=options.teacher_size)
        except CheckpointError as error:
            raise CheckpointError(
                f"tokenizer.teacher: {error}",
                hint="the teacher is read at each start and when a run is resumed; it is not kept in checkpoints",
            ) from None
        spec = self.backbone.spec
        assert spec is not None, "set by load"
        self.size = spec.image_size
        self.width = self.backbone.width
        self.normalize = Normalize(spec.mean, spec.std)
        self._check_grid(options.teacher, shape)
        self.requires_grad_(False).eval()

    def _check_grid(self, source: str, shape: VqkdShape) -> None:
        h, w = self.backbone.grid(self.size, self.size)
        if (h, w) == shape.grid:
            return
        rows, columns = shape.grid
        own, patch = shape.patch_size, self.backbone.patch_size
        raise UsageError(
            f"tokenizer.teacher {source} divides images of {self.size} pixels into {h}x{w} patches of {patch}, the "
            f"tokenizer images of {rows * own} into {rows}x{columns} of {own}; set "
            f"tokenizer.teacher_size={rows * patch} or data.image_size={h * own}"
        )

    def train(self, mode: bool = True) -> Teacher:
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the features (B, N, Dt) float32 after the last norm, of images (B, C, H, W) float in [0, 1]."""
        return self.backbone(self.normalize(pixels)).patches.float()

    def digest(self) -> Tensor:
        """Returns the sha256 of its weights, (32,) uint8."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
