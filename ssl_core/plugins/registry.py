"""Registry: a name to the component that it means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pluggy

from ssl_core.errors import PluginError, did_you_mean
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
    def load(cls, disabled: Iterable[str] = (), files: Iterable[Path] = ()) -> Registry:
        """Loads the installed plugins, see `load_plugins`."""
        loaded = load_plugins(disabled, files)
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
        what = " or ".join(kinds)
        if listed:
            choices = ", ".join(f"{match.plugin.name}:{short}" for match in listed)
            raise PluginError(f"{what} '{name}' is ambiguous: {choices}. Write one of them in full.")
        for plugin in self.plugins:
            if plugin.state != "ok" and plugin.name in (prefix, short):
                raise PluginError(
                    f"{what} '{name}': the plugin '{plugin.name}' ({plugin.distribution}) is {plugin.state}: {plugin.reason}"
                )
        allowed = self.names(*kinds)
        raise PluginError(f"unknown {what} '{name}'.{did_you_mean(name, allowed)} Allowed: {', '.join(allowed)}")

    def names(self, *kinds: Kind) -> list[str]:
        """Returns every name that `find` would take for these kinds, short where it is unambiguous."""
        seen: dict[str, None] = {}
        for match in self.components(*kinds):
            names = match.component.names or (match.component.name,)
            seen.update(dict.fromkeys(names))
        return list(seen)

    def _named(self, match: Match, short: str) -> Match:
        component = match.component
        if component.name_option and short != component.name:
            return Match(match.qualified, component, match.plugin, {component.name_option: short})
        return match


def _answers(component: Component, name: str) -> bool:
    return component.answers is not None and bool(import_attribute(component.answers)(name))
