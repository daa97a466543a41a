"""`ssl-plugins reference`: every hook, contract and option of the engine, taken from the code, as Markdown.

Classes and functions are shown as they are written, without the bodies.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from ssl_core import api
from ssl_core.cli.option_table import format_value, option_rows
from ssl_core.config.sections import SECTIONS, GeneralOptions, TokenizerTrainOptions
from ssl_core.plugins import component, hookspecs
from ssl_core.plugins.component import SLOT_KINDS, Kind

_CONTRACTS = "ssl_core.contracts."
_DESCRIPTIONS = ("Component", "Recipe", "When", "Options")
_BASES = {
    "backbone": "Backbone",
    "tokenizer": "Tokenizer",
    "target": "TargetSource",
    "masker": "Masker",
    "head": "Head",
    "method": "Method",
    "transform": "Transform",
    "dataset": "DataSource",
    "monitor": "TrainingHook",
    "evaluator": "Evaluator",
    "checkpoint_format": "CheckpointFormat",
}
"""Kind -> the contract that its parts fulfil."""

_INTRODUCTION = """# Reference

Generated from the code by `ssl-plugins reference`; do not edit it. [plugins.md](plugins.md) explains how the pieces
belong together, [tutorial.md](tutorial.md) builds two parts step by step. The options of a part are shown by
`ssl-plugins info NAME`.

