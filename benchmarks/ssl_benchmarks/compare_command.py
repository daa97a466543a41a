"""`ssl-bench compare`: a fair table of runs, by one command that can be stopped and started again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_benchmarks.compare import run_comparison, write_json, write_text
from ssl_benchmarks.compare_chart import draw_chart
from ssl_benchmarks.compare_table import as_markdown, as_values, table
from ssl_benchmarks.comparison import Comparison, included_comparisons, read_comparison, sized_for_gpu
from ssl_core.api import Parser


def compare_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Runs the comparison, prints its table, and returns it as JSON-ready values."""
    parser = _parser()
    if not arguments or "--help" in arguments or "-h" in arguments:
        text = _help_text(parser)
        print(text)
        return {"help": text}
    flags, settings = parser.parse_with_settings(arguments)
    comparison = _sized(read_comparison(flags.comparison), flags.gpu)
    out = flags.out or Path("runs") / f"compare-{Path(flags.comparison).stem}"
    chosen = [name.strip() for name in flags.rows.split(",")] if flags.rows else ()
    rows = run_comparison(comparison, flags.data, out, settings, chosen, flags.safe)
    write_text(out / "table.md", as_markdown(comparison, rows))
    values = as_values(comparison, rows)
    write_json(out / "table.json", values)
    files = ["table.md", "table.json"]
    if draw_chart(comparison.title, rows, out / "table.png"):
        files.append("table.png")
    _show(comparison.title, *table(rows))
    for line in comparison.notes:
        print(line)
    left = [name for name in comparison.rows if name not in {row.name for row in rows}]
    if left:
        print(f"not finished: {', '.join(left)}")
    print(f"written: {out}/{', '.join(files)}")
    return values


def _sized(comparison: Comparison, gpu: bool | None) -> Comparison:
    """Returns the comparison for this machine, or for what the flags say."""
    if not comparison.gpu.model_fields_set:
        return comparison
    if gpu is None:
        from ssl_core.api import RuntimeOptions, choose_device

        gpu = choose_device(RuntimeOptions()).device.type == "cuda"
    return sized_for_gpu(comparison) if gpu else comparison


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
    add("--rows", metavar="A,B", help="only these rows, and what they need; several processes can share a table")
    add("--gpu", action="store_true", default=None, help="the comparison's settings for a GPU, as where there is one")
    add("--no-gpu", dest="gpu", action="store_false", help="its settings for a CPU, though there is a GPU")
    add("--safe", action="store_true", help="load only the plugins of this distribution, no others")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--help", "-h", action="store_true", help="this help")
    return parser


def _help_text(parser: Parser) -> str:
    lines = [
        "usage: ssl-bench compare COMPARISON [--data PATH_OR_NAME] [--out DIR] [part.key=value ...]",
        "",
        "Trains and evaluates the rows of a comparison, each by ssl-train and ssl-eval, and writes a table with the",
        "commands. COMPARISON is a YAML file or one of: " + ", ".join(included_comparisons()) + ".",
        "It has a title, rows (name -> settings, evaluate), and settings and evaluate for all of them, perhaps others",
        "for a GPU.",
        "part.key=value goes to the training of every row.",
        "",
        "flags:",
    ]
    lines += parser.flag_lines()
    return "\n".join(lines)
