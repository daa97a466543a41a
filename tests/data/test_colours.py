"""Changes of colour that are left to the device are those that a worker would make with Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from ssl_core.contracts.batch import Batch
from ssl_core.data.collate import collate
from ssl_core.data.colours import change_colours, colour_matrix, same_colours
from ssl_core.data.dataset import Sample
from ssl_core.pixels import to_unit, unit_views

ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}
GREY = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def noise(count: int, size: int = 24) -> Tensor:
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


def matrices(count: int) -> Tensor:
    return same_colours(count) + 0.3 * torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(count))


def as_a_worker(changes: list[tuple[str, float]], image: Tensor, view: Tensor) -> Tensor:
    """Changes the colours of a view (3, H, W) uint8 in float64, one change after the other, cut off at the end."""
    mean = (GREY @ image.double().flatten(1)).mean()
    values = view.double()
    for place, (name, factor) in enumerate(changes):
        grey = torch.einsum("c,chw->hw", GREY, values)
        if name == "brightness":
            values, mean = factor * values, factor * mean
        elif name == "contrast":
            values = factor * values + (1 - factor) * mean
        else:
            values = factor * values + (1 - factor) * grey
        if place + 1 < len(changes):
            values, mean = values - 0.5, mean - 0.5
    return values.clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_they_are_those_of_a_worker(seed):
    rng = np.random.default_rng(seed)
    image, view = noise(1, 30)[0], noise(2, 16)[0]
    changes = [(str(name), float(rng.uniform(0.6, 1.4))) for name in rng.permutation(list(ENHANCERS))]
    found = change_colours(view[None], colour_matrix(changes, image)[None])[0]
    difference = (found - as_a_worker(changes, image, view).float()).abs()
    assert difference.max() <= 1  # where float32 falls on the other side of a whole number
    assert (difference > 0).float().mean() < 0.001


def test_they_are_pillows_where_nothing_is_cut_off():
    y, x = np.mgrid[0:160, 0:200] / 200
    colourful = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)], -1)
    image = Image.fromarray((60 + 76 * colourful).astype(np.uint8))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for order in (("brightness", "contrast", "saturation"), ("saturation", "contrast", "brightness")):
        changes = list(zip(order, (1.4, 0.7, 1.2), strict=True))
        changed = image
        for name, factor in changes:
            changed = ENHANCERS[name](changed).enhance(factor)
        expected = torch.from_numpy(np.array(changed)).permute(2, 0, 1).float()
        found = change_colours(pixels[None], colour_matrix(changes, pixels)[None])[0]
        assert (found - expected).abs().max() <= 5
        assert (found - expected).mean().abs() < 1


def test_no_change_leaves_every_byte():
    pixels = noise(3)
    assert torch.equal(change_colours(pixels, same_colours(3)), pixels.float())
    assert torch.equal(to_unit(pixels, same_colours(3)), to_unit(pixels))
    assert torch.equal(colour_matrix([], pixels[0]), same_colours(1)[0])


def test_an_image_is_changed_alike_in_any_batch_and_memory_format():
    pixels, colours = noise(7), matrices(7)
    whole = to_unit(pixels, colours)
    assert whole.is_contiguous()
    for parts in (1, 2, 3):
        found = [to_unit(*part) for part in zip(pixels.split(parts), colours.split(parts), strict=True)]
        assert torch.equal(torch.cat(found), whole)
    assert torch.equal(to_unit(pixels.contiguous(memory_format=torch.channels_last), colours), whole)


def test_collate_keeps_each_image_its_colours_and_the_memory_format():
    def sample(number: int, changed: bool) -> Sample:
        pixels = noise(2, 8).roll(number, 2).contiguous(memory_format=torch.channels_last)
        return Sample({"image": pixels}, number, number, -1, None, {"image": matrices(2) * number} if changed else {})

    samples = [sample(number, changed=number != 1) for number in range(3)]
    batch = collate(samples, None, None)
    assert batch.views["image"].is_contiguous(memory_format=torch.channels_last)
    for number, one in enumerate(samples):
        rows = [number, 3 + number]  # crop-major
        assert torch.equal(batch.views["image"][rows], one.views["image"])
        assert torch.equal(batch.colours["image"][rows], one.colours.get("image", same_colours(2)))
    assert collate([sample(1, changed=False)], None, None).colours == {}


def test_a_batch_is_changed_once():
    numbers = torch.arange(3)
    views = {"image": noise(3), "tokens": noise(3, 12)}
    batch = Batch(views, numbers, numbers, numbers, colours={"image": matrices(3)})
    found = unit_views(batch.to(torch.device("cpu")))
    assert found.colours == {}
    assert torch.equal(found.views["image"], change_colours(views["image"], matrices(3)) / 255)
    assert torch.equal(found.views["tokens"], views["tokens"] / 255)
    again = unit_views(found)
    assert all(torch.equal(again.views[name], found.views[name]) for name in views)
