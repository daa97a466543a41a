"""The table of a comparison as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssl_benchmarks.compare import RowResult
from ssl_benchmarks.compare_table import headline
from ssl_core.api import new_figure

_GROUP = 0.8
"""Share of a row's height that its bars fill."""


def draw_chart(title: str, rows: Sequence[RowResult], file: Path) -> bool:
    """Writes a group of bars for each row, a colour for each evaluator, with intervals where there are any.

    Args:
        title: above the picture.
        rows: of the table.
        file: PNG; written beside and moved into place.

    Returns:
        whether there was anything to draw.
    """
    shown = [row for row in rows if any(headline(result)[0] is not None for result in row.evaluations.values())]
    evaluators = list(dict.fromkeys(name for row in shown for name in row.evaluations))
    if not shown:
        return False
    height = _GROUP / len(evaluators)
    figure = new_figure(7.0, 1.2 + 0.22 * len(shown) * (len(evaluators) + 1))
    axes = figure.add_subplot()
    for place, name in enumerate(evaluators):
        for number, row in enumerate(shown):
            value, interval = headline(row.evaluations[name]) if name in row.evaluations else (None, None)
            if value is None:
                continue
            around = [[max(value - interval[0], 0)], [max(interval[1] - value, 0)]] if interval else None
            at = number + (place + 0.5) * height - _GROUP / 2
            axes.barh(at, value, height, xerr=around, color=f"C{place}", label=name if number == 0 else None)
    axes.set_yticks(range(len(shown)), [row.label for row in shown])
    axes.invert_yaxis()
    axes.set_title(title)
    axes.legend(fontsize="small")
    partial = file.with_name(f".tmp-{file.name}")
    figure.savefig(partial, format="png")
    partial.replace(file)
    return True
