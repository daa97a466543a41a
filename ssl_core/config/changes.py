"""What is different about a run that goes on, and whether that may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ssl_core.config.run_config import RunConfig
from ssl_core.config.sections import FREE_TO_CHANGE
from ssl_core.config.values import flatten
from ssl_core.errors import PluginError
from ssl_core.plugins.registry import Registry

Changes = Mapping[str, tuple[Any, Any]]
"""Dotted option -> (what it was, what it is now)."""


def find_changes(before: Mapping[str, Any], unchanged: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """Compares the configs of two starts of a run.

    Args:
        before: what the run was started with, as it was stored then; {} = that is not known.
        unchanged: what its config.yaml means today. It stands in for the options that `before` lacks: those that
            are younger than the run.
        now: what it is about to go on with.
    """
    was = _flat(unchanged) | _flat(before)
    return {key: (was.get(key), value) for key, value in _flat(now).items() if key not in was or was[key] != value}


def find_changed_files(environment: Mapping[str, Any], config: RunConfig) -> Changes:
    """Returns single-file plugin -> (sha256 then, sha256 now), shortened, for those that are other files now.

    Only those count whose parts decide what is computed; a monitor looks on.

    Args:
        environment: env.json of the last start; {} = that is not known.
        config: what the run is about to go on with.
    """
    parts = [config.method, *(part for slot, part in config.parts.items() if not f"{slot}.".startswith(FREE_TO_CHANGE))]
    now = {part.match.plugin.name: part.match.plugin for part in parts if part.match.plugin.sha256 is not None}
    was = {plugin["name"]: plugin["sha256"] for plugin in environment.get("plugins", ())}
    return {
        plugin.distribution: (f"sha256 {was[name][:12]}", f"sha256 {plugin.sha256[:12]}")
        for name, plugin in now.items()
        if plugin.sha256 is not None and was.get(name) not in (None, plugin.sha256)
    }


def check_files_are_given(environment: Mapping[str, Any], stored: Mapping[str, Any], registry: Registry) -> None:
    """Refuses to go on without the single-file plugins that a run was started with and has parts of.

    Args:
        environment: env.json of the last start; {} = that is not known.
        stored: the run's config.yaml.

    Raises:
        PluginError: one is missing; the message has the flag to add.
    """
    given = {plugin.name for plugin in registry.plugins}
    for plugin in environment.get("plugins", ()):
        for slot, values in stored.items():
            name = values.get("name", "") if isinstance(values, Mapping) else ""
            if plugin["sha256"] and plugin["name"] not in given and str(name).startswith(f"{plugin['name']}:"):
                raise PluginError(f"{slot} '{name}' comes from a single file: add --plugin {plugin['distribution']}")


def deciding(changes: Changes) -> Changes:
    """Returns those that change what is computed, and not only where, how fast or how often it is looked at."""
    return {key: values for key, values in changes.items() if not key.startswith(FREE_TO_CHANGE)}


def change_lines(changes: Changes) -> list[str]:
    """Returns `optim.lr: 0.001 -> 0.002` for each."""
    return [f"{key}: {_text(was)} -> {_text(value)}" for key, (was, value) in changes.items()]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return flatten(json.loads(json.dumps(values, default=str)))  # as it is after it was stored and read


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
