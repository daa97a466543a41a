"""Where a computation stops being finite: the first module, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class FirstBreak:
    """Looks at what goes into each module and what comes out, in the order in which they are computed.

    Attributes:
        found: one line on the first tensor that was not finite; None = none was.
    """

    def __init__(self, model: nn.Module):
        self.found: str | None = None
        self._model = model

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A context in which modules are looked at."""
        handles = [module.register_forward_hook(self._look(name)) for name, module in self._model.named_modules()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def weights(self) -> None:
        """Looks at parameters and buffers."""
        for name, tensor in self._model.state_dict().items():
            self._note(tensor, f"the weight or buffer {name}, before the step")

    def tensors(self, named: Iterable[tuple[str, Tensor]]) -> None:
        """Looks at further tensors, in order."""
        for name, tensor in named:
            self._note(tensor, name)

    def _look(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            label = f"{name or 'the method'} ({type(module).__name__})"
            for tensor in _tensors(inputs):
                self._note(tensor, f"an input of {label}")
            for tensor in _tensors(output):
                self._note(tensor, f"the output of {label}")
                if tensor.requires_grad:
                    tensor.register_hook(lambda grad: self._note(grad, f"the gradient of the output of {label}"))

        return look

    def _note(self, tensor: Tensor, label: str) -> None:
        if self.found is not None or not tensor.is_floating_point():
            return
        bad = ~tensor.detach().isfinite()
        if not bool(bad.any()):
            return
        nan = int(tensor.isnan().sum())
        self.found = (
            f"{label}: {nan:,} NaN and {int(bad.sum()) - nan:,} infinite of {tensor.numel():,} values, "
            f"shape {tuple(tensor.shape)}, {str(tensor.dtype).removeprefix('torch.')}"
        )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "__dataclass_fields__"):
        yield from _tensors(tuple(vars(value).values()))


def gradients(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Returns the gradient of each parameter and the norm of all, by names for people."""
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    norm = nn.utils.get_total_norm(found.values())
    return [*((f"the gradient of {name}", grad) for name, grad in found.items()), ("the norm of the gradient", norm)]
