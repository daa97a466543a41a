"""Raw values to an options object, or to one clear line a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError

from ssl_core.config.messages import describe_error, dotted, no_such_option
from ssl_core.config.values import parse_value
from ssl_core.errors import ConfigError
from ssl_core.options import Options

OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one option.

    Attributes:
        key: the option's own name, without its section; "" where several options together are wrong.
        line: the whole line for the user.
        kind: pydantic's name of the error.
    """

    key: str
    line: str
    kind: str


def validate_options(options_class: type[OptionsT], settings: Mapping[str, Any], section: str = "") -> OptionsT:
    """Makes options of raw values.

    Args:
        options_class: what they must fit.
        settings: option -> value, without the section; text is read as YAML, as on a command line.
        section: what the user writes before the dot, `masker`; "" for options without one.

    Raises:
        ConfigError: one line for each wrong option.
    """
    options, problems = check_options(options_class, settings, section)
    if options is None:
        raise ConfigError(problem.line for problem in problems)
    return options


def check_options(
    options_class: type[OptionsT],
    settings: Mapping[str, Any],
    section: str = "",
    sections: Mapping[str, type[Options]] | None = None,
) -> tuple[OptionsT | None, list[Problem]]:
    """Does what `validate_options` does, but returns (None, problems) instead of raising.

    Args:
        sections: every section of the config, to suggest an option of another one.
    """
    values = {key: _parsed(options_class, key, value) for key, value in settings.items()}
    try:
        return options_class(**values), []
    except ValidationError as error:
        first = _by_key(error)
    # `123` where a text is wanted, `no` where one of several words is: what was typed may be meant literally.
    texts = {key: settings[key] for key in first if isinstance(settings.get(key), str)}
    try:
        return options_class(**(values | texts)), []
    except ValidationError as error:
        wrong = {key: first.get(key, items) for key, items in _by_key(error).items()}
    return None, _problems(wrong, options_class, settings, section, sections or {section: options_class})


def _parsed(options_class: type[Options], key: str, value: Any) -> Any:
    field = options_class.model_fields.get(key)
    parsed = parse_value(value) if isinstance(value, str) else value
    # pydantic takes `yes` for the number 1.
    if isinstance(parsed, bool) and field is not None and bool not in _leaves(field.annotation):
        return str(value)
    return parsed


def _leaves(annotation: Any) -> set[Any]:
    """Returns the plain types that an annotation is made of; those of its values for a Literal."""
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    inner = get_args(annotation)
    return set().union(*map(_leaves, inner)) if inner else {annotation}


def _by_key(error: ValidationError) -> dict[str, list[Any]]:
    """Returns option -> its errors (a union gives one for each of its members); "" = the options together."""
    by_key: dict[str, list[Any]] = {}
    for item in error.errors():
        by_key.setdefault(str(item["loc"][0]) if item["loc"] else "", []).append(item)
    return by_key


def _problems(
    by_key: Mapping[str, list[Any]],
    options_class: type[Options],
    settings: Mapping[str, Any],
    section: str,
    sections: Mapping[str, type[Options]],
) -> list[Problem]:
    problems = []
    for key, items in by_key.items():
        if items[0]["type"] == "extra_forbidden":
            text = no_such_option(section, key, sections)
        else:
            field = options_class.model_fields.get(key)
            annotation = field.annotation if field is not None else None
            texts = [describe_error(item, settings.get(key, item["input"]), annotation) for item in _telling(items)]
            text = " or ".join(dict.fromkeys(texts))
        name = dotted(section, key)
        problems.append(Problem(key, f"{name}: {text}" if name else text, items[0]["type"]))
    return problems


def _telling(items: list[Any]) -> list[Any]:
    """Returns the errors that a user is told, the words that are allowed last.

    A list whose values are wrong is also too short for pydantic: without them.
    """
    inside = {item["loc"][:-1] for item in items}
    told = [item for item in items if item["type"] != "too_short" or item["loc"] not in inside]
    return sorted(told, key=lambda item: item["type"] == "literal_error")
