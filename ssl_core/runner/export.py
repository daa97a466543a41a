"""Export: the parts worth keeping, each a safetensors file with the JSON to build it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.evaluation import BackboneSpec
from ssl_core.contracts.method import Method
from ssl_core.loading import spec_values, write_export
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
        prefix = _name_of(method, part)
        state = {name.removeprefix(prefix): tensor for name, tensor in model.items() if name.startswith(prefix)}
        write_export(file, state, {"slot": slot, **_description(config, slot, part)})
        files[slot] = file
    return files


def _description(config: RunConfig, slot: str, part: nn.Module) -> dict[str, Any]:
    chosen = config.parts[slot]
    options = chosen.options.model_dump(mode="json")
    if not isinstance(part, Backbone):
        return {"component": chosen.match.qualified, "options": options}
    assert config.data.image_size is not None
    dataset = config.parts["dataset"]
    spec = BackboneSpec(
        component=chosen.match.qualified,
        options=options,
        image_size=config.data.image_size,
        mean=config.data.mean,
        std=config.data.std,
        data=dataset.match.qualified,
        data_settings={f"dataset.{name}": _absolute(value) for name, value in dataset.options.model_dump().items()},
    )
    return spec_values(spec)


def _absolute(value: Any) -> Any:
    """A path stays right when a later command runs elsewhere."""
    return str(value.expanduser().absolute()) if isinstance(value, Path) else value


def _name_of(method: Method, part: nn.Module) -> str:
    for name, module in method.named_modules():
        if module is part:
            return f"{name}."
    raise ValueError(f"{type(method).__name__}.export() returned a {type(part).__name__} that is no module of it")
