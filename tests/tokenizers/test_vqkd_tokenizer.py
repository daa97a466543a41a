"""The tokenizer VQ-KD: shapes, what it follows, and that it is kept and found again."""

from __future__ import annotations

import pytest
import torch
from vqkd_parts import SMALL, Patches, save, tokenizer, training

from ssl_core.api import BuildContext, CheckpointError, ConfigError, Registry, ViewSpec, write_export
from ssl_tokenizers.dvae import DvaeTokenizer
from ssl_tokenizers.options import DvaeOptions, VqkdOptions, VqkdTrainingOptions
from ssl_tokenizers.vqkd import VqkdTokenizer
from ssl_tokenizers.vqkd_recipes import VQKD_RECIPES


def pixels(count: int = 3, size: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def test_shapes():
    part = tokenizer()
    ids = part.encode(pixels())
    assert ids.shape == (3, 4, 4)
    assert ids.dtype == torch.int64
    assert 0 <= ids.min() <= ids.max() < 24
    decoded = part.decode(ids)
    assert decoded.shape == (3, 3, 16, 16)
    assert 0 <= decoded.min() <= decoded.max() <= 1
    assert part.can_decode
    assert not decoded.requires_grad


def test_each_code_paints_its_own_patch():
    part = tokenizer()
    ids = torch.zeros(1, 4, 4, dtype=torch.long)
    changed = ids.clone()
    changed[0, 2, 1] = 5
    difference = (part.decode(changed) - part.decode(ids)).abs().sum(1)[0]  # (H, W)
    cells = difference.unfold(0, 4, 4).unfold(1, 4, 4).sum((2, 3))  # (h, w)
    assert cells.argmax().item() == 2 * 4 + 1


def test_with_a_teacher_it_does_not_decode():
    part = tokenizer(teacher="runs/dino")
    assert not part.can_decode
    assert part.decoder is None
    with pytest.raises(NotImplementedError):
        part.decode(part.encode(pixels()))


@pytest.mark.parametrize(
    ("image_size", "patch", "own", "view"),
    [(224, 16, None, None), (32, 4, None, None), (224, 16, 8, 112), (32, 8, 4, 16)],
)
def test_view_follows_the_backbone(image_size, patch, own, view):
    context = BuildContext(image_size=image_size, parts={"backbone": Patches(patch)}, train_images=500)
    part = VqkdTokenizer(VqkdOptions(**{**SMALL, "patch_size": own}), context)
    expected = None if view is None else ViewSpec(view, crop_of="image")
    assert part.view(ViewSpec(image_size), context.grid) == expected
    assert part.encode(pixels(1, view or image_size)).shape[1:] == context.grid


@pytest.mark.parametrize(
    ("images", "size", "expected"),
    [
        (500, 32, (256, 4, 128, 4, 2, 1)),
        (50_000, 64, (512, 8, 128, 4, 2, 1)),
        (300_000, 64, (2048, 8, 384, 12, 6, 1)),
        (1_300_000, 112, (8192, 16, 768, 12, 12, 3)),
    ],
)
def test_sizes_follow_the_images(images, size, expected):
    with torch.device("meta"):
        part = VqkdTokenizer(VqkdOptions(), BuildContext(image_size=size, train_images=images))
    shape = part.shape
    found = (shape.vocab_size, shape.patch_size, shape.width, shape.depth, shape.heads, shape.decoder_depth)
    assert found == expected
    assert shape.code_width == 32


def test_the_encoder_is_as_large_as_the_papers():
    with torch.device("meta"):
        part = VqkdTokenizer(VqkdOptions(), BuildContext(image_size=224))
    vit = sum(parameter.numel() for parameter in part.encoder.vit.parameters())
    assert vit == 85_798_656  # ViT-B/16 without its classifier
    head = sum(parameter.numel() for parameter in part.encoder.head.parameters())
    assert head == 768 * 768 + 768 + 768 * 32 + 32


def test_checkpoint_brings_its_own_architecture(tmp_path):
    first = tokenizer(depth=2, code_width=6)
    assert not first.ready
    second = VqkdTokenizer(VqkdOptions(checkpoint=save(first, tmp_path)), BuildContext(image_size=99))
    assert second.ready
    assert torch.equal(first.encode(pixels()), second.encode(pixels()))
    assert torch.equal(first.decode(first.encode(pixels())), second.decode(second.encode(pixels())))


def test_prepare_trains_the_same_architecture_and_loads_it(tmp_path):
    class Trains:
        seed, device = 0, torch.device("cpu")

        def train(self, method, settings):
            assert method == "tokenizers:vqkd"
            assert settings["data.image_size"] == 16
            options = {key.removeprefix("tokenizer."): v for key, v in settings.items() if key.startswith("tokenizer.")}
            torch.manual_seed(1)
            self.trained = VqkdTokenizer(VqkdOptions(**options), BuildContext(image_size=16))
            return save(self.trained, tmp_path)

    part, stage = tokenizer(teacher="timm:vit_tiny_patch16_224", teacher_size=64), Trains()
    part.prepare(stage)
    assert part.ready
    assert stage.trained.options.teacher == "timm:vit_tiny_patch16_224"
    assert stage.trained.options.teacher_size == 64
    assert torch.equal(part.encode(pixels()), stage.trained.encode(pixels()))


def test_a_method_that_trains_it_counts_as_its_preparation():
    part = tokenizer()
    training(part)
    assert part.ready


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantizer.codebook": None}, r"holds tokenizers:vqkd, not a VQ-KD tokenizer \(tokenizers:vqkd\)"),
        ({"quantizer.codebook": torch.zeros(3, 8)}, r"does not fit VqkdTokenizer: other shape: quantizer.codebook"),
        ({"layout": torch.zeros(5, dtype=torch.long)}, r"damaged: its layout has 5 numbers, not 11"),
    ],
)
def test_damaged_checkpoints_are_one_clear_line(tmp_path, change, message):
    state = {name: value for name, value in {**tokenizer().state_dict(), **change}.items() if value is not None}
    file = tmp_path / "tokenizer.safetensors"
    write_export(file, state, {"component": "tokenizers:vqkd"})
    with pytest.raises(CheckpointError, match=message) as caught:
        VqkdTokenizer(VqkdOptions(checkpoint=file), BuildContext(image_size=16))
    assert "\n" not in str(caught.value)


