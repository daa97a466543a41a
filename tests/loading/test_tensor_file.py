"""Safetensors files are written whole or not at all."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from ssl_core.tensor_file import write_tensors


def test_a_file_may_be_replaced_by_its_own_tensors(tmp_path):
    """They are read from the file itself, page by page: writing over it would pull it away under them."""
    file = tmp_path / "weights.safetensors"
    write_tensors(file, {"a": torch.arange(100_000.0)})
    state = load_file(file)
    write_tensors(file, {**state, "b": torch.ones(3)})
    assert torch.equal(load_file(file)["a"], torch.arange(100_000.0))


def test_a_disk_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "weights.safetensors"
    write_tensors(file, {"a": torch.ones(3)})

    def full(sink, tensors, metadata):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssl_core.tensor_file.stream_tensors", full)
    with pytest.raises(OSError, match="No space"):
        write_tensors(file, {"a": torch.zeros(3)})
    assert torch.equal(load_file(file)["a"], torch.ones(3))
