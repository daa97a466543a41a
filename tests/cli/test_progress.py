"""Progress of a long loop, and of a download: lines where nobody watches a terminal."""

from __future__ import annotations

import re
from http.client import IncompleteRead

import pytest

from ssl_core import download as downloading
from ssl_core import progress as progressing
from ssl_core.api import download, progress


@pytest.fixture
def clock(monkeypatch):
    """Replaces the clock; its one item is the time in seconds."""
    seconds = [100.0]
    monkeypatch.setattr(progressing.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_line_comes_now_and_then_with_count_and_rate(clock, capsys):
    with progress("reading", 1000) as advance:
        for _ in range(5):
            clock[0] += 4
            advance(100)
    lines = capsys.readouterr().err.splitlines()
    # After 12 s, the first time that ten have passed; the next ten are not over at the end.
    assert lines == ["reading: 300/1000, 25 images/s"]


def test_slow_work_is_told_in_fractions(clock, capsys):
    with progress("fitting", 4, unit="heads") as advance:
        clock[0] += 16
        advance(1)
    assert capsys.readouterr().err == "fitting: 1/4, 0.06 heads/s\n"


def test_what_goes_wrong_in_the_loop_comes_out_of_it(clock):
    with pytest.raises(ValueError, match="inside"), progress("reading", 1):
        raise ValueError("inside")


def test_on_a_terminal_it_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(progressing.sys.stderr, "isatty", lambda: True, raising=False)
    with progress("reading", 10) as advance:
        advance(10)
    assert not re.search(r"reading: 10/10", capsys.readouterr().err)


def test_a_file_is_fetched_whole(tmp_path, capsys):
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 9000)
    download(source.as_uri(), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert capsys.readouterr().err == f"fetching {source.as_uri()}, 2 MiB\n"


class Broken:
    """An answer of 100 bytes that ends before them."""

    headers = {"Content-Length": "100"}  # noqa: RUF012

    def __init__(self, error):
        self.parts = [b"short"]
        self.error = error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def read(self, _):
        if not self.parts and self.error is not None:
            raise self.error
        return self.parts.pop() if self.parts else b""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, "the connection broke after 5 of 100 bytes"),
        (IncompleteRead(b""), "the answer is broken: IncompleteRead"),
    ],
)
def test_an_answer_that_breaks_off_is_an_error_of_the_system(error, message, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading.urllib.request, "urlopen", lambda *_, **__: Broken(error))
    with pytest.raises(OSError, match=message):
        download("https://example.org/file", tmp_path / "target")
