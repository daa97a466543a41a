"""An update on a GPU, as far as it can be followed without one: on tensors that have a device and no values."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from step_parts import METHODS, PARTS, make_batch, make_state

from ssl_core.config.sections import OptimOptions
from ssl_core.contracts.method import Progress
from ssl_core.data.colours import same_colours
from ssl_core.runner.average import WeightAverage
from ssl_core.runner.device import Device
from ssl_core.runner.engine.loop import StepModule, on_device
from ssl_core.runner.engine.optim_wrapper import PrecisionOptimWrapper
from ssl_core.runner.optimizer import build_optimizer
from ssl_core.testing.fake_gpu import FakeGpu

GPU = Device(torch.device("cuda"), "fp32")


@pytest.mark.parametrize(
    ("kind", "valid"), [*((kind, None) for kind in PARTS), *((kind, 4) for kind in PARTS if kind not in METHODS)]
)
def test_two_accumulated_updates_mix_no_devices_and_wait_for_nothing(kind, valid, monkeypatch):
    state = make_state(kind)
    batch = make_batch(state.method, valid=valid)
    batch = replace(batch, colours={name: same_colours(len(view)) for name, view in batch.views.items()})
    gpu = FakeGpu()
    gpu.take(state.method)
    trained = [parameter for parameter in state.method.parameters() if parameter.requires_grad]

    def backward(loss, **_):
        assert loss.is_cuda
        assert loss.requires_grad
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad + 1

    # The real one asks the driver, which is missing.
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with gpu:
        state.optimizer = build_optimizer(state.method, OptimOptions())
        state.average = WeightAverage(state.method, 0.99)
        module, wrapper = StepModule(state.method), PrecisionOptimWrapper(state, GPU, accumulate=2, clip=3.0)
        for _ in range(2):
            for _ in range(2):
                logs, _ = module.train_step((on_device(batch, GPU), Progress(1, 10, 10)), wrapper)
                state.means.add(logs)
            state.means.add({"grad_norm": state.grad_norm})
            state.method.after_step(state.progress)
            state.average.update()
    assert state.optimizer.defaults["fused"]
    assert {tensor.device.type for tensor in [*logs.values(), state.grad_norm, state.skipped]} == {"cuda"}
    moments = [value for own in state.optimizer.state.values() for value in own.values()]
    assert {value.device.type for value in moments} == {"cuda"}


def test_numbers_made_on_the_cpu_keep_their_values():
    with FakeGpu():
        assert (torch.tensor(4.0).item(), int(torch.tensor([7])[0]), bool(torch.tensor(True))) == (4.0, 7, True)
        unknown = [torch.ones(2).sum().item(), torch.arange(3)[1].item(), (torch.ones(()) > 0).item()]
    assert unknown == [0.0, 0, False]
    assert [type(value) for value in unknown] == [float, int, bool]
