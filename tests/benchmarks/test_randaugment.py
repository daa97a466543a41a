"""The transform of fine-tuning follows from the given generator alone, and does what timm's does."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pydantic import ValidationError
from timm.data.auto_augment import rand_augment_transform

from ssl_benchmarks.finetune.options import RandAugmentOptions
from ssl_benchmarks.finetune.randaugment import RandAugmentCrops
from ssl_core.api import BuildContext, UsageError, ViewSpec, crop_and_resize, random_crop_box, to_tensor

MEAN = (0.485, 0.456, 0.406)
VIEWS = {"image": ViewSpec(32)}


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


def _transform(**options):
    return RandAugmentCrops(RandAugmentOptions(**options), BuildContext(image_size=32, mean=MEAN))


def test_it_is_timms_randaugment_after_crop_and_flip(image):
    """With the settings that timm's `create_transform` gives it for the same size and mean."""
    settings = {
        "translate_const": int(32 * 0.45),
        "img_mean": tuple(round(255 * value) for value in MEAN),
        "interpolation": Image.Resampling.BICUBIC,
    }
    reference = rand_augment_transform("rand-m9-mstd0.5-inc1", settings)
    transform = _transform()
    for seed in range(40):
        rng = random.Random(seed)
        crop = crop_and_resize(image, random_crop_box(64, 48, (0.08, 1.0), (3 / 4, 4 / 3), rng), 32, "bicubic")
        if rng.random() < 0.5:
            crop = ImageOps.mirror(crop)
        own = rng.getrandbits(64)
        random.seed(own)
        np.random.seed([own & 0xFFFFFFFF, own >> 32])
        expected = to_tensor(reference(crop))
        found = transform(image, VIEWS, lambda view, seed=seed: random.Random(seed))["image"]
        assert torch.equal(found[0], expected)


def test_it_draws_from_the_given_generator_alone(image):
    transform = _transform()
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].copy()
    one = transform(image, VIEWS, lambda view: random.Random(5))["image"]
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()
    random.seed(2)
    np.random.seed(2)
    assert torch.equal(one, pickle.loads(pickle.dumps(transform))(image, VIEWS, lambda view: random.Random(5))["image"])
    assert not torch.equal(one, transform(image, VIEWS, lambda view: random.Random(6))["image"])


def test_without_a_policy_it_is_a_crop(image):
    found = _transform(policy=None, scale=(1.0, 1.0), ratio=(4 / 3, 4 / 3), flip=0)
    pixels = found(image, VIEWS, lambda view: random.Random(0))["image"]
    assert torch.equal(pixels[0], to_tensor(image.resize((32, 32), Image.Resampling.BICUBIC)))


def test_several_crops_and_shared_crops(image):
    views = {"image": ViewSpec(16, count=3)}
    assert _transform()(image, views, lambda view: random.Random(0))["image"].shape == (3, 3, 16, 16)
    with pytest.raises(UsageError, match=r"wants the crops of 'image'; choose another one, --transform augment"):
        _transform()(image, {"tokens": ViewSpec(16, crop_of="image")}, lambda view: random.Random(0))


@pytest.mark.parametrize("policy", ["augmix", "rand-m9-whatever", "original"])
def test_other_policies_are_refused(policy):
    with pytest.raises(ValidationError, match="no RandAugment of timm's"):
        RandAugmentOptions(policy=policy)
