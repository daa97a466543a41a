"""The discrete VAE that OpenAI trained for DALL-E, as BEiT's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_core.api import BuildContext, CheckpointError, Grid, Tokenizer, ViewSpec
from ssl_tokenizers.checkpoint import read_tokenizer
from ssl_tokenizers.dalle_import import COMPONENT
from ssl_tokenizers.dalle_networks import DOWNSAMPLE, build_networks
from ssl_tokenizers.dalle_weights import find_weights
from ssl_tokenizers.dvae import map_pixels, to_pixels
from ssl_tokenizers.dvae_network import all_places, fits, output_at
from ssl_tokenizers.options import DalleOptions

_NEEDS = ("encoder.input.weight", "encoder.output.weight")
_DECODED_AT_ONCE = 8
"""Images whose codes are spread out to one-hot maps of V channels at a time."""


class DalleTokenizer(Tokenizer):
    """8192 codes of 8x8 pixels (Ramesh et al. 2021, appendix A), as BEiT used them.

    The view it wants is the backbone's crop at 8 pixels per patch: 112 pixels for 14x14 patches. It is frozen, and
    decodes where the decoder was imported too.

    Args:
        options: see `DalleOptions`.
        context: its channels must be the 3 of a colour image.

    Raises:
        CheckpointError: no weights are found, or they are of another kind.
    """

    takes_places = True

    def __init__(self, options: DalleOptions, context: BuildContext):
        super().__init__()
        file = find_weights(options.checkpoint)
        state = read_tokenizer(file, COMPONENT, "OpenAI's dVAE", _NEEDS)
        self.encoder, self.decoder = build_networks(state, str(file))
        channels = self.encoder.input.in_channels
        if channels != context.channels:
            raise CheckpointError(f"{file}: trained on {channels} colour channels, the images have {context.channels}")
        self.vocab_size = self.encoder.output.out_channels
        self.can_decode = self.decoder is not None

    def view(self, image: ViewSpec, grid: Grid) -> ViewSpec:
        return ViewSpec(grid[0] * DOWNSAMPLE, interpolation="lanczos", crop_of="image")

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Returns ids (B, H / 8, W / 8) int64 of (B, 3, H, W) float in [0, 1].

        Under autocast the trunk runs in low precision; the scores of the codes are always float32, as OpenAI's.
        """
        trunk = self.encoder.trunk(map_pixels(pixels))  # (B, D, h, w)
        with torch.autocast(pixels.device.type, enabled=False):
            return self.encoder.output(trunk.float()).argmax(1)  # (B, h, w)

    @torch.no_grad()
    def targets(self, views: Mapping[str, Tensor], grid: Grid, places: Tensor | None = None) -> Tensor:
        """See `TargetSource.targets`; the last convolution, an eighth of the work, runs at `places` alone."""
        if places is None or not fits(views["tokens"], DOWNSAMPLE, grid):
            return super().targets(views, grid)
        trunk = self.encoder.trunk(map_pixels(views["tokens"]))  # (B, D, h, w)
        with torch.autocast(trunk.device.type, enabled=False):
            codes = output_at(self.encoder, trunk, places).argmax(-1)  # (B, K)
        return all_places(codes, places, grid[0] * grid[1])  # (B, N)

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """Returns (B, 3, h * 8, w * 8) float32 in [0, 1]: the most likely value of each pixel."""
        if self.decoder is None:
            return super().decode(ids)
        images = []
        for part in ids.split(_DECODED_AT_ONCE):
            codes = F.one_hot(part, self.vocab_size).permute(0, 3, 1, 2).float()  # (b, V, h, w)
            location, _ = self.decoder(codes).float().chunk(2, dim=1)  # (b, 3, H, W)
            images.append(to_pixels(location).clamp(0, 1))
        return torch.cat(images)  # (B, 3, H, W)
