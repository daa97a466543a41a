"""Progress: plain lines in a pipe, and a bar that fits a terminal of 80 characters."""

from __future__ import annotations

import io

from rich.console import Console

from ssl_core.runner.reporter import Reporter, duration

VALUES = {
    "loss": 7.8123,
    "acc": 0.021,
    "images_per_second": 412.3,
    "memory_gb": 9.84,
    "data_wait": 0.03,
    "eta": 7511.0,
}


def test_a_line_in_a_pipe(capsys):
    Reporter().progress(VALUES, 38, 100, 2.5, 800)
    line = "epoch 2.5/800  step 38/100  loss 7.812  acc 2.1 %  412 img/s  mem 9.8 GB  data-wait 3 %  ETA 2:05:11"
    assert capsys.readouterr().out.strip() == line


def test_a_bar_on_a_terminal():
    reporter = Reporter()
    screen = io.StringIO()
    reporter.console = Console(file=screen, force_terminal=True, width=100)
    reporter.progress(VALUES, 38, 100, 2.5, 800)
    reporter.end_progress()
    for field in ("epoch 2.5/800", "38 %", "loss 7.812", "412 img/s", "wait 3 %", "ETA 2:05:11"):
        assert field in screen.getvalue()


def test_every_line_is_kept_in_the_log(tmp_path):
    reporter = Reporter(quiet=False)
    reporter.log_to(tmp_path / "train.log")
    reporter.say("a name with a \udcff undecodable byte")
    reporter.nested().say("of the first stage")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert lines[0].endswith("a name with a \\udcff undecodable byte")
    assert lines[1].endswith("of the first stage")


def test_durations():
    assert [duration(seconds) for seconds in (5, 100, 7511)] == ["0:05", "1:40", "2:05:11"]
