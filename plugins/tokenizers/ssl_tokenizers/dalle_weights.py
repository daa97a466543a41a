"""Where OpenAI's weights are: in a file that the user names, in the cache, or still at OpenAI's address."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from ssl_core.api import CheckpointError, download
from ssl_tokenizers.dalle_import import import_dalle

ADDRESS = "https://cdn.openai.com/dall-e/"
"""Where OpenAI publishes encoder.pkl and decoder.pkl, 400 MB together."""

_FILES = ("encoder.pkl", "decoder.pkl")
_TIMEOUT = 10.0
"""Seconds without an answer."""


def find_weights(checkpoint: Path | None) -> Path:
    """Returns the file of the imported weights; they are fetched and imported where there is none.

    Args:
        checkpoint: the user's own; None = the one in the cache.

    Raises:
        CheckpointError: they are not in the cache and cannot be fetched.
    """
    if checkpoint is not None:
        if checkpoint.suffix == ".pkl":
            raise CheckpointError(
                f"{checkpoint}: a pickled file; import it first: ssl-tokenizer import {checkpoint} "
                "--out dalle.safetensors"
            )
        return checkpoint
    file = cached_weights()
    if _complete(file):
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (file.parent / ".dalle.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one fetches, and the others wait for it
            if not _complete(file):
                _fetch(file)
    except (OSError, CheckpointError) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"tokenizer dalle: {file} is missing and could not be fetched ({reason}); get {' and '.join(_FILES)} from "
            f"{ADDRESS} in another way, then: ssl-tokenizer import {' '.join(_FILES)} --out {file}"
        ) from None
    return file


def cached_weights() -> Path:
    """Returns the file in the user's cache, which need not exist: $XDG_CACHE_HOME or ~/.cache, ssl-vision/dalle."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ssl-vision" / "dalle.safetensors"


def _complete(file: Path) -> bool:
    return file.is_file() and file.with_suffix(".json").is_file()


def _fetch(file: Path) -> None:
    """Fetches the two pickled files beside `file`, imports them, and removes them again."""
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=file.parent) as folder:
        for name in _FILES:
            download(f"{ADDRESS}{name}", Path(folder) / name, _TIMEOUT)
        import_dalle(*(Path(folder) / name for name in _FILES), file)
