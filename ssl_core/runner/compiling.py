"""What `runtime.compile` compiles: the blocks of backbones and heads, and what makes the targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ssl_core.contracts.method import Method
from ssl_core.contracts.target import TargetSource
from ssl_core.runner.blocks import blocks_of


def compile_method(method: Method, device: torch.device) -> None:
    """Compiles the parts of a method that run in every step, in place."""
    compile_blocks(method)
    if device.type == "cuda":  # on a CPU the targets take minutes to compile and gain little
        compile_target(method)


def compile_blocks(method: nn.Module, backend: str | Callable = "inductor") -> None:
    """Compiles block by block: small graphs, and no graph break outside of them.

    Args:
        method: with backbones anywhere in it, and perhaps heads that have blocks.
        backend: of torch.compile.
    """
    blocks = blocks_of(method)
    # Blocks differ in constants (drop path grows with depth), so each may need graphs of its own, for
    # training and evaluation; torch's default limit would leave the later blocks uncompiled. It is counted for
    # each `forward` in the source, which the blocks of backbones and heads may share.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(blocks))
    # Under DDP the compiler would cut each block where the gradients' buckets end, to send them earlier. Blocks are
    # small enough as they are, and cutting fails where they differ in drop path.
    torch._dynamo.config.optimize_ddp = False
    for block in blocks:
        block.compile(backend=backend)


def compile_target(method: Method) -> None:
    """Compiles what makes the targets: it runs in every step, without gradient, on the same shapes."""
    target = getattr(method, "target", None)
    if isinstance(target, TargetSource):
        target.targets = torch.compile(target.targets)  # pyright: ignore[reportAttributeAccessIssue]
