"""What is wrong with an option, in words that follow its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from ssl_core.errors import did_you_mean, nearest
from ssl_core.options import Options


def dotted(section: str, key: str) -> str:
    """Returns `section.key`, or the one that is not empty."""
    return ".".join(part for part in (section, key) if part)


def no_such_option(section: str, key: str, sections: Mapping[str, type[Options]]) -> str:
    """Returns what to say of an option that does not exist.

    Args:
        section, key: as the user wrote them.
        sections: section -> its options; the very name is looked for in all of them, a like one in its own.
    """
    own = sections[section].model_fields
    if not section and key in sections:
        return f"this is a section; write {key}.OPTION=value"
    elsewhere = _having(key, sections)
    if elsewhere:
        return f"no such option.{elsewhere}"
    close = nearest(key, own)
    if close is not None:
        return f"no such option. Did you mean '{dotted(section, close)}'?"
    names = ", ".join(dotted(section, name) for name in own)
    return f"no such option. Allowed: {names}" if names else "no such option; this part has none"


def no_such_section(section: str, key: str, sections: Mapping[str, type[Options]]) -> str:
    """Returns what to say of an option whose section does not exist."""
    close = nearest(section, sections)
    if close is not None and key in sections[close].model_fields:
        suggestion = f" Did you mean '{dotted(close, key)}'?"
    else:
        suggestion = _having(key, sections) or (f" Did you mean '{close}'?" if close else "")
    return f"no such section.{suggestion} Sections: {', '.join(name for name in sections if name)}"


def no_slot(slot: str, method: str, slots: Iterable[str]) -> str:
    """Returns what to say of a slot that a method lacks."""
    return f"method '{method}' has no {slot}; its parts are {', '.join(slots)}"


def _having(key: str, sections: Mapping[str, type[Options]]) -> str:
    """Returns " Did you mean 'optim.lr'?" with every section that has this option, or ""."""
    found = [f"'{dotted(name, key)}'" for name, options in sections.items() if key in options.model_fields]
    return f" Did you mean {' or '.join(found)}?" if found else ""


def describe_error(error: Mapping[str, Any], given: Any, annotation: Any) -> str:
    """Puts one of pydantic's errors into words, for a user who has never heard of pydantic.

    Args:
        error: an item of `ValidationError.errors()`.
        given: the value as the user wrote it.
        annotation: the type of the option; None when it has none.
    """
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing" and len(error["loc"]) == 1:
        return "must be given"
    if kind in _BOUNDS:
        direction, words = _BOUNDS[kind]
        return f"{given} is too {direction}; {words} {next(iter(context.values())):g}"
    if kind == "literal_error":
        allowed = [str(value) for value in _literals(annotation)]
        return f"{given!r} is not allowed; one of {', '.join(allowed)}.{did_you_mean(str(given), allowed)}"
    if kind == "value_error":
        return str(context["error"])
    if kind in ("missing", "too_short", "too_long"):
        count = context.get("min_length") or context.get("max_length") or len(get_args(annotation))
        return f"{given} has the wrong number of values; {count} are needed"
    for start, words in _TYPES.items():
        if kind.startswith(start):
            return f"{given!r} {words}"
    return f"{given!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


_BOUNDS = {
    "greater_than": ("small", "it must be above"),
    "greater_than_equal": ("small", "at least"),
    "less_than": ("large", "it must be below"),
    "less_than_equal": ("large", "at most"),
}

_TYPES = {
    "int_": "is not a whole number",
    "float_": "is not a number",
    "finite_number": "is not a finite number",
    "bool_": "is neither true nor false",
    "string_": "is not a text",
    "path_": "is not a path",
    "tuple_": "is not a list, as in [1, 2]",
    "list_": "is not a list, as in [1, 2]",
    "dict_": "is not a mapping, as in {a: 1}",
}
"""Start of pydantic's name of an error -> what it means."""


def _literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for inner in get_args(annotation) for value in _literals(inner)]
