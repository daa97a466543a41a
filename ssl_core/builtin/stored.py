"""Data sets that are kept on this computer: where they are looked for, and how they get there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ssl_core.download import download
from ssl_core.errors import DataError


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
            download(url, partial)
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


def _check(file: Path, md5: str, what: str) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise DataError(
            f"{what} is damaged, or another file: its md5 is {found}, published is {md5}. Remove it and try again"
        )
