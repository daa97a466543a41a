"""`ssl-bench compare`: a fair table of runs, by one command that can be stopped and started again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_benchmarks.compare import run_comparison, write_json, write_text
from ssl_benchmarks.compare_table import as_markdown, as_values, table
from ssl_benchmarks.comparison import included_comparisons, read_comparison
from ssl_core.api import Parser


def compare_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Runs the comparison, prints its table, and returns it as JSON-ready values."""
    parser = _parser()
    if not arguments or "--help" in arguments or "-h" in arguments:
        text = _help_text(parser)
        print(text)
        return {"help": text}
    flags, settings = parser.parse_with_settings(arguments)
    comparison = read_comparison(flags.comparison)
    out = flags.out or Path("runs") / f"compare-{Path(flags.comparison).stem}"
    rows = run_comparison(comparison, flags.data, out, settings)
    write_text(out / "table.md", as_markdown(comparison.title, rows))
    values = as_values(comparison.title, rows)
    write_json(out / "table.json", values)
    _show(comparison.title, *table(rows))
    print(f"written: {out}/table.md, table.json")
    return values


def _show(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    grid = Table(title=escape(title))
    for place, name in enumerate(columns):
        grid.add_column(name, justify="right" if place else "left")
    for cells in lines:
        grid.add_row(*map(escape, cells))
    Console().print(grid)


def _parser() -> Parser:
    parser = Parser(prog="ssl-bench compare")
    add = parser.add_argument
    add("comparison", metavar="COMPARISON")
    add("--data", metavar="PATH_OR_NAME", help="images of every row, in place of the comparison's own")
    add("--out", metavar="DIR", type=Path, help="runs/compare-NAME by default; started again, it goes on")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--help", "-h", action="store_true", help="this help")
    return parser


def _help_text(parser: Parser) -> str:
    lines = [
        "usage: ssl-bench compare COMPARISON [--data PATH_OR_NAME] [--out DIR] [part.key=value ...]",
        "",
        "Trains and evaluates the rows of a comparison, each by ssl-train and ssl-eval, and writes a table with the",
        "commands. COMPARISON is a YAML file or one of: " + ", ".join(included_comparisons()) + ".",
        "It has a title, rows (name -> settings, evaluate), and settings and evaluate for all of them.",
        "part.key=value goes to the training of every row.",
        "",
        "flags:",
    ]
    lines += parser.flag_lines()
    return "\n".join(lines)
