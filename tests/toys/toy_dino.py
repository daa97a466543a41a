"""A third party's method without masks: a DINO in small, with crops of two sizes and an EMA teacher.

It proves that such a method needs no line in the engine.
"""

from __future__ import annotations

import copy

import torch
from pydantic import Field
from torch import nn

from ssl_core.api import (
    Component,
    Method,
    Normalize,
    Options,
    StepOutput,
    ViewSpec,
    ema_update,
    hookimpl,
    mean_over_processes,
)


class ToyDinoOptions(Options):
    outputs: int = Field(12, ge=2)
    """Width of the last layer."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the teacher that stays at each update."""


class ToyDino(Method):
    """Crops of one image should give one distribution; the teacher sees the two large ones."""

    def __init__(self, options, context):
        super().__init__()
        size = context.image_size
        self.views = {
            "image": ViewSpec(size, count=2, scale=(0.4, 1.0)),
            "local": ViewSpec(size // 2, count=3, scale=(0.05, 0.4)),
        }
        self.normalize = Normalize(context.mean, context.std)
        self.backbone = context.backbone
        self.head = nn.Linear(context.backbone.width, options.outputs)
        self.teacher = copy.deepcopy(nn.ModuleList([self.backbone, self.head])).requires_grad_(False)
        self.momentum = options.momentum
        self.register_buffer("center", torch.zeros(options.outputs))

    def training_step(self, batch, progress):
        large, small = self.normalize(batch.views["image"]), self.normalize(batch.views["local"])
        with torch.no_grad():
            backbone, head = self.teacher
            teacher = head(backbone(large).summary).float()  # (2B, V)
            targets = ((teacher - self.center) / 0.04).softmax(-1).chunk(2)
            self.center.lerp_(mean_over_processes(teacher.mean(0)), 0.1)
        students = [self.head(self.backbone(view).summary).float() for view in (large, small)]  # (2B, V), (3B, V)
        crops = [
            crop for student in students for crop in student.div(0.1).log_softmax(-1).chunk(len(student) // len(batch))
        ]
        terms = [
            -(target * crop).sum(-1).mean()
            for i, target in enumerate(targets)
            for j, crop in enumerate(crops)
            if i != j
        ]
        return StepOutput(torch.stack(terms).mean())

    def after_step(self, progress):
        ema_update(self.teacher, nn.ModuleList([self.backbone, self.head]), self.momentum)

    def export(self):
        return {"backbone": self.backbone}


@hookimpl
def register_methods():
    return [
        Component(
            "method",
            "toy-dino",
            "For tests",
            "toy_dino:ToyDino",
            ToyDinoOptions,
            slots={"backbone": "toy_mae:tiny", "transform": "core:augment"},
            settings={"train.batch_size": 8, "optim.warmup_steps": 2},
        )
    ]
