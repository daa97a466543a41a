"""A step on a GPU: it never waits, is compiled once, and equals the step on a CPU."""

from __future__ import annotations

import copy

import pytest
import torch

from ssl_benchmarks.bench_parts import DALLE_SIZE, PROGRESS, beit_method, noise_batch
from ssl_core.config.sections import OptimOptions
from ssl_core.runner.compiling import compile_method
from ssl_core.runner.device import Device
from ssl_core.runner.engine.loop import StepModule, on_device
from ssl_core.runner.engine.optim_wrapper import PrecisionOptimWrapper
from ssl_core.runner.optimizer import build_optimizer
from ssl_core.runner.run_state import RunState

SMALL = {**DALLE_SIZE, "vocab_size": 64, "hidden": 16}


def make_step(precision: str, device: str = "cuda", compiled: bool = False):
    """Returns the state, and an update as the loop makes it, without logging, on images that the CPU holds."""
    torch.manual_seed(0)
    where = Device(torch.device(device), precision)
    method = beit_method("dvae", SMALL, 64, model="vit_tiny", depth=2, patch_size=8)
    batch = noise_batch(method, 4, torch.device("cpu"))
    method = method.to(where.device)
    if device == "cuda":
        batch = batch.pin_memory()
    if compiled:
        compile_method(method, where.device)
    optimizer = build_optimizer(method, OptimOptions(lr=1e-3))
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
    state = RunState(method, method, optimizer, scaler, None, 100, 0, 10, 10)
    module, wrapper = StepModule(method), PrecisionOptimWrapper(state, where, accumulate=1, clip=3.0)

    def step():
        logs, _ = module.train_step((on_device(batch, where), PROGRESS), wrapper)
        state.means.add(logs)
        method.after_step(state.progress)
        return logs["loss"]

    return state, step


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_step_never_waits_for_the_gpu(precision):
    _, step = make_step(precision)
    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_nothing_is_compiled_after_the_second_step_and_compiled_steps_equal_plain_ones():
    torch._dynamo.reset()
    _, plain = make_step("fp32")
    _, fast = make_step("fp32", compiled=True)
    losses = []
    for number in range(5):
        stance = "default" if number < 2 else "fail_on_recompile"
        with torch.compiler.set_stance(stance):
            losses.append((plain(), fast()))
    for expected, found in losses:
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


def test_the_first_steps_equal_those_on_a_cpu():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    (_, there), (_, here) = make_step("fp32"), make_step("fp32", "cpu")
    for _ in range(3):
        torch.testing.assert_close(there().cpu(), here(), atol=1e-3, rtol=1e-3)


def test_the_loss_falls_in_every_precision():
    for precision in ("fp32", "bf16", "fp16"):
        _, step = make_step(precision)
        losses = [step().item() for _ in range(30)]
        assert losses[-1] < losses[0] - 0.3, precision


def test_the_scaler_of_fp16_skips_an_update_that_overflows_and_goes_on():
    state, step = make_step("fp16")
    state.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    before = copy.deepcopy(state.method.state_dict())
    step()
    assert bool(state.skipped)
    assert state.scaler.get_scale() < 2.0**40
    trained = [name for name, value in state.method.named_parameters() if value.requires_grad]
    after = state.method.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in trained)
    for _ in range(40):
        step()
    assert not bool(state.skipped)
    assert any(not torch.equal(before[name], state.method.state_dict()[name]) for name in trained)


def test_codes_in_bf16_are_nearly_all_those_of_float32():
    torch.manual_seed(0)
    method = beit_method("dvae", DALLE_SIZE, 224, model="vit_tiny", depth=1).cuda()
    views = {"tokens": torch.rand(8, 3, 112, 112, device="cuda")}
    plain = method.target.targets(views, (14, 14))
    with torch.autocast("cuda", torch.bfloat16):
        low = method.target.targets(views, (14, 14))
    # Weights that were not trained give scores that lie closer together than trained ones do.
    assert (plain == low).float().mean() > 0.9
