"""Reporter: what a person reads while a run goes on, on the terminal and in train.log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ssl_core.plain_text import printable
from ssl_core.runner.disk import append_whole, dispensable


class Reporter:
    """Prints lines, and progress as a live bar on a terminal or as plain lines elsewhere.

    Args:
        quiet: print nothing (processes other than the first).
        to_stderr: leave stdout to JSON.
        indent: put before every line, for a stage inside a run.
    """

    def __init__(self, quiet: bool = False, to_stderr: bool = False, indent: str = ""):
        self.quiet = quiet
        self.to_stderr = to_stderr
        self.indent = indent
        self.console = Console(stderr=to_stderr, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
        self._log: Path | None = None
        self._bar: Progress | None = None
        self._task = None

    def log_to(self, file: Path) -> None:
        """Also writes every line to a file from now on."""
        self._log = file

    def nested(self) -> Reporter:
        """Returns a reporter for a stage inside this run, with its lines indented."""
        stage = Reporter(self.quiet, self.to_stderr, self.indent + "  ")
        stage._log = self._log
        return stage

    def say(self, line: str) -> None:
        """Prints one line; what is no visible character in it (in the name of a file or class) is escaped."""
        line = printable(line)
        if self.quiet:
            return
        self.console.print(self.indent + line)
        self._write(line)

    def warn(self, line: str) -> None:
        """Prints one line that a person should not miss."""
        self.say(f"warning: {line}")

    def progress(self, values: Mapping[str, float], step: int, total: int, epoch: float, epochs: float) -> None:
        """Shows where training stands.

        Args:
            values: `loss`, `acc` (share), `images_per_second`, `memory_gb`, `data_wait` (share), `eta` (seconds).
        """
        if self.quiet:
            return
        where = f"epoch {epoch:.1f}/{epochs:.4g}"
        line = "  ".join([where, f"step {step}/{total}", *_fields(values)])
        if not self.console.is_terminal:
            self.say(line)
            return
        if self._bar is None:
            left, percent = TextColumn(self.indent + "{task.description}"), TextColumn("{task.percentage:>3.0f} %")
            self._bar = Progress(left, BarColumn(8), percent, TextColumn("{task.fields[values]}"), console=self.console)
            self._task = self._bar.add_task("", total=total, values="")
            self._bar.start()
        # Short enough for a terminal of 80 characters.
        values_short = " ".join(_fields(values)).replace("mem ", "").replace("data-wait", "wait")
        self._bar.update(self._task, completed=step, description=where, values=values_short)
        self._write(line)

    def end_progress(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _write(self, line: str) -> None:
        if self._log is not None:
            with dispensable():
                append_whole(self._log, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


def _fields(values: Mapping[str, float]) -> list[str]:
    fields = []
    if "loss" in values:
        fields.append(f"loss {values['loss']:.3f}")
    if "acc" in values:
        fields.append(f"acc {100 * values['acc']:.1f} %")
    return [
        *fields,
        f"{values['images_per_second']:.0f} img/s",
        f"mem {values['memory_gb']:.1f} GB",
        f"data-wait {100 * values['data_wait']:.0f} %",
        f"ETA {duration(values['eta'])}",
    ]


def duration(seconds: float) -> str:
    """Returns `2:05:11` or `1:40`."""
    minutes, seconds_left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"
