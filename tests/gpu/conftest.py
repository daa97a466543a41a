"""Tests that need a CUDA device: `pytest -m gpu tests/gpu`. Elsewhere they are skipped, and say so."""

from __future__ import annotations

import os

import pytest
import torch

# torch reads it with the first matrix product, and the tests of whole runs come after others.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_collection_modifyitems(items):
    missing = pytest.mark.skip(reason="needs a CUDA device, and torch sees none")
    for item in items:
        if "tests/gpu/" in str(item.path):
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(missing)


@pytest.fixture(autouse=True)
def _settings_are_put_back():
    """A run sets what all of torch shares."""
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution
    torch.use_deterministic_algorithms(deterministic)
