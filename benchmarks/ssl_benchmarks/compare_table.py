"""The table of a comparison: for the screen, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ssl_benchmarks.compare import RowResult
from ssl_benchmarks.comparison import Comparison


def table(rows: Sequence[RowResult]) -> tuple[list[str], list[list[str]]]:
    """Returns (column names, lines of cells): every evaluated row, then the baselines beside it.

    The time of a run that a row needed stands beside its own: `4.1 + 0.9 min`.
    A baseline that several rows measured to the same value is listed once.
    """
    evaluators = list(dict.fromkeys(name for row in rows for name in row.evaluations))
    columns = ["", "images seen", "training", *evaluators, "evaluation"]
    lines: list[list[str]] = []
    baselines: dict[tuple[str, int, str], None] = {}  # (name, place of the evaluator, cell), in order
    for row in rows:
        if not row.evaluations:
            continue
        results = [row.evaluations.get(name) for name in evaluators]
        lines.append(
            [
                row.label,
                f"{row.run['images_seen']:,}" if "images_seen" in row.run else "-",
                _minutes(row, rows),
                *(_cell(result["metrics"], result["protocol"]) if result else "-" for result in results),
                _sum_of_minutes([result.get("seconds") for result in results if result]),
            ]
        )
        for place, result in enumerate(results):
            for name, found in (result or {}).get("baselines", {}).items():
                cell = _cell(found, result["protocol"]) if isinstance(found, Mapping) else _number(found)
                baselines[name, place, cell] = None
    for name in dict.fromkeys(name for name, _, _ in baselines):
        places = range(len(evaluators))
        cells = [[cell for which, at, cell in baselines if (which, at) == (name, place)] for place in places]
        for number in range(max(map(len, cells))):
            values = [found[number] if number < len(found) else "-" for found in cells]
            lines.append([name.replace("_", " "), "-", "-", *values, "-"])
    return columns, lines


def as_markdown(comparison: Comparison, rows: Sequence[RowResult]) -> str:
    """Returns the table and the commands that made it, as Markdown."""
    columns, lines = table(rows)
    text = [f"# {comparison.title}", "", _line(columns), "|--|" + "--:|" * (len(columns) - 1), *map(_line, lines), ""]
    if comparison.notes:
        text += [*(f"- {line}" for line in comparison.notes), ""]
    if any("seconds" in row.run for row in rows):
        text += ["The commands, in this order:", "", "```"]
        text += [command for row in rows for command in row.commands]
        text += ["```", ""]
    return "\n".join(text)


def as_values(comparison: Comparison, rows: Sequence[RowResult]) -> dict[str, Any]:
    """Returns everything as JSON-ready values."""
    return {"title": comparison.title, "notes": list(comparison.notes), "rows": [asdict(row) for row in rows]}


def headline(result: Mapping[str, Any]) -> tuple[float | None, Sequence[float] | None]:
    """Returns (the value that an evaluation is about, its interval); each may be missing."""
    metrics = result["metrics"]
    name = result["protocol"].get("headline") or next(iter(metrics), "")
    return metrics.get(name), metrics.get(f"{name}_ci")


def _minutes(row: RowResult, rows: Sequence[RowResult]) -> str:
    """Returns how long a row was trained, and the runs that it needed and that are no rows themselves."""
    if "seconds" not in row.run:
        return "-"
    needed = [other.run for other in rows if other.name in row.uses and not other.evaluations]
    parts = [row.run, *(run for run in needed if "seconds" in run)]
    return " + ".join(f"{run['seconds'] / 60:.1f}" for run in parts) + " min"


def _sum_of_minutes(seconds: Sequence[float | None]) -> str:
    known = [value for value in seconds if value is not None]
    return f"{sum(known) / 60:.1f} min" if known else "-"


def _cell(metrics: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    found, interval = headline({"metrics": metrics, "protocol": protocol})
    value = _number(found)
    return f"{value} [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else value


def _number(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else "-"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
