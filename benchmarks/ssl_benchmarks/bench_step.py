"""`ssl-bench step`: a training step of BEiT against bare models of timm, and against what the machine can do."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ssl_benchmarks.bench_help import BACKBONES, add_common_flags, bench_parser, run_bench
from ssl_benchmarks.bench_parts import PROGRESS, beit_method, noise_batch, training_step
from ssl_benchmarks.step_case import BLOCKS, FULL_STEP, GIVEN_STEP, StepCase
from ssl_benchmarks.step_counts import graphs_after, waits
from ssl_benchmarks.timing import not_measured, row
from ssl_core.api import Device, Parser, at_least, compile_blocks, compile_method, unit_views

GOALS: Mapping[str, Mapping[str, float]] = {
    "cuda": {GIVEN_STEP: 1.05, FULL_STEP: 1.70, BLOCKS: 1.05, "ceiling": 2.0},
    "cpu": {GIVEN_STEP: 1.10},
    "bf16 cpu": {GIVEN_STEP: 1.10, BLOCKS: 0.95, "vit_base": 1 / 1.12, "vit_tiny": 1 / 1.5},
}
"""Kind of machine -> a row, or the size of a whole backbone -> at most this share of the baseline's time. A ceiling of
2 is half of what the device reaches in matrix products."""

_MISSING = {
    "cuda": ("GPU", "there is no GPU here"),
    "bf16 cpu": ("bf16 CPU", "this is no CPU that multiplies bf16"),
}
_OF_CEILING = ("vit_base", "vit_large")
"""Sizes that are measured against what the device can do."""
_SMALL_STEP = {"model": "vit_tiny", "depth": 2, "patch_size": 8}


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    summary = "A training step of BEiT, without and with its tokenizer: time over that of bare models of timm."
    return run_bench(arguments, parser(), summary, measure)


def measure(flags: argparse.Namespace, device: Device) -> list[dict[str, Any]]:
    """Measures what the flags ask for."""
    cuda = device.device.type == "cuda"
    kind = "cuda" if cuda else "bf16 cpu" if device.precision == "bf16" else "cpu"
    goals = GOALS[kind]
    case = StepCase(
        device=device,
        backbone=flags.backbone or "vit_base",
        image_size=flags.image_size,
        batch_size=flags.batch_size or (256 if cuda else 4),
        repeats=flags.repeats,
        compiled=cuda if flags.compile is None else flags.compile == "on",
    )
    found = [*case.steps(goals), case.blocks(goals.get(BLOCKS)), case.whole_backbone(goals.get(case.backbone))]
    small = replace(case, backbone="vit_tiny", image_size=32, patch_size=4, batch_size=8 * case.batch_size)
    found.append(small.whole_backbone(goals.get("vit_tiny")))
    if cuda:
        sizes = (flags.backbone,) if flags.backbone else _OF_CEILING
        found += [replace(case, backbone=size).ceiling(goals["ceiling"]) for size in sizes]
    return [*found, *counts(device), *_elsewhere(kind)]


def counts(device: Device) -> list[dict[str, Any]]:
    """Returns how many graphs are compiled after the second step, and how often a step waits for the device.

    On a CPU the graphs are traced and not made into code, which would take minutes.
    """
    method = beit_method("dvae", {"vocab_size": 64, "hidden": 16}, 32, **_SMALL_STEP).to(device.device)
    batch = unit_views(noise_batch(method, 4, device.device))
    step = training_step(method, lambda: method(batch, PROGRESS).loss, device)
    step()
    reads = waits(step, device.device)
    torch._dynamo.reset()
    if device.device.type == "cuda":
        compile_method(method, device.device)
    else:
        compile_blocks(method, backend="eager")
    graphs = graphs_after(step)
    return [
        row("waits for the device in a step", "none", reads, 0, goal=0),
        row("graphs compiled after the second step", "none", graphs, 0, goal=0),
    ]


def _elsewhere(kind: str) -> list[dict[str, Any]]:
    """Returns the goals that belong to other machines."""
    found = []
    for other, (label, why) in _MISSING.items():
        if other == kind:
            continue
        for name, goal in GOALS[other].items():
            rows = [(f"BEiT {name}" if name.startswith("vit") else name, "timm")]
            if name == "ceiling":
                rows = [(f"{FULL_STEP}, {size}", "matrix products of as many FLOPs") for size in _OF_CEILING]
            found += [not_measured(f"{what}, {label}", baseline, why, round(goal, 3)) for what, baseline in rows]
    return found


def parser() -> Parser:
    """Returns the flags."""
    found = bench_parser("step")
    add = found.add_argument
    add("--backbone", metavar="NAME", choices=BACKBONES, help=f"{', '.join(BACKBONES)}; vit_base by default")
    add("--image-size", metavar="PIXELS", type=at_least(1), default=224, help="of the backbone's view (default 224)")
    add("--batch-size", metavar="N", type=at_least(1), help="images in a step; 256 on a GPU, 4 on a CPU by default")
    add(
        "--compile",
        metavar="on|off",
        choices=("on", "off"),
        help="compile ours as a run does, timm's whole; on for a GPU by default",
    )
    return add_common_flags(found, repeats=5)
