"""Signals to the whole group of processes: workers go on until the main process ends them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from ssl_core.data.worker_signals import leave_signals_to_the_main_process


class Numbers(Dataset):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        return index


def started(_: int) -> None:
    leave_signals_to_the_main_process()


def loader() -> DataLoader:
    return DataLoader(Numbers(), num_workers=1, prefetch_factor=1, worker_init_fn=started, generator=torch.Generator())


def end_of(process) -> int | None:
    process.join(timeout=10)
    return process.exitcode


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_worker_outlives_a_signal_from_outside(name):
    numbers = iter(loader())
    seen = [int(next(numbers))]
    (worker,) = multiprocessing.active_children()
    code = f"import os, signal; os.kill({worker.pid}, signal.{name})"
    subprocess.run([sys.executable, "-c", code], check=True)
    time.sleep(0.1)
    assert worker.is_alive()
    seen += [int(number) for number in numbers]
    assert seen == list(range(12))
    assert end_of(worker) == 0


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="macOS")
def test_the_main_process_may_end_a_worker():
    numbers = iter(loader())
    next(numbers)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGTERM)
    assert end_of(worker) == 0


def test_a_command_that_leaves_its_loader_behind_ends():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_worker_signals as tests\n"
        "numbers = iter(tests.loader()); next(numbers); sys.exit(3)"
    )
    folder = os.path.dirname(__file__)
    assert subprocess.run([sys.executable, "-c", code, folder], timeout=60).returncode == 3
