from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_core.builtin.augment import Augment
from ssl_core.builtin.options import AugmentOptions, RandomMaskerOptions
from ssl_core.builtin.random_masker import RandomMasker
from ssl_core.contracts.batch import Batch, ViewSpec
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import BadImage, ImageSet
from ssl_core.data.loader import choose_workers, training_loader
from ssl_core.data.order import SampleOrder
from ssl_core.errors import DataError, UsageError

CONTEXT = BuildContext()
VIEWS = {"image": ViewSpec(8, count=2), "tokens": ViewSpec(4, count=2, crop_of="image"), "small": ViewSpec(6)}


class Noise(ImageSet):
    """40 images of noise; the broken ones cannot be read."""

    def __init__(self, broken=(), error: type[Exception] = BadImage):
        self.broken = set(broken)
        self.error = error

    def __len__(self) -> int:
        return 40

    def read(self, index: int) -> Image.Image:
        if index in self.broken:
            raise self.error("broken")
        return Image.fromarray(np.random.default_rng(index).integers(0, 256, (12, 10, 3), np.uint8))

    def label(self, index: int) -> int:
        return index % 3

    def size(self, index: int) -> tuple[int, int]:
        return 10, 12


def batches(images: ImageSet | None = None, **changes) -> list[Batch]:
    arguments = {
        "masker": RandomMasker(RandomMaskerOptions(), CONTEXT),
        "grid": (4, 4),
        "order": SampleOrder(40, 8, seed=0),
        "seed": 0,
        "first_step": 0,
        "total_steps": 7,
        "micro_batch_size": 8,
    } | changes
    return list(training_loader(images or Noise(), Augment(AugmentOptions(), CONTEXT), VIEWS, **arguments))


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """Returns every tensor, images first: (B, ...)."""
    size = len(batch)
    views = {name: view.unflatten(0, (-1, size)).transpose(0, 1) for name, view in batch.views.items()}
    masks = {"hidden": batch.mask.hidden, "ids": batch.mask.ids, "visible": batch.mask.visible_ids}
    return views | masks | {"index": batch.index, "source": batch.source, "label": batch.label}


def joined(parts: list[Batch]) -> dict[str, torch.Tensor]:
    every = [tensors(batch) for batch in parts]
    return {name: torch.cat([part[name] for part in every]) for name in every[0]}


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    left, right = joined(left), joined(right)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_shapes_and_dtypes():
    every = batches()
    assert len(every) == 7
    batch = every[0]
    assert {name: tuple(view.shape) for name, view in batch.views.items()} == {
        "image": (16, 3, 8, 8),
        "tokens": (16, 3, 4, 4),
        "small": (8, 3, 6, 6),
    }
    dense = [view.is_contiguous(memory_format=torch.channels_last) for view in batch.views.values()]
    assert all(dense)
    assert all(view.dtype == torch.uint8 for view in batch.views.values())
    assert batch.mask.hidden.shape == (8, 1, 16)
    assert batch.mask.ids.shape == (8, 1, 10)
    assert batch.mask.visible_ids.shape == (8, 6)
    assert torch.equal(batch.source, batch.index)
    assert torch.equal(batch.label, batch.index % 3)


def test_without_a_masker():
    assert batches(masker=None, grid=None)[0].mask is None


def test_rows_are_crop_major():
    one, two = batches(), batches(micro_batch_size=1)
    # A micro-batch of one image holds its two crops; in the batch they are 8 rows apart.
    assert torch.equal(one[0].views["image"][[3, 11]], two[3].views["image"])


def test_workers_change_nothing():
    assert_same(batches(), batches(workers=2))


def test_resuming_in_the_middle_of_an_epoch_changes_nothing():
    assert_same(batches()[3:], batches(first_step=3))


