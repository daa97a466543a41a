"""Which device, which precision, how many threads."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from ssl_core.config.sections import RuntimeOptions
from ssl_core.errors import UsageError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Device:
    """Where a run computes.

    Attributes:
        device: with its index on CUDA.
        precision: `fp32`, `bf16` or `fp16`.
    """

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager:
        """Returns the context of a forward pass."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])

    def describe(self) -> str:
        """Returns `H200 (139 GB, bf16)` or `CPU (2 threads, bf16)`."""
        if self.device.type == "cuda":
            properties = torch.cuda.get_device_properties(self.device)
            return f"{properties.name} ({properties.total_memory / 2**30:.0f} GB, {self.precision})"
        return f"CPU ({torch.get_num_threads()} threads, {self.precision})"


def choose_device(options: RuntimeOptions, local_rank: int = 0) -> Device:
    """Picks the device of this process and prepares torch for it.

    Raises:
        UsageError: CUDA was asked for and is not there, or fp16 on a CPU.
    """
    cuda = torch.cuda.is_available()
    if options.device == "cuda" and not cuda:
        raise UsageError(
            "runtime.device=cuda, but torch sees no CUDA device; leave it at auto, or set runtime.device=cpu"
        )
    device = torch.device("cuda", _own_gpu(local_rank)) if cuda and options.device != "cpu" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = not options.deterministic
        # torch reads it once, with the process's first matrix product, and a later run may be a deterministic one.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if options.deterministic:
        torch.use_deterministic_algorithms(True)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return Device(device, _precision(options, device))


def _own_gpu(local_rank: int) -> int:
    """Returns the index of this process's GPU, where srun may have hidden those of the others."""
    count = torch.cuda.device_count()
    if local_rank < count:
        return local_rank
    if count == 1 and "SLURM_LOCALID" in os.environ:
        return 0
    raise UsageError(
        f"process {local_rank + 1} of this machine has no GPU of its own: torch sees {count}. Start at most {count} "
        "processes a machine, or set runtime.device=cpu"
    )


def _precision(options: RuntimeOptions, device: torch.device) -> str:
    if options.precision == "fp16" and device.type == "cpu":
        raise UsageError("runtime.precision=fp16 needs a GPU (on a CPU it is slower than fp32); set bf16, fp32 or auto")
    if options.precision != "auto":
        return options.precision
    if device.type == "cuda":
        # By default torch also counts GPUs that emulate bf16, which is slower than fp32.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Without the AVX-512 instructions bf16 is emulated, and slower than fp32. The test is not public yet.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if native() else "fp32"


def memory_bytes(device: torch.device) -> int:
    """Returns the peak memory so far: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
