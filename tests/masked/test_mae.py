"""MAE's decoder, its preset, and which parts it takes in place of its own."""

from __future__ import annotations

import pytest
import torch
from masked_parts import fill, masked_method, noise_batch, unknown_settings
from toy_runs import SMALL_MAE, SMALL_SIMMIM, losses, train

from ssl_core.api import ConfigError, Progress, Registry, SslError, UsageError, sincos_positions
from ssl_mae.recipes import PRESET, RECIPES

PROGRESS = Progress(0, 1, 1)
PLAIN_MASKS = {key: value for key, value in SMALL_SIMMIM.items() if not key.startswith("masker")}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


@pytest.mark.parametrize("settings", [PRESET, *(recipe.settings for recipe in RECIPES)])
def test_every_setting_is_an_option(settings):
    assert not unknown_settings("mae", settings)


def test_the_preset_is_the_papers():
    assert PRESET["optim.lr"] == pytest.approx(1.5e-4 * PRESET["train.batch_size"] / 256)
    assert (PRESET["optim.betas"], PRESET["optim.weight_decay"], PRESET["optim.warmup_epochs"]) == (
        (0.9, 0.95),
        0.05,
        40,
    )
    assert (PRESET["masker.ratio"], PRESET["transform.scale"]) == (0.75, (0.2, 1.0))


def test_predictions_do_not_depend_on_hidden_pixels():
    method = masked_method("mae", 32, **SMALL_MAE)
    fill(method, 0.2)
    batch = noise_batch(method, 2)
    image = batch.views["image"]
    hidden = batch.mask.hidden[:, 0].unflatten(1, (4, 4))
    pixels = hidden.repeat_interleave(8, 1).repeat_interleave(8, 2).unsqueeze(1)
    with torch.no_grad():
        one, two, three = (
            method.head.predict(method._encode(changed, batch.mask), batch.mask)
            for changed in (image, torch.where(pixels, 0.0, image), torch.where(pixels, image, 0.0))
        )
    assert torch.equal(one, two)
    assert not torch.allclose(one, three)


def test_the_step_is_finite_and_float32_under_autocast():
    method = masked_method("mae", 32, **SMALL_MAE)
    batch = noise_batch(method, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(batch, PROGRESS).loss
    assert loss.dtype == torch.float32
    loss.backward()
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)


def test_a_backbone_that_cannot_drop_patches_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"mae needs backbone:drop_tokens; backbone 'beit:vit' does not provide it"):
        train("mae", tmp_path / "run", backbone__name="beit:vit")
    with pytest.raises(UsageError, match=r"BEiTs cannot leave patches out \(drop_tokens\)"):
        train("mae", tmp_path / "run", backbone__name="beit_base_patch16_224", backbone__depth=1, backbone__width=48)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mae", {"masker__name": "beit:block"}),
        ("mae", {"masker__name": "simmim:squares", "masker__block_size": 16}),
        ("mae", {"backbone__name": "vit_small_patch16_224"}),
        ("mae", {"backbone__name": "deit3_small_patch16_224"}),
        ("mae hog", {}),
        ("simmim", {**PLAIN_MASKS, "masker__name": "core:random"}),
        ("simmim", {**SMALL_SIMMIM, "backbone__name": "vit_small_patch16_224"}),
        ("simmim", {**SMALL_SIMMIM, "tokenizer__normalize": True, "head__distance": "l2"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(str(v) for k, v in value.items() if "name" in k),
)
def test_parts_swap(name, options, tmp_path):
    small = {} if "backbone__width" in options else SMALL_MAE
    train(name, tmp_path / "run", train__steps=2, **{**small, **options})
    assert len(losses(tmp_path / "run")) == 2


def test_block_masks_hide_as_many_as_mae_wants(tmp_path, capsys):
    train("mae", tmp_path / "run", train__steps=1, **SMALL_MAE, masker__name="beit:block")
    assert "12 of 16 patches hidden" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masker__name": "beit:block", "masker__exact": False}, r"equally many hidden patches.*'block'"),
        ({"tokenizer__name": "kmeans"}, r"'mae:decoder' predicts vectors.*tokenizer=pixel"),
        ({"head__name": "mim"}, r"head"),
        ({"method__corrupt": "replace"}, r"set method.corrupt=drop"),
        ({"head__heads": 3}, r"head.width 16 does not divide into 3 heads"),
        ({"backbone__width": 30, "backbone__heads": 2}, r"multiple of 4, not 30"),
    ],
)
def test_what_does_not_fit_says_so(options, message, tmp_path):
    with pytest.raises(SslError, match=message):
        train("mae", tmp_path / "run", train__steps=1, **{**SMALL_MAE, **options})


def test_fixed_positions_are_not_trained_and_are_exported(tmp_path, registry):
    import ssl_core

    train("mae", tmp_path / "run", registry, train__steps=2, **SMALL_MAE)
    backbone = ssl_core.load(tmp_path / "run", registry)
    torch.testing.assert_close(backbone.vit.pos_embed.data, sincos_positions((4, 4), 32, 1))
    assert backbone.spec.component == "core:vit"


def test_pictures_show_the_image_its_visible_part_and_the_reconstruction():
    method = masked_method("mae", 32, **SMALL_MAE)
    batch = noise_batch(method, 2)
    sheet = method.pictures(batch)["reconstruction"]
    assert sheet.shape == (3, 64, 96)
    hidden = batch.mask.hidden[0, 0].unflatten(0, (4, 4)).repeat_interleave(8, 0).repeat_interleave(8, 1)
    image, masked, drawn = sheet[:, :32].split(32, dim=2)
    torch.testing.assert_close(image, batch.views["image"][0])
    assert (masked[:, hidden] == 0.5).all()
    torch.testing.assert_close(drawn[:, ~hidden], image[:, ~hidden], atol=1e-5, rtol=0)
    assert not torch.allclose(drawn[:, hidden], image[:, hidden], atol=0.05)
