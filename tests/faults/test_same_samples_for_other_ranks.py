"""One, two or four processes see the same samples, crops and masks, and so does one that goes on among others."""

from __future__ import annotations

import pytest
import torch

from ssl_core.contracts.batch import ViewSpec
from ssl_core.contracts.context import BuildContext
from ssl_core.data.loader import training_loader
from ssl_core.data.order import SampleOrder
from ssl_core.plugins.registry import Registry

VIEWS = {"image": ViewSpec(32), "tokens": ViewSpec(16, crop_of="image")}
STEPS, BATCH = 5, 8


def build(registry, kind, name, context, **options):
    match = registry.find(name, kind)
    return match.component.load()(match.component.options(**options), context)


@pytest.fixture(scope="module")
def parts():
    registry = Registry.load()
    context = BuildContext(image_size=32, seed=3)
    images = build(registry, "dataset", "core:textures", context, images=24, size=32).open("train")
    transform = build(registry, "transform", "beit:two_view", context)
    masker = build(registry, "masker", "beit:block", context)
    return images, transform, masker


def samples(parts, world_size, micro_batch_size, first_step=0, workers=0):
    """Returns (step, index) -> views and mask, over all ranks."""
    images, transform, masker = parts
    found = {}
    for rank in range(world_size):
        loader = training_loader(
            images,
            transform,
            VIEWS,
            masker=masker,
            grid=(8, 8),
            order=SampleOrder(len(images), BATCH, seed=3),
            seed=3,
            first_step=first_step,
            total_steps=STEPS,
            micro_batch_size=micro_batch_size,
            rank=rank,
            world_size=world_size,
            workers=workers,
        )
        for number, batch in enumerate(loader):
            step = first_step + number // loader.micro_batches
            for place, index in enumerate(batch.index.tolist()):
                assert (step, index) not in found
                views = [view[place] for view in batch.views.values()]
                found[step, index] = [*views, batch.mask.hidden[place]]
    return found


@pytest.fixture(scope="module")
def alone(parts):
    found = samples(parts, 1, BATCH)
    assert len(found) == STEPS * BATCH
    return found


@pytest.mark.parametrize(
    ("world_size", "micro_batch_size", "first_step", "workers"),
    [(1, 2, 0, 0), (2, 4, 0, 0), (2, 2, 2, 0), (4, 2, 0, 0), (4, 1, 3, 0), (2, 4, 1, 1)],
)
def test_same_samples(world_size, micro_batch_size, first_step, workers, parts, alone):
    found = samples(parts, world_size, micro_batch_size, first_step, workers)
    assert found.keys() == {key for key in alone if key[0] >= first_step}
    for key, tensors in found.items():
        assert all(torch.equal(one, two) for one, two in zip(tensors, alone[key], strict=True)), key
