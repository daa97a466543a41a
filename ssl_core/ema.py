"""Exponential moving average of one module's parameters in another's: a teacher follows its student."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.tensor import DTensor


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Moves each parameter of the teacher towards the student's: t = decay * t + (1 - decay) * s.

    Right under FSDP2 too, where the student is sharded and the frozen teacher is whole on every
    rank; every rank must call it.

    Args:
        teacher, student: modules with the same parameter names.
        decay: share of the teacher that stays.
    """
    sources = dict(student.named_parameters())
    for name, parameter in teacher.named_parameters():
        source = sources[name].detach()
        if isinstance(source, DTensor) and not isinstance(parameter, DTensor):
            source = source.full_tensor()
        parameter.lerp_(source.to(parameter.dtype), 1 - decay)
