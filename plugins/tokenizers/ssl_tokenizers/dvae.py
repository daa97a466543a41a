"""A discrete VAE that is trained on the user's own images, as a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_core.api import (
    BuildContext,
    CheckpointError,
    ConfigError,
    Grid,
    Stage,
    Tokenizer,
    ViewSpec,
    load_strictly,
)
from ssl_tokenizers.cells import CellAnalysis, CellSynthesis
from ssl_tokenizers.checkpoint import read_tokenizer
from ssl_tokenizers.clustering import assign
from ssl_tokenizers.dvae_network import Decoder, Encoder, NetworkShape, all_places, cells_at, fits, output_at
from ssl_tokenizers.options import DvaeOptions

PIXEL_EPS = 0.1
"""Pixels run through the network in [eps, 1 - eps], where the logit-Laplace density is well behaved (DALL-E, 3.1)."""

_CODE_WIDTH = 32
"""Width of a codebook entry."""

_OVERSHOOT = 0.05
"""How near to 0 and 1 the cells of a codebook may come, in the network's pixels, before their logit is taken."""

_START_GAIN = 0.01
"""Of the networks' last layers beside a codebook: the transform of the cells speaks alone at first."""

_NUMBERS = 7
"""In `architecture`: codes, colour channels, hidden, blocks, downsample, stem, and whether there is a codebook."""

_SCALES = (
    # from this many training images: codes, hidden, blocks, stem
    (1_000_000, 8192, 256, 2, 1),
    (100_000, 2048, 128, 2, 2),
    (10_000, 512, 128, 2, 4),
    (0, 256, 128, 1, 4),
)


