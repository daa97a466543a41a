"""Crops in batches, a teacher that only follows, a last layer that stays, and parts that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dino_parts import SMALL_VIT, make_batch, make_dino
from safetensors.torch import load_file

import ssl_core
from ssl_core.api import ConfigError, Progress, Registry, UsageError
from ssl_core.config.sections import OptimOptions
from ssl_core.runner.optimizer import apply_schedule, build_optimizer, drop_frozen_gradients
from ssl_core.runner.schedule import Schedule

TOYS = Path(__file__).parents[1] / "toys"
PROGRESS = Progress(0, 10, 5)


def test_crops_of_one_size_run_as_one_batch():
    dino = make_dino()
    seen = {"student": [], "teacher": []}
    dino.backbone.register_forward_pre_hook(lambda _, inputs: seen["student"].append(tuple(inputs[0].shape)))
    dino.teacher["backbone"].register_forward_pre_hook(lambda _, inputs: seen["teacher"].append(tuple(inputs[0].shape)))
    dino.training_step(make_batch(dino), PROGRESS)
    assert seen == {"student": [(8, 3, 16, 16), (12, 3, 8, 8)], "teacher": [(8, 3, 16, 16)]}


@pytest.mark.parametrize(("size", "patch", "local"), [(224, 16, 96), (32, 4, 12), (64, 8, 24), (224, 14, 98)])
def test_a_local_crop_is_three_sevenths_of_the_image(size, patch, local):
    assert make_dino(vit={**SMALL_VIT, "patch_size": patch}, size=size).views["local"].size == local


def test_the_loss_is_that_of_crops_one_by_one():
    dino = make_dino(vit=SMALL_VIT)
    batch = make_batch(dino, images=2)
    loss = dino.training_step(batch, PROGRESS).loss
    crops = [*batch.views["image"].split(2), *batch.views["local"].split(2)]
    with torch.no_grad():
        student = [dino.head(dino.backbone(dino.normalize(crop)).summary) / 0.1 for crop in crops]
        teacher = [(output * 0.1 / 0.04).softmax(-1) for output in student[:2]]  # one and the same at the start
    terms = [-(teacher[i] * student[j].log_softmax(-1)).sum(-1).mean() for i in range(2) for j in range(5) if i != j]
    assert loss.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_the_teacher_sees_the_global_crops_whatever_the_order_of_the_views():
    dino = make_dino(vit=SMALL_VIT)
    batch = make_batch(dino, images=2)
    turned = replace(batch, views=dict(reversed(batch.views.items())))
    assert torch.equal(dino.training_step(batch, PROGRESS).loss, dino.training_step(turned, PROGRESS).loss)


def test_the_teacher_follows_without_gradient_and_without_noise():
    dino = make_dino(momentum_teacher=0.9).train()
    assert not dino.teacher.training
    assert not any(parameter.requires_grad for parameter in dino.teacher.parameters())
    with torch.no_grad():
        for parameter in dino.backbone.parameters():
            parameter.add_(1.0)
    before = {name: tensor.clone() for name, tensor in dino.teacher.named_parameters()}
    dino.training_step(make_batch(dino), PROGRESS).loss.backward()
    dino.after_step(Progress(1, 10, 5))
    student = {
        f"{part}.{name}": p for part in ("backbone", "head") for name, p in getattr(dino, part).named_parameters()
    }
    for name, tensor in dino.teacher.named_parameters():
        assert tensor.grad is None
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, 0.9 * before[name] + 0.1 * student[name].detach())


def _update(dino, optimizer, step, per_epoch):
    schedule = Schedule.of(OptimOptions(lr=0.1, weight_decay=0.5, warmup_steps=0), 10, per_epoch)
    apply_schedule(optimizer, schedule, step)
    dino.training_step(make_batch(dino, seed=step), Progress(step, 10, per_epoch)).loss.backward()
    drop_frozen_gradients(optimizer, step / per_epoch)
    optimizer.step()
    optimizer.zero_grad()
    dino.after_step(Progress(step + 1, 10, per_epoch))


@pytest.mark.parametrize("unit", [True, False])
def test_the_last_layer_stays_for_an_epoch_and_then_moves(unit):
    """Bit for bit, with weight decay on; and the optimizer remembers nothing of that epoch."""
    dino = make_dino(norm_last_layer=unit, freeze_last_layer=1)
    optimizer = build_optimizer(dino, OptimOptions(lr=0.1, weight_decay=0.5))
    before = [parameter.detach().clone() for parameter in dino.head.last_layer.parameters()]
    first = dino.head.mlp[0].weight.detach().clone()
    for step in range(3):
        _update(dino, optimizer, step, per_epoch=3)
    last = list(dino.head.last_layer.parameters())
    assert all(torch.equal(one, two) for one, two in zip(before, last, strict=True))
    assert not any(parameter in optimizer.state for parameter in last)
    assert not torch.equal(dino.head.mlp[0].weight, first)
    _update(dino, optimizer, 3, per_epoch=3)
    assert not any(torch.equal(one, two) for one, two in zip(before, last, strict=True))
    assert all(optimizer.state[parameter]["step"] == 1 for parameter in last)


def test_vectors_have_no_weight_decay_and_the_last_layer_a_group_of_its_own():
    dino = make_dino(norm_last_layer=False, freeze_last_layer=2)
    groups = {name: group for group in dino.param_groups() for name in group.names}
    assert sorted(groups) == sorted(name for name, parameter in dino.named_parameters() if parameter.requires_grad)
    assert not groups["backbone.vit.blocks.0.norm1.weight"].decay
    assert not groups["head.mlp.0.bias"].decay
    assert groups["head.mlp.0.weight"].decay
    assert {name for name, group in groups.items() if group.frozen_epochs} == {
        "head.last_layer.weight",
        "head.last_layer.length",
    }


def test_the_published_backbone_has_as_many_parameters():
    dino = make_dino(vit={"model": "vit_small", "dynamic": True}, size=224)
    assert sum(parameter.numel() for parameter in dino.backbone.parameters()) == 21_665_664


def test_a_teacher_that_never_followed_starts_as_its_student():
    dino = make_dino()
    with torch.no_grad():
        dino.backbone.vit.cls_token.fill_(7.0)  # as `--init-from` a backbone does
    (hook,) = dino.hooks(None)
    hook.before_run(dino, PROGRESS, None)
    assert torch.equal(dino.teacher["backbone"].vit.cls_token, dino.backbone.vit.cls_token)
    dino.teacher_updates += 1
    with torch.no_grad():
        dino.backbone.vit.cls_token.fill_(8.0)
    hook.before_run(dino, PROGRESS, None)
    assert dino.teacher["backbone"].vit.cls_token.unique().tolist() == [7.0]


@pytest.mark.parametrize("export", ["teacher", "student"])
def test_the_teacher_is_exported_unless_the_student_is_wanted(export):
    dino = make_dino(export=export)
    owner = dino.teacher["backbone"] if export == "teacher" else dino.backbone
    assert dino.export()["backbone"] is owner


def test_a_backbone_of_one_size_is_refused_by_the_name_of_what_it_lacks():
    fixed = {**SMALL_VIT, "dynamic": False}
    with pytest.raises(UsageError, match=r"dino needs backbone:any_size for local crops of 8 pixels.*dynamic=true"):
        make_dino(vit=fixed)
    assert "local" not in make_dino(vit=fixed, local_crops_number=0).views
    assert make_dino(vit=fixed, local_crops_size=16).views["local"].size == 16


def test_a_backbone_that_never_can_is_refused_before_the_data_is_read(tmp_path):
    registry = Registry.load(files=[TOYS / "toy_mae.py"])
    with pytest.raises(ConfigError, match="dino needs backbone:any_size; backbone 'toy_mae:tiny' does not provide it"):
        ssl_core.train("dino", out=tmp_path / "run", registry=registry, backbone="toy_mae:tiny")


def test_a_local_crop_that_is_no_number_of_patches_is_refused():
    with pytest.raises(UsageError, match="10"):
        make_dino(local_crops_size=10)


@pytest.mark.parametrize("export", ["teacher", "student"])
def test_a_checkpoint_gives_the_same_backbone_as_the_export(export, tmp_path):
    small = {"backbone.width": 16, "backbone.depth": 1, "backbone.heads": 2, "backbone.patch_size": 8}
    settings = {**small, "dataset.images": 40, "train.steps": 2, "train.batch_size": 8, "method.export": export}
    ssl_core.train("dino", out=tmp_path / "run", settings=settings)
    exported = ssl_core.load(tmp_path / "run").state_dict()
    saved = ssl_core.load(tmp_path / "run" / "checkpoints" / "step-00000002").state_dict()
    assert exported.keys() == saved.keys()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in exported.items())
    weights = load_file(tmp_path / "run" / "checkpoints" / "step-00000002" / "model.safetensors")
    prefix = "teacher.backbone." if export == "teacher" else "backbone."
    assert torch.equal(saved["vit.cls_token"], weights[f"{prefix}vit.cls_token"])
    assert not torch.equal(weights["teacher.backbone.vit.cls_token"], weights["backbone.vit.cls_token"])
