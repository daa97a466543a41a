"""Files of Microsoft, timm and transformers, written with random weights, become backbones with the same features."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest
import timm
import torch
from beit_parts import randomise
from safetensors.torch import load_file, save_file
from timm.models.beit import Beit

from ssl_beit.file_layout import IMAGENET, INCEPTION
from ssl_beit.relative_position import relative_position_index
from ssl_core.api import CheckpointError, UsageError, load
from ssl_core.timm_weights import read_timm

SIZE, GRID = 48, (6, 6)
SMALL = {"img_size": SIZE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}
KINDS = {
    "beit+": {"use_shared_rel_pos_bias": True, "use_abs_pos_emb": False, "init_values": 0.1},
    "plain": {"use_abs_pos_emb": True, "init_values": 0.0},
    "v2": {"use_shared_rel_pos_bias": True, "use_abs_pos_emb": True, "init_values": 0.0},
}


def _reference(std: float = 0.2, **options) -> Beit:
    """Returns timm's BEiT, whose names are Microsoft's."""
    reference = Beit(**{**SMALL, "use_abs_pos_emb": False, "global_pool": "token", **options}).eval()
    randomise(reference, std)
    return reference


def _pretraining_state(reference: Beit, grid: tuple[int, int] = GRID, vocab_size: int = 7) -> dict:
    """Returns the tensors of a pre-training file: with a mask token, a head and, beside a shared table, its index."""
    state = {name: tensor for name, tensor in reference.state_dict().items() if not name.startswith("head.")}
    width = reference.embed_dim
    state["mask_token"] = torch.randn(1, 1, width)
    state |= {"lm_head.weight": torch.randn(vocab_size, width), "lm_head.bias": torch.randn(vocab_size)}
    if reference.rel_pos_bias is not None:
        state["rel_pos_bias.relative_position_index"] = relative_position_index(grid)
    return state


def _write(file: Path, state: dict, **arguments) -> Path:
    """Writes a checkpoint as Microsoft's training does, optimizer and arguments included."""
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    content = {"model": state, "optimizer": optimizer, "epoch": 3, "scaler": {"scale": 65536.0}}
    if arguments:
        content["args"] = argparse.Namespace(output_dir="out", lr=1.5e-3, **arguments)
    torch.save(content, file)
    return file


def _images(size: int = SIZE) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def _assert_same_features(backbone, reference: Beit, images: torch.Tensor) -> None:
    with torch.no_grad():
        found, expected = backbone(images), reference.forward_features(images)
        pooled = reference.forward_head(expected, pre_logits=True)
    torch.testing.assert_close(torch.cat([found.prefix, found.patches], 1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.summary, pooled, atol=1e-5, rtol=0)


def test_a_pretrained_base_model_gives_timms_features_after_expansion(tmp_path, monkeypatch):
    for module in (torch.nn.init, timm.models.beit):  # every parameter is overwritten anyway
        monkeypatch.setattr(module, "trunc_normal_", lambda tensor, *_, **__: tensor)
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda tensor, *_, **__: tensor)
    # Of timm's published model, with a table in each block, only the norm's place is another before fine-tuning.
    reference = timm.create_model("beit_base_patch16_224", num_classes=0, global_pool="token").eval()
    randomise(reference)
    state = _pretraining_state(reference, (14, 14), 8192)
    table = state["blocks.0.attn.relative_position_bias_table"].clone()
    for number in range(12):
        del state[f"blocks.{number}.attn.relative_position_bias_table"]
        reference.blocks[number].attn.relative_position_bias_table.data.copy_(table)
    state["rel_pos_bias.relative_position_bias_table"] = table
    state["rel_pos_bias.relative_position_index"] = relative_position_index((14, 14))
    assert sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point()) == 91_965_776
    file = _write(tmp_path / "checkpoint-799.pth", state, model="beit_base_patch16_224_8k_vocab")
    backbone = load(file, options={"rel_pos_bias": "per_block"})
    assert backbone.rel_pos_bias is None
    assert (backbone.spec.options["model"], backbone.spec.image_size) == ("vit_base", 224)
    _assert_same_features(backbone, reference, torch.randn(1, 3, 224, 224))


@pytest.mark.parametrize("kind", KINDS)
def test_pretrained_files(kind, tmp_path):
    reference = _reference(**KINDS[kind])
    state = _pretraining_state(reference)
    if kind == "v2":  # the blocks that summarise into the CLS token, used in pre-training alone
        state |= {f"cls_pt_layers.0.{name}": tensor for name, tensor in reference.blocks[0].state_dict().items()}
        state |= {"cls_pt_norm.weight": torch.randn(32), "cls_pt_lm_head.weight": torch.randn(7, 32)}
    if kind == "plain":  # no table tells the heads of a model that is no wider than this
        with pytest.raises(CheckpointError, match=r"a\.pth: nothing in it tells the number of heads.* 32 wide"):
            load(_write(tmp_path / "a.pth", state))
        return
    backbone = load(_write(tmp_path / "b.pth", state, layer_scale_init_value=0.2))
    _assert_same_features(backbone, reference, _images())
    assert backbone.spec.component == "beit:vit"
    assert backbone.options.init_values == (0.2 if kind == "beit+" else 0.0)
    assert (backbone.heads, backbone.depth, backbone.patch_size) == (4, 2, 8)


