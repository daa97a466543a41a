"""Checks of methods."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_core.contracts.method import Method
from ssl_core.contracts.target import TargetSource
from ssl_core.errors import UsageError
from ssl_core.runner.optimizer import build_optimizer
from ssl_core.testing import trial
from ssl_core.testing.check import Failed, check, require, skip
from ssl_core.testing.state import copy_state, saved_state, snapshot
from ssl_core.testing.subject import Subject


def _step(method: Method, batch, seed: int = 0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return method(batch, trial.FIRST)


def draws_at_random(subject: Subject) -> bool:
    """Returns whether the loss of a step depends on the device's generator (dropout, noise, mixing)."""
    losses = []
    for seed in (0, 1):
        method, batch = trial.method_of(subject)
        losses.append(float(_step(method, batch, seed).loss.detach()))
    return losses[0] != losses[1]


@check("method")
def a_step_gives_a_loss(subject: Subject) -> None:
    """`training_step` returns a 0-d float32 loss that is finite and has a gradient, and detached 0-d logs."""
    for size in (trial.BATCH, 1):
        settings = {"train__batch_size": size, "train__micro_batch_size": size} if size == 1 else {}
        method, batch = trial.method_of(subject, **settings)
        at = "of one image" if size == 1 else f"of {size} images"
        output = _step(method, batch)
        loss = output.loss
        require(
            isinstance(loss, Tensor) and loss.ndim == 0 and loss.dtype == torch.float32,
            f"the loss {at} is {getattr(loss, 'dtype', type(loss).__name__)} {tuple(getattr(loss, 'shape', ()))}",
            "return StepOutput(loss) with a 0-d float32 tensor: .float().mean()",
        )
        require(bool(loss.isfinite()), f"the loss {at} is not finite", "use no statistic that one image does not have")
        require(
            loss.requires_grad,
            f"the loss {at} carries no gradient",
            "compute it from the backbone's features, outside of torch.no_grad()",
        )
        for name, value in output.logs.items():
            require(
                isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad,
                f"the log '{name}' is {type(value).__name__} {tuple(getattr(value, 'shape', ()))}"
                f"{' with a gradient' if getattr(value, 'requires_grad', False) else ''}",
                "log 0-d tensors, value.detach(); no floats: reading one makes the CPU wait for the GPU",
            )


@check("method")
def same_seed_same_loss(subject: Subject) -> None:
    """Two steps with the same weights, batch and seed give the same loss."""
    losses = []
    for _ in range(2):
        method, batch = trial.method_of(subject)
        losses.append(_step(method, batch, 3).loss.detach())
    require(
        torch.equal(*losses),
        f"the same step gave {float(losses[0])} and then {float(losses[1])}",
        "draw from torch's generator alone, which the runner seeds before each step: no random, numpy, time or id()",
    )


@check("method")
def every_trained_weight_gets_a_gradient(subject: Subject) -> None:
    """A step reaches every parameter that requires a gradient, and no other."""
    method, batch = trial.method_of(subject)
    _step(method, batch).loss.backward()
    unused = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    require(
        not unused,
        f"no gradient reaches {', '.join(unused[:4])}",
        "use it in the loss or call .requires_grad_(False): several processes cannot share a weight without a gradient",
    )


@check("method")
def groups_hold_every_parameter_once(subject: Subject) -> None:
    """`param_groups` names each trained parameter exactly once."""
    method, _ = trial.method_of(subject)
    config, _, _ = trial.resolved(subject)
    try:
        build_optimizer(method, config.optim)
    except ValueError as error:
        raise Failed(str(error), "name each parameter that requires a gradient in one group") from None