Everything below is imported from `ssl_core.api`. Classes and functions stand here without their bodies."""


def reference() -> str:
    """Returns the whole document. Imports torch."""
    described, contracts, others = _sorted_names()
    hooks = [hook for hook in vars(hookspecs).values() if hasattr(hook, f"{hookspecs.NAMESPACE}_spec")]
    sections = [
        _INTRODUCTION,
        "## Kinds of part",
        _kinds(),
        "## Hooks",
        "Marked with `@hookimpl`, in the module of the entry point or in the file of `--plugin`.",
        _code("\n\n\n".join(_function_lines(hook).replace("@hookspec", "@hookimpl") for hook in hooks)),
        "## Describing a part",
        *map(_entry, described),
        "## Contracts",
        *map(_entry, contracts),
        "## What parts may use besides",
        "Their docstrings say more.",
        _table(others),
        "## Options of the engine",
        *_options(),
    ]
    return "\n\n".join(sections) + "\n"


def _sorted_names() -> tuple[list[str], list[str], list[str]]:
    """Returns what the API offers: descriptions of parts, contracts, and everything else."""
    names = sorted(name for name in api.__all__ if name != "hookimpl")
    modules = {name: getattr(getattr(api, name), "__module__", "") for name in names}
    contracts = [name for name in names if modules[name].startswith(_CONTRACTS) or name == "Grid"]
    return list(_DESCRIPTIONS), contracts, [name for name in names if name not in {*_DESCRIPTIONS, *contracts}]


def _kinds() -> str:
    lines = ["| kind | registered by | contract | slot |", "|---|---|---|---|"]
    for kind in get_args(Kind):
        slots = [f"`{slot}`" for slot, kinds in SLOT_KINDS.items() if kind in kinds]
        lines.append(f"| `{kind}` | `register_{kind}s()` | `{_BASES[kind]}` | {', '.join(slots)} |")
    return "\n".join(lines)


def _entry(name: str) -> str:
    value = getattr(api, name)
    return f"### {name}\n\n{_code(_class_lines(value) if inspect.isclass(value) else _constant_lines(name))}"


def _table(names: list[str]) -> str:
    """Returns names with the first sentence of their docstrings."""
    lines = ["| name | what it is |", "|---|---|"]
    for name in names:
        value = getattr(api, name)
        documented = inspect.isclass(value) or inspect.isfunction(value)
        text = inspect.getdoc(value) if documented else _string_below(name)
        lines.append(f"| `{name}` | {_cell(_first_sentence(text or ''))} |")
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return f"{paragraph.partition('. ')[0].rstrip('.:')}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _class_lines(cls: type) -> str:
    """Returns a class with its public fields, their help, and the heads of its public methods."""
    lines, definition = _parsed(cls)
    assert isinstance(definition, ast.ClassDef)
    parts = [_head(lines, definition)]
    shown = False
    for node in definition.body[1 if ast.get_docstring(definition) else 0 :]:
        if isinstance(node, ast.FunctionDef):
            shown = _is_public(node.name) and not _is_validator(node)
            if shown:
                parts.append(_head(lines, node))
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            shown = isinstance(target, ast.Name) and _is_public(target.id)
            if shown:
                parts.append(_lines_of(lines, node))
        elif shown and isinstance(node, ast.Expr):  # the string below a field
            parts[-1] += "\n" + _lines_of(lines, node)
    return "\n".join(_spaced(parts))


def _spaced(parts: list[str]) -> Iterator[str]:
    """Yields the parts of a class, with an empty line before each method and after the head."""
    for number, part in enumerate(parts):
        if number and (number == 1 or part.lstrip().startswith(("def ", "@"))):
            yield ""
        yield part


def _function_lines(function: Any) -> str:
    lines, definition = _parsed(function)
    return _head(lines, definition)


def _constant_lines(name: str) -> str:
    """Returns a constant as it is written, with the string below it."""
    lines, node, below = _assignment(name)
    return "\n".join([_lines_of(lines, node), *([] if below is None else [_lines_of(lines, below)])])


def _string_below(name: str) -> str:
    _, _, below = _assignment(name)
    return "" if below is None else ast.literal_eval(below.value)


def _assignment(name: str) -> tuple[list[str], ast.stmt, ast.Expr | None]:
    """Returns the source of a constant's module, where it is assigned, and the string below that.

    Raises:
        LookupError: it is not assigned there.
    """
    lines = inspect.getsource(sys.modules[api._LAZY.get(name, component.__name__)]).splitlines()
    body = ast.parse("\n".join(lines)).body
    for node, below in zip(body, [*body[1:], None], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        assigned = [found for target in targets if target is not None for found in ast.walk(target)]
        if any(isinstance(found, ast.Name) and found.id == name for found in assigned):
            documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            return lines, node, below if documented else None
    raise LookupError(f"'{name}' is not assigned in its module")


def _parsed(value: Any) -> tuple[list[str], ast.stmt]:
    source = textwrap.dedent(inspect.getsource(value))
    return source.splitlines(), ast.parse(source).body[0]


def _head(lines: list[str], node: Any) -> str:
    """Returns a class or function up to the end of its docstring."""
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    if ast.get_docstring(node):
        return "\n".join(lines[start - 1 : node.body[0].end_lineno])
    if node.body[0].lineno == node.lineno:  # all on one line
        return lines[node.lineno - 1]
    head = "\n".join(lines[start - 1 : node.body[0].lineno - 1]).rstrip()
    end = head.rfind(":\n") if "\n" in head and not head.endswith(":") else len(head)
    head = head if head.endswith(":") else head[: end + 1]
    return head if isinstance(node, ast.ClassDef) else f"{head} ..."


def _lines_of(lines: list[str], node: ast.stmt) -> str:
    return "\n".join(lines[node.lineno - 1 : node.end_lineno])


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name in ("__init__", "__call__", "__len__")


def _is_validator(node: ast.FunctionDef) -> bool:
    names = [decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in node.decorator_list]
    return any(isinstance(name, ast.Name) and name.id.endswith("_validator") for name in names)


def _options() -> Iterator[str]:
    """Yields a heading and a table for each section."""
    sections = {"general": ("", GeneralOptions), **{name: (name, options) for name, options in SECTIONS.items()}}
    sections["tokenizer.train"] = ("tokenizer.train", TokenizerTrainOptions)
    for title, (prefix, options) in sections.items():
        lines = ["| option | default | type | help |", "|---|---|---|---|"]
        for row in option_rows(options, prefix):
            kind = ", ".join(filter(None, (row.type, row.bounds)))
            cells = (f"`{row.name}`", f"`{format_value(row.value)}`", kind, row.help)
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
        yield f"### Options: {title}\n\n{' '.join((inspect.getdoc(options) or '').split())}"
        yield "\n".join(lines)
