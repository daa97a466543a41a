"""Text to values, and dotted settings to and from nested ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ssl_core.errors import ConfigError

# YAML 1.1 reads these as text, people mean numbers and null.
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_NONE = ("none", "None", "NONE")


def parse_value(text: str) -> Any:
    """Reads a value as YAML does, and `1e3` as a number and `none` as None. Text that is no YAML stays text."""
    if text in _NONE:
        return None
    if _EXPONENT.fullmatch(text):
        return float(text)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    # YAML would end `runs/a #1` before the `#`.
    return text if isinstance(value, str) and text[:1] not in ("'", '"') else value


def parse_settings(items: Iterable[str]) -> dict[str, str]:
    """Splits the `part.key=value` items of a command line.

    Returns:
        dotted key -> text; a later item replaces an earlier one of the same key.

    Raises:
        ConfigError: items without `=`, or without a key.
    """
    settings: dict[str, str] = {}
    problems: list[str] = []
    items = list(items)
    position = 0
    while position < len(items):
        item = items[position]
        position += 1
        key, separator, value = item.partition("=")
        if separator and key.strip():
            settings[key.strip()] = value.strip()
        elif separator:
            problems.append(f"'{item}': what is to be set? Write part.key=value")
        elif "." in key and position < len(items) and "=" not in items[position]:
            problems.append(f"'{item} {items[position]}': write it with '=': {item}={items[position]}")
            position += 1
        elif Path(item).expanduser().exists():
            problems.append(f"'{item}': not a setting (part.key=value). If these are the images: --data {item}")
        else:
            problems.append(f"'{item}': not a setting; write part.key=value, as in optim.lr=1e-3")
    if problems:
        raise ConfigError(problems)
    return settings


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {"a.b.c": value} for {"a": {"b": {"c": value}}}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
