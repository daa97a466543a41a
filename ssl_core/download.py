"""Fetching one file over the network, with progress: a running count on a terminal, else one line."""

from __future__ import annotations

import sys
import urllib.request
from http.client import HTTPException
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
    try:
        _fetch(url, target, timeout)
    except HTTPException as error:  # an answer that is no HTTP, or that breaks off
        raise OSError(f"the answer is broken: {error or type(error).__name__}") from error


def _fetch(url: str, target: Path, timeout: float) -> None:
    with urllib.request.urlopen(url, timeout=timeout) as response, target.open("wb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        done = 0
        terminal = sys.stderr.isatty()
        if not terminal:
            print(f"fetching {url}, {total >> 20} MiB", file=sys.stderr, flush=True)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            if terminal:
                print(f"\rfetching {url}  {done >> 20} of {total >> 20} MiB ", end="", file=sys.stderr, flush=True)
        if terminal:
            print(file=sys.stderr)
        if done < total:
            raise OSError(f"the connection broke after {done:,} of {total:,} bytes")