def test_the_papers_plain_model(tmp_path):
    reference = _reference(**KINDS["plain"], embed_dim=192, num_heads=3)
    backbone = load(_write(tmp_path / "a.pth", _pretraining_state(reference)))
    assert backbone.provides == {"cls", "branch", "drop_tokens", "attention"}
    _assert_same_features(backbone, reference, _images())


@pytest.mark.parametrize("pool", ["avg", "token"])
@pytest.mark.parametrize("tables", ["use_rel_pos_bias", "use_shared_rel_pos_bias"])
def test_fine_tuned_files(pool, tables, tmp_path):
    reference = _reference(global_pool=pool, init_values=0.1, **{tables: True})
    state = dict(reference.state_dict())
    if tables == "use_rel_pos_bias":
        index = relative_position_index(GRID)
        state |= {f"blocks.{number}.attn.relative_position_index": index for number in range(2)}
    backbone = load(_write(tmp_path / "a.pth", state))
    assert backbone.options.pool == {"avg": "mean", "token": "cls"}[pool]
    _assert_same_features(backbone, reference, _images())


def test_deepspeeds_wrapper_and_a_bare_state_dict(tmp_path):
    reference = _reference(**KINDS["beit+"])
    state = _pretraining_state(reference)
    torch.save({"module": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "a.pt")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        _assert_same_features(load(tmp_path / name), reference, _images())


def test_pixels_are_normalised_as_the_file_says(tmp_path):
    def found(state, **arguments):
        spec = load(_write(tmp_path / "a.pth", state, **arguments)).spec
        return spec.mean, spec.std

    shared = _pretraining_state(_reference(**KINDS["beit+"]))
    plain = _pretraining_state(_reference(**KINDS["plain"], embed_dim=192, num_heads=3))
    second = {**shared, "cls_pt_layers.0.norm1.weight": torch.ones(32)}
    assert found(shared, imagenet_default_mean_and_std=True) == IMAGENET
    assert found(plain, imagenet_default_mean_and_std=False) == INCEPTION
    assert (found(shared), found(plain), found(second)) == (INCEPTION, IMAGENET, IMAGENET)


def test_timms_names(monkeypatch):
    """`timm:NAME` without the download: timm gives its architecture and config beside the weights."""
    name = "beitv2_base_patch16_224"
    config = timm.create_model(name, depth=1).pretrained_cfg
    reference = _reference(global_pool="avg", use_rel_pos_bias=True)
    reference.pretrained_cfg = config
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: reference)
    assert read_timm(f"timm:{name}").metadata["timm.architecture"] == name
    backbone = load(f"timm:{name}")
    assert (backbone.spec.mean, backbone.spec.std) == IMAGENET
    _assert_same_features(backbone, reference, _images())


def test_a_folder_of_timms_on_the_hub(tmp_path):
    reference = _reference(global_pool="avg", use_rel_pos_bias=True)
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "beit_base_patch16_224", "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = load(tmp_path)
    assert backbone.spec.mean == (0.1, 0.2, 0.3)
    _assert_same_features(backbone, reference, _images())


@pytest.mark.parametrize(
    "old",
    [
        "blocks.1.attn.q_bias",
        "blocks.0.mlp.fc1.weight",
        "blocks.1.gamma_1",
        "rel_pos_bias.relative_position_bias_table",
        "norm.weight",
        "patch_embed.proj.bias",
    ],
)
def test_one_renamed_tensor_is_refused_and_named(old, tmp_path):
    state = _pretraining_state(_reference(**KINDS["beit+"]))
    state[f"{old}_x"] = state.pop(old)
    with pytest.raises(CheckpointError) as refused:
        load(_write(tmp_path / "a.pth", state))
    message = str(refused.value)
    assert f"unexpected: {old}_x" in message or "number of heads" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("rel_pos_bias.relative_position_bias_table", (100, 4), "table of 100 rows belongs to no square grid"),
        ("rel_pos_bias.relative_position_bias_table", (124,), "cannot be converted"),
        ("patch_embed.proj.weight", (32, 3, 8, 4), "patches are 8x4 pixels; only square ones"),
        ("patch_embed.proj.weight", (32, 1, 8, 8), "other shape: patch_embed.proj.weight"),
        ("blocks.1.mlp.fc2.weight", (32, 64), r"other shape: blocks.1.mlp.fc2.weight \(32, 64\), not \(32, 128\)"),
    ],
)
def test_what_is_no_beit_of_ours_is_said_in_one_line(name, shape, expected, tmp_path):
    state = {**_pretraining_state(_reference(**KINDS["beit+"])), name: torch.zeros(shape)}
    with pytest.raises(CheckpointError, match=f"a.pth: .*{expected}"):
        load(_write(tmp_path / "a.pth", state))


