"""How good a tokenizer is on images: what it reconstructs, and which codes it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_core.api import (
    BadImage,
    Device,
    ImageSet,
    Tokenizer,
    UsageError,
    center_view,
    code_counts,
    code_health,
    progress,
    read_clean,
    to_unit,
)

_PIXELS_AT_ONCE = 2**20


@dataclass(frozen=True)
class TokenizerReport:
    """What was measured.

    Attributes:
        metrics: see `measure`.
        ids: (n, h, w) int32, the codes of every image that was read.
        indices: (n,) which images those are.
        counts: (V,) float32, times each code occurred.
        unreadable: names of images that could not be read.
    """

    metrics: dict[str, float]
    ids: Tensor
    indices: tuple[int, ...]
    counts: Tensor
    unreadable: tuple[str, ...]


@torch.inference_mode()
def measure(
    tokenizer: Tokenizer, images: ImageSet, indices: Sequence[int], size: int, device: Device
) -> TokenizerReport:
    """Encodes clean, whole images, and decodes them again where the tokenizer can.

    Args:
        tokenizer: in eval mode; it is moved to the device.
        images: one split.
        indices: which of its images.
        size: pixels of the central square that it sees.
        device: where and in which precision it encodes.

    Returns:
        metrics `perplexity`, `codes_used`, `dead_codes`, `code_entropy` (see `code_health`); where it can
        decode, errors over all pixels and channels: `mae` and `mse` of RGB in [0, 1], `mae_normalized` of RGB
        in [-1, 1] (what BEiT's table 8 gives: mean absolute error of normalised RGB), `psnr` in dB from
        `mse`, `psnr_patch_mean` of filling each cell with its mean colour, and `psnr_gain`, their difference.

    Raises:
        UsageError: the size does not divide into the tokenizer's cells.
    """
    tokenizer = tokenizer.to(device.device)
    counts = torch.zeros(tokenizer.vocab_size, device=device.device)
    sums = torch.zeros(3, dtype=torch.float64)  # squared error, absolute error, squared error of cell means
    values = 0
    found: list[Tensor] = []
    read: list[int] = []
    unreadable: list[str] = []
    batch_size = max(1, _PIXELS_AT_ONCE // size**2)
    with progress("tokenizing", len(indices)) as advance:
        for start in range(0, len(indices), batch_size):
            chosen = indices[start : start + batch_size]
            pixels, good, bad = read_views(images, chosen, size)
            unreadable += bad
            advance(len(chosen))
            if not good:
                continue
            pixels = to_unit(pixels.to(device.device))  # (B, 3, S, S)
            with device.autocast():
                ids = tokenizer.encode(pixels)  # (B, h, w)
            decoded = tokenizer.decode(ids) if tokenizer.can_decode else None  # (B, 3, S, S)
            _check_size(size, ids, decoded)
            counts += code_counts(ids, tokenizer.vocab_size)
            found.append(ids.int().cpu())
            read += good
            if decoded is not None:
                sums += _errors(pixels, decoded, size // ids.shape[1]).cpu()
                values += pixels.numel()
    metrics = {name: float(value) for name, value in code_health(counts).items()}
    if values:
        metrics = {**_reconstruction(sums / values), **metrics}
    ids = torch.cat(found) if found else torch.empty(0, 1, 1, dtype=torch.int32)
    return TokenizerReport(metrics, ids, tuple(read), counts.cpu(), tuple(unreadable))


def read_views(images: ImageSet, indices: Sequence[int], size: int) -> tuple[Tensor, list[int], list[str]]:
    """Reads whole images.

    Returns:
        (B, 3, size, size) uint8, the indices of those that can be read, and the names of the others.
    """
    views, good, bad = [], [], []
    for index in indices:
        try:
            views.append(center_view(read_clean(images, index), size, 1.0))
            good.append(index)
        except BadImage:
            bad.append(images.name(index))
    return torch.stack(views) if views else torch.empty(0, 3, size, size, dtype=torch.uint8), good, bad


def fill_with_means(pixels: Tensor, cell: int) -> Tensor:
    """Returns (B, C, H, W) with each cell of `cell` pixels a side filled with its mean colour."""
    return F.interpolate(F.avg_pool2d(pixels, cell), scale_factor=cell)


def _check_size(size: int, ids: Tensor, decoded: Tensor | None) -> None:
    h, w = ids.shape[1:]
    side = size // h * h if decoded is None else decoded.shape[-1]
    if side != size:
        raise UsageError(
            f"--size {size}: the tokenizer makes {h}x{w} codes of it, which stand for {side} pixels; give --size {side}"
        )


def _errors(pixels: Tensor, decoded: Tensor, cell: int) -> Tensor:
    error = decoded - pixels
    flat = fill_with_means(pixels, cell) - pixels
    return torch.stack([part.double().sum() for part in (error.square(), error.abs(), flat.square())])


def _reconstruction(means: Tensor) -> dict[str, float]:
    mse, mae, flat = means.tolist()
    psnr, flat_psnr = _decibels(mse), _decibels(flat)
    return {
        "psnr": psnr,
        "psnr_patch_mean": flat_psnr,
        "psnr_gain": psnr - flat_psnr,
        "mae": mae,
        "mae_normalized": 2 * mae,
        "mse": mse,
    }


def _decibels(mse: float) -> float:
    """Of images in [0, 1]. A perfect reconstruction counts as 100 dB, so that the result stays a JSON number."""
    return min(100.0, -10 * torch.tensor(mse, dtype=torch.float64).log10().item())
