"""The two sheets of a tokenizer's report: reconstructions, and what codes stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_core.api import ImageSet, Tokenizer, figure_pixels, new_figure, to_unit
from ssl_tokenizers.report import TokenizerReport, fill_with_means, read_views

_COLUMNS = ("image", "reconstruction", "patch means")
_CODES = 12
_EXAMPLES = 12
_CONTEXT = 2
"""Cells that an example shows around its own, on each side."""

_GAP = 2
"""Pixels between pictures in a row."""


@torch.inference_mode()
def reconstruction_sheet(tokenizer: Tokenizer, images: ImageSet, report: TokenizerReport, size: int) -> Tensor:
    """Draws image | reconstruction | each cell's mean colour, two images a row.

    Args:
        tokenizer: one that can decode, on any device.
        images: the split of the report.
        report: whose images are drawn, evenly spaced.
        size: pixels that the tokenizer saw.

    Returns:
        (3, H, W) float32 in [0, 1].
    """
    rows = 6 if size <= 64 else 4
    chosen = _evenly(len(report.indices), 2 * rows)
    pixels, _, _ = read_views(images, [report.indices[place] for place in chosen], size)
    originals = to_unit(pixels)  # (B, 3, S, S)
    device = next(iter([*tokenizer.parameters(), *tokenizer.buffers()]), originals).device
    decoded = tokenizer.decode(report.ids[chosen].long().to(device)).float().cpu()  # (B, 3, S, S)
    means = fill_with_means(originals, size // report.ids.shape[1])
    shown = [_side_by_side([sheet[place] for sheet in (originals, decoded, means)]) for place in range(len(chosen))]
    figure = new_figure(9, 1.5 * rows)
    axes = figure.subplots(rows, 2, squeeze=False)
    for place in range(2 * rows):
        axis = axes[place % rows][place // rows]
        axis.set_axis_off()
        if place % rows == 0:
            axis.set_title(" | ".join(_COLUMNS), fontsize=9)
        if place < len(shown):
            axis.imshow(_as_image(shown[place]), interpolation="nearest")
    return figure_pixels(figure)


@torch.inference_mode()
def code_sheet(tokenizer: Tokenizer, images: ImageSet, report: TokenizerReport, size: int, seed: int = 0) -> Tensor:
    """Draws what some codes stand for: one code a row, from the commonest to the rarest that occurs.

    Each row starts with what the code decodes to by itself, where the tokenizer can decode, and shows
    places where it occurs, each with the cells around it.

    Returns:
        (3, H, W) float32 in [0, 1].
    """
    order = report.counts.argsort(descending=True)  # (V,)
    order = order[: int((report.counts > 0).sum())]
    codes = order[torch.tensor(_evenly(len(order), _CODES), dtype=torch.int64)].tolist()
    cell = size // report.ids.shape[1]
    figure = new_figure(0.75 * (_EXAMPLES + 2), 0.8 * len(codes))
    axes = figure.subplots(len(codes), 1, squeeze=False)[:, 0]
    generator = torch.Generator().manual_seed(seed)
    for axis, code in zip(axes, codes, strict=True):
        places = (report.ids == code).nonzero()  # (n, 3): image, row, column
        places = places[torch.randperm(len(places), generator=generator)[:_EXAMPLES]].tolist()
        shown = [_around(images, report, place, cell, size) for place in places]
        if tokenizer.can_decode:
            alone = _alone(tokenizer, code, report)[None]  # (1, 3, cell, cell)
            shown.insert(0, F.interpolate(alone, shown[0].shape[1:])[0])
        axis.set_axis_off()
        axis.imshow(_as_image(_side_by_side(shown, _EXAMPLES + 1)), interpolation="nearest")
        share = float(report.counts[code] / report.counts.sum())
        axis.set_title(f"code {code}: {share:.2%}", fontsize=7, loc="left")
    return figure_pixels(figure)


def _alone(tokenizer: Tokenizer, code: int, report: TokenizerReport) -> Tensor:
    """Returns the middle cell (3, cell, cell) of a field of one code, decoded."""
    device = next(iter([*tokenizer.parameters(), *tokenizer.buffers()]), report.ids).device
    h, w = report.ids.shape[1:]
    decoded = tokenizer.decode(torch.full((1, h, w), code, device=device))[0].float().cpu()  # (3, H, W)
    cell = decoded.shape[1] // h
    top, left = h // 2 * cell, w // 2 * cell
    return decoded[:, top : top + cell, left : left + cell]


def _around(images: ImageSet, report: TokenizerReport, place: list[int], cell: int, size: int) -> Tensor:
    """Returns a cell (image, row, column) with those around it, (3, side, side), in a red frame."""
    image, row, column = place
    pixels, _, _ = read_views(images, [report.indices[image]], size)
    margin = _CONTEXT * cell
    padded = F.pad(to_unit(pixels), (margin,) * 4, mode="replicate")[0]  # (3, S + 2 * margin, ...)
    top, left = row * cell, column * cell
    window = padded[:, top : top + cell + 2 * margin, left : left + cell + 2 * margin].clone()
    edge = slice(margin - 1, margin + cell + 1)
    frame = torch.zeros_like(window[0], dtype=torch.bool)
    frame[edge, edge] = True
    frame[margin : margin + cell, margin : margin + cell] = False
    window[:, frame] = torch.tensor([1.0, 0.0, 0.0])[:, None]  # a red frame around the code's own cell
    return window


def _side_by_side(pictures: Sequence[Tensor], places: int = 0) -> Tensor:
    """Returns pictures (3, S, S) in a row with white gaps, (3, S, W); blank where there are fewer than `places`."""
    side = pictures[0].shape[1]
    row = torch.ones(3, side, max(places, len(pictures)) * (side + _GAP) - _GAP)
    for place, picture in enumerate(pictures):
        left = place * (side + _GAP)
        row[:, :, left : left + side] = picture
    return row


def _evenly(total: int, count: int) -> list[int]:
    count = min(total, count)
    return [place * (total - 1) // max(1, count - 1) for place in range(count)]


def _as_image(pixels: Tensor):
    return pixels.clamp(0, 1).permute(1, 2, 0).numpy()  # (H, W, 3)
