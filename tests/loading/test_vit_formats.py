"""Files of plain ViTs: the features are those of the project that wrote them."""

from __future__ import annotations

import argparse
import json

import pytest
import timm
import torch
import transformers
from foreign_models import HF_SMALL, SIZE, SMALL, encoder, pixels, random_state, randomised, small_vit
from safetensors.torch import save_file

import ssl_core
from ssl_core.api import CheckpointError, Registry

DECODER = {
    "mask_token": (1, 1, 16),
    "decoder_pos_embed": (1, 17, 16),
    "decoder_embed__weight": (16, 64),
    "decoder_blocks__0__attn__qkv__weight": (48, 16),
    "decoder_pred__weight": (192, 16),
}
HALF = (0.5, 0.5, 0.5)


def same(backbone, expected, tolerance=1e-5):
    """Compares CLS and patches (B, 1 + N, D)."""
    with torch.no_grad():
        found = backbone(pixels())
    torch.testing.assert_close(torch.cat([found.prefix, found.patches], 1), expected, atol=tolerance, rtol=0)


def features(vit):
    with torch.no_grad():
        return vit.forward_features(pixels())


def test_a_file_with_training_arguments_gives_timms_features(tmp_path):
    vit = small_vit()
    torch.save({"model": vit.state_dict(), "args": argparse.Namespace(lr=1.0)}, tmp_path / "vit.pth")
    backbone = ssl_core.load(tmp_path / "vit.pth")
    same(backbone, features(vit))
    spec = backbone.spec
    assert (spec.component, spec.image_size, spec.source) == ("core:vit", SIZE, tmp_path / "vit.pth")
    assert (spec.options["width"], spec.options["depth"], spec.options["heads"]) == (64, 2, 1)
    assert spec.mean == (0.485, 0.456, 0.406)
    assert spec.data is None
    assert not backbone.training


def test_a_deit3_and_a_fine_tuned_vit(tmp_path):
    deit = randomised(timm.create_model("deit3_base_patch16_224", **SMALL, num_classes=5))
    save_file(deit.state_dict(), tmp_path / "deit.safetensors")
    same(ssl_core.load(tmp_path / "deit.safetensors"), features(deit))
    tuned = small_vit(global_pool="avg")
    assert "fc_norm.weight" in tuned.state_dict()
    save_file(tuned.state_dict(), tmp_path / "tuned.safetensors")
    same(ssl_core.load(tmp_path / "tuned.safetensors"), features(tuned))


def test_timms_own_folder_names_its_architecture(tmp_path):
    vit = randomised(timm.create_model("vit_tiny_patch16_224", img_size=SIZE, num_classes=3))
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"mean": HALF, "std": [0.25] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = ssl_core.load(tmp_path)
    assert backbone.spec.options == {"model": "vit_tiny_patch16_224", "patch_size": 16}
    assert backbone.spec.mean == HALF
    same(backbone, features(vit))


def test_mae_with_its_decoder(tmp_path):
    vit = small_vit()
    content = {
        "model": {**encoder(vit), **random_state(**DECODER)},
        "args": argparse.Namespace(model="mae"),
        "epoch": 1,
    }
    torch.save(content, tmp_path / "mae.pth")
    same(ssl_core.load(tmp_path / "mae.pth"), features(vit))


def test_mae_of_hugging_face(tmp_path):
    config = transformers.ViTMAEConfig(
        **HF_SMALL, mask_ratio=0.0, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2
    )
    model = randomised(transformers.ViTMAEForPreTraining(config))
    model.save_pretrained(tmp_path / "pretraining")
    model.vit.save_pretrained(tmp_path / "encoder")
    with torch.no_grad():  # ascending noise, so that the patches stay in their order
        expected = model.vit(pixels(), noise=torch.arange(16.0).expand(2, -1)).last_hidden_state
    for name in ("pretraining", "encoder"):
        backbone = ssl_core.load(tmp_path / name)
        same(backbone, expected)
        assert backbone.spec.options["heads"] == 4
        assert backbone.spec.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_vit_of_hugging_face(tmp_path, weights):
    model = randomised(transformers.ViTModel(transformers.ViTConfig(**HF_SMALL)))
    model.save_pretrained(tmp_path)
    if weights.endswith(".bin"):
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / weights)  # the names that transformers has in memory
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": HALF, "image_std": HALF}))
    with torch.no_grad():
        expected = model(pixels()).last_hidden_state
    backbone = ssl_core.load(tmp_path)
    same(backbone, expected)
    assert backbone.spec.mean == HALF
    assert backbone.spec.options["norm_eps"] == 1e-12


