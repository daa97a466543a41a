"""k-means on small windows of the image: a tokenizer that is fitted in seconds and uses all its codes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_core.api import (
    BuildContext,
    CheckpointError,
    ConfigError,
    Grid,
    Stage,
    Tokenizer,
    ViewSpec,
    code_counts,
    load_strictly,
    perplexity,
    used_share,
)
from ssl_tokenizers.checkpoint import read_tokenizer
from ssl_tokenizers.clustering import assign, fit_kmeans, sum_by_code
from ssl_tokenizers.options import KMeansOptions
from ssl_tokenizers.windows import extract_windows, normalise_contrast, whitening

_NEEDS = ("fitted", "centroids", "cells", "mean")
"""Tensors by which a checkpoint of this tokenizer is known."""

_DIRECTIONS = 64
"""Most principal directions that are kept of a whitened window. The rest is mostly noise."""

_WHITENING_EPS = 0.1
"""Added to each direction's variance, for windows of unit variance per pixel."""

_MAX_VALUES = 2**24
"""Floats of windows that `encode` holds at once."""


class KMeansTokenizer(Tokenizer):
    """A code is the nearest centroid of a cell's window.

    With `whiten`, a window is contrast-normalised, projected onto its whitened principal directions
    and scaled to unit length before it is compared (Coates and Ng 2012, with spherical k-means). On
    small images that uses nearly all codes evenly, where unscaled windows leave a tenth unused.

    It is built for the backbone's grid, or from a checkpoint alone.

    Args:
        options: see `KMeansOptions`.
        context: with the backbone in `parts`, unless there is a checkpoint.

    Raises:
        ConfigError: `size`, `window` and the backbone's grid do not fit together.
        CheckpointError: the checkpoint is no k-means tokenizer or was fitted for other cells.
    """

    can_decode = True

    def __init__(self, options: KMeansOptions, context: BuildContext):
        super().__init__()
        self.options = options
        self.train_images = context.train_images
        self.size = options.size or context.image_size
        cell = self._cell_of(context) if "backbone" in context.parts else None
        state = (
            read_tokenizer(options.checkpoint, "tokenizers:kmeans", "a k-means tokenizer", _NEEDS)
            if options.checkpoint
            else None
        )
        if state is not None:
            self._take_shapes_from(state, cell)
        elif cell is None:
            raise ConfigError(
                ["tokenizers:kmeans needs a backbone, whose patches it divides images into, or tokenizer.checkpoint"]
            )
        else:
            self.cell = cell
            self.channels = context.channels
            self.vocab_size = options.vocab_size
            self.window = options.window or cell
            self.whiten = options.whiten
        self._check_window()
        self._make_buffers()
        if state is not None:
            load_strictly(self, state, str(options.checkpoint))

    def _cell_of(self, context: BuildContext) -> int:
        h, w = context.grid
        if self.size % h or self.size % w:
            raise ConfigError(
                [f"tokenizer.size={self.size} does not divide into {h}x{w} patches; give {self.size // h * h or h}"]
            )
        return self.size // h

    def _take_shapes_from(self, state: dict[str, Tensor], cell: int | None) -> None:
        self.vocab_size, self.channels, self.cell, _ = state["cells"].shape
        self.window = round((state["mean"].numel() / self.channels) ** 0.5)
        self.whiten = "projection" in state
        if cell is not None and cell != self.cell:
            raise CheckpointError(
                f"{self.options.checkpoint}: fitted for cells of {self.cell} pixels, and the backbone's patches are "
                f"{cell} at tokenizer.size={self.size}; give tokenizer.size={self.size // cell * self.cell}"
            )

    def _check_window(self) -> None:
        if self.window < self.cell:
            raise ConfigError(
                [f"tokenizer.window={self.window} is smaller than a patch cell; give at least {self.cell}"]
            )
        if (self.window - self.cell + 1) // 2 >= self.size:
            raise ConfigError(
                [f"tokenizer.window={self.window} reaches too far beyond images of {self.size} pixels; give less"]
            )

    def _make_buffers(self) -> None:
        values = self.channels * self.window**2
        width = min(values, _DIRECTIONS) if self.whiten else values
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("centroids", torch.zeros(self.vocab_size, width))
        self.register_buffer("cells", torch.zeros(self.vocab_size, self.channels, self.cell, self.cell))
        self.register_buffer("mean", torch.zeros(values))
        if self.whiten:
            self.register_buffer("projection", torch.zeros(values, width))
        self.fitted: Tensor
        self.centroids: Tensor
        self.cells: Tensor
        self.mean: Tensor
        self.projection: Tensor

    @property
    def ready(self) -> bool:
        return bool(self.fitted)

    def view(self, image: ViewSpec, grid: Grid) -> ViewSpec | None:
        if self.size == image.size:
            return None
        return ViewSpec(self.size, interpolation=image.interpolation, crop_of="image")

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Returns ids (B, H / cell, W / cell) int64 of (B, C, H, W) float in [0, 1], computed in float32."""
        h, w = pixels.shape[-2] // self.cell, pixels.shape[-1] // self.cell
        images = max(1, _MAX_VALUES // (h * w * self.mean.numel()))
        with torch.autocast(pixels.device.type, enabled=False):
            ids = [
                assign(
                    self._describe(extract_windows(part.float(), self.cell, self.window).flatten(0, 1)), self.centroids
                )
                for part in pixels.split(images)
            ]
        return torch.cat(ids).view(-1, h, w)  # (B, h, w)

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """Returns (B, C, h * cell, w * cell): each code as the mean of the cells that it stood for."""
        cells = self.cells[ids]  # (B, h, w, C, cell, cell)
        rows = cells.permute(0, 3, 1, 4, 2, 5)  # (B, C, h, cell, w, cell)
        return rows.flatten(4, 5).flatten(2, 3)  # (B, C, h * cell, w * cell)

    def _describe(self, windows: Tensor) -> Tensor:
        """Turns windows (n, C * window * window) into what is compared: (n, d)."""
        if not self.whiten:
            return windows - self.mean
        return F.normalize((normalise_contrast(windows) - self.mean) @ self.projection, dim=1)  # (n, d)

    @torch.no_grad()
    def prepare(self, stage: Stage) -> None:
        """Fits on random windows of the training images; the result follows from `stage.seed`."""
        generator = torch.Generator().manual_seed(stage.seed)
        windows = self._sample_windows(stage, generator)  # (n, C * window * window)
        self.to(windows.device)
        if self.whiten:
            mean, projection = whitening(normalise_contrast(windows), _WHITENING_EPS)
            self.projection.copy_(projection[:, : self.projection.shape[1]])
        else:
            mean = windows.mean(0)
        self.mean.copy_(mean)
        points = self._describe(windows)
        options = self.options
        centroids = fit_kmeans(
            points, self.vocab_size, options.iterations, generator, batch_size=options.batch_size
        )  # (V, d)
        self.centroids.copy_(centroids)
        ids = assign(points, self.centroids)
        counts = code_counts(ids, self.vocab_size)
        self._keep_cells(windows, ids, counts)
        self.fitted.fill_(True)
        stage.say(
            f"k-means: {self.vocab_size} codes from {len(windows):,} windows of {self.window}x{self.window} pixels, "
            f"{used_share(counts):.0%} used, perplexity {perplexity(counts):.0f}"
        )

    def _sample_windows(self, stage: Stage, generator: torch.Generator) -> Tensor:
        """Draws enough windows for each code, spread evenly over the images."""
        values = self.mean.numel()
        wanted = min(max(200 * self.vocab_size, 50_000), 400_000, 2**26 // values)
        images = min(self.options.images, self.train_images or self.options.images)
        each = -(-wanted // images)
        drawn = []
        for pixels in stage.images(self.size, images):
            windows = extract_windows(pixels.to(stage.device).float(), self.cell, self.window)  # (B, N, d)
            order = torch.rand(windows.shape[:2], generator=generator).argsort(1)[:, :each].to(windows.device)
            drawn.append(windows.gather(1, order[..., None].expand(-1, -1, values)).flatten(0, 1))  # (B * each, d)
        return torch.cat(drawn)[:wanted]

    def _keep_cells(self, windows: Tensor, ids: Tensor, counts: Tensor) -> None:
        """Keeps each code's mean cell for `decode`; a code without windows shows the mean of all."""
        before = (self.window - self.cell) // 2
        inner = slice(before, before + self.cell)
        cells = windows.view(-1, self.channels, self.window, self.window)[:, :, inner, inner].flatten(
            1
        )  # (n, C * cell^2)
        means = sum_by_code(cells, ids, self.vocab_size) / counts[:, None].clamp_min(1)
        means = torch.where(counts[:, None] > 0, means, cells.mean(0))
        self.cells.copy_(means.view_as(self.cells))
