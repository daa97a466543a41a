"""Config files. Plain YAML: reading one runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ssl_core.errors import ConfigError


def read_config(path: Path) -> dict[str, Any]:
    """Reads a YAML file whose top level is a mapping.

    Raises:
        ConfigError: no such file, no YAML (with line and column), or no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"--config {path}: {(error.strerror or str(error)).lower()}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"--config {path}: not a text file"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"--config {path}: {_place(error)}"]) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError([f"--config {path}: expected sections such as `train:`, not {type(values).__name__}"])
    return values


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', None) or 'not YAML'}"


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Writes what `read_config` reads; whoever looks sees the old file or the new one, never half of it."""
    partial = path.with_name(f".tmp-{path.name}")
    partial.write_text(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.replace(path)
