"""Loads plugins one by one, so that a broken one hurts only a run that asks for it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pluggy

from ssl_core.errors import PluginError, UsageError, did_you_mean
from ssl_core.plugins import hookspecs
from ssl_core.plugins.component import API_VERSION, Component, check_component

State = Literal["ok", "broken", "incompatible", "disabled", "duplicate"]

_REGISTRATION_PREFIX = "register_"

DISTRIBUTION = "ssl-vision"
"""Whose plugins safe mode loads: the distribution that this file came with."""


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


def safe_by_environment() -> bool:
    """Returns whether SSL_SAFE asks for safe mode: it is set, and neither to nothing nor to 0."""
    return os.environ.get("SSL_SAFE", "0") not in ("", "0")


def load_plugins(disabled: Iterable[str] = (), files: Iterable[Path] = (), safe: bool = False) -> LoadedPlugins:
    """Finds and loads every installed plugin and the given single files.

    Args:
        disabled: names that are not even imported, besides those in SSL_DISABLE_PLUGINS.
        files: single-file plugins (`--plugin ./my_masker.py`), named by their stem.
        safe: import only the plugins of this distribution. SSL_SAFE=1 asks for it as well.

    Raises:
        UsageError: single files in safe mode.
        PluginError: a single file is missing or broken, or a disabled name is unknown; the user asked for it by name.
    """
    manager = pluggy.PluginManager(hookspecs.NAMESPACE)
    manager.add_hookspecs(hookspecs)
    disabled = frozenset(disabled)
    off = disabled | disabled_by_environment()
    safe = safe or safe_by_environment()
    files = [Path(file) for file in files]
    if safe and files:
        raise UsageError(f"--plugin {files[0]}: safe mode runs no code from files; leave out --safe (SSL_SAFE) or this")
    plugins: dict[str, Plugin] = {}
    extra: list[Plugin] = []
    for entry_point, origin in _entry_points():
        known = plugins.get(entry_point.name)
        if known is not None:
            if known.distribution != origin:
                reason = f"the name '{entry_point.name}' is taken by {known.distribution}"
                extra.append(Plugin(entry_point.name, origin, "duplicate", reason))
            continue
        plugin = Plugin(entry_point.name, origin, "ok")
        if entry_point.name in off:
            plugin = replace(plugin, state="disabled", reason="switched off by the user")
        elif safe and not _is_own(entry_point):
            plugin = replace(plugin, state="disabled", reason="safe mode loads only what comes with " + DISTRIBUTION)
        else:
            plugin = _load(manager, plugin, entry_point.load)
        plugins[entry_point.name] = plugin
    for name in disabled - plugins.keys():
        raise PluginError(f"--no-plugin {name}: no such plugin.{did_you_mean(name, plugins)} See `ssl-plugins list`.")
    for path in files:
        if path.stem in plugins:
            taken = plugins[path.stem].distribution
            raise PluginError(f"--plugin {path}: the name '{path.stem}' is taken by {taken}. Rename the file.")
        plugins[path.stem] = _load_file(manager, path)
    return LoadedPlugins((*plugins.values(), *extra), manager)


def _entry_points() -> list[tuple[importlib.metadata.EntryPoint, str]]:
    """Returns (entry point, "distribution version") of every installed plugin.

    They are in the order of the distributions; ours is first, so nobody takes a name of its plugins.
    """
    found = importlib.metadata.entry_points(group=hookspecs.NAMESPACE)
    named = [(point, f"{point.dist.name} {point.dist.version}") for point in found if point.dist is not None]
    return sorted(named, key=lambda item: (not _is_own(item[0]), item[1]))


def _is_own(entry_point: importlib.metadata.EntryPoint) -> bool:
    return entry_point.dist is not None and entry_point.dist.name == DISTRIBUTION


def _load(manager: pluggy.PluginManager, plugin: Plugin, load: Callable[[], Any]) -> Plugin:
    try:
        module = load()
    except (Exception, SystemExit) as error:
        return replace(plugin, state="broken", reason=f"import failed: {_where(error)}")
    try:
        manager.register(module, plugin.name)
        known = [name for name in vars(hookspecs) if _is_hook(name)]
        unknown = [hook.name for hook in manager.get_hookcallers(module) or () if not hook.has_spec()]
        if unknown:
            suggestion = did_you_mean(unknown[0], known)
            problem = f"unknown hook '{unknown[0]}'.{suggestion} The hooks are {', '.join(known)}"
            return _refused(manager, plugin, "broken", problem + _line_of(module, unknown[0]))
        components = tuple(_registered(manager, module))
    except pluggy.PluginValidationError as error:
        # pluggy's first line repeats the plugin and the hook, the following ones say what differs.
        hook = next((name for name in vars(hookspecs) if _is_hook(name) and f"'{name}'" in str(error)), "")
        return _refused(manager, plugin, "broken", " ".join(str(error).split()) + _line_of(module, hook))
    except _Misregistered as error:
        return _refused(manager, plugin, "broken", f"registration failed: {error}{_line_of(module, error.hook)}")
    except Exception as error:
        return _refused(manager, plugin, "broken", f"registration failed: {_where(error)}")
    for component in components:
        if component.api_version != API_VERSION:
            wanted = f"was written for api version {component.api_version}, this is version {API_VERSION}"
            hook = f"{_REGISTRATION_PREFIX}{component.kind}s"
            reason = f"'{component.name}' {wanted}{_line_of(module, hook)}"
            return _refused(manager, plugin, "incompatible", reason)
    return replace(plugin, components=components)


class _Misregistered(Exception):
    """A hook returned what the engine cannot use."""

    def __init__(self, hook: str, problem: str):
        super().__init__(problem)
        self.hook = hook


def _line_of(module: Any, name: str) -> str:
    """Returns " (file:line)" of a function in a plugin's module, or "" where it cannot be found."""
    code = getattr(getattr(module, name, None), "__code__", None)
    return "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"


