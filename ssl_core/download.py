"""Fetching one file over the network, with progress on a terminal."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

_CHUNK = 1 << 20


def download(url: str, target: Path, timeout: float = 30) -> None:
    """Writes what an address gives to a file.

    Args:
        url: https.
        target: written as the bytes come; name it as a temporary file and rename it afterwards.
        timeout: seconds without an answer, or without a byte, after which it gives up.

    Raises:
        OSError: no network, a refusal, a broken connection, or a full disk.
    """
    with urllib.request.urlopen(url, timeout=timeout) as response, target.open("wb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        done = 0
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            _say(f"\rfetching {url}  {done >> 20} of {total >> 20} MiB ")
        _say("\n")
        if done < total:
            raise OSError(f"the connection broke after {done:,} of {total:,} bytes")


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)
