"""DINO: a student learns to give every crop of an image the output that its teacher gives to the whole of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl_core.api import (
    Batch,
    BuildContext,
    Method,
    Normalize,
    ParamGroup,
    Progress,
    RunView,
    StepOutput,
    TrainingHook,
    UsageError,
    ViewSpec,
    ema_update,
    patch_grid,
)
from ssl_dino.center import Center
from ssl_dino.head import DinoHead
from ssl_dino.health import collapse, teacher_health
from ssl_dino.loss import view_cross_entropy
from ssl_dino.options import DinoOptions
from ssl_dino.schedules import teacher_momentum, teacher_temperature

_LAST_LAYER = "head.last_layer."


class Dino(Method):
    """Self-distillation without labels (Caron et al. 2021).

    Two global crops and N local ones of an image; crops of one size run as one batch. The teacher sees the global
    ones, the student all. The teacher has the student's form, follows it as a moving average of float32 weights, is in
    eval mode and without gradient. It is never sharded: under FSDP2 each process has the whole of it.

    Attributes:
        backbone, head: the student's.
        teacher: the teacher's `backbone` and `head`.
        teacher_updates: how often the teacher has followed; 0-d int64.

    Raises:
        UsageError: a local crop does not divide into patches, or the backbone takes one size of images only.
    """

    def __init__(self, options: DinoOptions, context: BuildContext):
        super().__init__()
        self.options = options
        self.backbone = context.backbone
        self.views = {"image": ViewSpec(context.image_size, count=2, scale=options.global_crops_scale)}
        if options.local_crops_number:
            size = self._local_size(context)
            self.views["local"] = ViewSpec(size, count=options.local_crops_number, scale=options.local_crops_scale)
        self.normalize = Normalize(context.mean, context.std)
        self.head = DinoHead(self.backbone.width, options)
        self.center = Center(options.out_dim, options.center_momentum)
        self.teacher = copy.deepcopy(self._student()).requires_grad_(False).eval()
        self.register_buffer("teacher_updates", torch.zeros((), dtype=torch.int64))
        self.teacher_updates: Tensor

    def _local_size(self, context: BuildContext) -> int:
        patch = self.backbone.patch_size
        size = self.options.local_crops_size or max(1, round(context.image_size * 3 / 7 / patch)) * patch
        patch_grid(size, patch)  # refuses what does not divide
        if size != context.image_size and "any_size" not in self.backbone.provides:
            name = context.names.get("backbone", type(self.backbone).__name__)
            raise UsageError(
                f"dino needs backbone:any_size for local crops of {size} pixels beside images of {context.image_size}; "
                f"backbone '{name}' does not provide it as it is set. Set backbone.dynamic=true if it has that option, "
                f"method.local_crops_size={context.image_size} or method.local_crops_number=0"
            )
        return size

    def _student(self) -> nn.ModuleDict:
        return nn.ModuleDict({"backbone": self.backbone, "head": self.head})

    def train(self, mode: bool = True) -> Dino:
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, batch: Batch, progress: Progress) -> StepOutput:
        pixels = [self.normalize(batch.views[name]) for name in self.views]  # (2B, C, H, W), (N * B, C, h, w)
        with torch.no_grad():
            features = self.teacher["backbone"](pixels[0]).summary  # (2B, D)
            logits = self.teacher["head"](features).float()  # (2B, V)
            targets = self.center(logits, teacher_temperature(self.options, progress))  # (2B, V)
        summaries = torch.cat([self.backbone(crops).summary for crops in pixels])  # ((2 + N) * B, D)
        student = (self.head(summaries).float() / self.options.student_temp).log_softmax(dim=-1)  # ((2 + N) * B, V)
        loss = view_cross_entropy(targets.exp().unflatten(0, (-1, len(batch))), student.unflatten(0, (-1, len(batch))))
        health = teacher_health(targets, features)
        return StepOutput(loss, {"kl": loss.detach() - health["teacher_entropy"], **health})

    def after_step(self, progress: Progress) -> None:
        self.center.update()
        ema_update(self.teacher, self._student(), teacher_momentum(self.options, progress))
        self.teacher_updates += 1

    def param_groups(self) -> list[ParamGroup]:
        """Returns the engine's groups, the last layer's parameters apart from the others."""
        groups = []
        for group in super().param_groups():
            last = tuple(name for name in group.names if name.startswith(_LAST_LAYER))
            others = tuple(name for name in group.names if name not in last)
            groups += [
                replace(group, names=others),
                replace(group, names=last, frozen_epochs=self.options.freeze_last_layer),
            ]
        return groups

    def hooks(self, run: RunView) -> Sequence[TrainingHook]:
        return [_TeacherStart(self)]

    def diagnose(self, values: Mapping[str, float], progress: Progress) -> dict[str, str]:
        return collapse(values, self.options.out_dim, progress)

    def export(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone if self.options.export == "student" else self.teacher["backbone"]}


class _TeacherStart(TrainingHook):
    """Lets a teacher that has never followed its student start as the student does.

    Weights that a run starts from (`--init-from`) are often those of a backbone, which the student gets.
    """

    def __init__(self, dino: Dino):
        self._dino = dino

    def before_run(self, method: Method, progress: Progress, out: Path | None) -> None:
        if not self._dino.teacher_updates.item():
            ema_update(self._dino.teacher, self._dino._student(), 0.0)
