"""`ssl-bench features`: feature extraction against the loop that one would write with timm alone."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.constants import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_benchmarks.bench_help import add_common_flags, bench_parser, run_bench
from ssl_benchmarks.bench_parts import compiled as compile_model
from ssl_benchmarks.features import BackboneFeatures, default_batch_size, default_workers, extract
from ssl_benchmarks.timing import Clock, compare_times
from ssl_core.api import (
    ArrayImages,
    BackboneSpec,
    Device,
    Parser,
    Registry,
    at_least,
    build_untrained,
)

GOAL = 1.1
"""At most this share of the bare loop's time."""


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    return run_bench(arguments, parser(), "Features of clean images: the time over that of a bare timm loop.", measure)


def measure(flags: argparse.Namespace, device: Device) -> list[dict[str, Any]]:
    """Measures what the flags ask for."""
    large = device.device.type == "cuda"
    model = flags.model or ("vit_base_patch16_224" if large else "vit_tiny_patch16_224")
    images = flags.images or (8192 if large else 64)
    compiled = flags.compile == "on"
    return rows(device, model, flags.image_size, images, flags.repeats, flags.workers, compiled)


def rows(
    device: Device,
    model: str = "vit_tiny_patch16_224",
    image_size: int = 224,
    images: int = 64,
    repeats: int = 5,
    workers: int | None = None,
    compiled: bool = False,
) -> list[dict[str, Any]]:
    """Measures the mean of the patches after the final norm, of images of noise that lie in memory.

    Both sides resize, cut, normalise and run the same network in the same precision, with equally many images at
    once and equally many processes.

    Args:
        device: where, and in which precision.
        model: timm's name.
        image_size: pixels that the network sees; the images are an eighth larger.
        images: how many.
        repeats: pairs of measurements.
        workers: processes that prepare images; None = as an evaluation chooses.
        compiled: whether both sides are compiled: ours block by block, timm's model whole.
    """
    side = image_size * 8 // 7
    pixels = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    pictures = ArrayImages(pixels)
    workers = default_workers(pictures, images) if workers is None else workers
    batch_size = min(images, default_batch_size(image_size, device.device))

    mean, std = IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
    spec = BackboneSpec("core:vit", {"model": model}, image_size, mean, std)
    backbone = build_untrained(spec, registry=Registry.load(safe=True))
    embed = {"model": BackboneFeatures(backbone, device, compiled=compiled)}

    def ours() -> Tensor:
        found = extract(
            pictures,
            range(images),
            embed,
            size=image_size,
            device=device.device,
            crop_fraction=0.875,
            batch_size=batch_size,
            workers=workers,
        )
        return found.features["model"]

    plain = timm.create_model(model, img_size=image_size, num_classes=0).to(device.device).eval()
    plain = compile_model(plain, device.device) if compiled else plain
    transform = timm.data.create_transform(
        image_size, interpolation="bicubic", mean=mean, std=std, crop_pct=0.875, is_training=False
    )
    loader = DataLoader(
        _Plain(pixels, transform), batch_size, num_workers=workers, pin_memory=device.device.type == "cuda"
    )

    def bare() -> Tensor:
        found = []
        with torch.inference_mode(), device.autocast():
            for batch in loader:
                tokens = plain.forward_features(batch.to(device.device, non_blocking=True))
                found.append(tokens[:, plain.num_prefix_tokens :].float().mean(1).cpu())
        return torch.cat(found)

    # Time of other processes counts where work is done by them.
    clock: Clock = "cpu" if device.device.type == "cpu" and not workers else "wall"
    name = f"features of {model}"
    line = compare_times(ours, bare, repeats, name).row(name, "a bare timm loop", device.device, GOAL, clock)
    size = {"image_size": image_size, "images": images, "batch_size": batch_size, "workers": workers}
    return [{**line, **size, "precision": device.precision, "compiled": compiled}]


class _Plain(Dataset):
    """Images and timm's transform, as in any script."""

    def __init__(self, pixels: np.ndarray, transform: Any):
        self._pixels = pixels
        self._transform = transform

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self._transform(Image.fromarray(self._pixels[index]))


def parser() -> Parser:
    """Returns the flags."""
    found = bench_parser("features")
    add = found.add_argument
    add("--model", metavar="NAME", help="timm's name; ViT-B/16 on a GPU, ViT-Ti/16 on a CPU by default")
    add("--image-size", metavar="PIXELS", type=at_least(1), default=224, help="that the network sees (default 224)")
    add("--images", metavar="N", type=at_least(1), help="how many; 8192 on a GPU, 64 on a CPU by default")
    add(
        "--compile",
        metavar="on|off",
        choices=("on", "off"),
        help="compile ours block by block, timm's whole (default off)",
    )
    add(
        "--workers",
        metavar="N",
        type=at_least(0),
        help="processes that prepare images; by default as an evaluation has",
    )
    return add_common_flags(found, repeats=5)
