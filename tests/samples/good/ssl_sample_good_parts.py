"""The parts themselves."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ssl_sample_good_options import SpreadOptions, StripesOptions

from ssl_core.api import (
    Backbone,
    BuildContext,
    DataSource,
    Evaluator,
    Grid,
    Mask,
    Masker,
    Normalize,
    center_view,
    read_clean,
    to_unit,
)


class Stripes(Masker):
    """Hides every other row, or every other column; which half of them is drawn for each image."""

    equal_counts = False  # of an odd number of rows, one half has more

    def __init__(self, options: StripesOptions, context: BuildContext):
        self.direction = options.direction

    def max_hidden(self, grid: Grid) -> int:
        h, w = grid
        return max((h + 1) // 2 * w, (w + 1) // 2 * h)

    def sample(self, grid: Grid, rng: random.Random, batch_rng: random.Random) -> Mask:
        axis = {"rows": 0, "columns": 1}.get(self.direction)
        numbers = np.indices(grid)[rng.randrange(2) if axis is None else axis]  # (h, w)
        return Mask((numbers % 2 == rng.randrange(2))[None])  # (1, h, w)


class Spread(Evaluator):
    """The mean standard deviation of a feature over images."""

    def __init__(self, options: SpreadOptions, context: BuildContext):
        self.images = options.images

    @torch.no_grad()
    def run(self, backbone: Backbone, data: DataSource, out: Path | None) -> dict[str, Any]:
        assert backbone.spec is not None
        images = data.open("train")
        views = [
            center_view(read_clean(images, index), backbone.spec.image_size)
            for index in range(min(self.images, len(images)))
        ]
        pixels = Normalize(backbone.spec.mean, backbone.spec.std)(to_unit(torch.stack(views)))  # (n, 3, H, W)
        spread = backbone(pixels).summary.std(0).mean().item()
        return {
            "evaluator": "spread",
            "protocol": {"images": len(views)},
            "metrics": {"spread": spread},
            "baselines": {"constant": 0.0},
        }
