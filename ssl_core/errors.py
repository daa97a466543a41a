"""What a user can do wrong, as exceptions: one clear line each, and an exit code.

A command turns any `SslError` into its message and its `exit_code`, without a traceback; every
other exception is our bug and exits with 1.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Mapping
from typing import Any

BUG = 1
"""Exit code of an error that is ours."""

INTERRUPTED = 130
"""Exit code of Ctrl-C before anything could be saved."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
_NO_MEMORY = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
_NOT_DETERMINISTIC = ("does not have a deterministic implementation", "this operation is not deterministic")
"""What torch says of kernels that `runtime.deterministic` forbids."""


class SslError(Exception):
    """Base of every error that is the user's (or the machine's) and not ours.

    The message says what was given, what is allowed and what to do.

    Args:
        message: one line a problem.
        hint: the next command or setting to try, printed on a line of its own.

    Attributes:
        details: JSON-ready values that `--json` prints beside the message.
    """

    exit_code = 2
    details: Mapping[str, Any] = {}

    def __init__(self, message: str = "", hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class UsageError(SslError):
    """A wrong command line, option or combination of parts (exit code 2)."""


class ConfigError(UsageError):
    """One or more wrong options. All of them are reported at once.

    Args:
        problems: one line each.
        hint: as in `SslError`.
    """

    def __init__(self, problems: Iterable[str], hint: str | None = None):
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems), hint)


class PluginError(UsageError):
    """A part was asked for that is unknown, ambiguous, or whose plugin is broken (exit code 2)."""


class UnknownPartError(PluginError):
    """No plugin offers a part of that name (exit code 2)."""


class CheckpointError(UsageError):
    """A file or folder that is no checkpoint of ours, or a damaged one (exit code 2)."""


class DataError(SslError):
    """Missing, empty, too small or unreadable data (exit code 3)."""

    exit_code = 3


class NumericError(SslError):
    """A loss that is not finite (exit code 4)."""

    exit_code = 4


class ResourceError(SslError):
    """The disk or the memory is full (exit code 5)."""

    exit_code = 5


class PeerError(SslError):
    """Another process of the same run failed, or has gone. It exits with that one's exit code, 5 where it has none.

    Args:
        message: which process, and its error.
        exit_code: that one's.
        rank: that one's; None = unknown.
    """

    exit_code = 5

    def __init__(self, message: str, exit_code: int = 5, rank: int | None = None):
        super().__init__(message)
        self.exit_code = exit_code
        self.rank = rank


class Interrupted(SslError):
    """Stopped by a signal after saving; `--resume` continues (exit code 75)."""

    exit_code = 75


def as_user_error(error: BaseException) -> SslError | None:
    """Returns the error as one that a user can do something about, or None for a bug."""
    if isinstance(error, SslError):
        return error
    message = " ".join(str(error).split())
    if is_out_of_memory(error):
        return ResourceError(f"out of memory: {message}", hint="try a smaller train.micro_batch_size")
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        where = f"{error.filename}: " if error.filename else ""
        return ResourceError(f"{where}{(error.strerror or message).lower()}")
    if isinstance(error, RuntimeError) and any(text in message for text in _NOT_DETERMINISTIC):
        if "CUBLAS_WORKSPACE_CONFIG" in message:
            hint = "set the environment variable CUBLAS_WORKSPACE_CONFIG=:4096:8 before the process uses the GPU"
            return UsageError("runtime.deterministic=true: matrix products came before it, without what it needs", hint)
        kernel = message.partition(" ")[0]
        return UsageError(
            f"runtime.deterministic=true: a part of this run needs {kernel}, which this device computes in no fixed "
            "order; set runtime.deterministic=false, or choose other parts"
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether the memory of the machine or of the device did not suffice."""
    # By name: torch is not imported for this. Its CPU allocator and cuBLAS raise a plain RuntimeError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def exit_code_of(error: BaseException) -> int:
    """Returns what a command exits with when this error ends it."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    known = as_user_error(error)
    return BUG if known is None else known.exit_code


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Returns the allowed name most like `name`, or None where nothing is close."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" or "" to append to an error message."""
    close = nearest(name, allowed)
    return f" Did you mean '{close}'?" if close else ""
