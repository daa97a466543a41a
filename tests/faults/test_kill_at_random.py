"""ssl-train, killed at random moments and resumed until it is done, ends with the weights of a run left alone.

The number of kills is SSL_KILLS, 50 by default.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
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


def start(run: Path) -> subprocess.Popen:
    """Starts or resumes the run, as a person would."""
    arguments = ["--resume", str(run)] if (run / "config.yaml").is_file() else [*START, "--out", str(run), *OPTIONS]
    log = run.with_suffix(".out").open("ab")
    return subprocess.Popen([*COMMAND, *arguments], stdout=log, stderr=log)


def begins_to_train(process: subprocess.Popen, run: Path) -> None:
    """Waits until the process has written a line of its own, or ended."""
    metrics = run / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.is_file() else 0
    while process.poll() is None and (not metrics.is_file() or metrics.stat().st_size == size):
        time.sleep(0.01)


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    parts = ("model", "average")
    return {f"{part} {name}": t for part in parts for name, t in load_file(folder / f"{part}.safetensors").items()}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_random_moments_and_resumed(tmp_path):
    alone = tmp_path / "alone"
    assert start(alone).wait() == 0, alone.with_suffix(".out").read_text()
    expected = weights(alone)
    rng = random.Random(0)
    kills, runs, codes = 0, 0, []
    while kills < KILLS:
        run = tmp_path / f"run-{runs}"
        runs += 1
        while True:
            process = start(run)
            if kills < KILLS:
                anywhere = rng.random() < 0.2  # in the middle of starting, too
                if not anywhere:
                    begins_to_train(process, run)
                time.sleep(rng.uniform(0, 3 if anywhere else 0.5))
                if process.poll() is None:
                    process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
                    kills += 1
            code = process.wait()
            codes.append(code)
            # Before the run has taken over its signals, SIGTERM ends it like any other program.
            assert code in (0, 75, -signal.SIGKILL, -signal.SIGTERM), run.with_suffix(".out").read_text()
            if code == 0:
                break
        found = weights(run)
        assert found.keys() == expected.keys()
        assert [name for name in found if not torch.equal(found[name], expected[name])] == [], codes
    print(f"{kills} kills, {len(codes)} starts, {runs} runs, none lost: {codes}")
