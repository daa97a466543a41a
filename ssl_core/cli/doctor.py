"""`ssl-plugins doctor`: loads everything that a plugin offers, and says what is wrong and where."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from ssl_core.cli.plugin_report import plugin_head, plugin_values
from ssl_core.errors import PluginError, did_you_mean
from ssl_core.plugins.component import SLOT_KINDS, Component, import_attribute
from ssl_core.plugins.loader import Plugin
from ssl_core.plugins.registry import Registry
from ssl_core.testing.contract import CONTRACTS, missing_methods
from ssl_core.testing.source import place_of, raised_at


def doctor(registry: Registry, name: str | None) -> Mapping[str, Any]:
    """Examines a plugin, or all: its state, the classes it names, and whether they have what their kinds need.

    Raises:
        PluginError: there is no such plugin, or something is wrong with it. Each line names the plugin, its
            distribution and, where there is one, the file and line.
    """
    plugins = [plugin for plugin in registry.plugins if name in (None, plugin.name)]
    if not plugins:
        names = [plugin.name for plugin in registry.plugins]
        raise PluginError(f"no plugin '{name}'.{did_you_mean(name, names)} Installed: {', '.join(names)}")
    problems = [problem for plugin in plugins for problem in _examine(plugin, registry)]
    parts = sum(len(plugin.components) for plugin in plugins)
    result = {"plugin": name, "parts": parts, "plugins": [plugin_values(plugin) for plugin in plugins]}
    if problems:
        error = PluginError("\n".join(problems))
        error.details = {**result, "problems": problems}
        raise error
    print(f"{name or 'all plugins'}: all is well")
    return {**result, "problems": []}


def _examine(plugin: Plugin, registry: Registry) -> list[str]:
    """Prints what is found, and returns a line for each problem."""
    print(plugin_head(plugin))
    origin = f"plugin '{plugin.name}' ({plugin.distribution})"
    if plugin.state != "ok":
        return [f"{origin} is {plugin.state}: {plugin.reason}"]
    problems = []
    for component in plugin.components:
        what = f"{component.kind} {plugin.name}:{component.name}"
        for target in filter(None, (component.target, component.answers)):
            found = list(_problems_of(target, component, registry))
            print(f"  {'WRONG' if found else 'ok   '}  {what}: {target}")
            problems += [f"{what} of {origin}: {problem}" for problem in found]
    return problems


def _problems_of(target: str, component: Component, registry: Registry) -> Iterator[str]:
    """Yields what is wrong with a class or function that a component names."""
    try:
        loaded = import_attribute(target)
    except Exception as error:  # whatever a plugin's module raises is what this command is for
        place = _import_place(error)
        yield f"cannot load {target}: {type(error).__name__}: {' '.join(str(error).split())}{place}"
        return
    if not callable(loaded):
        yield f"cannot load {target}: it cannot be called"
        return
    if target != component.target:
        return
    if inspect.isclass(loaded):
        yield from _problems_of_class(loaded, component)
    for slot, name in component.slots.items():
        try:
            registry.find(name, *SLOT_KINDS[slot])
        except PluginError as error:
            yield f"its {slot} '{name}': {error}"


def _problems_of_class(loaded: type, component: Component) -> Iterator[str]:
    at = f"{loaded.__name__} ({place_of(loaded)})"
    contract = CONTRACTS[component.kind]()
    if not issubclass(loaded, contract):
        yield f"{at} does not derive from {contract.__name__}, the contract of a {component.kind}"
        return
    for name in missing_methods(loaded):
        yield f"{at} does not define {name}{_signature(getattr(contract, name, None))}"
    if not _takes(loaded.__init__, ("self", "options", "context")):
        yield f"{at}: __init__{_signature(loaded.__init__)} cannot be called as {loaded.__name__}(options, context)"
    for name in sorted(getattr(contract, "__abstractmethods__", ())):
        own, wanted = inspect.getattr_static(loaded, name), inspect.getattr_static(contract, name)
        if inspect.isfunction(own) and inspect.isfunction(wanted) and own is not wanted:
            needed = tuple(inspect.signature(wanted).parameters)
            if not _takes(own, needed):
                yield (
                    f"{loaded.__name__}.{name}{_signature(own)} ({place_of(own)}) cannot be called as the contract "
                    f"says, {name}{_signature(wanted)}"
                )


def _takes(function: Any, needed: tuple[str, ...]) -> bool:
    """Returns whether a method can be called with these arguments in this order."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True  # a built-in one: it cannot be known
    try:
        signature.bind(*needed)
    except TypeError:
        return False
    return True


def _signature(function: Any) -> str:
    """Returns "(self, grid, rng)": the names alone."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ""
    return f"({', '.join(str(parameter).split(':')[0].split(' =')[0] for parameter in parameters)})"


def _import_place(error: Exception) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and "importlib" not in frame.filename
    ]
    own = [frame for frame in frames if not frame.filename.endswith(("cli/doctor.py", "plugins/component.py"))]
    place = raised_at(traceback.StackSummary.from_list(own[:1]), ())
    return "" if place is None else f" ({place})"
