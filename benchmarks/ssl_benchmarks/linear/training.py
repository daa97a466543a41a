"""Trains every head in one pass, on stored features or on features of new crops."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_benchmarks.features import Embedder
from ssl_benchmarks.linear.heads import HeadBank
from ssl_benchmarks.linear.optimizer import build_optimizer, set_rates
from ssl_benchmarks.linear.options import LinearOptions
from ssl_core.api import (
    BuildContext,
    ImageSet,
    Registry,
    SampleOrder,
    SubsetImages,
    ViewSpec,
    default_batch_size,
    default_workers,
    progress,
    sample_rng,
    training_loader,
)

FeatureBatch = tuple[Mapping[str, Tensor], Tensor]
"""Features of some images by backbone, each (B, layers, poolings, D), and their labels (B,); on the device."""


@dataclass(frozen=True)
class Plan:
    """How long the heads learn.

    Attributes:
        batch_size: images of an update.
        steps_per_epoch: updates of a pass; the images left over are dropped, others in each pass.
        steps: updates in all.
        warmup: updates of the warm-up.
        rates: peak learning rates.
    """

    batch_size: int
    steps_per_epoch: int
    steps: int
    warmup: int
    rates: tuple[float, ...]

    @classmethod
    def of(cls, options: LinearOptions, images: int) -> Plan:
        """Makes the plan for so many training images."""
        wanted = options.batch_size or min(1024, max(16, images // 16))
        batch_size = min(wanted, images)
        per_epoch = images // batch_size
        scale = batch_size / 256 if options.lr_scaling else 1.0
        return cls(
            batch_size,
            per_epoch,
            max(1, round(options.epochs * per_epoch)),
            round(options.warmup_epochs * per_epoch),
            tuple(rate * scale for rate in options.lr),
        )


def train_heads(
    banks: Mapping[str, HeadBank], batches: Iterator[FeatureBatch], options: LinearOptions, plan: Plan
) -> None:
    """Trains every head of every bank, one update for each batch.

    Args:
        banks: by the name of their backbone, on the batches' device; in eval mode afterwards.
        batches: at least `plan.steps`.
        options: the optimizer's.
        plan: how long.
    """
    optimizer = build_optimizer(list(banks.values()), options, plan.rates)
    heads = sum(map(len, banks.values()))
    with progress(f"{heads} heads", plan.steps * plan.batch_size) as advance:
        for step in range(plan.steps):
            features, labels = next(batches)
            set_rates(optimizer, step, plan.steps, plan.warmup)
            for name, bank in banks.items():
                bank.train().accumulate_gradients(features[name], labels)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            advance(plan.batch_size)
    for bank in banks.values():
        bank.eval()


def stored_batches(
    tables: Mapping[str, Tensor], labels: Tensor, rows: Tensor, plan: Plan, device: torch.device, seed: int
) -> Iterator[FeatureBatch]:
    """Yields the batches of the whole plan, from features that were computed once.

    Args:
        tables: backbone -> (n, layers, poolings, D), on the device or on the CPU.
        labels: (n,) int64.
        rows: (m,) int64, which of them are trained on, on the CPU.
        plan: how many, how large.
        device: where the batches are wanted.
        seed: of the order.
    """
    for epoch in range(math.ceil(plan.steps / plan.steps_per_epoch)):
        generator = torch.Generator().manual_seed(sample_rng(seed, epoch, 0, "probe:order").getrandbits(63))
        order = rows[torch.randperm(len(rows), generator=generator)]
        for first in range(0, plan.steps_per_epoch * plan.batch_size, plan.batch_size):
            chosen = order[first : first + plan.batch_size]
            features = {name: _rows(table, chosen, device) for name, table in tables.items()}
            yield features, labels[chosen].to(device, non_blocking=True)


def augmented_batches(
    images: ImageSet,
    places: Sequence[int],
    embedders: Mapping[str, Embedder],
    plan: Plan,
    options: LinearOptions,
    *,
    size: int,
    device: torch.device,
    registry: Registry,
) -> Iterator[FeatureBatch]:
    """Yields the batches of the whole plan: frozen backbones on new random resized crops and flips.

    Args:
        images: the training set.
        places: which of its images are trained on.
        embedders: backbone -> what makes its features, (B, layers, poolings, D).
        plan: how many, how large.
        options: crops and workers.
        size: pixels of a crop.
        device: where the embedders want them.
        registry: where the transform is found.
    """
    component = registry.find("core:augment", "transform").component
    transform = component.load()(component.options(scale=options.crop_scale), BuildContext(image_size=size))
    subset = SubsetImages(images, torch.as_tensor(places).numpy())
    most = options.forward_batch_size or default_batch_size(size, device)
    parts = next(count for count in range(1, plan.batch_size + 1) if _divides(count, plan.batch_size, most))
    loader = training_loader(
        subset,
        transform,
        {"image": ViewSpec(size, interpolation=options.interpolation, scale=options.crop_scale)},
        masker=None,
        grid=None,
        order=SampleOrder(len(subset), plan.batch_size, options.seed),
        seed=options.seed,
        first_step=0,
        total_steps=plan.steps,
        micro_batch_size=plan.batch_size // parts,
        workers=default_workers(subset, len(subset)) if options.workers is None else options.workers,
        pin_memory=device.type == "cuda",
    )
    batches = iter(loader)
    for _ in range(plan.steps):
        found: dict[str, list[Tensor]] = {name: [] for name in embedders}
        labels = []
        for _ in range(parts):
            batch = next(batches).to(device)
            labels.append(batch.label)
            for name, embed in embedders.items():
                found[name].append(embed(batch.views["image"]))
        # `cat` also makes ordinary tensors of what the embedders computed in inference mode.
        yield {name: torch.cat(values) for name, values in found.items()}, torch.cat(labels)


def _rows(table: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    return table[rows.to(table.device)].to(device, non_blocking=True)


def _divides(parts: int, batch: int, most: int) -> bool:
    return batch % parts == 0 and batch // parts <= most
