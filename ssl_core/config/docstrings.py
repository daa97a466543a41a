"""The help of an option: the string under its field."""

from __future__ import annotations

import ast
import inspect
import textwrap

from ssl_core.options import Options


def option_help(options: type[Options]) -> dict[str, str]:
    """Returns option -> its help in one line; options without any are left out.

    The source is read here, when somebody asks for help, and not by pydantic whenever a class is
    made: that would cost every command some milliseconds for every part that is installed.
    """
    found: dict[str, str] = {}
    for owner in reversed(options.__mro__):
        if issubclass(owner, Options):
            found |= _strings_under_fields(owner)
    for name, field in options.model_fields.items():
        if field.description:
            found[name] = field.description
    return {name: " ".join(text.split()) for name, text in found.items()}


def _strings_under_fields(owner: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(owner))
    except (OSError, TypeError):
        return {}  # a class without a source file
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    strings = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            strings[field.target.id] = below.value.value
    return strings
