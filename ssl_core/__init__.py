"""Self-supervised learning on images, put together from plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["__version__", "load", "train"]

if TYPE_CHECKING:
    from ssl_core.loading import load
    from ssl_core.training import train


def __getattr__(name: str) -> Any:
    # Lazy, so that `--help` and `ssl-plugins list` never import torch.
    if name in ("load", "train"):
        from ssl_core import api

        return getattr(api, name)
    raise AttributeError(f"module 'ssl_core' has no attribute '{name}'")
