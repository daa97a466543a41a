"""AdamW with the method's parameter groups."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW, Optimizer

from ssl_core.config.sections import OptimOptions
from ssl_core.contracts.method import Method
from ssl_core.runner.schedule import Schedule


def build_optimizer(method: Method, options: OptimOptions) -> Optimizer:
    """Builds AdamW over `method.param_groups()`.

    Raises:
        ValueError: a group names a parameter twice, or leaves a trained one out (a plugin's bug).
    """
    parameters: dict[str, nn.Parameter] = {n: p for n, p in method.named_parameters() if p.requires_grad}
    groups = method.param_groups()
    named = [name for group in groups for name in group.names]
    if sorted(named) != sorted(parameters):
        wrong = sorted(set(named) ^ set(parameters)) or sorted({name for name in named if named.count(name) > 1})
        raise ValueError(
            f"{type(method).__name__}.param_groups() must name each trained parameter once; see {wrong[:5]}"
        )
    fused = all(parameter.device.type in ("cuda", "cpu") for parameter in parameters.values())
    return AdamW(
        [
            {
                "params": [parameters[name] for name in group.names],
                "lr_scale": group.lr_scale,
                "decay": group.decay,
                "frozen_epochs": group.frozen_epochs,
                "weight_decay": options.weight_decay if group.decay else 0.0,
            }
            for group in groups
            if group.names
        ],
        lr=options.lr,
        betas=options.betas,
        eps=options.eps,
        fused=fused,
    )


def drop_frozen_gradients(optimizer: Optimizer, epoch: float) -> None:
    """Takes the gradients from the groups that are still frozen, so that the optimizer passes them over."""
    for group in optimizer.param_groups:
        if epoch < group["frozen_epochs"]:
            for parameter in group["params"]:
                parameter.grad = None


def apply_schedule(optimizer: Optimizer, schedule: Schedule, step: int) -> None:
    """Sets learning rate and weight decay for the update that follows `step` finished ones."""
    lr, weight_decay = schedule.lr_at(step), schedule.weight_decay_at(step)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        if group["decay"]:
            group["weight_decay"] = weight_decay
