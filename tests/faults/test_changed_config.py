"""A run goes on with the config it began with; what is different is shown, and refused where it matters."""

from __future__ import annotations

import json

import pytest
import yaml
from stop_at import StopAt
from toy_runs import TOYS, toy_registry, train

from ssl_core.cli.train import main
from ssl_core.errors import ConfigError, Interrupted, UsageError
from ssl_core.runner.environment import other_versions
from ssl_core.training import resume


@pytest.fixture(scope="module")
def registry():
    return toy_registry()


@pytest.fixture
def stopped(registry, tmp_path):
    """A run that was stopped after 2 of 4 updates."""
    with pytest.raises(Interrupted):
        train("toy-dino", tmp_path / "run", registry, train__steps=4, hooks=[StopAt(2)])
    return tmp_path / "run"


def config_of(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def test_what_changes_the_training_is_refused(stopped, registry):
    before = config_of(stopped)
    with pytest.raises(ConfigError) as caught:
        resume(stopped, registry, settings={"optim.lr": 0.5, "train.batch_size": "4", "log.every": 2})
    assert [line.partition(": ")[2] for line in caught.value.problems] == [
        "train.batch_size: 8 -> 4",
        "optim.lr: 0.001 -> 0.5",
    ]
    assert "--force" in caught.value.hint
    assert config_of(stopped) == before


def test_what_only_says_where_and_how_often_is_taken(stopped, registry, capsys):
    settings = {"data.workers": 1, "log.every": 2, "train.keep_checkpoints": 5, "train.micro_batch_size": 4}
    assert resume(stopped, registry, settings=settings)["step"] == 4
    said = capsys.readouterr().out
    assert "changed   data.workers: null -> 1" in said
    assert "changed   train.keep_checkpoints: 2 -> 5" in said
    assert config_of(stopped)["train"]["keep_checkpoints"] == 5


def test_force_goes_on_and_is_not_asked_again(stopped, registry):
    with pytest.raises(Interrupted):
        resume(stopped, registry, settings={"optim.lr": 0.5}, force=True, hooks=[StopAt(3)])
    assert config_of(stopped)["optim"]["lr"] == 0.5
    assert resume(stopped, registry)["step"] == 4


def test_an_edited_config_is_noticed(stopped, registry):
    values = config_of(stopped)
    values["optim"]["weight_decay"] = 0.25
    (stopped / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"optim.weight_decay: 0.05 -> 0.25"):
        resume(stopped, registry)


def test_a_config_file_lies_over_the_own_one(stopped, registry, tmp_path):
    file = tmp_path / "other.yaml"
    file.write_text("optim: {lr: 0.25, eps: 1.0e-6}\nlog: {every: 3}\n")
    with pytest.raises(ConfigError) as caught:
        resume(stopped, registry, config=file, settings={"optim.lr": 0.125})
    assert len(caught.value.problems) == 2
    assert "optim.lr: 0.001 -> 0.125" in caught.value.problems[0]
    assert "optim.eps: 1e-08 -> 1e-06" in caught.value.problems[1]


def test_a_run_can_be_made_longer(stopped, registry):
    assert resume(stopped, registry)["step"] == 4
    assert resume(stopped, registry, settings={"train.steps": 6})["finished_before"]
    assert resume(stopped, registry, settings={"train.steps": 6}, force=True)["step"] == 6


def test_an_option_younger_than_the_run_is_no_change(stopped, registry):
    values = config_of(stopped)
    del values["optim"]["eps"]
    (stopped / "config.yaml").write_text(yaml.safe_dump(values))
    environment = json.loads((stopped / "env.json").read_text())
    del environment["config"]["optim"]["eps"]
    (stopped / "env.json").write_text(json.dumps(environment))
    assert resume(stopped, registry)["step"] == 4


def test_a_recipe_cannot_be_chosen_again(stopped, registry):
    with pytest.raises(UsageError, match="recipes are chosen when a run begins"):
        resume(stopped, registry, settings={"recipe": "none"}, force=True)


def test_the_command_says_it_in_one_line_each(stopped, capsys):
    plugins = [word for name in ("toy_mae.py", "toy_dino.py") for word in ("--plugin", str(TOYS / name))]
    arguments = ["--resume", str(stopped), "optim.lr=0.5", *plugins]
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"error: --resume {stopped}: optim.lr: 0.001 -> 0.5"
    assert said[1].startswith("hint: ")
    assert len(said) == 2


def test_other_versions_are_one_line(stopped, registry, capsys):
    environment = json.loads((stopped / "env.json").read_text())
    environment["packages"]["torch"] = "2.0.1"
    (stopped / "env.json").write_text(json.dumps(environment))
    resume(stopped, registry)
    notes = [line for line in capsys.readouterr().out.splitlines() if "since the last start" in line]
    assert len(notes) == 1
    assert "torch 2.0.1 -> " in notes[0]


def test_other_plugins_and_devices_count_as_well():
    def environment(version, sha, device):
        plugins = [("acme", f"acme-ssl {version}", None), ("mine", "/home/me/mine.py", sha)]
        listed = [{"name": n, "distribution": d, "state": "ok", "sha256": s} for n, d, s in plugins]
        return {"packages": {"torch": "2.10"}, "plugins": listed, "device": device}

    before, now = environment("1.0", "a" * 64, "CPU"), environment("1.1", "b" * 64, "H200")
    assert other_versions(before, now) == [
        "acme-ssl 1.0 -> 1.1",
        f"mine {'a' * 12} -> {'b' * 12}",
        "device CPU -> H200",
    ]
    assert other_versions({}, now) == []
