"""Runs a command: its result to stdout, what a user did wrong to one clear line each, and an exit code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from ssl_core.errors import BUG, INTERRUPTED, Interrupted, PeerError, as_user_error
from ssl_core.launcher import is_first
from ssl_core.plain_text import printable


def run_command(function: Callable[[], Mapping[str, Any] | None], json_output: bool = False) -> int:
    """Runs a command and returns its exit code.

    Args:
        function: does the work, prints for people, and returns the result as JSON-ready values.
        json_output: print the result, or {"error": ..., "exit_code": n}, as the one JSON object
            on stdout; everything else that the function prints goes to stderr.
    """
    stdout = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # where a terminal's encoding lacks a letter, print its number
            stream.reconfigure(errors="backslashreplace")
    try:
        with contextlib.redirect_stdout(sys.stderr) if json_output else contextlib.nullcontext():
            result = function()
            sys.stdout.flush()
        if json_output:
            _print_json(result or {}, stdout)
    except BrokenPipeError:
        # The reader has gone (`| head`). Point stdout elsewhere, or Python complains again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C; nothing more was saved", INTERRUPTED, json_output, stdout, prefix="")
    except Exception as error:
        known = as_user_error(error)
        if known is None:
            traceback.print_exc()
            print("error: this is a bug and not your mistake. Please report it with the lines above.", file=sys.stderr)
            if json_output:
                _print_json({"error": f"{type(error).__name__}: {error}", "exit_code": BUG}, stdout)
            return BUG
        prefix = "" if isinstance(known, Interrupted) else "error: "
        code = _fail(str(known), known.exit_code, json_output, stdout, prefix, known.hint, known.details)
        if isinstance(known, PeerError):
            # At once: what the GPU waits for never comes, and Python would wait for it when it ends.
            os._exit(code)
        return code
    return 0


def _fail(
    message: str,
    code: int,
    json_output: bool,
    stdout: TextIO,
    prefix: str = "error: ",
    hint: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> int:
    for line in message.split("\n"):
        print(f"{prefix}{printable(line)}", file=sys.stderr)
    if hint:
        print(f"hint: {printable(hint)}", file=sys.stderr)
    if json_output:
        _print_json({"error": message, "exit_code": code, **(details or {})}, stdout)
    return code


def _print_json(value: Mapping[str, Any], stdout: TextIO) -> None:
    if not is_first():
        return  # one object, not one from each process
    print(json.dumps(value, indent=2, default=str), file=stdout, flush=True)
