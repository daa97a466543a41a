"""`ssl-plugins check`: the conformance suite of a part, without pytest."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ssl_core.cli.arguments import Parser
from ssl_core.errors import PluginError, UnknownPartError, UsageError, did_you_mean
from ssl_core.plugins.component import Kind
from ssl_core.plugins.registry import Match, Registry

if TYPE_CHECKING:
    from ssl_core.testing.check import BoundCheck, Verdict

_USAGE = """usage: ssl-plugins check NAME [option=value ...] [flags]

Makes every check of ssl_core.testing on a part (beit:block), or on each part of a plugin (beit): shapes, seeds,
workers, saved state, bf16, a short run that is resumed, two processes.

  option=value      an option of the part, without its section: path=photos

flags:
  --kind KIND       where parts of several kinds have that name
  --plugin FILE     a single-file plugin too; without NAME, its parts are checked
  --no-plugin NAME  leave an installed plugin out
  --safe            load only the plugins of this distribution, no others
  --json            one JSON object on stdout
  --help            this help"""


class ChecksFailed(PluginError):
    """Checks that failed (exit code 2)."""


def check_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Does what the arguments say; prints a line a check and returns JSON-ready values.

    Raises:
        PluginError: no such part, or its plugin is broken.
        ChecksFailed: a check failed.
    """
    parser = Parser(prog="ssl-plugins check")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--kind")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    parser.add_argument("--no-plugin", action="append", default=[])
    parser.add_argument("--safe", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    # Options first: argparse would take `path=photos` for the name.
    settings = [item for item in arguments if "=" in item and not item.startswith("-")]
    flags, rest = parser.parse_known_args([item for item in arguments if item not in settings])
    if flags.help:
        print(_USAGE)
        return {"help": _USAGE}
    if rest:
        raise UsageError(f"ssl-plugins check: '{rest[0]}' is not expected. See ssl-plugins check --help")
    if flags.kind is not None and flags.kind not in get_args(Kind):
        kinds = get_args(Kind)
        raise UsageError(
            f"--kind {flags.kind}: no such kind.{did_you_mean(flags.kind, kinds)} Kinds: {', '.join(kinds)}"
        )
    registry = Registry.load(flags.no_plugin, flags.plugin, flags.safe)
    names = [flags.name] if flags.name is not None else [path.stem for path in flags.plugin]
    if not names:
        raise UsageError("ssl-plugins check: which one? Give a part (beit:block), a plugin (beit) or --plugin FILE")
    matches = [match for name in names for match in parts_of(registry, name, flags.kind)]
    options = dict(item.split("=", 1) for item in settings)
    if options and len(matches) > 1:
        raise UsageError(f"{settings[0]}: options are for one part; name one of {', '.join(map(_title, matches))}")
    return check_parts(registry, matches, options)


def parts_of(registry: Registry, name: str, kind: Kind | None) -> list[Match]:
    """Returns the parts that a name means: those of the plugin of that name, or the part.

    Raises:
        PluginError: none, several of different kinds, or of a broken plugin.
    """
    for plugin in registry.plugins:
        if plugin.name == name and plugin.state != "ok":
            origin = f"plugin '{name}' ({plugin.distribution})"
            raise PluginError(f"{origin} is {plugin.state}: {plugin.reason}", hint=f"ssl-plugins doctor {name}")
    wanted = () if kind is None else (kind,)
    of_plugin = [match for match in registry.components(*wanted) if match.plugin.name == name]
    if of_plugin:
        return of_plugin
    found = [match for match in registry.components(*wanted) if name in (match.qualified, *_names(match))]
    if len(found) > 1:
        choices = ", ".join(map(_title, found))
        raise PluginError(f"'{name}' is ambiguous: {choices}. Give the full name, or --kind KIND")
    if found:
        return [registry.find(name, found[0].component.kind)]
    try:
        return [registry.find(name, *wanted)]
    except UnknownPartError:
        allowed = [plugin.name for plugin in registry.plugins] + registry.names(*wanted)
        what = "part" if kind is None else kind
        raise UnknownPartError(f"no plugin and no {what} '{name}'.{did_you_mean(name, allowed)}") from None


def _names(match: Match) -> list[str]:
    short = (match.component.name, *match.component.names)
    return [*short, *(f"{match.plugin.name}:{name}" for name in short)]


def _title(match: Match) -> str:
    return f"{match.component.kind} {match.qualified}"


def check_parts(registry: Registry, matches: Sequence[Match], options: Mapping[str, str]) -> Mapping[str, Any]:
    """Checks parts one after the other.

    Args:
        options: of the only part, as text.

    Raises:
        ChecksFailed: at least one check failed.
    """
    from ssl_core.config.values import parse_value

    print(f"checking {', '.join(map(_title, matches))} ...", flush=True)
    from ssl_core.testing.check import bound_checks  # with torch, which takes seconds
    from ssl_core.testing.conformance import Request

    given = {name: parse_value(text) for name, text in options.items()}
    parts, failed, total = [], 0, 0
    for match in matches:
        checks = bound_checks(Request(match.qualified, match.component.kind, given), registry)
        verdicts = _check_part(checks)
        parts.append({"part": _title(match), "checks": [asdict(verdict) for verdict in verdicts]})
        failed += sum(verdict.state == "failed" for verdict in verdicts)
        total += len(verdicts)
    result = {"parts": parts, "checks": total, "failed": failed}
    if failed:
        error = ChecksFailed(
            f"{failed} of {total} checks failed", hint="change what the lines above say, and check again"
        )
        error.details = result
        raise error
    print(f"all is well: {total} checks")
    return result


def _check_part(checks: Sequence[BoundCheck]) -> list[Verdict]:
    print(f"\n{checks[0].subject.described}")
    width = max(len(check.name) for check in checks)
    verdicts = []
    for number, check in enumerate(checks, 1):
        if sys.stderr.isatty():
            print(f"\r  {number}/{len(checks)} {check.name} ...\033[K\r", end="", file=sys.stderr, flush=True)
        start = time.perf_counter()
        verdict = check.run()
        verdicts.append(verdict)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        seconds = time.perf_counter() - start
        took = f"  ({seconds:.0f} s)" if seconds >= 2 else ""
        why = f"  {verdict.what}" if verdict.what else ""
        print(f"  {verdict.state:<7} {check.name:<{width}}{why}{took}".rstrip(), flush=True)
        if verdict.fix:
            print(f"          change: {verdict.fix}", flush=True)
    return verdicts
