"""`ssl-plugins`: what is installed, what it offers, and what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_core.cli.arguments import Parser
from ssl_core.cli.check_plugin import check_command
from ssl_core.cli.console import run_command
from ssl_core.cli.doctor import doctor
from ssl_core.cli.new_plugin import new_command
from ssl_core.cli.plugin_report import (
    component_lines,
    component_values,
    plugin_head,
    plugin_lines,
    plugin_values,
)
from ssl_core.errors import UnknownPartError, UsageError, did_you_mean
from ssl_core.plugins.registry import Match, Registry

_USAGE = """usage: ssl-plugins COMMAND [flags]

  list           every plugin, its state, and its parts
  info NAME      a plugin or a part (beit, beit:block, vit_base): what it is, and its options
  doctor [NAME]  loads everything that a plugin offers, or all do, and says what is wrong
  check NAME     makes every check of ssl_core.testing on a part, or on each part of a plugin; check --help
  new KIND NAME  writes a folder with a working part of that kind, ready to install; --out DIR
  reference      every hook, contract and option of the engine, as Markdown

flags:
  --json            one JSON object on stdout
  --plugin FILE     a single-file plugin too
  --no-plugin NAME  leave an installed plugin out
  --safe            load only the plugins of this distribution, no others
  --help            this help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: plugins_command(arguments), json_output="--json" in arguments)


def plugins_command(arguments: Sequence[str]) -> Mapping[str, Any] | None:
    """Does what the arguments say; prints it for people and returns it as JSON-ready values."""
    if "new" in arguments[:1] and not {"--help", "-h"} & set(arguments):
        return new_command(arguments[1:])
    if "check" in arguments[:1]:
        return check_command(arguments[1:])
    if "reference" in arguments[:1] and not {"--help", "-h"} & set(arguments):
        return reference_command(arguments[1:])
    parser = Parser(prog="ssl-plugins")
    parser.add_argument("command", nargs="?")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    parser.add_argument("--no-plugin", action="append", default=[])
    parser.add_argument("--safe", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    flags, rest = parser.parse_known_args(arguments)
    if flags.help or flags.command is None:
        print(_USAGE)
        return {"help": _USAGE}
    commands: dict[str, Callable[[Registry, Any], Mapping[str, Any]]] = {"info": info, "doctor": doctor}
    if flags.command not in ("list", *commands):
        allowed = ("list", *commands, "check", "new", "reference")
        suggestion = did_you_mean(flags.command, allowed)
        raise UsageError(f"ssl-plugins: no command '{flags.command}'.{suggestion} Allowed: {', '.join(allowed)}")
    if rest:
        raise UsageError(f"ssl-plugins {flags.command}: '{rest[0]}' is not expected. See ssl-plugins --help")
    registry = Registry.load(flags.no_plugin, flags.plugin, flags.safe)
    if flags.command == "list":
        if flags.name is not None:
            raise UsageError(f"ssl-plugins list takes no name. Did you mean 'ssl-plugins info {flags.name}'?")
        return list_plugins(registry)
    if flags.name is None and flags.command == "info":
        raise UsageError(f"ssl-plugins {flags.command}: which one? See ssl-plugins list")
    return commands[flags.command](registry, flags.name)


def reference_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Prints the reference. It loads no plugin, so safe mode is no other."""
    unexpected = [item for item in arguments if item not in ("--json", "--safe")]
    if unexpected:
        raise UsageError(f"ssl-plugins reference: '{unexpected[0]}' is not expected. See ssl-plugins --help")
    from ssl_core.cli.reference import reference

    text = reference()
    print(text, end="")
    return {"reference": text}


def list_plugins(registry: Registry) -> Mapping[str, Any]:
    """Prints every plugin."""
    for plugin in registry.plugins:
        print("\n".join(plugin_lines(plugin)))
    return {"plugins": [plugin_values(plugin) for plugin in registry.plugins]}


def info(registry: Registry, name: str) -> Mapping[str, Any]:
    """Prints a plugin with all its parts, or every part of that name.

    Raises:
        PluginError: there is neither, or its plugin is broken.
    """
    plugins = [plugin for plugin in registry.plugins if plugin.name == name]
    matches = [match for match in registry.components() if match.plugin in plugins]
    matches += [match for match in named(registry, name) if match not in matches]
    if not plugins and not matches:
        matches = [_answering(registry, name)]
    for plugin in plugins:
        print(plugin_head(plugin))
    for match in matches:
        print(
            "\n".join(["", *component_lines(match)] if plugins or match is not matches[0] else component_lines(match))
        )
    return {
        "plugins": [plugin_values(plugin) for plugin in plugins],
        "components": [component_values(match) for match in matches],
    }


def _answering(registry: Registry, name: str) -> Match:
    """Returns the part of a family that is too large to list."""
    try:
        return registry.find(name)
    except UnknownPartError:
        allowed = [plugin.name for plugin in registry.plugins] + registry.names()
        suggestion = did_you_mean(name, allowed)
        raise UnknownPartError(f"no plugin and no part '{name}'.{suggestion} See ssl-plugins list") from None


def named(registry: Registry, name: str) -> list[Match]:
    """Returns every component, of any kind, that a name may mean."""
    prefix, _, short = name.rpartition(":")
    found = []
    for match in registry.components():
        names = (match.component.name, *match.component.names)
        if prefix in ("", match.plugin.name) and short in names:
            found.append(match)
    return found
