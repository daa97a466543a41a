"""A GPU that is not there: its tensors have a device, a shape and a dtype, but no values.

So a laptop finds what would fail or wait on a GPU: operators on tensors of two devices, and values that are read.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode


class WaitingCopy(RuntimeError):
    """A tensor is copied between CPU and GPU, and the CPU waits for it."""


WAITS = (DataDependentOutputException, DynamicOutputShapeException, WaitingCopy)
"""Raised where a value is read, and where values decide the size of a result: there the CPU waits for the GPU."""

UNKNOWN = (UnsupportedOperatorException, UnsupportedFakeTensorException)
"""Raised by an operator for which torch has no rule of what it gives without values."""

_CUDA = torch.device("cuda")


class FakeGpu(AbstractContextManager):
    """Within it, what tensors are moved to the GPU, or made there, carries no values.

    There is no backward pass: autograd asks the driver, which is missing.
    """

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._stack = ExitStack()

    def __enter__(self) -> FakeGpu:
        self._stack.enter_context(self._mode)
        self._stack.enter_context(_Crossings())
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def take(self, module: nn.Module) -> None:
        """Moves the parameters and buffers of a module to the GPU, in place, for good. To be called outside of it."""
        moved: dict[int, Tensor] = {}
        for owner in module.modules():
            for own in (owner._parameters, owner._buffers):
                for name, tensor in own.items():
                    if tensor is not None:
                        if id(tensor) not in moved:
                            moved[id(tensor)] = self._moved(tensor)
                        own[name] = moved[id(tensor)]

    def _moved(self, tensor: Tensor) -> Tensor:
        fake = self._mode.from_tensor(tensor)
        with self, torch.no_grad():
            there = fake.detach().to(_CUDA, non_blocking=True)
            return nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else there


class _Crossings(TorchDispatchMode):
    """Refuses copies between the two that wait, and lets values of tensors on the CPU be read: 0 where unknown."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "cpu":
            try:
                return func(*args)  # known of what was made from numbers: torch.tensor(4.0)
            except DataDependentOutputException:
                dtype = args[0].dtype
                if dtype == torch.bool:
                    return False
                return 0.0 if dtype.is_floating_point else 0
        if func is torch.ops.aten._to_copy.default and not kwargs.get("non_blocking"):
            device = kwargs.get("device")
            if device is not None and torch.device(device).type != args[0].device.type:
                raise WaitingCopy
        return func(*args, **kwargs)
