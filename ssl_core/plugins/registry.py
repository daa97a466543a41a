"""Registry: a name to the component that it means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pluggy

from ssl_core.errors import PluginError, UnknownPartError, did_you_mean
from ssl_core.plugins.component import Component, Kind, import_attribute
from ssl_core.plugins.loader import Plugin, load_plugins


@dataclass(frozen=True)
class Match:
    """A component that was found by a name.

    Attributes:
        qualified: `plugin:name`.
        component: the description.
        plugin: who offers it.
        settings: option values that the name itself stands for ({"model": "vit_base"}).
    """

    qualified: str
    component: Component
    plugin: Plugin
    settings: dict[str, Any] = field(default_factory=dict)


class Registry:
    """Every component of every good plugin."""

    def __init__(self, plugins: Iterable[Plugin], manager: pluggy.PluginManager):
        self.plugins = tuple(plugins)
        self.hook = manager.hook

    @classmethod
    def load(cls, disabled: Iterable[str] = (), files: Iterable[Path] = (), safe: bool = False) -> Registry:
        """Loads the installed plugins, see `load_plugins`."""
        loaded = load_plugins(disabled, files, safe)
        return cls(loaded.plugins, loaded.manager)

    def components(self, *kinds: Kind) -> Iterator[Match]:
        """Yields the components of these kinds, or all, in the order of their plugins."""
        for plugin in self.plugins:
            for component in plugin.components:
                if not kinds or component.kind in kinds:
                    yield Match(f"{plugin.name}:{component.name}", component, plugin)

    def find(self, name: str, *kinds: Kind, prefer: str | None = None) -> Match:
        """Finds the component that a name means.

        Args:
            name: short (`block`), of a family (`vit_base`) or qualified (`beit:block`, `core:vit_base`).
            kinds: what is looked for.
            prefer: qualified name of a component that is asked first.

        Raises:
            PluginError: unknown, ambiguous, or its plugin is broken.
        """
        prefix, _, short = name.rpartition(":")
        candidates = [match for match in self.components(*kinds) if not prefix or match.plugin.name == prefix]
        candidates.sort(key=lambda match: match.qualified != prefer)
        listed = [match for match in candidates if short == match.component.name or short in match.component.names]
        if not listed:
            listed = [match for match in candidates if _answers(match.component, short)]
        if listed and (len(listed) == 1 or listed[0].qualified == prefer):
            return self._named(listed[0], short)
        what = " or ".join(kinds) or "part"
        if listed:
            choices = ", ".join(f"{match.plugin.name}:{short}" for match in listed)
            raise PluginError(f"{what} '{name}' is ambiguous: {choices}. Write one of them in full.")
        for plugin in self.plugins:
            if plugin.state != "ok" and plugin.name in (prefix, short):
                origin = f"'{plugin.name}' ({plugin.distribution})"
                raise PluginError(f"{what} '{name}': the plugin {origin} is {plugin.state}: {plugin.reason}")
        for match in self.components():
            if short in (match.component.name, *match.component.names) and prefix in ("", match.plugin.name):
                raise UnknownPartError(f"'{name}' is of kind {match.component.kind}, not {what}")
        allowed = self.names(*kinds, prefer=prefer) or ["none"]
        qualified = [f"{match.plugin.name}:{match.component.name}" for match in self.components(*kinds)]
        suggestion = did_you_mean(name, qualified if prefix else allowed)
        bad = [f"'{plugin.name}'" for plugin in self.plugins if plugin.state in ("broken", "incompatible")]
        missing = f" Not loaded: {', '.join(bad)}, see `ssl-plugins list`." if bad else ""
        raise UnknownPartError(f"unknown {what} '{name}'.{suggestion} Allowed: {', '.join(allowed)}.{missing}")

    def names(self, *kinds: Kind, prefer: str | None = None) -> list[str]:
        """Returns the names that `find` would take for these kinds: short, or in full where that is ambiguous."""
        owners: dict[str, list[Match]] = {}
        for match in self.components(*kinds):
            for name in match.component.names or (match.component.name,):
                owners.setdefault(name, []).append(match)
        names = []
        for name, matches in owners.items():
            clear = len(matches) == 1 or any(match.qualified == prefer for match in matches)
            names += [name] if clear else [f"{match.plugin.name}:{name}" for match in matches]
        return names

    def _named(self, match: Match, short: str) -> Match:
        component = match.component
        if component.name_option and short != component.name:
            return Match(match.qualified, component, match.plugin, {component.name_option: short})
        return match


def _answers(component: Component, name: str) -> bool:
    if component.answers is None:
        return False
    try:
        return bool(import_attribute(component.answers)(name))
    except Exception:
        return False  # a broken plugin must not spoil the search for another one's part; `ssl-plugins doctor` tells
