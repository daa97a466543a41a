"""Targets on their way from a GPU to the disk, on one that is not there."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_core.runner.target_cache import TargetKeeper
from ssl_core.testing.fake_gpu import FakeGpu


class Copies(TorchDispatchMode):
    """Notes (device, dtype) of both sides of each copy."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.copy_.default:
            self.found.append([(side.device.type, side.dtype) for side in args[:2]])
        return func(*args, **(kwargs or {}))


class UnfinishedEvent:
    """As of a copy that is still going on."""

    def record(self):
        pass

    def query(self):
        return False


def test_ids_are_converted_before_they_leave_the_gpu(monkeypatch):
    """A copy that converts on its way goes through ordinary memory with some releases of torch, and waits."""
    empty = torch.empty
    # Page-locked memory asks the driver, which is missing.
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **keywords: empty(*size, **keywords))
    monkeypatch.setattr(torch.cuda, "Event", UnfinishedEvent)
    keeper = TargetKeeper(SimpleNamespace(), views=1)
    index = torch.arange(2)
    with FakeGpu(), Copies() as copies:
        keeper.keep(index, torch.zeros(2, 4, dtype=torch.int64, device="cuda"), epoch=0)
    assert copies.found == [[("cpu", torch.int32), ("cuda", torch.int32)]]
