"""SIGTERM, SIGINT and SIGUSR1 finish the step, save and exit 75, wherever the run is; a second Ctrl-C leaves now."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_runs import SETTINGS, TOYS, toy_registry, train

from ssl_core.contracts.hooks import TrainingHook
from ssl_core.errors import Interrupted
from ssl_core.runner.stopping import Stopped, StopRequest
from ssl_core.training import resume

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]


def status(out: Path) -> tuple[str, int]:
    values = json.loads((out / "status.json").read_text())
    return values["state"], values["exit_code"]


class SignalAt(TrainingHook):
    def __init__(self, number: int, step: int):
        self.number, self.step = number, step

    def before_step(self, batch, progress):
        if progress.step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_the_step_is_finished_and_saved(number, tmp_path):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=rf"stopped by {number.name} at step 3; .* ssl-train --resume {tmp_path}/a"):
        train("toy-mae", tmp_path / "a", hooks=[SignalAt(number, step=2)])
    assert status(tmp_path / "a") == ("stopped", 75)
    assert (tmp_path / "a" / "checkpoints" / "step-00000003" / "manifest.json").is_file()
    assert signal.getsignal(number) == before


def test_before_the_first_update_it_stops_at_once(tmp_path, monkeypatch):
    """While the data is looked at, the model is built, or the first images are read."""

    def told(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(5)

    with monkeypatch.context() as patch:
        patch.setattr("ssl_core.runner.session.build_method", told)
        with pytest.raises(Interrupted, match=r"stopped by SIGUSR1; nothing .* lost\. Go on with: ssl-train --resume"):
            train("toy-mae", tmp_path / "a")
    assert status(tmp_path / "a") == ("stopped", 75)
    assert resume(tmp_path / "a", toy_registry())["step"] == 6


def test_in_the_first_stage_the_whole_run_is_what_is_resumed(tmp_path):
    options = {"tokenizer__vocab_size": 8, "tokenizer__images": 40, "backbone__width": 16, "backbone__depth": 1}
    options |= {"backbone__heads": 1, "backbone__patch_size": 8, "optim__warmup_steps": 2}

    def told(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_core.runner.first_stage.FirstStage.images", told)
        with pytest.raises(Interrupted, match=rf"ssl-train --resume {tmp_path}/a$"):
            train("beit kmeans", tmp_path / "a", **options)
    assert status(tmp_path / "a") == ("stopped", 75)
    assert resume(tmp_path / "a", toy_registry())["step"] == 6


def test_a_long_evaluation_is_given_up_and_made_up_for(tmp_path, monkeypatch):
    evaluated = []

    class Slow(TrainingHook):
        def after_step(self, method, progress):
            if progress.step == 3 and "begun" not in evaluated:
                evaluated.append("begun")
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
                evaluated.append("finished")
            else:
                evaluated.append(progress.step)

    monkeypatch.setattr("ssl_core.contracts.method.Method.hooks", lambda self, run: [Slow()])
    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 3"):
        train("toy-mae", tmp_path / "a")
    assert "finished" not in evaluated
    resume(tmp_path / "a", toy_registry())
    assert evaluated[-4:] == [3, 4, 5, 6]


def test_no_error_handler_takes_it_for_an_error():
    with StopRequest() as stop:
        with pytest.raises(Stopped):
            _careless()
        assert stop.signal_name == "SIGTERM"


def _careless() -> None:
    with contextlib.suppress(Exception):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def start(out: Path) -> subprocess.Popen:
    """Starts a real `ssl-train` of a toy that would take for ever."""
    options = {**SETTINGS, "train.steps": 100_000, "train.checkpoint_every": 100_000}
    program = Path(sys.executable).with_name("ssl-train")
    command = [program, "--plugin", TOYS / "toy_mae.py", "--method", "toy-mae", "--out", out]
    command = [*map(str, command), *(f"{name}={value}" for name, value in options.items())]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_updates(process: subprocess.Popen, out: Path) -> None:
    while not (out / "metrics.jsonl").is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_a_real_command_exits_with_75_and_prints_how_to_go_on(tmp_path):
    process = start(tmp_path / "a")
    wait_for_updates(process, tmp_path / "a")
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert f"Go on with: ssl-train --resume {tmp_path / 'a'}" in errors
    assert "Traceback" not in errors
    assert status(tmp_path / "a") == ("stopped", 75)


def test_the_second_ctrl_c_leaves_at_once():
    """In a step that would take for ever."""
    code = (
        "import time; from ssl_core.runner.stopping import StopRequest\n"
        "with StopRequest() as stop, stop.patiently():\n"
        "    print('ready', flush=True); time.sleep(60); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Ctrl-C again leaves at once" in errors
