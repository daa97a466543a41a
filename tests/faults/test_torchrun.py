"""Four processes of torchrun, one of which is killed; the run goes on with another number of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TORCHRUN = Path(sys.executable).with_name("torchrun")
COMMAND = Path(sys.executable).with_name("ssl-train")
STEPS = 30
OPTIONS = [
    *("--method", "beit", "--backbone", "vit_tiny", "--tokenizer", "pixel"),
    *("backbone.width=16", "backbone.depth=2", "backbone.heads=2", "data.image_size=32", "dataset.images=64"),
    *(f"train.steps={STEPS}", "train.batch_size=8", "train.checkpoint_every=4", "optim.warmup_steps=5"),
    *("data.workers=0", "log.every=1", "log.pictures_every=0", "monitor.every_epochs=0"),
    *("runtime.device=cpu", "runtime.precision=fp32", "runtime.threads=1"),
]
SECONDS = 60
"""In which the other processes must have ended."""


def start(processes: int, *arguments: str) -> subprocess.Popen[str]:
    """Starts the command in so many processes, in a group of their own."""
    launcher = [str(TORCHRUN), "--nproc-per-node", str(processes), "--no-python", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = [*launcher, str(COMMAND), *arguments]
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **streams)


def losses(run: Path) -> dict[int, float]:
    """Returns update -> loss; what was computed again replaces what was computed before."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    while not any(run.glob("checkpoints/step-*/manifest.json")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def rank_of(launcher: int, rank: int) -> int:
    """Returns the process id of a rank that a launcher has started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for child in children:
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in variables:
            return int(child)
    raise AssertionError(f"no rank {rank} among {children}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_rank_ends_the_others_and_two_go_on(tmp_path):
    alone, run = tmp_path / "alone", tmp_path / "run"
    subprocess.run([COMMAND, *OPTIONS, "--out", alone], check=True, capture_output=True)

    four = start(4, *OPTIONS, "--out", str(run))
    wait_for_checkpoint(run, four)
    os.kill(rank_of(four.pid, 2), signal.SIGKILL)
    killed = time.monotonic()
    printed = four.communicate(timeout=SECONDS)[0]
    print(f"the others ended {time.monotonic() - killed:.1f} s after the kill")
    assert four.returncode != 0
    # torchrun ends them itself, perhaps before they have noticed.
    status = json.loads((run / "status.json").read_text())
    assert status["state"] in ("failed", "stopped"), printed

    two = start(2, "--resume", str(run))
    printed = two.communicate(timeout=10 * SECONDS)[0]
    assert two.returncode == 0, printed
    assert losses(run) == pytest.approx(losses(alone), rel=1e-4)
    name = Path("export") / "backbone.safetensors"
    found, expected = load_file(run / name), load_file(alone / name)
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=1e-4, msg=key)
