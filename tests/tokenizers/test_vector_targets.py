"""Targets without a vocabulary, against independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from ssl_core.api import BuildContext, ConfigError
from ssl_tokenizers.hog import HogTarget
from ssl_tokenizers.options import HogOptions, PixelOptions
from ssl_tokenizers.patches import patchify, unpatchify
from ssl_tokenizers.pixel import PixelTarget

MEAN, STD = (0.48, 0.45, 0.4), (0.22, 0.23, 0.25)


class Patches:
    """As much of a backbone as a target asks for."""

    def __init__(self, patch_size: int):
        self.patch_size = patch_size


def context(patch_size: int) -> BuildContext:
    return BuildContext(image_size=32, mean=MEAN, std=STD, parts={"backbone": Patches(patch_size)})


def images(count: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(5))


def mae(normalize: bool) -> ViTMAEForPreTraining:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 1}
    config = ViTMAEConfig(image_size=32, patch_size=8, norm_pix_loss=normalize, **sizes, **decoder)
    return ViTMAEForPreTraining(config)


def test_patches_have_maes_order_and_can_be_put_together_again():
    pixels = images()
    patches = patchify(pixels, (4, 4))
    assert torch.equal(patches, mae(False).patchify(pixels))
    assert torch.equal(unpatchify(patches, (4, 4), 3), pixels)


def test_an_image_need_not_be_square():
    pixels = images(height=16, width=24)
    patches = patchify(pixels, (2, 3))
    assert torch.equal(patches[:, 5].unflatten(1, (8, 8, 3)).permute(0, 3, 1, 2), pixels[:, :, 8:, 16:])
    assert torch.equal(unpatchify(patches, (2, 3), 3), pixels)


@pytest.mark.parametrize("normalize", [True, False])
def test_pixels_are_maes_target(normalize):
    """MAE's own loss of a prediction is that of the same prediction against these targets."""
    target = PixelTarget(PixelOptions(normalize=normalize), context(8))
    pixels = images()
    wanted = target.targets({"image": pixels}, (4, 4))
    assert wanted.shape == (3, 16, target.width)
    assert wanted.dtype == torch.float32
    seen = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        output = mae(normalize)(seen)
    hidden = output.mask.bool()
    assert (output.logits - wanted)[hidden].square().mean().item() == pytest.approx(output.loss.item(), rel=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_true_pixels_make_the_true_picture(normalize):
    target = PixelTarget(PixelOptions(normalize=normalize), context(8))
    views = {"image": images()}
    torch.testing.assert_close(target.picture(target.targets(views, (4, 4)), views, (4, 4)), views["image"])


def test_a_flat_patch_has_a_finite_target():
    target = PixelTarget(PixelOptions(), context(8))
    grey = BuildContext(image_size=32, parts={"backbone": Patches(8)})
    flat = PixelTarget(PixelOptions(), grey).targets({"image": torch.full((1, 3, 32, 32), 0.3)}, (4, 4))
    assert flat.abs().max() < 1e-3
    assert target.targets({"image": torch.zeros(1, 3, 32, 32)}, (4, 4)).isfinite().all()


def reference_hog(image: np.ndarray, patch: int, cell: int, bins: int) -> np.ndarray:
    """The histograms of one image (C, H, W), pixel by pixel in float64: (N, C * bins * cells)."""
    channels, height, width = image.shape
    mirrored = np.pad(image.astype(np.float64), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    histograms = np.zeros((channels, bins, height // cell, width // cell))
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                around = mirrored[c, y : y + 3, x : x + 3]
                across = around[:, 0] @ [1, 2, 1] - around[:, 2] @ [1, 2, 1]
                down = around[0] @ [1, 2, 1] - around[2] @ [1, 2, 1]
                angle = math.atan2(across, down) % math.pi
                which = min(int(angle / math.pi * bins), bins - 1)
                histograms[c, which, y // cell, x // cell] += math.sqrt(across**2 + down**2)
    histograms /= np.linalg.norm(histograms, axis=1, keepdims=True)
    side = patch // cell
    rows = [
        histograms[:, :, i : i + side, j : j + side].ravel()
        for i in range(0, height // cell, side)
        for j in range(0, width // cell, side)
    ]
    return np.stack(rows)


@pytest.mark.parametrize(("patch", "cell", "bins"), [(16, None, 9), (8, None, 9), (4, None, 6), (8, 4, 9)])
def test_histograms_are_those_of_plain_loops(patch, cell, bins):
    target = HogTarget(HogOptions(cell=cell, bins=bins), context(patch))
    pixels = images(2)
    found = target.targets({"image": pixels}, (32 // patch, 32 // patch))
    assert found.dtype == torch.float32
    assert found.shape[-1] == target.width
    expected = np.stack([reference_hog(image.numpy(), patch, target.cell, bins) for image in pixels])
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


def test_cells_are_maskfeats_or_fit_the_patch():
    assert {patch: HogTarget(HogOptions(), context(patch)).cell for patch in (16, 32, 14, 8, 4)} == {
        16: 8,
        32: 8,
        14: 7,
        8: 8,
        4: 4,
    }
    assert HogTarget(HogOptions(), context(16)).width == 108  # as in the paper: 3 channels, 2x2 cells, 9 bins
    with pytest.raises(ConfigError, match=r"tokenizer.cell=3 does not divide patches of 8 pixels; give one of 1, 2, 4"):
        HogTarget(HogOptions(cell=3), context(8))


def test_histograms_ignore_brightness_and_contrast_and_survive_autocast():
    target = HogTarget(HogOptions(), context(8))
    pixels = images()
    found = target.targets({"image": pixels}, (4, 4))
    torch.testing.assert_close(target.targets({"image": 0.3 * pixels + 0.2}, (4, 4)), found, atol=2e-3, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(target.targets({"image": pixels}, (4, 4)), found)


def test_a_flat_image_has_no_orientation():
    target = HogTarget(HogOptions(), context(8))
    assert not target.targets({"image": torch.full((1, 3, 32, 32), 0.4)}, (4, 4)).any()


@pytest.mark.parametrize(("target", "options"), [(PixelTarget, PixelOptions()), (HogTarget, HogOptions())])
def test_a_method_without_a_backbone_is_refused(target, options):
    with pytest.raises(ConfigError, match="needs a backbone, whose patches it describes; this method has none"):
        target(options, BuildContext())
