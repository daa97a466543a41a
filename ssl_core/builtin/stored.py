"""Data sets that are kept on this computer: where they are looked for, and how they get there."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from pathlib import Path

from ssl_core.errors import DataError

_CHUNK = 1 << 20


def data_home(path: Path | None) -> Path:
    """Returns the folder of the data sets: `path`, or $SSL_DATA, or ~/.cache/ssl_core/data."""
    if path is not None:
        return path.expanduser()
    return Path(os.environ.get("SSL_DATA") or "~/.cache/ssl_core/data").expanduser()


def fetch(url: str, target: Path, md5: str) -> Path:
    """Downloads a file unless it is there, and checks it either way.

    Args:
        url: the publisher's address.
        target: where it belongs.
        md5: what the publisher says of it.

    Raises:
        DataError: no network, or not the file that was published.
    """
    if not target.exists():
        partial = target.with_name(f".tmp-{os.getpid()}-{target.name}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _download(url, partial)
            _check(partial, md5, f"what {url} gave")
            partial.replace(target)
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise DataError(
                f"{target} is missing and {url} cannot be fetched ({reason}); put the file there yourself"
            ) from None
        finally:
            partial.unlink(missing_ok=True)
    else:
        _check(target, md5, str(target))
    return target


def _download(url: str, partial: Path) -> None:
    with urllib.request.urlopen(url, timeout=30) as response, partial.open("wb") as file:
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


def _check(file: Path, md5: str, what: str) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise DataError(
            f"{what} is damaged, or another file: its md5 is {found}, published is {md5}. Remove it and try again"
        )
