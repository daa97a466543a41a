"""The two sheets of a tokenizer's report: reconstructions, and what codes stand for."""

from __future__ import annotations

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
    figure = new_figure(9, 1.5 * rows)
    axes = figure.subplots(rows, 6, squeeze=False)
    for place in range(2 * rows):
        row, first = place % rows, 3 * (place // rows)
        for column, sheet in enumerate((originals, decoded, means)):
            axis = axes[row][first + column]
            axis.set_axis_off()
            if row == 0:
                axis.set_title(_COLUMNS[column], fontsize=9)
            if place < len(chosen):
                axis.imshow(_as_image(sheet[place]), interpolation="nearest")
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
    axes = figure.subplots(len(codes), _EXAMPLES + 1, squeeze=False)
    generator = torch.Generator().manual_seed(seed)
    for row, code in zip(axes, codes, strict=True):
        for axis in row:
            axis.set_axis_off()
        if tokenizer.can_decode:
            row[0].imshow(_as_image(_alone(tokenizer, code, report)), interpolation="nearest")
        share = float(report.counts[code] / report.counts.sum())
        row[0].set_title(f"code {code}: {share:.2%}", fontsize=7, loc="left")
        places = (report.ids == code).nonzero()  # (n, 3): image, row, column
        for axis, place in zip(
            row[1:], places[torch.randperm(len(places), generator=generator)].tolist(), strict=False
        ):
            axis.imshow(_around(images, report, place, cell, size), interpolation="nearest")
    return figure_pixels(figure)


def _alone(tokenizer: Tokenizer, code: int, report: TokenizerReport) -> Tensor:
    """Returns the middle cell (3, cell, cell) of a field of one code, decoded."""
    device = next(iter([*tokenizer.parameters(), *tokenizer.buffers()]), report.ids).device
    h, w = report.ids.shape[1:]
    decoded = tokenizer.decode(torch.full((1, h, w), code, device=device))[0].float().cpu()  # (3, H, W)
    cell = decoded.shape[1] // h
    top, left = h // 2 * cell, w // 2 * cell
    return decoded[:, top : top + cell, left : left + cell]


def _around(images: ImageSet, report: TokenizerReport, place: list[int], cell: int, size: int):
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
    return _as_image(window)


def _evenly(total: int, count: int) -> list[int]:
    count = min(total, count)
    return [place * (total - 1) // max(1, count - 1) for place in range(count)]


def _as_image(pixels: Tensor):
    return pixels.clamp(0, 1).permute(1, 2, 0).numpy()  # (H, W, 3)
