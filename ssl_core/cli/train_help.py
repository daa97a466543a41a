"""`ssl-train --help`: the flags, and the options of exactly the parts that were chosen."""

from __future__ import annotations

import shutil
import textwrap

from ssl_core.cli.arguments import Parser
from ssl_core.cli.option_table import format_rows, option_rows
from ssl_core.config.layers import TOKENIZER_TRAIN
from ssl_core.config.merge import merge, section_classes
from ssl_core.config.sections import SECTIONS, GeneralOptions
from ssl_core.config.select import Selection
from ssl_core.plugins.component import SLOT_KINDS, Component
from ssl_core.plugins.registry import Registry

_WIDEST = 120


def help_text(parser: Parser, registry: Registry, selection: Selection | None) -> str:
    """Returns the help.

    Args:
        selection: the chosen parts; None = no method was named, so only the methods and the engine's own options.
    """
    width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
    method = "METHOD" if selection is None else selection.method.component.name
    lines = [
        "usage: ssl-train --method NAME [--data PATH_OR_NAME] [--out DIR] [flags] [part.key=value ...]",
        "",
        "Trains a vision backbone on images without labels.",
        "",
        "flags:",
    ]
    lines += parser.flag_lines()
    lines += [
        "",
        "examples:",
        f"  ssl-train --method {method} --out runs/first",
        f"  ssl-train --method {method} --data ~/photos --out runs/photos train.epochs=100 optim.lr=1e-3",
        f"  ssl-train --method {method} --data ~/photos --print-config",
        "  ssl-train --resume runs/photos",
        "",
    ]
    lines += _methods(registry) if selection is None else _parts(selection, width)
    return "\n".join(lines)


def _methods(registry: Registry) -> list[str]:
    lines = ["methods (ssl-train --method NAME --help lists the options of its parts):"]
    for match in registry.components("method"):
        lines.append(f"  {match.component.name:<22} {match.component.summary}")
    lines += ["", "options of every method:"]
    for section, options in {"": GeneralOptions, **SECTIONS}.items():
        lines += format_rows(option_rows(options, section), _WIDEST)
    return lines


def _parts(selection: Selection, width: int) -> list[str]:
    merged = merge(selection.layers, selection.defaults, selection.parts, [])
    lines = []
    for section, options in section_classes(selection.method, selection.parts).items():
        rows = format_rows(option_rows(options, section, merged.get(section, {})), width)
        if section in SLOT_KINDS or section == "method":
            match = selection.method if section == "method" else selection.parts[section]
            title = f"{section} {match.qualified}: {match.component.summary}"
        elif section == TOKENIZER_TRAIN:
            title = f"{section}: {' '.join((options.__doc__ or '').split())} More options of its own method may follow."
        else:
            title = f"{section}: {' '.join((options.__doc__ or '').split())}" if section else "without a section:"
        lines += textwrap.wrap(title, width, subsequent_indent="  ")
        lines += [*(rows or ["  (no options)"]), ""]
    return lines + _recipes(selection.method.component, width)


def _recipes(method: Component, width: int) -> list[str]:
    if not method.recipes:
        return []
    lines = ["recipes (chosen by the data and the backbone, over the values above; see ssl-plugins info):"]
    for recipe in method.recipes:
        lines += textwrap.wrap(f"  {recipe.name}: {recipe.summary}", width, subsequent_indent="    ")
    return lines
