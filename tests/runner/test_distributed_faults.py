"""One process of a run comes to grief: the others stop soon, with its error. Real processes, started as srun does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLED = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    script = Path(__file__).with_name("distributed_faults.py")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MASTER_"))}
    environment["OMP_NUM_THREADS"] = "1"
    result = subprocess.run([sys.executable, script, folder], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


def ends(folder: Path, name: str) -> dict[str, int]:
    """Returns the exit code of each process that ended by itself within a minute: rank -> code."""
    return json.loads((folder / "ends.json").read_text())[name]


def status(folder: Path, name: str) -> dict:
    return json.loads((folder / name / "status.json").read_text())


def printed(folder: Path, name: str, rank: int) -> str:
    return (folder / f"{name}-{rank}.txt").read_text()


@pytest.mark.parametrize(
    ("name", "lost", "codes"),
    [("killed", 1, {"0": KILLED, "1": -9}), ("first-killed", 0, {"0": -9, "1": KILLED}), ("frozen", 1, {"0": KILLED})],
)
def test_a_process_that_is_gone_ends_the_others(folder, name, lost, codes):
    assert ends(folder, name) == codes
    message = f"process {lost} of 2 has gone without an error"
    assert f"error: {message}" in printed(folder, name, 1 - lost)
    found = status(folder, name)
    assert (found["state"], found["exit_code"]) == ("failed", KILLED)
    assert found["message"].startswith(message)


@pytest.mark.parametrize("name", ["failed", "waits-for-ever"])
def test_the_error_of_one_process_is_that_of_all(folder, name):
    """Also where the other one waits for something that does not come."""
    assert ends(folder, name) == {"0": 3, "1": 3}
    message = "3 of 40 images cannot be read"
    assert f"error: {message}" in printed(folder, name, 1)
    assert f"error: process 1 of 2 failed: {message}" in printed(folder, name, 0)
    found = status(folder, name)
    assert (found["state"], found["exit_code"]) == ("failed", 3)
    assert found["message"] == f"process 1 of 2 failed: {message}"
    assert "Traceback" not in printed(folder, name, 0)