def test_dino_gives_the_teacher(tmp_path):
    student, teacher = small_vit(), small_vit()
    with torch.no_grad():
        teacher.cls_token.add_(1)
    head = random_state(head__mlp__0__weight=(8, 64), head__last_layer__weight_g=(9, 1))

    def wrapped(vit, start):
        return {f"{start}backbone.{name}": tensor for name, tensor in encoder(vit).items()} | {
            f"{start}{name}": tensor for name, tensor in head.items()
        }

    content = {
        "student": wrapped(student, "module."),
        "teacher": wrapped(teacher, ""),
        "dino_loss": random_state(center=(1, 9)),
        "args": argparse.Namespace(arch="vit_base", patch_size=8),
        "epoch": 1,
    }
    torch.save(content, tmp_path / "full.pth")
    torch.save(encoder(teacher), tmp_path / "backbone.pth")
    same(ssl_core.load(tmp_path / "full.pth"), features(teacher))
    same(ssl_core.load(tmp_path / "backbone.pth"), features(teacher))


def test_one_renamed_tensor_is_refused_and_listed(tmp_path):
    state = encoder(small_vit())
    state["blocks.1.norm1.wieght"] = state.pop("blocks.1.norm1.weight")
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(CheckpointError) as caught:
        ssl_core.load(tmp_path / "file.pth")
    message = str(caught.value)
    assert "missing: vit.blocks.1.norm1.weight" in message
    assert "unexpected: vit.blocks.1.norm1.wieght" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neck.weight": (3,)}, "unexpected: neck.weight"),
        ({"blocks.1.norm1.weight": (3,)}, r"other shape: vit.blocks.1.norm1.weight \(3,\), not \(64,\)"),
        ({"pos_embed": (1, 12, 64)}, "pos_embed has 12 places, which is no square"),
        ({"patch_embed.proj.weight": (64, 192)}, r"patch_embed.proj.weight is \(64, 192\)"),
        ({"patch_embed.proj.weight": (60, 3, 8, 8)}, "how many heads a ViT of width 60 has"),
    ],
)
def test_a_tensor_too_many_or_of_another_shape(tmp_path, change, message):
    state = encoder(small_vit()) | {name: torch.zeros(shape) for name, shape in change.items()}
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        ssl_core.load(tmp_path / "file.pth")
    assert str(tmp_path / "file.pth") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_differences_are_not_all_listed(tmp_path):
    state = encoder(small_vit()) | {f"extra.{number}": torch.zeros(1) for number in range(20)}
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"unexpected: extra\.0, .*extra\.7 and 12 more$"):
        ssl_core.load(tmp_path / "file.pth")


def test_a_file_that_no_format_knows(tmp_path):
    save_file({"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(1)}, tmp_path / "resnet.safetensors")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint format knows it.*core:timm_vit.*2 tensors: conv1"
    ) as caught:
        ssl_core.load(tmp_path / "resnet.safetensors")
    assert "\n" not in str(caught.value)


def test_two_formats_for_one_file_are_both_named(tmp_path):
    plugin = tmp_path / "other_mae.py"
    plugin.write_text(
        "from ssl_core.api import Component, hookimpl\n\n"
        "@hookimpl\n"
        "def register_checkpoint_formats():\n"
        "    return [Component('checkpoint_format', 'mine', '', 'ssl_mae.checkpoint_format:MaePretrainFormat'),\n"
        "            Component('checkpoint_format', 'broken', '', 'no_such_module:Format')]\n"
    )
    torch.save({"model": {**encoder(small_vit()), **random_state(**DECODER)}}, tmp_path / "mae.pth")
    with pytest.raises(CheckpointError, match=r"mae:pretrain, other_mae:mine; leave one out: --no-plugin mae or"):
        ssl_core.load(tmp_path / "mae.pth", Registry.load(files=[plugin]))
    assert ssl_core.load(tmp_path / "mae.pth", Registry.load(disabled=["mae"], files=[plugin])).width == 64