def test_micro_batches_change_nothing():
    assert_same(batches(), batches(micro_batch_size=2))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_see_what_one_process_sees(world_size):
    whole = batches()
    share = 8 // world_size
    ranks = [batches(rank=rank, world_size=world_size, micro_batch_size=share) for rank in range(world_size)]
    assert_same(whole, [ranks[rank][step] for step in range(7) for rank in range(world_size)])


def by_index(parts: list[Batch], name: str) -> torch.Tensor:
    """Returns one tensor of an epoch in the order of the data set."""
    every = joined(parts)
    return every[name][every["index"].argsort()]


@pytest.mark.parametrize("name", ["image", "hidden"])
def test_epochs_and_seeds_differ(name):
    first = by_index(batches(total_steps=5), name)
    assert not torch.equal(first, by_index(batches(first_step=5, total_steps=10), name))
    assert not torch.equal(first, by_index(batches(total_steps=5, seed=1), name))


@pytest.mark.parametrize("error", [BadImage, OSError, SyntaxError])
def test_broken_images_are_replaced_by_the_same_others(error):
    broken = (1, 2, 3, 17)
    once = batches(Noise(broken, error))
    assert_same(once, batches(Noise(broken, error), workers=1))
    every = joined(once)
    replaced = every["source"] != every["index"]
    assert set(every["index"][replaced].tolist()) == set(broken)
    assert not set(every["source"].tolist()) & set(broken)
    assert torch.equal(every["label"], every["source"] % 3)
    # The others are as they would have been.
    whole = joined(batches())
    for name in whole:
        assert torch.equal(whole[name][~replaced], every[name][~replaced]), name


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_readable_is_one_clear_line(workers):
    with pytest.raises(DataError, match=r"cannot be read \(broken\), and neither can 20 other images") as caught:
        batches(Noise(range(40)), workers=workers)
    assert "\n" not in str(caught.value)


def test_workers_leave_ctrl_c_to_the_main_process():
    class Interrupted(Noise):
        def read(self, index: int) -> Image.Image:
            os.kill(os.getpid(), signal.SIGINT)
            return super().read(index)

    assert len(batches(Interrupted(), workers=1)) == 7


def test_a_grey_image_set_is_converted():
    class Grey(Noise):
        def read(self, index: int) -> Image.Image:
            return super().read(index).convert("L")

    assert batches(Grey())[0].views["image"].shape == (16, 3, 8, 8)


def test_batches_that_cannot_be_shared():
    with pytest.raises(UsageError, match=r"8 images.*micro-batches of 1 for 3 processes"):
        batches(world_size=3, micro_batch_size=1)
    with pytest.raises(UsageError, match=r"micro-batches of 3 for 1 processes"):
        batches(micro_batch_size=3)


def test_length_counts_micro_batches():
    loader = training_loader(
        Noise(),
        Augment(AugmentOptions(), CONTEXT),
        VIEWS,
        masker=None,
        grid=None,
        order=SampleOrder(40, 8, 0),
        seed=0,
        first_step=2,
        total_steps=5,
        micro_batch_size=2,
    )
    assert loader.micro_batches == 4
    assert len(loader) == len(list(loader)) == 12


@pytest.mark.parametrize(
    ("option", "device", "area", "cores", "workers"),
    [
        (5, "cpu", 32 * 32, 2, 5),
        (0, "cuda", 224 * 224, 64, 0),
        (None, "cpu", 32 * 32, 2, 0),
        (None, "cpu", 224 * 224, 2, 1),
        (None, "cpu", 32 * 32, 16, 4),
        (None, "cuda", 224 * 224, 1, 1),
        (None, "cuda", 224 * 224, 8, 7),
        (None, "cuda", 224 * 224, 64, 16),
    ],
)
def test_choice_of_workers(option, device, area, cores, workers):
    assert choose_workers(option, device, area, cores) == workers


def test_no_global_generator_is_used():
    state, array_state, torch_state = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    batches()
    assert random.getstate() == state
    assert (np.random.get_state()[1] == array_state).all()
    assert torch.equal(torch.get_rng_state(), torch_state)