class DvaeTokenizer(Tokenizer):
    """Encoder, codebook and decoder of DALL-E's kind (Ramesh et al. 2021, appendix A), in any size.

    With `logits=distance` there is a codebook of its own, and the networks correct a cosine transform of
    the cells: before the first update encoder and decoder are that transform and its inverse, so that
    with a codebook from k-means training starts where k-means on patches ends. With `logits=linear` it is
    DALL-E's network and nothing else.

    The view it wants is the backbone's crop at `downsample` pixels per patch: 112 pixels for 14x14
    patches at 8, as in BEiT.

    Args:
        options: see `DvaeOptions`.
        context: with the backbone in `parts` where there is one, and with `train_images`.

    Raises:
        ConfigError: options that do not fit together.
        CheckpointError: the checkpoint is no discrete VAE.
    """

    can_decode = True
    takes_places = True

    def __init__(self, options: DvaeOptions, context: BuildContext):
        super().__init__()
        self.options = options
        grid = context.grid if "backbone" in context.parts else None
        state = _read(options.checkpoint) if options.checkpoint is not None else None
        architecture = state["architecture"].tolist() if state is not None else _choose(options, context)
        if len(architecture) != _NUMBERS:
            raise CheckpointError(
                f"{options.checkpoint}: damaged: its architecture has {len(architecture)} numbers, not {_NUMBERS}"
            )
        self.vocab_size, channels, hidden, blocks, self.downsample, stem, has_codebook = architecture
        if channels != context.channels:
            raise CheckpointError(
                f"{options.checkpoint}: trained on {channels} colour channels, the images have {context.channels}"
            )
        self.has_codebook = bool(has_codebook)
        self.shape = NetworkShape(channels, hidden, blocks, self.downsample, stem)
        self.size = grid[0] * self.downsample if grid else context.image_size
        if self.size % self.downsample:
            raise ConfigError([f"data.image_size={self.size} is no multiple of tokenizer.downsample={self.downsample}"])
        self.register_buffer("architecture", torch.tensor(architecture))
        self.register_buffer("trained", torch.tensor(False))
        self.architecture: Tensor
        self.trained: Tensor
        width = _CODE_WIDTH if self.has_codebook else self.vocab_size
        self.encoder = Encoder(self.shape, width)
        self.decoder = Decoder(self.shape, width)
        if self.has_codebook:
            self.codebook = nn.Parameter(torch.randn(self.vocab_size, width))
            self.log_scale = nn.Parameter(torch.zeros(1))
            self.analysis = CellAnalysis(channels, self.downsample, width)
            self.synthesis = CellSynthesis(channels, self.downsample, width)
            with torch.no_grad():
                self.encoder.output.weight.mul_(_START_GAIN)
                self.decoder.output.weight.mul_(_START_GAIN)
        if state is not None:
            self._load(state, options.checkpoint)

    @property
    def ready(self) -> bool:
        return bool(self.trained)

    def view(self, image: ViewSpec, grid: Grid) -> ViewSpec:
        return ViewSpec(grid[0] * self.downsample, interpolation="lanczos", crop_of="image")

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Returns ids (B, H / downsample, W / downsample) int64 of (B, C, H, W) float in [0, 1].

        Under autocast the convolutions run in low precision, and the codes are scored in float32 all the same.
        """
        trunk = self.encoder.trunk(map_pixels(pixels))  # (B, D', h, w)
        with torch.autocast(pixels.device.type, enabled=False):
            scores = self.encoder.output(trunk.float())  # (B, V, h, w), or (B, D, h, w) with a codebook
            if not self.has_codebook:
                return scores.argmax(1)  # (B, h, w)
            features = (scores + self.analysis(pixels.float())).permute(0, 2, 3, 1)  # (B, h, w, D)
            # Not `logits`: the scores of all places at once may be gigabytes.
            return assign(features.flatten(0, 2), self.codebook).view(features.shape[:3])  # (B, h, w)

    @torch.no_grad()
    def targets(self, views: Mapping[str, Tensor], grid: Grid, places: Tensor | None = None) -> Tensor:
        """See `TargetSource.targets`; what follows the trunk runs at `places` alone."""
        if places is None or not fits(views["tokens"], self.downsample, grid):
            return super().targets(views, grid)
        pixels = views["tokens"]
        trunk = self.encoder.trunk(map_pixels(pixels))  # (B, D', h, w)
        with torch.autocast(pixels.device.type, enabled=False):
            scores = output_at(self.encoder, trunk, places)  # (B, K, V), or (B, K, D) with a codebook
            if self.has_codebook:
                features = scores + cells_at(self.analysis(pixels.float()), places)  # (B, K, D)
                codes = assign(features.flatten(0, 1), self.codebook).view(places.shape)  # (B, K)
            else:
                codes = scores.argmax(-1)  # (B, K)
        return all_places(codes, places, grid[0] * grid[1])  # (B, N)

    def decode(self, ids: Tensor) -> Tensor:
        """Returns (B, C, h * downsample, w * downsample) float32 in [0, 1]."""
        with torch.no_grad():
            if self.has_codebook:
                location, _ = self._paint_codes(self.codebook[ids])  # one-hot rows of V would be gigabytes
            else:
                location, _ = self.paint(F.one_hot(ids, self.vocab_size).float())
            return to_pixels(location).clamp(0, 1)

    def features(self, pixels: Tensor) -> Tensor:
        """Encodes (B, C, H, W) float in [0, 1] to (B, h, w, D) float32: what is compared with the codes, or logits."""
        features = self.encoder(map_pixels(pixels)).float()  # (B, D, h, w)
        if self.has_codebook:
            with torch.autocast(pixels.device.type, enabled=False):
                features = features + self.analysis(pixels.float())
        return features.permute(0, 2, 3, 1)  # (B, h, w, D)

    def logits(self, features: Tensor) -> Tensor:
        """Scores each code, (B, h, w, D) to (B, h, w, V), in float32: near ties decide between codes.

        With a codebook it is the negative squared distance, times a learnt scale.
        """
        if not self.has_codebook:
            return features
        with torch.autocast(features.device.type, enabled=False):
            # |z - e|^2 without |z|^2, which is the same for all codes.
            distance = self.codebook.square().sum(1) - 2 * features @ self.codebook.T  # (B, h, w, V)
            return -self.log_scale.exp() * distance

    def paint(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """Decodes shares of codes.

        Args:
            mixture: (B, h, w, V) float32, one-hot or soft.

        Returns:
            location and log scale of each pixel's logit, both (B, C, H, W) float32; `to_pixels` makes
            an image of the location.
        """
        if not self.has_codebook:
            return self._decode(mixture.permute(0, 3, 1, 2))
        with torch.autocast(mixture.device.type, enabled=False):
            codes = mixture @ self.codebook  # (B, h, w, D)
        return self._paint_codes(codes)

    def _paint_codes(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Decodes (B, h, w, D) float32, the networks correcting what the codes' cells look like by themselves."""
        codes = codes.permute(0, 3, 1, 2)  # (B, D, h, w)
        with torch.autocast(codes.device.type, enabled=False):
            cells = map_pixels(self.synthesis(codes)).clamp(_OVERSHOOT, 1 - _OVERSHOOT)  # (B, C, H, W)
        location, log_scale = self._decode(codes)
        return torch.logit(cells) + location, log_scale

    def _decode(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        location, log_scale = self.decoder(codes).float().chunk(2, dim=1)  # (B, C, H, W) each
        return location, log_scale

    def prepare(self, stage: Stage) -> None:
        """Trains the same architecture on the training images as a run of its own, and loads it."""
        vocab_size, _, hidden, blocks, downsample, stem, _ = self.architecture.tolist()
        settings = {
            "data.image_size": self.size,
            "tokenizer.vocab_size": vocab_size,
            "tokenizer.hidden": hidden,
            "tokenizer.blocks": blocks,
            "tokenizer.downsample": downsample,
            "tokenizer.stem": stem,
            "tokenizer.logits": "distance" if self.has_codebook else "linear",
        }
        run = stage.train("tokenizers:dvae", settings)
        self._load(_read(run), run)

    def _load(self, state: Mapping[str, Tensor], path: Path) -> None:
        load_strictly(self, state, str(path))
        self.trained.fill_(True)


def map_pixels(pixels: Tensor) -> Tensor:
    """Maps [0, 1] to [eps, 1 - eps]."""
    return (1 - 2 * PIXEL_EPS) * pixels + PIXEL_EPS


def to_pixels(location: Tensor) -> Tensor:
    """Maps the decoder's locations (logits) to pixels; about [0, 1], not clamped."""
    return (location.sigmoid() - PIXEL_EPS) / (1 - 2 * PIXEL_EPS)


def _read(path: Path) -> dict[str, Tensor]:
    return read_tokenizer(path, "tokenizers:dvae", "a discrete VAE", ("architecture",))


def _choose(options: DvaeOptions, context: BuildContext) -> list[int]:
    """Fills in what the options leave open. An unknown number of images counts as a large one."""
    images = context.train_images or _SCALES[0][0]
    _, vocab_size, hidden, blocks, stem = next(scale for scale in _SCALES if images >= scale[0])
    if options.downsample is not None:
        downsample = options.downsample
    elif "backbone" in context.parts:
        patch = context.backbone.patch_size
        downsample = 8 if patch >= 8 else 4 if patch >= 4 else 2
    else:
        downsample = 8 if context.image_size > 64 else 4
    if options.stem is not None and options.stem > downsample:
        raise ConfigError(
            [f"tokenizer.stem={options.stem} is larger than tokenizer.downsample={downsample}; give at most that"]
        )
    return [
        options.vocab_size or vocab_size,
        context.channels,
        options.hidden or hidden,
        options.blocks or blocks,
        downsample,
        options.stem or min(stem, downsample),
        int(options.logits == "distance"),
    ]
