"""Run by `test_distributed_faults.py`: pairs of processes as srun starts them, of which one comes to grief."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# All that a run imports is imported before the processes part, so that it is done once.
import torch._dynamo
import torch.utils.tensorboard  # noqa: F401
from toy_runs import toy_registry, train

import ssl_core.training  # noqa: F401
from ssl_core.cli.console import run_command
from ssl_core.contracts.hooks import TrainingHook
from ssl_core.errors import DataError
from ssl_core.runner import watch

SECONDS = 60


class At(TrainingHook):
    """Does something after the third update, on one of the two processes."""

    def __init__(self, rank, action):
        self.rank = rank
        self.action = action

    def after_step(self, method, progress):
        if progress.step == 3 and os.environ["RANK"] == str(self.rank):
            self.action()


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def frozen():
    os.kill(os.getpid(), signal.SIGSTOP)


def failed():
    raise DataError("3 of 40 images cannot be read")


FAULTS = {
    "killed": [At(1, killed)],
    "first-killed": [At(0, killed)],
    "frozen": [At(1, frozen)],
    "failed": [At(1, failed)],
    "waits-for-ever": [At(1, failed), At(0, lambda: time.sleep(2 * SECONDS))],
}
"""What happens -> the hooks that do it."""


def start(name: str, rank: int, port: int, folder: Path, registry) -> int:
    """Starts one process as srun does and returns its id."""
    if child := os.fork():
        return child
    for stream in (sys.stdout, sys.stderr):
        target = os.open(folder / f"{name}-{rank}.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(target, stream.fileno())
    os.environ |= {
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    watch._GRACE, watch._SILENT_BEATS = 2.0, 8  # the test is not to take a minute
    os._exit(run_command(lambda: train("toy-mae", folder / name, registry, hooks=FAULTS[name], log__every=2)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    registry = toy_registry()
    started = time.monotonic()
    children = {}
    for name in FAULTS:
        port = free_port()
        for rank in range(2):
            children[start(name, rank, port, folder, registry)] = (name, rank)
    ends = {name: {} for name in FAULTS}
    asleep = {("frozen", 1)}
    while set(children.values()) > asleep and time.monotonic() - started < SECONDS:
        for child, (name, rank) in list(children.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                del children[child]
                ends[name][rank] = os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    for child in children:
        os.kill(child, signal.SIGKILL)
    (folder / "ends.json").write_text(json.dumps(ends))
