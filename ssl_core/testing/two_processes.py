"""A trial run that two processes share."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ssl_core.contracts.hooks import TrainingHook
from ssl_core.testing import trial
from ssl_core.testing.subject import Subject

_PATIENCE = 120.0
"""Seconds that the two may take."""


@dataclass(frozen=True)
class Shared:
    """What became of it.

    Attributes:
        problem: why it failed; empty if it did not.
        agree: whether both processes ended with the same weights and buffers.
        trial: what was left; None if it failed.
    """

    problem: str = ""
    agree: bool = False
    trial: trial.Trial | None = None


class _Digest(TrainingHook):
    """Keeps a digest of everything that the method holds at the end."""

    value = ""

    def after_run(self, method: Any, progress: Any) -> None:
        digest = hashlib.sha256()
        for name, tensor in sorted(method.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().double().numpy().tobytes())
        self.value = digest.hexdigest()


def train_by_two(subject: Subject, out: Path) -> Shared:
    """Trains with two processes on the CPU, forked from this one (torch is imported already)."""
    context = multiprocessing.get_context("fork")
    port = _free_port()
    pairs = [context.Pipe() for _ in range(2)]
    children = [
        context.Process(target=_child, args=(rank, port, subject, out, pair[1]), daemon=True)
        for rank, pair in enumerate(pairs)
    ]
    for child in children:
        child.start()
    try:
        answers = [_answer(pair[0]) for pair in pairs]
    finally:
        for child in children:
            child.join(1)
            if child.is_alive():
                child.kill()
                child.join()
    problems = [answer.removeprefix("failed: ") for answer in answers if answer.startswith("failed: ")]
    if problems:
        # The one that failed by itself says why; the other one only knows that its peer has gone.
        return Shared(problem=min(problems, key=lambda text: ("process" in text, len(text))))
    return Shared(agree=answers[0] == answers[1], trial=trial.read(out))


def _answer(pipe: Connection) -> str:
    try:
        return pipe.recv() if pipe.poll(_PATIENCE) else f"failed: no answer within {_PATIENCE:.0f} s"
    except EOFError:
        return "failed: a process ended without a word"


def _child(rank: int, port: int, subject: Subject, out: Path, pipe: Connection) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    import torch

    torch.set_num_threads(1)  # a forked process must not wait for OpenMP threads that it does not have
    digest = _Digest()
    try:
        config, registry, source = trial.resolved(subject, train__micro_batch_size=trial.BATCH // 2)
        with trial.quiet():
            trial.run(config, registry, source, out=out, hooks=[digest])
        pipe.send(digest.value)
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename in subject.files]
        place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
        pipe.send(f"failed: {type(error).__name__}: {' '.join(str(error).split())[:400]}{place}")
    finally:
        pipe.close()
        os._exit(0)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
