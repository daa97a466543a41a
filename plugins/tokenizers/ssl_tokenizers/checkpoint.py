"""Reads an exported tokenizer, wherever in a run it lies."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from ssl_core.api import CheckpointError, find_export, read_export


def read_tokenizer(path: Path, needs: Collection[str], kind: str) -> dict[str, Tensor]:
    """Returns the state dict of an exported tokenizer.

    Args:
        path: a run that trained the tokenizer, a run that began with it as its first stage, or the
            exported file.
        needs: names of tensors by which the kind is known.
        kind: what is expected, for the message: "a k-means tokenizer (tokenizers:kmeans)".

    Raises:
        CheckpointError: there is none, it is damaged, or it is of another kind.
    """
    stage = path / "tokenizer"  # where a method's run keeps its first stage
    file = find_export(stage if (stage / "export").is_dir() else path, "tokenizer")
    values, state = read_export(file)
    if not state.keys() >= set(needs):
        raise CheckpointError(f"{file}: holds {values.get('component', 'another part')}, not {kind}")
    return state
