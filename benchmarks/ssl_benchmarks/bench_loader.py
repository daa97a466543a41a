"""`ssl-bench loader`: two views of a crop against the reference's way, against decoding alone, and in a training."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ssl_benchmarks.bench_help import BACKBONES, add_common_flags, bench_parser, run_bench
from ssl_benchmarks.bench_parts import DALLE_SIZE, PROGRESS, beit_method, training_step
from ssl_benchmarks.loader_case import (
    ONE_VIEW,
    FilesInMemory,
    decoded,
    files_of,
    made_files,
    our_views,
    random_crops,
    reference_views,
    two_view,
)
from ssl_benchmarks.timing import PairsDone, compare_times, not_measured, row
from ssl_core.api import Batch, Device, Parser, SampleOrder, at_least, training_loader, unit_views

REFERENCE_GOAL = 1 / 3.5
"""At most this share of the time of the reference's pipeline: 3.5 times as many images a second."""

DECODE_GOAL = 1 / 0.70
"""At most so many times the time of decoding: 0.70 of its images a second."""

RESIDENT_GOAL = 1 / 0.97
"""At most so many times the time of the step on resident data, on a GPU that 16 cores feed."""

_CORES_OF_GOAL = 16
_QUEUES = 3
"""Steps of a block, in lengths of the queue that the workers fill: what lies in it at the start must not decide."""


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    summary = "Two views of each image: their time over that of the reference's pipeline, and of decoding alone."
    return run_bench(arguments, parser(), summary, measure)


def measure(flags: argparse.Namespace, device: Device) -> list[dict[str, Any]]:
    """Measures what the flags ask for."""
    files = made_files(flags.images) if flags.data is None else files_of(flags.data, flags.images)
    found = view_rows(files, flags.repeats)
    workers = max(_cores() - 1, 0) if flags.workers is None else flags.workers
    large = device.device.type == "cuda"
    backbone, batch_size = flags.backbone or ("vit_base" if large else "vit_tiny"), flags.batch_size
    repeats = max(2, flags.repeats // 2)
    found.append(training_row(files, device, backbone, batch_size or (256 if large else 8), workers, repeats))
    if _judged(device):
        return found
    name, why = "steps fed by the loader, GPU with 16 cores", "there is no GPU with 16 cores here"
    return [*found, not_measured(name, "the same steps on resident data", why, round(RESIDENT_GOAL, 4))]


def view_rows(files: Sequence[bytes], repeats: int) -> list[dict[str, Any]]:
    """Measures both recipes in one process, on one core, by CPU time.

    Args:
        files: JPEGs.
        repeats: pairs of measurements.
    """
    cpu = torch.device("cpu")
    fast, exact = two_view("fast"), two_view("exact")

    def all_of(work: Callable[[bytes, int], Any]) -> Callable[[], None]:
        def run() -> None:
            for number, file in enumerate(files):
                work(file, number)

        return run

    ours = all_of(lambda file, number: our_views(fast, file, number))
    ours_exact = all_of(lambda file, number: our_views(exact, file, number))
    crops, crops_exact = random_crops("fast"), random_crops("exact")
    one = all_of(lambda file, number: our_views(crops, file, number, ONE_VIEW))
    one_exact = all_of(lambda file, number: our_views(crops_exact, file, number, ONE_VIEW))
    reference = all_of(reference_views)
    alone = all_of(lambda file, number: decoded(file))
    cases = (
        ("two views, recipe fast", ours, "the reference's pipeline with Pillow", reference, REFERENCE_GOAL),
        ("two views, recipe fast", ours, "decoding alone", alone, DECODE_GOAL),
        ("two views, recipe exact", ours_exact, "the reference's pipeline with Pillow", reference, None),
        ("one view of core:augment, recipe fast", one, "the same view, recipe exact", one_exact, None),
    )
    found = []
    for name, work, baseline, base, goal in cases:
        compared = compare_times(work, base, repeats, name)
        line = compared.row(name, baseline, cpu, None if goal is None else round(goal, 4))
        rate = {"speed": round(1 / line["ratio"], 3), "images_per_second": round(len(files) / compared.seconds, 1)}
        size = {"images": len(files), "mean_kilobytes": round(sum(map(len, files)) / len(files) / 1000, 1)}
        found.append({**line, **rate, **size})
    return found


def training_row(
    files: Sequence[bytes], device: Device, backbone: str, batch_size: int, workers: int, repeats: int
) -> dict[str, Any]:
    """Measures steps of BEiT that the loader feeds against the same steps on a batch that lies on the device.

    Args:
        files: JPEGs.
        device: where, and in which precision.
        backbone: BEiT's ViT by name.
        batch_size: images in a step.
        workers: processes that load images.
        repeats: pairs of blocks of steps.
    """
    large = device.device.type == "cuda"
    method = beit_method("dvae" if large else "kmeans", DALLE_SIZE if large else {}, 224, model=backbone)
    method = method.to(device.device)
    images = FilesInMemory(files * (1 + batch_size // len(files)))
    order = SampleOrder(len(images), batch_size, 0)
    steps = max(4, _QUEUES * 2 * workers)
    transform = two_view("fast")

    def batches() -> Iterator[Batch]:
        return iter(
            training_loader(
                images,
                transform,
                method.views,
                masker=method.masker,
                grid=method.grid,
                order=order,
                seed=0,
                first_step=0,
                total_steps=steps + 1,
                micro_batch_size=batch_size,
                workers=workers,
                pin_memory=large,
            )
        )

    current = [next(batches()).to(device.device)]
    step = training_step(method, lambda: method(unit_views(current[0]), PROGRESS).loss, device)
    step()

    def resident() -> float:
        return _seconds(step, steps)

    def loaded() -> float:
        source = batches()
        next(source)  # the workers have started

        def fed() -> None:
            current[0] = next(source).to(device.device)
            step()

        return _seconds(fed, steps)

    name = f"steps of {backbone} fed by the loader, recipe fast, {workers} workers"
    told = PairsDone(name, repeats)
    ratios = []
    for number in range(repeats):
        first, second = (loaded, resident) if number % 2 == 0 else (resident, loaded)
        one, other = first(), second()
        ratios.append(one / other if number % 2 == 0 else other / one)
        told(number + 1)
    low, _, high = statistics.quantiles(ratios, n=4)
    goal = round(RESIDENT_GOAL, 4) if _judged(device) else None
    line = row(name, "the same steps on resident data", statistics.median(ratios), (high - low) / 2, goal)
    return {**line, "clock": "wall", "cores": _cores(), "workers": workers, "batch_size": batch_size}


def _judged(device: Device) -> bool:
    """Returns whether this is a machine that the goal of the fed steps is for."""
    return device.device.type == "cuda" and _cores() >= _CORES_OF_GOAL


def _seconds(step: Callable[[], None], count: int) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parser() -> Parser:
    """Returns the flags."""
    found = bench_parser("loader")
    add = found.add_argument
    add("--data", metavar="FOLDER", help="JPEGs to take; made ones of 500x375 pixels by default")
    add("--images", metavar="N", type=at_least(1), default=40, help="how many of them (default 40)")
    sizes = f"of the steps: {', '.join(BACKBONES)}; vit_base on a GPU, vit_tiny on a CPU by default"
    add("--backbone", metavar="NAME", choices=BACKBONES, help=sizes)
    add("--batch-size", metavar="N", type=at_least(1), help="images in a step; 256 on a GPU, 8 on a CPU by default")
    add("--workers", metavar="N", type=at_least(0), help="processes that load images; one less than cores by default")
    return add_common_flags(found)
