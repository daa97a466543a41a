"""Which parameters a result depends on."""

from __future__ import annotations

from torch import Tensor


def reached_parameters(result: Tensor) -> set[int]:
    """Returns the `id` of each parameter that would get a gradient from `result`, without computing one."""
    todo: list = [result.grad_fn]
    seen, found = set(), set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # the end of a path: where a gradient is accumulated
            found.add(id(node.variable))
        todo += [parent for parent, _ in node.next_functions]
    return found
