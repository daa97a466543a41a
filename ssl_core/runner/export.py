"""Export: the parts worth keeping, each a safetensors file with the JSON to build it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.method import Method
from ssl_core.loading import spec_values, write_export
from ssl_core.run_checkpoint import backbone_spec
from ssl_core.runner.run_folder import RunFolder


def export_parts(
    config: RunConfig,
    method: Method,
    parts: Mapping[str, nn.Module],
    model: Mapping[str, Any],
    folder: RunFolder,
) -> dict[str, Path]:
    """Writes RUN/export/<slot>.safetensors and .json for each part.

    Args:
        parts: what `method.export()` returned: modules inside the method.
        model: the method's whole state dict, averaged where the run averages.

    Returns:
        slot -> file.
    """
    files = {}
    for slot, part in parts.items():
        file = folder.export / f"{slot}.safetensors"
        prefix = prefix_of(method, part)
        state = {name.removeprefix(prefix): tensor for name, tensor in model.items() if name.startswith(prefix)}
        write_export(file, state, {"slot": slot, **_description(config, slot, part)})
        files[slot] = file
    return files


def _description(config: RunConfig, slot: str, part: nn.Module) -> dict[str, Any]:
    if isinstance(part, Backbone):
        return spec_values(backbone_spec(config))
    chosen = config.parts[slot]
    return {"component": chosen.match.qualified, "options": chosen.options.model_dump(mode="json")}


def prefix_of(method: Method, part: nn.Module) -> str:
    """Returns how the names of an exported part's tensors begin in the method's state dict.

    Raises:
        ValueError: it is no module of the method (a plugin's bug).
    """
    for name, module in method.named_modules():
        if module is part:
            return f"{name}."
    raise ValueError(f"{type(method).__name__}.export() returned a {type(part).__name__} that is no module of it")