@check("method")
def targets_are_left_alone(subject: Subject) -> None:
    """What is predicted gets no gradient and is not trained."""
    method, batch = trial.method_of(subject)
    target = getattr(method, "target", None)
    if not isinstance(target, TargetSource):
        skip("it has no part that makes targets (no `target`)")
    _step(method, batch).loss.backward()
    leaking = [name for name, p in target.named_parameters() if p.requires_grad or p.grad is not None]
    require(
        not leaking,
        f"the target's {', '.join(leaking[:3])} would be trained",
        "call target.requires_grad_(False) in __init__, and target.targets() under torch.no_grad()",
    )


@check("method")
def method_state_comes_back(subject: Subject) -> None:
    """A new method with the saved state gives the loss that the first one gives next."""
    method, batch = trial.method_of(subject)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.01)
    _step(method, batch).loss.backward()
    optimizer.step()
    with torch.no_grad():
        method.after_step(trial.FIRST)
    other, _ = trial.method_of(subject)
    copy_state(saved_state(method), other)
    one, two = _step(method, batch, 5).loss.detach(), _step(other, batch, 5).loss.detach()
    require(
        torch.allclose(one, two, rtol=1e-5, atol=1e-6),
        f"after one update a new method with the saved state gives the loss {float(two):.6f}, not {float(one):.6f}",
        "keep queues, centres, counters and teachers in register_buffer(...) or submodules, not in plain attributes",
    )


@check("method")
def a_step_works_in_bf16(subject: Subject) -> None:
    """Under bf16 autocast the loss is finite and float32, and so are the gradients."""
    method, batch = trial.method_of(subject)
    with torch.autocast("cpu", torch.bfloat16):
        loss = _step(method, batch).loss
    require(
        loss.dtype == torch.float32 and bool(loss.isfinite()),
        f"under bf16 autocast the loss is {loss.dtype} {float(loss.detach())}",
        "call .float() on logits and features before softmax, norms and sums",
    )
    loss.backward()
    broken = [name for name, p in method.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    require(not broken, f"the gradient of {', '.join(broken[:3])} is not finite", "compute that term in float32")


@check("method")
def something_is_exported(subject: Subject) -> None:
    """`export` returns modules by slot: what is worth keeping."""
    method, _ = trial.method_of(subject)
    exported = method.export()
    require(
        isinstance(exported, dict) and exported and all(isinstance(part, nn.Module) for part in exported.values()),
        f"export() returns {exported if not exported else sorted(exported)}",
        'return {"backbone": self.backbone}, or another slot and its module',
    )


@check("method")
def sheets_are_pictures(subject: Subject) -> None:
    """`pictures` returns (3, H, W) float in [0, 1] and leaves weights, buffers and train mode as they were."""
    method, batch = trial.method_of(subject)
    _step(method, batch)
    before = snapshot(method)
    for name, image in method.pictures(batch).items():
        require(
            image.ndim == 3 and image.shape[0] == 3 and image.is_floating_point(),
            f"the picture '{name}' is {image.dtype} {tuple(image.shape)}, not float (3, H, W)",
            "return sheets (3, H, W) float in [0, 1]",
        )
        low, high = float(image.min()), float(image.max())
        require(low >= 0 and high <= 1, f"'{name}' goes from {low:.2f} to {high:.2f}", "clamp it to [0, 1]")
    after = snapshot(method)
    different = [name for name in before if not torch.equal(before[name], after[name])]
    require(
        method.training and not different,
        f"pictures() changed {', '.join(different[:3]) or 'train mode'}",
        "look at the model in eval mode under torch.no_grad(), and set train mode again afterwards",
    )


@check("method")
def a_wrong_size_is_the_users_error(subject: Subject) -> None:
    """An image that does not divide into patches is refused with a `UsageError`."""
    if "backbone" not in subject.component.slots:
        skip("it has no backbone")
    try:
        trial.method_of(subject, data__image_size=trial.IMAGE_SIZE + 1)
    except UsageError:
        return
    except Exception as error:
        raise Failed(
            f"{trial.IMAGE_SIZE + 1} px end in {type(error).__name__}: {error}", "raise UsageError: what to set"
        ) from error
    skip("it takes images of any size")
