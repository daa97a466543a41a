"""Where a result goes: the screen, a JSON file, and a line in the report of the run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssl_benchmarks.numbering import next_number
from ssl_core.api import markdown, printable


def show(result: Mapping[str, Any], console: Console) -> None:
    """Prints metrics and baselines side by side, with what has to be known to read them.

    Works for any evaluator: `metrics` maps names to numbers, `NAME_ci` to an interval, and is empty where files
    are all there is; a baseline is a number or a mapping like `metrics`; each of the `tables`, if there are any, has
    a `title`, the names of its `columns`, and `rows` of as many texts and numbers; `files`, if there are any, are
    paths.
    """
    title = printable(f"{_name(result)} of {result['checkpoint']} on {result['data']}{_unit(result)}")
    if result["metrics"]:
        _show_metrics(result, title, console)
    else:
        console.print(title, markup=False, highlight=False, soft_wrap=True)
    for sheet in result.get("tables", ()):
        _show_sheet(sheet, console)
    for name, found in result.get("baselines", {}).items():
        if not isinstance(found, Mapping):
            console.print(f"{name.replace('_', ' ')}: {_number(found)}")
    for file in result.get("files", ()):
        console.print(printable(f"written: {file}"), markup=False, highlight=False, soft_wrap=True)
    for note in result.get("notes", ()):
        console.print(printable(f"note: {note}"), markup=False, highlight=False)


def _show_metrics(result: Mapping[str, Any], title: str, console: Console) -> None:
    metrics, protocol = result["metrics"], result["protocol"]
    baselines = result.get("baselines", {})
    columns = {"model": metrics, **{name: found for name, found in baselines.items() if isinstance(found, Mapping)}}
    table = Table(title=escape(title))
    table.add_column("")
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for metric in metrics:
        if not metric.endswith("_ci"):
            style = "bold" if metric == protocol.get("headline") else None
            table.add_row(metric, *(_cell(found, metric) for found in columns.values()), style=style)
    console.print(table)


def _show_sheet(sheet: Mapping[str, Any], console: Console) -> None:
    table = Table(title=_plain(sheet["title"]))
    for name in sheet["columns"]:
        table.add_column(_plain(name), justify="right")
    for row in sheet["rows"]:
        table.add_row(*(_plain(cell) if isinstance(cell, str) else _number(cell) for cell in row))
    console.print(table)


def store(result: Mapping[str, Any], out: Path, report: Path) -> Path:
    """Writes the result as OUT/EVALUATOR-N.json, N counting up, and appends a line to the report.

    Args:
        result: JSON-ready.
        out: folder, made if missing.
        report: Markdown file, made if missing.

    Returns:
        the JSON file.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{result['evaluator']}-{next_number(out, result['evaluator'])}.json"
    partial = file.with_name(f".tmp-{file.name}")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(file)
    files = [markdown(str(name)) for name in result.get("files", ())]
    shown = {**result, "data": markdown(result["data"]), "files": files}
    with report.open("a", encoding="utf-8") as stream:
        if not stream.tell():
            stream.write("# Report\n\n")
        stream.write(f"- {time.strftime('%Y-%m-%d %H:%M')} {summary_line(shown)} ({file.relative_to(report.parent)})\n")
    return file


def summary_line(result: Mapping[str, Any]) -> str:
    """Returns the headline beside its baselines, or the files that were written, in one line."""
    metrics = result["metrics"]
    if not metrics:
        return f"{_name(result)} on {result['data']}: {', '.join(map(str, result.get('files', ()))) or 'no numbers'}"
    headline = result["protocol"].get("headline") or next(iter(metrics))
    parts = [f"{headline} {_cell(metrics, headline)}"]
    for name, found in result.get("baselines", {}).items():
        value = _cell(found, headline) if isinstance(found, Mapping) else _number(found)
        parts.append(f"{name.replace('_', ' ')} {value}")
    return f"{_name(result)} on {result['data']}: {', '.join(parts)}{_unit(result)}"


def _plain(text: str) -> str:
    """Returns a text that may be the name of a class or file as rich prints it literally."""
    return escape(printable(text))


def _name(result: Mapping[str, Any]) -> str:
    """Returns the evaluator, with its protocol where one was named: `knn, protocol dino`."""
    protocol = result["protocol"]
    if not protocol.get("name"):
        return result["evaluator"]
    return f"{result['evaluator']}, protocol {protocol['name']}{' changed' if protocol.get('changed') else ''}"


def _unit(result: Mapping[str, Any]) -> str:
    unit = result["protocol"].get("unit")
    return f" ({unit})" if unit else ""


def _cell(found: Mapping[str, Any], metric: str) -> str:
    interval = found.get(f"{metric}_ci")
    value = _number(found.get(metric))
    return f"{value} [{_number(interval[0])}, {_number(interval[1])}]" if interval else value


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "-"
