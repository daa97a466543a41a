"""Exported tokenizers, wherever in a run they lie."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from ssl_core.api import CheckpointError, find_export, read_export

_OURS = "tokenizers:"


def find_tokenizer(path: Path) -> Path:
    """Returns the file of an exported tokenizer.

    Args:
        path: a run that trained the tokenizer, a run that began with it as its first stage, or the file.

    Raises:
        CheckpointError: there is none.
    """
    stage = path / "tokenizer"  # where a method's run keeps its first stage
    return find_export(stage if (stage / "export").is_dir() else path, "tokenizer")


def read_tokenizer(path: Path, component: str, kind: str, needs: Collection[str]) -> dict[str, Tensor]:
    """Returns the state dict of an exported tokenizer of one kind.

    Args:
        path: as in `find_tokenizer`.
        component: name of the kind, "tokenizers:kmeans".
        kind: the same in words, for the message: "a k-means tokenizer".
        needs: names of tensors that it has, whatever plugin exported it.

    Raises:
        CheckpointError: there is none, it is damaged, or it is of another kind.
    """
    file = find_tokenizer(path)
    values, state = read_export(file)
    found = str(values.get("component", "another part"))
    if (found.startswith(_OURS) and found != component) or not state.keys() >= set(needs):
        raise CheckpointError(f"{file}: holds {found}, not {kind} ({component})")
    return state
