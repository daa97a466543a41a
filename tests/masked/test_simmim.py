"""SimMIM: its masker of squares, and the loss of transformers' masked image modelling."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from masked_parts import fill, masked_method, noise_batch, unknown_settings
from toy_runs import SMALL_SIMMIM

from ssl_core.api import BuildContext, ConfigError, Progress, UsageError, from_huggingface_vit
from ssl_simmim.masker import SquareMasker
from ssl_simmim.options import SquareMaskerOptions
from ssl_simmim.recipes import PRESET, RECIPES

PROGRESS = Progress(0, 1, 1)


def _masker(patch_size: int = 16, **options) -> SquareMasker:
    context = BuildContext(parts={"backbone": SimpleNamespace(patch_size=patch_size)})
    return SquareMasker(SquareMaskerOptions(**options), context)


@pytest.mark.parametrize(
    ("grid", "patch_size", "block_size", "ratio", "hidden"),
    [
        ((14, 14), 16, 32, 0.6, 30 * 4),  # the paper's: 30 of 49 squares, the 29.4 rounded up
        ((14, 14), 16, 16, 0.6, 118),
        ((8, 8), 4, 8, 0.6, 10 * 4),
        ((4, 8), 8, 16, 0.5, 4 * 4),
    ],
)
def test_whole_squares_are_hidden(grid, patch_size, block_size, ratio, hidden):
    masker, rng = _masker(patch_size, block_size=block_size, ratio=ratio), random.Random(0)
    assert masker.max_hidden(grid) == hidden
    side = block_size // patch_size
    for _ in range(20):
        mask = masker.sample(grid, rng, rng).hidden
        assert mask.shape == (1, *grid)
        assert mask.sum() == hidden
        squares = mask[0, ::side, ::side]
        assert np.array_equal(np.kron(squares, np.ones((side, side), bool)), mask[0])


def test_each_square_is_hidden_equally_often():
    masker, rng = _masker(8, block_size=16, ratio=0.4), random.Random(1)
    count = sum(masker.sample((4, 6), rng, rng).hidden[0, ::2, ::2].astype(int) for _ in range(3000))
    expected = 3000 * 3 / 6  # 2.4 squares of 6, rounded up
    assert abs(count - expected).max() < 5 * (expected / 2) ** 0.5
    pairs = Counter(masker.sample((4, 6), rng, rng).hidden.tobytes() for _ in range(3000))
    assert len(pairs) == 20  # every choice of 3 of 6


@pytest.mark.parametrize(
    ("patch_size", "options", "grid", "message"),
    [
        (16, {"block_size": 24}, None, r"masker.block_size 24 is no multiple.*16 pixels"),
        (16, {"block_size": 48}, (14, 14), r"squares of 3x3 patches do not fill a 14x14 grid"),
        (16, {"block_size": 32}, (2, 2), r"masker.ratio=0.6 hides every one of 1 squares.*masker.block_size below 32"),
    ],
)
def test_what_does_not_fit_is_refused(patch_size, options, grid, message):
    with pytest.raises(UsageError, match=message):
        _masker(patch_size, **options).max_hidden(grid)


def test_a_method_without_backbone_is_refused():
    with pytest.raises(ConfigError, match="needs a backbone"):
        SquareMasker(SquareMaskerOptions(), BuildContext())


@pytest.mark.parametrize("std", [0.02, 0.2])
def test_loss_and_gradients_are_those_of_transformers(std):
    """On a plain ViT, with which its `ViTForMaskedImageModeling` can be compared."""
    from transformers import ViTConfig, ViTForMaskedImageModeling

    small = {"backbone__width": 32, "backbone__depth": 2, "backbone__heads": 4, "backbone__patch_size": 8}
    small |= {"backbone__drop_path": 0.0}
    method = masked_method("simmim", 48, backbone="core:vit", **small, masker__block_size=16)
    batch = noise_batch(method, 3)
    config = ViTConfig(
        image_size=48,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        encoder_stride=8,
        layer_norm_eps=1e-6,
    )
    reference = ViTForMaskedImageModeling(config)
    fill(reference, std)
    state = reference.state_dict()
    ours = {f"backbone.vit.{name}": tensor for name, tensor in from_huggingface_vit(state).items()}
    ours = {name: tensor for name, tensor in ours.items() if "decoder." not in name}
    ours["mask_token"] = ours.pop("backbone.vit.embeddings.mask_token")
    # Theirs is a 1x1 convolution whose outputs are in the order channel, row, column; ours row, column, channel.
    order = torch.arange(3 * 64).view(3, 8, 8).permute(1, 2, 0).flatten()
    ours["head.linear.weight"] = state["decoder.0.weight"].flatten(1)[order]
    ours["head.linear.bias"] = state["decoder.0.bias"][order]
    method.load_state_dict(ours)

    expected = reference(method.normalize(batch.views["image"]), bool_masked_pos=batch.mask.hidden[:, 0]).loss
    loss = method(batch, PROGRESS).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(method.mask_token.grad, reference.vit.embeddings.mask_token.grad, atol=1e-6, rtol=1e-4)


def test_the_loss_is_the_mean_over_hidden_pixels():
    method = masked_method("simmim", 32, **SMALL_SIMMIM, backbone__drop_path=0.0)
    batch = noise_batch(method, 2)
    fill(method, 0.2)
    with torch.no_grad():
        loss = method(batch, PROGRESS).loss
        predicted = method.head.predict(method._encode(batch.views["image"], batch.mask), batch.mask)  # (B, K, 192)
    pixels = ((batch.views["image"].double() - 0.5) / 0.5).numpy()
    total, count = 0.0, 0
    for image in range(2):
        for place, patch in enumerate(batch.mask.ids[image, 0].tolist()):
            top, left = patch // 4 * 8, patch % 4 * 8
            wanted = pixels[image, :, top : top + 8, left : left + 8].transpose(1, 2, 0)
            guess = predicted[image, place].double().numpy().reshape(8, 8, 3)
            total, count = total + np.abs(wanted - guess).sum(), count + wanted.size
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("settings", [PRESET, *(recipe.settings for recipe in RECIPES)])
def test_every_setting_is_an_option(settings):
    assert not unknown_settings("simmim", settings)


def test_squares_of_every_recipe_fill_the_image():
    for recipe in RECIPES:
        settings = {**PRESET, **recipe.settings}
        if "backbone.patch_size" in recipe.settings or recipe.name.startswith("imagenet"):
            patch = settings.get("backbone.patch_size", 16)
            side = settings["data.image_size"] // patch
            masker = _masker(patch, block_size=settings["masker.block_size"], ratio=settings["masker.ratio"])
            assert masker.side == 2
            assert masker.max_hidden((side, side)) in (120, 40)
