"""The blocks of a method: what is sharded and compiled piece by piece."""

from __future__ import annotations

from torch import nn

from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.head import Head


def blocks_of(method: nn.Module) -> list[nn.Module]:
    """Returns the blocks of every backbone and head in a method, frozen ones too, in order."""
    owners = [module for module in method.modules() if isinstance(module, Backbone | Head)]
    return [block for owner in owners for block in getattr(owner, "blocks", ())]
