"""env.json: what a run was computed with."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from typing import Any

import torch

from ssl_core.plugins.registry import Registry
from ssl_core.runner.device import Device

_PACKAGES = ("ssl-vision", "torch", "torchvision", "timm", "mmengine", "numpy", "pillow", "pluggy", "safetensors")


def describe_environment(device: Device, registry: Registry, world_size: int) -> dict[str, Any]:
    """Returns versions, device, git commit of the working folder, plugins and the command line."""
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": device.describe(),
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        "git": _git_commit(),
        "plugins": [
            {"name": p.name, "distribution": p.distribution, "state": p.state, "sha256": p.sha256}
            for p in registry.plugins
        ],
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
