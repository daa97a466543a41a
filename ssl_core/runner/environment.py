"""env.json: what a run was computed with."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping
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


def other_versions(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns `torch 2.10.0 -> 2.11.0` for each package and plugin, and the device, that is another one now.

    Args:
        before: what `describe_environment` returned at an earlier start; {} = not known.
    """
    was, is_now = _computed_with(before), _computed_with(now)
    return [f"{name} {was[name]} -> {is_now[name]}" for name in is_now if was.get(name, is_now[name]) != is_now[name]]


def _computed_with(environment: Mapping[str, Any]) -> dict[str, str]:
    values = {name: str(version) for name, version in environment.get("packages", {}).items()}
    for plugin in environment.get("plugins", ()):
        if plugin["state"] == "ok":
            package, _, version = plugin["distribution"].rpartition(" ")
            single_file = plugin["sha256"] is not None
            values[plugin["name"] if single_file else package] = plugin["sha256"][:12] if single_file else version
    return values | {name: environment[name] for name in ("python", "device") if name in environment}


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