def test_a_file_for_another_size_and_for_fine_tuning(tmp_path):
    file = _write(tmp_path / "a.pth", _pretraining_state(_reference(**KINDS["beit+"])))
    backbone = load(file, image_size=64, options={"pool": "mean"})
    assert backbone.rel_pos_bias is None
    assert backbone.blocks[1].attn.relative_position_bias_table.shape == (228, 4)
    assert backbone.built_grid == (8, 8)
    assert torch.equal(backbone.fc_norm.bias, torch.zeros(32))
    found = backbone(_images(64))
    assert found.patches.shape == (2, 64, 32)
    assert torch.isfinite(found.summary).all()
    with pytest.raises(UsageError, match=r"data.image_size 50 is not a multiple"):
        load(file, image_size=50)


MODELS = ("BeitModel", "BeitForMaskedImageModeling", "BeitForImageClassification")


def _huggingface(model: str, **options):
    import transformers

    # Not its defaults: an epsilon that is small beside these variances would not show.
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    config = transformers.BeitConfig(**small, image_size=SIZE, patch_size=8, attn_implementation="eager", **options)
    reference = getattr(transformers, model)(config).eval()
    randomise(reference, 0.2)
    return reference


@pytest.mark.parametrize("eps", [1e-12, 1e-2])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "options",
    [
        {"use_relative_position_bias": True},
        {"use_shared_relative_position_bias": True, "use_mask_token": True},
        {"use_absolute_position_embeddings": True, "layer_scale_init_value": 0.0},
    ],
    ids=["per_block", "shared", "plain"],
)
def test_folders_of_transformers(model, options, eps, tmp_path):
    reference = _huggingface(model, **options, layer_norm_eps=eps)
    reference.save_pretrained(tmp_path)
    backbone = load(tmp_path)
    masked = model == "BeitForMaskedImageModeling"
    with torch.no_grad():
        found = backbone(_images())
        outputs = getattr(reference, "beit", reference)(_images())
        expected = reference.layernorm(outputs.last_hidden_state) if masked else outputs.last_hidden_state
    torch.testing.assert_close(torch.cat([found.prefix, found.patches], 1), expected, atol=1e-5, rtol=0)
    summary = expected[:, 0] if masked else outputs.pooler_output
    torch.testing.assert_close(found.summary, summary, atol=1e-5, rtol=0)
    assert backbone.options.norm_eps == eps
    assert (backbone.spec.mean, backbone.spec.std) == INCEPTION


def test_a_model_of_transformers_that_uses_the_cls_token(tmp_path):
    reference = _huggingface("BeitForImageClassification", use_mean_pooling=False, use_relative_position_bias=True)
    reference.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.2] * 3}))
    backbone = load(tmp_path)
    with torch.no_grad():
        found, expected = backbone(_images()), reference.beit(_images())
    torch.testing.assert_close(found.summary, expected.pooler_output, atol=1e-5, rtol=0)
    assert (backbone.spec.mean, backbone.spec.std) == ((0.1,) * 3, (0.2,) * 3)


def test_names_of_transformers_5_in_memory(tmp_path):
    """Files keep the names of transformers 4; a state dict that was saved by hand has those of 5."""
    reference = _huggingface("BeitModel", use_shared_relative_position_bias=True)
    reference.save_pretrained(tmp_path)
    expected = load(tmp_path)(_images())
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    assert torch.equal(load(tmp_path)(_images()).summary, expected.summary)


def _changed(folder: Path, **values) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return folder


def test_what_transformers_can_and_we_cannot_is_refused(tmp_path):
    _huggingface("BeitForMaskedImageModeling", use_shared_relative_position_bias=True).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"its activation is 'relu'; only gelu"):
        load(_changed(tmp_path, hidden_act="relu"))
    alone = tmp_path / "elsewhere.safetensors"
    alone.write_bytes((tmp_path / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"elsewhere.safetensors: .*without its config.json; name the folder"):
        load(alone)


def test_one_renamed_tensor_of_transformers_is_refused(tmp_path):
    _huggingface("BeitModel", use_relative_position_bias=True).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    for old, expected in {
        "encoder.layer.1.attention.attention.key.weight": "missing: blocks.1.attn.qkv.weight",
        "encoder.layer.0.lambda_2": "missing: blocks.0.gamma_2",
    }.items():
        renamed = dict(state)
        renamed["other"] = renamed.pop(old)
        save_file(renamed, file)
        with pytest.raises(CheckpointError, match=f"{re.escape(expected)}; unexpected: .*other"):
            load(tmp_path)


def test_two_norms_in_a_row_are_refused(tmp_path):
    _huggingface(
        "BeitForMaskedImageModeling", use_mean_pooling=False, use_shared_relative_position_bias=True
    ).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"two of its tensors are 'norm\.\w+'"):
        load(tmp_path)
