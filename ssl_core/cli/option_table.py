"""Options as rows of a table: name, type, value, bounds and help."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from ssl_core.config.docstrings import option_help
from ssl_core.config.merge import Setting
from ssl_core.config.messages import dotted
from ssl_core.options import Options

_TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path", type(None): "none"}
_COUNTABLE = frozenset({"whole number", "number", "text", "path"})
"""Types whose plural has an s."""
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


@dataclass(frozen=True)
class OptionRow:
    """One option as a person reads it.

    Attributes:
        name: with its section, `masker.ratio`.
        type: in words.
        value: what it is unless the user sets it.
        origin: where the value comes from: `default`, `preset beit`; `required` where there is none.
        bounds: in words; may be empty.
        help: the docstring under the field.
    """

    name: str
    type: str
    value: Any
    origin: str
    bounds: str
    help: str

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        return asdict(self)


def option_rows(options: type[Options], section: str, settings: Mapping[str, Setting] | None = None) -> list[OptionRow]:
    """Returns a row for each option.

    Args:
        settings: values that lie over the defaults.
    """
    rows = []
    help_texts = option_help(options)
    for key, field in options.model_fields.items():
        setting = (settings or {}).get(key)
        if setting is not None:
            value, origin = setting.value, setting.layer.name
        elif field.is_required():
            value, origin = None, "required"
        else:
            value, origin = field.get_default(call_default_factory=True), "default"
        help_text = help_texts.get(key, "")
        rows.append(
            OptionRow(dotted(section, key), type_name(field.annotation), value, origin, bounds(field), help_text)
        )
    return rows


def format_rows(rows: Iterable[OptionRow], width: int, indent: str = "  ") -> list[str]:
    """Returns the lines of a table: the option and its value, its type and bounds; its help below."""
    lines = []
    for row in rows:
        value = "..." if row.origin == "required" else format_value(row.value)
        notes = ", ".join(note for note in (row.type, row.bounds) if note)
        origin = "" if row.origin == "default" else f" ({'must be given' if row.origin == 'required' else row.origin})"
        lines.append(f"{indent}{f'{row.name}={value}':<34} {notes}{origin}".rstrip())
        lines += textwrap.wrap(row.help, width, initial_indent=f"{indent}    ", subsequent_indent=f"{indent}    ")
    return lines


def format_value(value: Any) -> str:
    """Returns a value as it would be typed."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def type_name(annotation: Any) -> str:
    """Returns a type in words: "whole number or none", "a | b", "3 numbers"."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(inner[0])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_name, inner)))
    if origin is tuple and len(inner) > 1 and inner[-1] is not Ellipsis:
        kinds = list(dict.fromkeys(map(type_name, inner)))
        return f"{len(inner)} {kinds[0]}s" if len(kinds) == 1 else f"[{', '.join(map(type_name, inner))}]"
    if origin in (tuple, list, set, frozenset) and inner:
        name = type_name(inner[0])
        return f"list of {name}s" if name in _COUNTABLE else f"list of ({name})"
    if origin is dict:
        return "mapping"
    return _TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def bounds(field: FieldInfo) -> str:
    """Returns the bounds of a number in words: "above 0, at most 1"."""
    words = []
    for constraint in field.metadata:
        for name, word in _BOUNDS.items():
            limit = getattr(constraint, name, None)
            if limit is not None:
                words.append(f"{word} {format_value(limit)}")
    return ", ".join(words)
