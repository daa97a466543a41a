"""`ssl-bench tokenizer`: what computing the targets adds to a training step."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ssl_benchmarks.bench_help import BACKBONES, add_common_flags, bench_parser, run_bench
from ssl_benchmarks.bench_parts import DALLE_SIZE, PROGRESS, beit_method, noise_batch, training_step
from ssl_benchmarks.timing import compare_times, not_measured
from ssl_core.api import Device, Parser, at_least, unit_views

GOAL = 0.4
"""At most this share of the plain float32 encoder's time, on a CPU that multiplies bf16."""

_TOKENIZERS: Mapping[str, Mapping[str, Any]] = {
    "kmeans": {"vocab_size": 512},
    "dvae": {"vocab_size": 512, "hidden": 128, "blocks": 2, "stem": 4},
    "dvae (DALL-E's size)": DALLE_SIZE,
    "vqkd (BEiT v2's size)": {},
}
"""What is measured: a tokenizer's name, and a word on its size, -> its options."""


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    summary = "What computing the targets adds to a training step: time with over time without."
    return run_bench(arguments, parser(), summary, measure)


def measure(flags: argparse.Namespace, device: Device) -> list[dict[str, Any]]:
    """Measures what the flags ask for."""
    large = device.device.type == "cuda"
    backbone, batch_size = flags.backbone or ("vit_base" if large else "vit_tiny"), flags.batch_size
    found = rows(device, backbone, flags.image_size, batch_size or (256 if large else 8), flags.repeats)
    return [*found, *encoder_rows(device, flags.image_size, batch_size or (256 if large else 2), flags.repeats)]


def rows(device: Device, backbone: str, image_size: int, batch_size: int, repeats: int) -> list[dict[str, Any]]:
    """Measures each tokenizer in a BEiT step: forward, backward and AdamW, on images that lie on the device.

    Args:
        device: where, and in which precision.
        backbone: BEiT's ViT by name.
        image_size: pixels of the backbone's view.
        batch_size: images in a step.
        repeats: pairs of measurements.
    """
    found = []
    for name, options in _TOKENIZERS.items():
        method = beit_method(name.split(" ")[0], options, image_size, model=backbone).to(device.device)
        batch = unit_views(noise_batch(method, batch_size, device.device))
        with torch.no_grad(), device.autocast():
            given = replace(batch, targets=method.target.targets(batch.views, method.grid))
        with_tokenizer, without = (
            training_step(method, lambda batch=batch, method=method: method(batch, PROGRESS).loss, device)
            for batch in (batch, given)
        )
        title = f"step with tokenizer {name}"
        compared = compare_times(with_tokenizer, without, repeats, title)
        line = compared.row(title, "the same step on given targets", device.device)
        share = {"share_of_step": round(1 - 1 / line["ratio"], 4)}
        found.append({**line, **share, "backbone": backbone, "image_size": image_size, "batch_size": batch_size})
    return found


def encoder_rows(device: Device, image_size: int, batch_size: int, repeats: int) -> list[dict[str, Any]]:
    """Measures the codes of DALL-E's size of the dVAE, as a step computes them, against its encoder written plainly.

    Args:
        device: where, and in which precision.
        image_size: pixels of the backbone's view; the tokenizer's is half as large.
        batch_size: images at once.
        repeats: pairs of measurements.
    """
    name, baseline = "codes of DALL-E's size of the dVAE", "its encoder in float32, NCHW, all codes at all places"
    method = beit_method("dvae", DALLE_SIZE, image_size, model="vit_tiny", depth=1).to(device.device)
    batch = unit_views(noise_batch(method, batch_size, device.device))
    encoder = method.target.get_submodule("encoder")

    @torch.no_grad()
    def ours() -> Tensor:
        with device.autocast():
            return method.target.targets(batch.views, method.grid)

    @torch.no_grad()
    def plain() -> Tensor:
        x = plain_trunk(encoder, 0.8 * batch.views["tokens"] + 0.1)  # (B, D, h, w)
        return encoder.output(x).argmax(1).flatten(1)  # (B, N)

    found = compare_times(ours, plain, repeats, name)
    cpu = device.device.type == "cpu"
    line = found.row(name, baseline, device.device, GOAL if cpu and device.precision == "bf16" else None)
    line = {**line, "precision": device.precision, "batch_size": batch_size}
    if cpu and device.precision == "bf16":
        return [line]
    return [line, not_measured(f"{name}, bf16 CPU", baseline, "this is no CPU that multiplies bf16", GOAL)]


def plain_trunk(encoder: nn.Module, x: Tensor) -> Tensor:
    """Returns what the last convolution of a dVAE's encoder sees, (B, D, h, w), computed as one would write it first.

    Args:
        encoder: the dVAE's.
        x: (B, C, H, W) float32, in the network's range.
    """
    x = encoder.get_submodule("input")(x)
    for index, group in enumerate(encoder.get_submodule("groups").children()):
        x = torch.max_pool2d(x, 2) if index else x
        for block in group.children():
            branch = x
            for conv in block.get_submodule("convs").children():
                branch = conv(branch.relu())
            x = block.get_submodule("skip")(x) + block.gain * branch
    return x.relu()


def parser() -> Parser:
    """Returns the flags."""
    found = bench_parser("tokenizer")
    add = found.add_argument
    sizes = f"{', '.join(BACKBONES)}; vit_base on a GPU, vit_tiny on a CPU by default"
    add("--backbone", metavar="NAME", choices=BACKBONES, help=sizes)
    add("--image-size", metavar="PIXELS", type=at_least(1), default=224, help="of the backbone's view (default 224)")
    add("--batch-size", metavar="N", type=at_least(1), help="images in a step; 256 on a GPU, 8 on a CPU by default")
    return add_common_flags(found)
