"""Model and optimizer state by parameter name, whole tensors on the CPU: the same for every layout.

A state saved by one process loads into four, or into a sharded model, and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ssl_core.errors import CheckpointError


def whole(tensor: Tensor) -> Tensor:
    """Returns a copy on the CPU; a sharded tensor is gathered, so every rank must call it."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.to("cpu", copy=True)


def like(tensor: Tensor, reference: Tensor) -> Tensor:
    """Returns a whole tensor on the device, and in the sharding, of `reference`."""
    tensor = tensor.to(reference.device)
    if isinstance(reference, DTensor):
        return distribute_tensor(tensor, reference.device_mesh, reference.placements)
    return tensor


def model_state(module: nn.Module) -> dict[str, Tensor]:
    """Returns every parameter and persistent buffer."""
    return {name: whole(tensor) for name, tensor in module.state_dict().items()}


def load_model_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copies a state in place.

    Raises:
        CheckpointError: a name or a shape differs.
    """
    own = module.state_dict()
    problems = [f"{name} is missing" for name in own.keys() - state.keys()]
    problems += [f"{name} is not known" for name in state.keys() - own.keys()]
    problems += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{source}: does not fit {type(module).__name__}: {'; '.join(sorted(problems)[:3])}{more}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(like(state[name], tensor))


def optimizer_state(module: nn.Module, optimizer: Optimizer) -> dict[str, dict[str, Any]]:
    """Returns parameter name -> its moments and step count."""
    result = {}
    for name, parameter in module.named_parameters():
        if parameter in optimizer.state:
            result[name] = {k: whole(v) if isinstance(v, Tensor) else v for k, v in optimizer.state[parameter].items()}
    return result


def load_optimizer_state(module: nn.Module, optimizer: Optimizer, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Restores what `optimizer_state` returned."""
    fused = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    for name, parameter in module.named_parameters():
        if name not in state:
            continue
        optimizer.state[parameter] = {key: _restored(value, parameter, fused) for key, value in state[name].items()}


def _restored(value: Any, parameter: Tensor, fused: bool) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.shape == parameter.shape:
        return like(value, parameter)
    # The step count: on the parameter's device for the fused kernel, on the CPU otherwise.
    return value.to(parameter.device) if fused else value