def _refused(manager: pluggy.PluginManager, plugin: Plugin, state: State, reason: str) -> Plugin:
    """Takes back what was registered of a plugin, so that none of its hooks is ever called."""
    if manager.has_plugin(plugin.name):
        manager.unregister(name=plugin.name)
    return replace(plugin, state=state, reason=reason)


def _is_hook(name: str) -> bool:
    return hasattr(getattr(hookspecs, name), f"{hookspecs.NAMESPACE}_spec")


def _registered(manager: pluggy.PluginManager, module: Any) -> Iterator[Component]:
    """Yields what this one module registers: each hook is called for it alone."""
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    seen: set[tuple[str, str]] = set()
    for hook in vars(hookspecs):
        if not hook.startswith(_REGISTRATION_PREFIX):
            continue
        kind = hook.removeprefix(_REGISTRATION_PREFIX).removesuffix("s")
        for components in manager.subset_hook_caller(hook, others)():
            if not isinstance(components, list | tuple) or not all(isinstance(item, Component) for item in components):
                raise _Misregistered(hook, f"{hook}() must return a list of Component")
            for component in components:
                if component.kind != kind:
                    raise _Misregistered(hook, f"{hook}() returned '{component.name}' of kind '{component.kind}'")
                if (kind, component.name) in seen:
                    raise _Misregistered(hook, f"{hook}() returned '{component.name}' twice")
                seen.add((kind, component.name))
                try:
                    check_component(component)
                except ValueError as error:
                    raise _Misregistered(hook, str(error)) from None
                yield component


def _load_file(manager: pluggy.PluginManager, path: Path) -> Plugin:
    if not path.is_file():
        raise PluginError(f"--plugin {path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    loader = None if spec is None else spec.loader
    if spec is None or loader is None:
        raise PluginError(f"--plugin {path}: not a Python file; its name must end in .py")
    _refuse_shadowing(path)

    def load() -> ModuleType:
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # so that targets are found and classes can be pickled to the data workers
        loader.exec_module(module)
        return module

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    plugin = _load(manager, Plugin(path.stem, str(path), "ok", sha256=digest), load)
    if plugin.state != "ok":
        sys.modules.pop(path.stem, None)
        raise PluginError(f"--plugin {path}: {plugin.reason}")
    return plugin


def _refuse_shadowing(path: Path) -> None:
    """Refuses a file that would take the place of another module of its name (`random.py`)."""
    loaded = sys.modules.get(path.stem)
    known = loaded.__spec__ if loaded is not None else importlib.util.find_spec(path.stem)
    if known is not None and known.origin != str(path.resolve()):
        raise PluginError(f"--plugin {path}: a module named '{path.stem}' exists already. Rename the file.")


def _where(error: BaseException) -> str:
    """Returns the error in one line, with the file and line of the plugin that raised it."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    if not frames:
        return text
    # The first file is the plugin's. What it calls, pydantic say, is not where the mistake is.
    first, folder = frames[0].filename, os.path.dirname(frames[0].filename)
    own = [
        frame for frame in frames if frame.filename == first or (folder not in sys.path and folder in frame.filename)
    ]
    return f"{text} ({own[-1].filename}:{own[-1].lineno})"


def _is_machinery(file: str) -> bool:
    """Returns whether a file only leads to the plugin: this one, importlib and pluggy."""
    machinery = (importlib.__file__, importlib.metadata.__file__, pluggy.__file__)
    return file == __file__ or file.startswith(("<frozen", *map(os.path.dirname, machinery)))
