"""ssl-train, killed at random moments and resumed until it is done, ends with the weights of a run left alone.

The number of kills is SSL_KILLS, 50 by default. Most processes are forked from one that has imported torch already,
which is nearly all that a start costs; every tenth is a new interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

KILLS = int(os.environ.get("SSL_KILLS", "50"))
STEPS = 400
OPTIONS = [
    "backbone.width=16",
    "backbone.depth=1",
    "backbone.heads=1",
    "backbone.patch_size=8",
    "tokenizer.vocab_size=8",
    "tokenizer.images=40",
    "data.image_size=32",
    "dataset.images=40",
    f"train.steps={STEPS}",
    "train.batch_size=8",
    "train.micro_batch_size=4",
    "train.checkpoint_every=7",
    "train.ema=0.9",
    "optim.warmup_steps=5",
    "data.workers=0",
    "log.every=5",
    "log.pictures_every=0",
    "monitor.every_epochs=0",
    "runtime.device=cpu",
    "runtime.precision=fp32",
    "runtime.threads=1",
]
START = ["--method", "beit", "--backbone", "vit_tiny", "--tokenizer", "kmeans"]
COMMAND = [sys.executable, "-c", "import sys; from ssl_core.cli.train import main; sys.exit(main())"]
IMPORTED = ["ssl_core.training", "ssl_beit.backbone", "ssl_tokenizers.kmeans", "ssl_core.builtin.textures", "timm"]


class Command:
    """One start of ssl-train; with `fresh`, in a new interpreter."""

    def __init__(self, run: Path, context, fresh: bool = False):
        begun = (run / "config.yaml").is_file()
        arguments = ["--resume", str(run)] if begun else [*START, "--out", str(run), *OPTIONS]
        log = run.with_suffix(".out")
        self.metrics = run / "metrics.jsonl"
        self.size = self._size()
        self.fresh = fresh
        if fresh:
            stream = log.open("ab")
            self.process = subprocess.Popen([*COMMAND, *arguments], stdout=stream, stderr=stream)
        else:
            self.process = context.Process(target=ssl_train, args=(arguments, log))
            self.process.start()

    def runs(self) -> bool:
        return self.process.poll() is None if self.fresh else self.process.is_alive()

    def wait(self) -> int:
        """Returns the exit code, or minus the signal."""
        if self.fresh:
            return self.process.wait()
        self.process.join()
        return self.process.exitcode

    def begins_to_train(self) -> None:
        """Waits until it has written a line of its own, or ended."""
        while self.runs() and self._size() == self.size:
            time.sleep(0.01)

    def _size(self) -> int:
        return self.metrics.stat().st_size if self.metrics.is_file() else 0


def ssl_train(arguments: list[str], log: Path) -> None:
    stream = log.open("ab")
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    from ssl_core.cli.train import main

    sys.exit(main(arguments))


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    parts = ("model", "average")
    return {f"{part} {name}": t for part in parts for name, t in load_file(folder / f"{part}.safetensors").items()}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_random_moments_and_resumed(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    alone = tmp_path / "alone"
    assert Command(alone, context).wait() == 0, alone.with_suffix(".out").read_text()
    expected = weights(alone)
    rng = random.Random(0)
    runs, codes, kills = 0, [], Counter()
    while kills.total() < KILLS:
        run = tmp_path / f"run-{runs}"
        runs += 1
        while True:
            command = Command(run, context, fresh=len(codes) % 10 == 9)
            if kills.total() < KILLS:
                anywhere = rng.random() < 0.2  # in the middle of starting, too
                if not anywhere:
                    command.begins_to_train()
                time.sleep(rng.uniform(0, 3 if anywhere else 0.5))
                if command.runs():
                    number = rng.choice([signal.SIGKILL, signal.SIGTERM])
                    os.kill(command.process.pid, number)
                    kills[number.name] += 1
            code = command.wait()
            codes.append(code)
            # Before the run has taken over its signals, SIGTERM ends it like any other program.
            assert code in (0, 75, -signal.SIGKILL, -signal.SIGTERM), run.with_suffix(".out").read_text()
            if code == 0:
                break
        found = weights(run)
        assert found.keys() == expected.keys()
        assert [name for name in found if not torch.equal(found[name], expected[name])] == [], codes
    print(f"{dict(kills)}, {len(codes)} starts, {runs} runs, none lost; exit codes {dict(Counter(codes))}")
