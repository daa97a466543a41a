"""Mixed precision, accumulation and clipping around the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from ssl_core.runner.device import Device
from ssl_core.runner.optimizer import drop_frozen_gradients
from ssl_core.runner.run_state import RunState


class PrecisionOptimWrapper(OptimWrapper):
    """mmengine's wrapper with autocast on every device, a loss scaler, and no wait for the gradient norm.

    Its own mixed-precision wrapper refuses a CPU, and its clipping reads the norm at each update.
    An update whose loss or gradient is not finite is skipped without asking the device.

    Args:
        accumulate: micro-batches an update sums up.
        clip: largest global L2 norm of the gradient; None = no clipping, the norm is still measured.
    """

    def __init__(self, state: RunState, device: Device, accumulate: int, clip: float | None):
        super().__init__(state.optimizer, accumulative_counts=accumulate)
        self.state = state
        self.device = device
        self.clip = clip

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Wraps a forward pass: autocast, and no gradient exchange before the last micro-batch."""
        if isinstance(model, FSDPModule):
            model.set_requires_gradient_sync(self.should_sync())
        with super().optim_context(model), self.device.autocast():
            yield

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        # A loss that is not finite makes every gradient NaN, on all processes once they are summed.
        loss = loss * torch.where(loss.isfinite(), 1.0, torch.nan)
        super().backward(self.state.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        drop_frozen_gradients(self.optimizer, self.state.progress.epoch)
        self.state.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        # An infinite bound leaves the gradients as they are and still measures them.
        norm = nn.utils.clip_grad_norm_(parameters, self.clip if self.clip is not None else float("inf"))
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self.state.grad_norm, self.state.skipped = norm, ~norm.isfinite()
        # Read by the fused kernel on the device: it then moves neither weights nor moments nor their step count.
        self.optimizer.found_inf = self.state.skipped.float()  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer.grad_scale = None  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer.step()
        self.state.scaler.update()
