"""The hooks that a plugin may implement. Discovery only: nothing here is called in a training step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pluggy

from ssl_core.plugins.component import Component

NAMESPACE = "ssl_core"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)


@hookspec
def register_backbones() -> list[Component]:
    """Returns components of kind "backbone"."""
    raise NotImplementedError


@hookspec
def register_tokenizers() -> list[Component]:
    """Returns components of kind "tokenizer"."""
    raise NotImplementedError


@hookspec
def register_targets() -> list[Component]:
    """Returns components of kind "target": target sources without a vocabulary."""
    raise NotImplementedError


@hookspec
def register_maskers() -> list[Component]:
    """Returns components of kind "masker"."""
    raise NotImplementedError


@hookspec
def register_heads() -> list[Component]:
    """Returns components of kind "head"."""
    raise NotImplementedError


@hookspec
def register_methods() -> list[Component]:
    """Returns components of kind "method"."""
    raise NotImplementedError


@hookspec
def register_transforms() -> list[Component]:
    """Returns components of kind "transform"."""
    raise NotImplementedError


@hookspec
def register_datasets() -> list[Component]:
    """Returns components of kind "dataset"."""
    raise NotImplementedError


@hookspec
def register_monitors() -> list[Component]:
    """Returns components of kind "monitor": they watch a run from beside the loop."""
    raise NotImplementedError


@hookspec
def register_evaluators() -> list[Component]:
    """Returns components of kind "evaluator"."""
    raise NotImplementedError


@hookspec
def register_checkpoint_formats() -> list[Component]:
    """Returns components of kind "checkpoint_format"."""
    raise NotImplementedError


@hookspec
def run_started(out: Path, config: Mapping[str, Any]) -> None:
    """Called on the first rank when a run begins or resumes, with its resolved config."""


@hookspec
def run_ended(out: Path, status: str) -> None:
    """Called on the first rank when a run ends; `status` as in status.json."""


@hookspec
def checkpoint_saved(out: Path, checkpoint: Path, step: int) -> None:
    """Called on the first rank after a checkpoint is complete on disk."""


@hookspec
def evaluated(checkpoint: Path, result: Mapping[str, Any]) -> None:
    """Called after an evaluator has finished, with its result."""
