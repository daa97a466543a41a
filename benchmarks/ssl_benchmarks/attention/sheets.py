"""Sheets of pictures with a title over each column, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

_CELL = 160
"""Pixels that a picture is about high and wide."""
_GAP, _TITLE = 4, 22
_MARK = (255, 40, 40)


def cell_size(patches: int) -> int:
    """Returns the pixels of a cell: a multiple of the patches in a row, so that all are equally large."""
    return patches * max(1, round(_CELL / patches))


def picture(pixels: np.ndarray, size: int) -> Image.Image:
    """Returns an image (S, S, 3) uint8 at `size` pixels."""
    image = Image.fromarray(pixels)
    return image.resize((size, size), Image.Resampling.NEAREST if size > image.width else Image.Resampling.LANCZOS)


def heat(values: np.ndarray, size: int) -> Image.Image:
    """Returns a map (h, w) of values from 0 up as colours, its largest one the brightest, at `size` pixels."""
    colours = colormaps["viridis"](values / max(values.max(), 1e-12), bytes=True)[..., :3]  # (h, w, 3)
    return Image.fromarray(np.ascontiguousarray(colours)).resize((size, size), Image.Resampling.NEAREST)


def marked(image: Image.Image, place: tuple[int, int] | None, grid: tuple[int, int]) -> Image.Image:
    """Returns the image with a frame around one patch, or around all of it.

    Args:
        place: (row, column); None = all of it, for a token that is no patch.
        grid: (h, w), the patches there are.
    """
    image = image.copy()
    box = (0, 0, image.width - 1, image.height - 1)
    if place is not None:
        height, width = image.height // grid[0], image.width // grid[1]
        left, top = place[1] * width, place[0] * height
        box = (left - 1, top - 1, left + width, top + height)
    ImageDraw.Draw(image).rectangle(box, outline=_MARK, width=2)
    return image


def sheet(rows: Sequence[Sequence[Image.Image]], titles: Sequence[str]) -> Image.Image:
    """Puts pictures of one size into rows, with a title over each column."""
    size = rows[0][0].width + _GAP
    page = Image.new("RGB", (len(titles) * size + _GAP, len(rows) * size + _GAP + _TITLE), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        draw.text((_GAP + column * size, _GAP), title, fill="black", font=font)
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            page.paste(cell, (_GAP + column * size, _TITLE + _GAP + number * size))
    return page


def save(page: Image.Image, file: Path) -> Path:
    """Writes a PNG, whole or not at all."""
    partial = file.with_name(f".tmp-{file.name}")
    page.save(partial, format="PNG")
    partial.replace(file)
    return file
