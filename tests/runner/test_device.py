"""What a run asks of a GPU before it uses it, on one that is made up."""

from __future__ import annotations

import os

import pytest
import torch

from ssl_core.config.sections import RuntimeOptions
from ssl_core.errors import ResourceError, UsageError, as_user_error, exit_code_of
from ssl_core.runner.device import choose_device


@pytest.fixture
def gpu(monkeypatch):
    """One GPU that has no instructions for bf16 and emulates them, as those before Ampere do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    matmul = torch.backends.cuda.matmul
    tf32 = matmul.allow_tf32
    yield
    matmul.allow_tf32 = tf32


def test_bf16_that_is_emulated_is_not_chosen(gpu):
    assert choose_device(RuntimeOptions()).precision == "fp16"
    assert choose_device(RuntimeOptions(precision="bf16")).precision == "bf16"


def test_a_later_run_of_the_process_can_be_deterministic(gpu):
    choose_device(RuntimeOptions())
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_what_the_user_has_set_for_cublas_stays(gpu, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    choose_device(RuntimeOptions())
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_kernel_without_a_fixed_order_is_named():
    error = as_user_error(
        RuntimeError(
            "upsample_bicubic2d_aa_backward_out_cuda does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'."
        )
    )
    assert isinstance(error, UsageError)
    assert "runtime.deterministic=false" in str(error)
    assert "upsample_bicubic2d_aa_backward_out_cuda," in str(error)


def test_matrix_products_before_a_deterministic_run_are_explained():
    error = as_user_error(
        RuntimeError(
            "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or "
            "`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic because it uses "
            "CuBLAS and you have CUDA >= 10.2. To enable deterministic behavior in this case, you must set an "
            "environment variable before running your PyTorch application: CUBLAS_WORKSPACE_CONFIG=:4096:8"
        )
    )
    assert isinstance(error, UsageError)
    assert error.hint is not None
    assert "CUBLAS_WORKSPACE_CONFIG=:4096:8" in error.hint


def test_a_gpu_that_others_have_filled_is_no_bug():
    error = RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")
    assert isinstance(as_user_error(error), ResourceError)
    assert exit_code_of(error) == 5
