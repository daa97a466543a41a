"""A comparison as data: which runs, trained how, evaluated how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from ssl_core.api import ConfigError, Options, UsageError, did_you_mean

_REFERENCE = re.compile(r"\$\{([^}]*)\}")


class Row(Options):
    """One line of the table."""

    settings: Mapping[str, Any] = {}
    """Of this row alone, `slot: name` and `part.key: value`, over those of the comparison."""
    label: str | None = None
    """What the table calls it; None = its name."""
    untrained: str | None = None
    """Nothing is trained: the backbone of this earlier row is evaluated with fresh weights."""
    evaluate: Mapping[str, Mapping[str, Any]] = {}
    """Evaluator -> its settings, over those of the comparison."""


class GpuSize(Options):
    """What is larger where there is a GPU, over what the comparison says for a CPU."""

    prepare: Mapping[str, Mapping[str, Any]] = {}
    """Name -> settings of a run that the rows need first."""
    settings: Mapping[str, Any] = {}
    """Of every row; a row's own go over them."""
    evaluate: Mapping[str, Mapping[str, Any]] = {}
    """Evaluator -> its settings."""


class Comparison(Options):
    """Runs that differ in what is compared and in nothing else."""

    title: str
    """What is compared."""
    data: str | None = None
    """Images of every row, as `--data`; the command line goes over it."""
    prepare: Mapping[str, Mapping[str, Any]] = {}
    """Name -> settings of a run that the rows need first, a tokenizer say. It is not evaluated."""
    settings: Mapping[str, Any] = {}
    """Of every row, `slot: name` and `part.key: value`."""
    rows: Mapping[str, Row] = Field(min_length=1)
    """Name -> row, in the order in which they are run. `${name}` is the folder of a prepared run or an earlier row."""
    evaluate: Mapping[str, Mapping[str, Any]] = {}
    """Evaluator -> its settings."""
    gpu: GpuSize = GpuSize()
    """Settings for a GPU."""
    notes: tuple[str, ...] = ()
    """What a reader of the table should know, a line each."""


def read_comparison(what: str) -> Comparison:
    """Reads a comparison from a YAML file, or one that comes with the package by its name.

    Raises:
        UsageError: neither a file nor a name.
        ConfigError: a file that is no comparison, or a wrong one.
    """
    path = Path(what)
    if not path.is_file():
        included = included_comparisons()
        if what not in included:
            raise UsageError(f"'{what}': no such file, and no comparison of that name. There is {', '.join(included)}")
        path = Path(str(files("ssl_benchmarks") / "comparisons" / f"{what}.yaml"))
    try:
        values = yaml.safe_load(path.read_text())
        if not isinstance(values, dict):
            raise ConfigError([f"{path}: not a comparison; it needs at least 'title' and 'rows'"])
        comparison = Comparison.model_validate(values)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: no YAML: {' '.join(str(error).split())}"]) from None
    except ValidationError as error:
        lines = [": ".join(filter(None, (str(path), _place(item["loc"]), item["msg"]))) for item in error.errors()]
        raise ConfigError(lines, hint="what a comparison holds: ssl-bench compare --help") from None
    _check_references(comparison, path)
    return comparison


def included_comparisons() -> list[str]:
    """Returns the names of the comparisons that come with the package."""
    folder = files("ssl_benchmarks") / "comparisons"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def sized_for_gpu(comparison: Comparison) -> Comparison:
    """Returns the comparison with its settings for a GPU over the others."""
    larger = comparison.gpu
    both = {
        "prepare": _over(comparison.prepare, larger.prepare),
        "settings": {**comparison.settings, **larger.settings},
        "evaluate": _over(comparison.evaluate, larger.evaluate),
    }
    return comparison.model_copy(update=both)


def trainings(comparison: Comparison, out: Path) -> dict[str, tuple[Path, dict[str, str]]]:
    """Returns name -> (run folder, settings as text) of the prepared runs and the trained rows, in their order."""
    own = {**comparison.prepare}
    own |= {
        name: {**comparison.settings, **row.settings} for name, row in comparison.rows.items() if row.untrained is None
    }
    return {
        name: (
            out / name,
            {key: _REFERENCE.sub(lambda found: str(out / found[1]), _text(value)) for key, value in settings.items()},
        )
        for name, settings in own.items()
    }


def evaluations(comparison: Comparison, name: str) -> dict[str, dict[str, str]]:
    """Returns evaluator -> settings as text, of a row."""
    own = comparison.rows[name].evaluate
    return {
        evaluator: {
            key: _text(value)
            for key, value in {**comparison.evaluate.get(evaluator, {}), **own.get(evaluator, {})}.items()
        }
        for evaluator in dict.fromkeys([*comparison.evaluate, *own])
    }


def references(comparison: Comparison, name: str) -> list[str]:
    """Returns the names of the runs that a prepared run or a row refers to."""
    if name in comparison.prepare:
        return _references(comparison.prepare[name])
    row = comparison.rows[name]
    return [row.untrained] if row.untrained is not None else _references({**comparison.settings, **row.settings})


def with_what_they_need(comparison: Comparison, rows: Iterable[str]) -> set[str]:
    """Returns the names of the rows and of every run that they refer to, directly or not.

    Raises:
        UsageError: there is no such row.
    """
    needed: set[str] = set()
    todo = list(rows)
    for name in todo:
        if name not in comparison.rows:
            suggestion = did_you_mean(name, comparison.rows)
            raise UsageError(f"--rows {name}: no such row.{suggestion} There is {', '.join(comparison.rows)}")
    while todo:
        name = todo.pop()
        needed.add(name)
        todo += references(comparison, name)
    return needed


def _over(
    lower: Mapping[str, Mapping[str, Any]], upper: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    return {name: {**lower.get(name, {}), **upper.get(name, {})} for name in dict.fromkeys([*lower, *upper])}


def _references(settings: Mapping[str, Any]) -> list[str]:
    return [used for value in settings.values() for used in _REFERENCE.findall(str(value))]


def _check_references(comparison: Comparison, path: Path) -> None:
    both = comparison.prepare.keys() & comparison.rows.keys()
    problems = [f"{path}: {name}: a prepared run and a row, in one folder; rename one" for name in sorted(both)]
    before: list[str] = []
    for name in (*comparison.prepare, *comparison.rows):
        if not re.fullmatch(r"[\w.+-]+", name):
            problems.append(f"{path}: {name}: a row's name is a folder; use letters, digits and - _ . +")
        problems += [
            f"{path}: {name}: {used} is no earlier run; those are {', '.join(before) or 'none'}"
            for used in references(comparison, name)
            if used not in before
        ]
        row = comparison.rows.get(name)
        if row is not None and row.untrained is not None:
            if row.settings:
                problems.append(f"{path}: {name}: untrained and settings; give one of them")
            if row.untrained in comparison.rows and comparison.rows[row.untrained].untrained is not None:
                problems.append(f"{path}: {name}: {row.untrained} is not trained either; name a row that is")
        before.append(name)
    if problems:
        raise ConfigError(problems)


def _place(location: tuple[int | str, ...]) -> str:
    """Returns where in the file something is wrong, "rows.blocks.settings"."""
    return ".".join(str(part) for part in location if part != "[key]")


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return str(value)
