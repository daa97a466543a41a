"""Opens any tokenizer, this plugin's or a third party's, by name or from what a run has left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_core.api import (
    BuildContext,
    CheckpointError,
    Component,
    PluginError,
    Registry,
    Tokenizer,
    UsageError,
    load_strictly,
    read_export,
    validate_options,
)
from ssl_tokenizers.checkpoint import find_tokenizer


def open_tokenizer(what: str, registry: Registry, settings: Mapping[str, Any], image_size: int) -> Tokenizer:
    """Returns a tokenizer that is ready, in eval mode, on the CPU.

    Args:
        what: a run folder that trained one or began with one, an exported file, or a tokenizer's name.
        registry: where it is found.
        settings: its options, `{"checkpoint": ...}`; over what an export says.
        image_size: pixels of the images it will see.

    Raises:
        CheckpointError: no tokenizer there, or a damaged one.
        UsageError: neither a file nor a name, or the name of one that would have to learn first.
    """
    path = Path(what).expanduser()
    name, options, state = _described(find_tokenizer(path)) if path.exists() else (what, {}, None)
    component = _found(what, registry) if state is None else registry.find(name, "tokenizer").component
    rebuilds_itself = "checkpoint" in component.options.model_fields
    if state is not None and rebuilds_itself:
        options["checkpoint"] = str(path)
    chosen = validate_options(component.options, {**options, **settings}, "tokenizer")
    tokenizer = component.load()(chosen, BuildContext(image_size=image_size, registry=registry))
    if state is not None and not rebuilds_itself:
        load_strictly(tokenizer, state, str(path))
    if not tokenizer.ready:
        raise UsageError(
            f"tokenizer '{name}' has learnt nothing yet; name a run that trained it, or give tokenizer.checkpoint=RUN"
        )
    return tokenizer.eval().requires_grad_(False)


def _found(name: str, registry: Registry) -> Component:
    try:
        return registry.find(name, "tokenizer").component
    except PluginError as error:
        raise PluginError(f"{name}: no such run folder or file, and no tokenizer of that name: {error}") from None


def _described(file: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    values, state = read_export(file)
    if values.get("slot") != "tokenizer" or "component" not in values:
        raise CheckpointError(f"{file}: holds {values.get('component', 'another part')}, which is no tokenizer")
    return values["component"], dict(values.get("options", {})), state
