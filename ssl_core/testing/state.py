"""Weights and buffers: written, read, compared."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ssl_core.testing.check import Failed, require


def saved_state(module: nn.Module) -> dict[str, Tensor]:
    """Returns what a checkpoint would give back: the state dict after safetensors.

    Raises:
        Failed: it holds what safetensors cannot.
    """
    state = module.state_dict()
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    require(
        not others,
        f"its state_dict holds {', '.join(others)}, which {'is no tensor' if len(others) == 1 else 'are no tensors'}",
        "keep state in buffers (register_buffer), numbers as 0-d tensors; get_extra_state is not saved",
    )
    try:
        # Each tensor on its own, as the runner copies it.
        return load(save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}))
    except Exception as error:
        raise Failed(f"its state_dict cannot be written: {error}", "use dtypes that safetensors knows") from error


def copy_state(state: Mapping[str, Tensor], module: nn.Module) -> None:
    """Copies a state into a part that was built anew.

    Raises:
        Failed: names or shapes differ.
    """
    own = module.state_dict()
    names = sorted(own.keys() ^ state.keys())
    require(
        not names,
        f"built again, its state_dict has other names: {', '.join(names[:4])}",
        "register the same parameters and buffers in every __init__, not on first use",
    )
    shapes = [name for name, tensor in own.items() if tensor.shape != state[name].shape]
    require(
        not shapes,
        f"built again, {', '.join(shapes[:4])} has another shape",
        "let shapes follow from options and context alone, and do not resize buffers while training",
    )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Returns the names whose values differ, to the last bit."""
    return [name for name, tensor in after.items() if name not in before or not torch.equal(before[name], tensor)]


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Returns copies of every parameter and buffer, those that are not saved among them."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors}


def difference(one: Tensor, two: Tensor) -> float:
    """Returns the largest absolute difference."""
    return float((one.detach().float() - two.detach().float()).abs().max()) if one.numel() else 0.0
