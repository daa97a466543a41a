"""Charts as pictures: for TensorBoard, for files, without a display."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float = 6.4, height: float = 4.0) -> Figure:
    """Returns an empty matplotlib figure that needs no display and no global state.

    Args:
        width, height: in inches, at 100 dots each.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def figure_pixels(figure: Figure) -> Tensor:
    """Draws a figure: (3, H, W) float32 in [0, 1], as `Method.pictures` returns."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # (H, W, 3) uint8
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)  # (3, H, W)
