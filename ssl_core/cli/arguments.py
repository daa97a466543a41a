"""The flags of `ssl-train`, and what to say of a wrong one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ssl_core.config.sections import SECTIONS, GeneralOptions
from ssl_core.config.values import parse_settings
from ssl_core.errors import ConfigError, UsageError, did_you_mean


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError` in place of exiting, and leaves `--help` to the command."""

    def __init__(self, **keywords):
        super().__init__(add_help=False, allow_abbrev=False, **keywords)

    def error(self, message: str) -> NoReturn:
        if message.startswith("argument ") and message.endswith("expected one argument"):
            message = f"{message.removeprefix('argument ').split(':')[0]}: needs a value"
        raise UsageError(message)

    def flags(self) -> list[argparse.Action]:
        """Returns the flags in the order in which they were added."""
        return [action for action in self._actions if action.option_strings]

    def flag_lines(self) -> list[str]:
        """Returns a line of help for each flag."""
        names = {action: f"{action.option_strings[0]} {action.metavar or ''}" for action in self.flags()}
        return [f"  {name:<22} {action.help}" for action, name in names.items()]

    def parse_with_settings(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
        """Parses flags and `part.key=value` items in any order.

        Raises:
            ConfigError: unknown flags, or items that are no settings.
        """
        namespace, rest = self.parse_known_args(arguments)
        problems, items = _split_flags(rest, [name for action in self.flags() for name in action.option_strings])
        settings: Mapping[str, str] = {}
        try:
            settings = parse_settings(items)
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError(problems)
        return namespace, dict(settings)


def at_least(low: int) -> Callable[[str], int]:
    """Returns what a flag takes as its `type` that must be a whole number, `low` or more."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"'{text}' given; give a whole number, {low} or more")
        return value

    return whole_number


def train_parser() -> Parser:
    """Returns the parser of `ssl-train`."""
    parser = Parser(prog="ssl-train")
    add = parser.add_argument
    add("--method", metavar="NAME", help="how to train")
    add("--backbone", metavar="NAME", help="what is trained")
    add("--tokenizer", metavar="NAME", help="what is to be predicted: a tokenizer, or another source of targets")
    add("--masker", metavar="NAME", help="which patches are hidden")
    add("--head", metavar="NAME", help="what turns features into a loss")
    add("--transform", metavar="NAME", help="how views are cut from an image")
    add("--data", metavar="PATH_OR_NAME", help="a folder of images, or a data set; without it, a small demonstration")
    add("--out", metavar="DIR", type=Path, help="the run folder; runs/<method>-<backbone>-<n> by default")
    add("--config", metavar="FILE", type=Path, help="a YAML file of options; the command line goes over it")
    add("--resume", metavar="RUN", type=Path, help="go on with an interrupted run")
    add("--replay", metavar="RUN", type=Path, help="show what is not finite in the batch that ended a run")
    add("--force", action="store_true", help="with --resume: also with options that change what is computed")
    add("--init-from", metavar="CKPT", type=Path, help="start from the weights of any checkpoint, or timm:NAME")
    add("--plugin", metavar="FILE", type=Path, action="append", default=[], help="load a single-file plugin too")
    add("--no-plugin", metavar="NAME", action="append", default=[], help="leave an installed plugin out")
    add("--safe", action="store_true", help="load only the plugins of this distribution, no others")
    add("--dry-run", action="store_true", help="build everything, take one step, print the plan, write nothing")
    add("--print-config", action="store_true", help="print every option and where its value comes from")
    add("--overwrite", action="store_true", help="delete what is in --out")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--help", "-h", action="store_true", help="this help; with --method, the options of just these parts")
    add("--version", action="store_true", help="print the version")
    return parser


def _split_flags(rest: Sequence[str], known: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits what argparse did not know into lines about unknown flags, and the other items."""
    problems: list[str] = []
    items: list[str] = []
    position = 0
    while position < len(rest):
        item = rest[position]
        position += 1
        if not item.startswith("-"):
            items.append(item)
            continue
        flag, separator, value = item.partition("=")
        if not separator and position < len(rest) and not rest[position].startswith("-") and "=" not in rest[position]:
            value = rest[position]
            position += 1
        problems.append(f"unknown flag '{flag}'.{_instead(flag, value or 'VALUE', known)}")
    return problems, items


def _instead(flag: str, value: str, known: Sequence[str]) -> str:
    """Returns what was probably meant by an unknown flag: an option, which has no dashes, or another flag."""
    name = flag.lstrip("-").replace("-", "_")
    section, _, key = name.rpartition(".")
    options = [f"{part}.{name}" for part, options in SECTIONS.items() if name in options.model_fields]
    if (section and key) or name in GeneralOptions.model_fields:
        options = [name]
    if options:
        return f" Options are written without dashes: {' or '.join(f'{option}={value}' for option in options)}"
    return did_you_mean(flag, known) or f" Flags: {', '.join(known)}"
