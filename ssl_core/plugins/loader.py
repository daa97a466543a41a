"""Loads plugins one by one, so that a broken one hurts only a run that asks for it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pluggy

from ssl_core.errors import PluginError
from ssl_core.plugins import hookspecs
from ssl_core.plugins.component import API_VERSION, Component

State = Literal["ok", "broken", "incompatible", "disabled", "duplicate"]

_REGISTRATION_PREFIX = "register_"


@dataclass(frozen=True)
class Plugin:
    """One plugin that was found, loaded or not.

    Attributes:
        name: of its entry point; the first half of a qualified component name.
        distribution: what to `pip uninstall`, with its version; or the path of a single file.
        state: only `ok` ones offer components.
        reason: why it is not `ok`; empty otherwise.
        components: what it registered.
        sha256: of a single-file plugin; None for installed ones.
    """

    name: str
    distribution: str
    state: State
    reason: str = ""
    components: tuple[Component, ...] = ()
    sha256: str | None = None


@dataclass(frozen=True)
class LoadedPlugins:
    """Every plugin with its state, and the pluggy manager that reaches the good ones."""

    plugins: tuple[Plugin, ...]
    manager: pluggy.PluginManager


def disabled_by_environment() -> frozenset[str]:
    """Returns the names in SSL_DISABLE_PLUGINS, a comma-separated list."""
    names = os.environ.get("SSL_DISABLE_PLUGINS", "")
    return frozenset(name.strip() for name in names.split(",") if name.strip())


def load_plugins(disabled: Iterable[str] = (), files: Iterable[Path] = ()) -> LoadedPlugins:
    """Finds and loads every installed plugin and the given single files.

    Args:
        disabled: names that are not even imported, besides those in SSL_DISABLE_PLUGINS.
        files: single-file plugins (`--plugin ./my_masker.py`), named by their stem.

    Raises:
        PluginError: a single file is missing or broken; the user asked for it by name.
    """
    manager = pluggy.PluginManager(hookspecs.NAMESPACE)
    manager.add_hookspecs(hookspecs)
    off = frozenset(disabled) | disabled_by_environment()
    plugins: dict[str, Plugin] = {}
    extra: list[Plugin] = []
    for distribution in sorted(importlib.metadata.distributions(), key=lambda d: d.metadata["Name"] or ""):
        for entry_point in distribution.entry_points.select(group=hookspecs.NAMESPACE):
            origin = f"{distribution.metadata['Name']} {distribution.version}"
            known = plugins.get(entry_point.name)
            if known is not None:
                if known.distribution != origin:
                    reason = f"the name '{entry_point.name}' is taken by {known.distribution}"
                    extra.append(Plugin(entry_point.name, origin, "duplicate", reason))
                continue
            plugin = Plugin(entry_point.name, origin, "ok")
            if entry_point.name in off:
                plugin = replace(plugin, state="disabled", reason="switched off by the user")
            else:
                plugin = _load(manager, plugin, entry_point.load)
            plugins[entry_point.name] = plugin
    for path in files:
        plugin = _load_file(manager, Path(path))
        if plugin.name in plugins:
            raise PluginError(f"--plugin {path}: the name '{plugin.name}' is taken by {plugins[plugin.name].distribution}")
        plugins[plugin.name] = plugin
    return LoadedPlugins((*plugins.values(), *extra), manager)


def _load(manager: pluggy.PluginManager, plugin: Plugin, load: Any) -> Plugin:
    try:
        module = load()
    except Exception as error:
        return replace(plugin, state="broken", reason=f"import failed: {_where(error)}")
    try:
        manager.register(module, plugin.name)
    except (pluggy.PluginValidationError, ValueError) as error:
        return replace(plugin, state="broken", reason=str(error).splitlines()[-1])
    unknown = [
        hook.name for hook in manager.get_hookcallers(module) or () if not hook.has_spec()
    ]
    if unknown:
        manager.unregister(module)
        known = ", ".join(name for name in vars(hookspecs) if name.startswith(_REGISTRATION_PREFIX))
        return replace(plugin, state="broken", reason=f"unknown hook '{unknown[0]}'; the hooks are {known}")
    try:
        components = tuple(_registered(manager, module))
    except Exception as error:
        manager.unregister(module)
        return replace(plugin, state="broken", reason=f"registration failed: {_where(error)}")
    wrong = [component.name for component in components if component.api_version != API_VERSION]
    if wrong:
        manager.unregister(module)
        versions = {component.api_version for component in components} - {API_VERSION}
        reason = f"'{wrong[0]}' was written for api version {versions.pop()}, this is version {API_VERSION}"
        return replace(plugin, state="incompatible", reason=reason)
    return replace(plugin, components=components)


def _registered(manager: pluggy.PluginManager, module: Any) -> Iterable[Component]:
    """Yields what this one module registers: each hook is called for it alone."""
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    for name in vars(hookspecs):
        if name.startswith(_REGISTRATION_PREFIX):
            kind = name.removeprefix(_REGISTRATION_PREFIX).removesuffix("s")
            for components in manager.subset_hook_caller(name, others)():
                for component in components:
                    if not isinstance(component, Component):
                        raise TypeError(f"{name}() must return a list of Component, got {type(component).__name__}")
                    if component.kind != kind:
                        raise ValueError(f"{name}() returned '{component.name}' of kind '{component.kind}'")
                    yield component


def _load_file(manager: pluggy.PluginManager, path: Path) -> Plugin:
    if not path.is_file():
        raise PluginError(f"--plugin {path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"--plugin {path}: not a Python file")

    def load() -> ModuleType:
        import sys

        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # so that its classes can be pickled to the data workers
        spec.loader.exec_module(module)
        return module

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    plugin = _load(manager, Plugin(path.stem, str(path), "ok", sha256=digest), load)
    if plugin.state != "ok":
        raise PluginError(f"--plugin {path}: {plugin.reason}")
    return plugin


def _where(error: BaseException) -> str:
    """Returns the error in one line, with the file and line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