def test_checkpoints_of_another_kind_are_one_clear_line(tmp_path):
    dvae = DvaeTokenizer(DvaeOptions(vocab_size=8, hidden=8, blocks=1, downsample=4), BuildContext(image_size=16))
    write_export(tmp_path / "dvae.safetensors", dvae.state_dict(), {"component": "tokenizers:dvae"})
    with pytest.raises(CheckpointError, match=r"holds tokenizers:dvae, not a VQ-KD tokenizer"):
        VqkdTokenizer(VqkdOptions(checkpoint=tmp_path / "dvae.safetensors"), BuildContext(image_size=16))
    with pytest.raises(CheckpointError, match=r"holds tokenizers:vqkd, not a discrete VAE"):
        DvaeTokenizer(DvaeOptions(checkpoint=save(tokenizer(), tmp_path)), BuildContext(image_size=16))


def test_checkpoints_for_other_images_are_one_clear_line(tmp_path):
    options = VqkdOptions(checkpoint=save(tokenizer(), tmp_path))
    context = BuildContext(image_size=224, parts={"backbone": Patches(16)})
    message = r"trained for 4x4 patches, the backbone has 14x14; set data\.image_size=64"
    with pytest.raises(CheckpointError, match=message):
        VqkdTokenizer(options, context)
    with pytest.raises(CheckpointError, match=r"trained on 3 colour channels, the images have 1"):
        VqkdTokenizer(options, BuildContext(image_size=16, channels=1))


def test_options_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"data\.image_size=18 is no multiple of tokenizer\.patch_size=4"):
        tokenizer(18)
    with pytest.raises(ConfigError, match=r"tokenizer\.width=16 does not divide into 3 heads; set tokenizer\.heads"):
        tokenizer(heads=3)


def test_paths_of_teachers_hold_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert VqkdOptions(teacher="runs").teacher == str(tmp_path / "runs")
    for name in ("pixels", "timm:vit_tiny_patch16_224", "elsewhere"):
        assert VqkdOptions(teacher=name).teacher == name


def test_recipes_name_real_options():
    known = {"tokenizer": VqkdOptions, "method": VqkdTrainingOptions}
    for recipe in VQKD_RECIPES:
        for section, options in known.items():
            prefix = f"{section}."
            options(**{k.removeprefix(prefix): v for k, v in recipe.settings.items() if k.startswith(prefix)})


def test_it_is_offered():
    registry = Registry.load()
    assert registry.find("vqkd", "tokenizer").component.load() is VqkdTokenizer
    assert registry.find("vqkd", "method").component.options is VqkdTrainingOptions
