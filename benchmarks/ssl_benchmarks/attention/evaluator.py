"""Attention maps (BEiT, section 3.4 and figure 2), and PCA of patch features as colours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_benchmarks.attention.maps import Reference, parse_references, reference_maps, reference_name
from ssl_benchmarks.attention.options import AttentionOptions
from ssl_benchmarks.attention.pca import as_colours, principal_components
from ssl_benchmarks.attention.sheets import cell_size, heat, marked, picture, save, sheet
from ssl_benchmarks.device import evaluation_device
from ssl_benchmarks.layers import check_layer, spec_of
from ssl_benchmarks.numbering import next_number
from ssl_benchmarks.versions import versions
from ssl_core.api import (
    Backbone,
    BadImage,
    BuildContext,
    DataError,
    DataSource,
    Evaluator,
    ImageSet,
    Normalize,
    UsageError,
    center_view,
    progress,
    read_clean,
    to_unit,
)


@dataclass(frozen=True)
class Looked:
    """What was seen in one image.

    Attributes:
        pixels: (S, S, 3) uint8.
        maps: (R, 1 + heads, h, w), a row of maps for each reference.
        patches: (N, D) float32, after the final norm.
    """

    pixels: np.ndarray
    maps: Tensor
    patches: Tensor


class AttentionEvaluator(Evaluator):
    """Draws where chosen patches, or the CLS token, look: one map a head, and their mean.

    It gives pictures and no number.
    """

    def __init__(self, options: AttentionOptions, context: BuildContext):
        self._options = options

    def run(self, backbone: Backbone, data: DataSource, out: Path | None) -> dict[str, Any]:
        """Writes `attention-N.png`, and `attention-N-pca.png`, into `out`.

        Returns:
            `evaluator`, `protocol`, `files`, `notes`; `metrics` and `baselines` are empty.

        Raises:
            UsageError: nowhere to write, a backbone that does not show its attention, or a layer or a reference
                that it does not have.
            DataError: no image can be read.
        """
        options = self._options
        if out is None:
            raise UsageError("attention: where do the pictures go? Give --out DIR")
        spec = spec_of(backbone)
        if "attention" not in backbone.provides:
            raise UsageError(f"attention: the backbone {spec.component} does not show its attention")
        layer = int(check_layer(options.layer, backbone.depth))
        grid = backbone.grid(spec.image_size, spec.image_size)
        references = parse_references(options.reference, grid, backbone, spec.image_size)
        images = data.open(options.split)
        device = evaluation_device(options.device, "fp32").device
        backbone = backbone.to(device).eval()
        normalize = Normalize(spec.mean, spec.std).to(device)

        names, views, unreadable = self._read(images, spec.image_size)
        looked = []
        with progress("attention", len(views)) as advance, torch.inference_mode():
            for view in views:
                pixels = normalize(to_unit(view[None].to(device)))  # (1, 3, S, S)
                maps = reference_maps(backbone.attention(pixels, layer), references, grid, options.mass)[0].cpu()
                patches = backbone(pixels).patches[0].float().cpu()  # (N, D)
                looked.append(Looked(view.permute(1, 2, 0).numpy(), maps, patches))
                advance(1)

        number = next_number(out, "attention")
        files = [save(_attention_sheet(looked, references, grid), out / f"attention-{number}.png")]
        if options.pca:
            files.append(save(_pca_sheet(looked, grid), out / f"attention-{number}-pca.png"))
        protocol = {
            "layer": layer,
            "references": [reference_name(reference) for reference in references],
            "heads": looked[0].maps.shape[1] - 1,
            "grid": list(grid),
            "image_size": spec.image_size,
            "crop_fraction": options.crop_fraction,
            "mass": options.mass,
            "maps": "softmax of the block, columns of prefix tokens left out, each map by its largest value",
            "pca": "3 components of the patches after the final norm, over all images" if options.pca else None,
            "split": options.split,
            "images": names,
            "device": device.type,
            "versions": versions("matplotlib"),
        }
        notes = [f"{len(unreadable)} images cannot be read and are left out: {unreadable[0]}"] if unreadable else []
        found = {"evaluator": "attention", "protocol": protocol, "metrics": {}, "baselines": {}, "notes": notes}
        return {**found, "files": [str(file) for file in files]}

    def _read(self, images: ImageSet, size: int) -> tuple[list[str], list[Tensor], list[str]]:
        """Returns the names and the views, (3, S, S) uint8, of the images that can be read, and the other names."""
        count = min(self._options.images, len(images))
        names, views, unreadable = [], [], []
        reason = ""
        for place in range(count):
            index = place * len(images) // count
            try:
                views.append(center_view(read_clean(images, index), size, self._options.crop_fraction))
                names.append(images.name(index))
            except BadImage as error:
                reason = reason or f"{images.name(index)}: {error}"
                unreadable.append(images.name(index))
        if not views:
            raise DataError(f"none of {count} images can be read; the first is {reason}")
        return names, views, unreadable


def _attention_sheet(looked: list[Looked], references: list[Reference], grid: tuple[int, int]) -> Image.Image:
    """Draws a row for each image and reference: the image with the reference marked, the mean, each head."""
    size = cell_size(grid[1])
    rows = []
    for one in looked:
        image = picture(one.pixels, size)
        for reference, maps in zip(references, one.maps.numpy(), strict=True):
            rows.append([marked(image, reference, grid), *(heat(values, size) for values in maps)])
    heads = looked[0].maps.shape[1] - 1
    return sheet(rows, ["image", "mean", *(f"head {head}" for head in range(heads))])


def _pca_sheet(looked: list[Looked], grid: tuple[int, int]) -> Image.Image:
    """Draws a row for each image: the image, and its patches in the colours that all images share."""
    size = cell_size(grid[1])
    colours = as_colours(principal_components(torch.cat([one.patches for one in looked])))  # (images * N, 3)
    colours = (255 * colours).round().byte().view(len(looked), *grid, 3).numpy()  # (images, h, w, 3)
    rows = [
        [picture(one.pixels, size), Image.fromarray(values).resize((size, size), Image.Resampling.NEAREST)]
        for one, values in zip(looked, colours, strict=True)
    ]
    return sheet(rows, ["image", "PCA"])
