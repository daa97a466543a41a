"""`ssl-train` up to the point where training would start."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml

import ssl_core
from ssl_core.cli.train import main
from ssl_core.config.resolve import DataFacts
from ssl_core.errors import CheckpointError, Interrupted

PLUGIN = str(Path(__file__).with_name("toy_command.py"))
GUESS = ["--plugin", PLUGIN, "--method", "guess"]


@pytest.fixture
def training(monkeypatch):
    """Stands in for ssl_core.training and keeps what it was called with."""
    fake = types.ModuleType("ssl_core.training")
    fake.calls = []

    def open_data(selection, registry):
        part = selection.dataset
        fake.calls.append(("open_data", part.match.qualified))
        return "source", DataFacts(part.options.images, 32, selection.demonstration)

    def run(config, registry, source, **keywords):
        fake.calls.append(("run", config, keywords))
        print("epoch 1")
        return {"out": "runs/a"}

    def resume(path, registry, **keywords):
        fake.calls.append(("resume", path, keywords))
        return {"out": str(path)}

    fake.open_data, fake.run, fake.resume = open_data, run, resume
    monkeypatch.setitem(sys.modules, "ssl_core.training", fake)
    monkeypatch.setattr(ssl_core, "training", fake, raising=False)
    return fake


def test_a_run(training, tmp_path):
    out = tmp_path / "a"
    assert main([*GUESS, "backbone.width=16", "--out", str(out), "optim.lr=1e-3", "--overwrite", "--dry-run"]) == 0
    name, config, keywords = training.calls[-1]
    assert name == "run"
    assert keywords == {
        "out": out,
        "overwrite": True,
        "dry_run": True,
        "init_from": None,
        "json_output": False,
    }
    assert config.parts["backbone"].options.width == 16
    assert config.optim.lr == 1e-3
    assert config.sources["optim.lr"] == "command line"
    assert config.recipes == ("tiny",)


def test_one_json_object_and_nothing_else_on_stdout(training, capsys):
    assert main([*GUESS, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"out": "runs/a"}
    assert captured.err == "epoch 1\n"


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["--metod", "guess"], ["unknown flag '--metod'. Did you mean '--method'?"]),
        (
            ["--masker.ratio", "0.4", "--epochs=3", "--seed", "1"],
            [
                "unknown flag '--masker.ratio'. Options are written without dashes: masker.ratio=0.4",
                "unknown flag '--epochs'. Options are written without dashes: train.epochs=3",
                "unknown flag '--seed'. Options are written without dashes: seed=1",
            ],
        ),
        (["optim.lr", "0.4"], ["'optim.lr 0.4': write it with '=': optim.lr=0.4"]),
        (["--backbone"], ["--backbone: needs a value"]),
        (["--out", "--overwrite"], ["--out: needs a value"]),
        (["--plugin", "none.py"], ["--plugin none.py: no such file"]),
        (["--no-plugin", "none"], ["--no-plugin none: no such plugin. See `ssl-plugins list`."]),
        (["--config", "none.yaml"], ["--config none.yaml: no such file or directory"]),
        (
            [*GUESS, "optim.lrr=1", "backbone.width=0"],
            ["backbone.width: 0 is too small; at least 1", "optim.lrr: no such option. Did you mean 'optim.lr'?"],
        ),
        ([*GUESS, "--backbone", "net_lage"], ["unknown backbone 'net_lage'. Did you mean 'net_large'? Allowed: "]),
        (
            [*GUESS, "--masker", "x"],
            ["masker 'x': method 'guess' has no masker; its parts are backbone, transform, dataset"],
        ),
    ],
)
def test_a_wrong_command_line(arguments, lines, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    found = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(found) == len(lines)
    for line, expected in zip(found, lines, strict=True):
        assert line.startswith(f"error: {expected}")
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_wrong_option_is_answered_before_the_data_is_opened(training):
    assert main([*GUESS, "optim.lrr=1"]) == 2
    assert training.calls == []


def test_a_hint_follows_wrong_options(capsys):
    main([*GUESS, "optim.lrr=1"])
    assert capsys.readouterr().err.splitlines()[-1] == "hint: all options: ssl-train --method guess --help"


def test_without_a_method(capsys):
    assert main(["--plugin", PLUGIN]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: which method? --method NAME, one of ")
    assert "guess" in err


def test_data_that_is_nothing_has_an_exit_code_of_its_own(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*GUESS, "--data", "phtos"]) == 3
    assert capsys.readouterr().err.startswith("error: --data 'phtos': no such folder, and no data set of that name.")


def test_an_error_as_json(capsys):
    assert main([*GUESS, "--json", "optim.lrr=1"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "error": "optim.lrr: no such option. Did you mean 'optim.lr'?",
        "exit_code": 2,
    }
    assert captured.err.startswith("error: optim.lrr")


def test_print_config(training, capsys):
    assert main([*GUESS, "--print-config", "optim.lr=1e-3", "--backbone", "net_large", "data.image_size=48"]) == 0
    text = capsys.readouterr().out
    values = yaml.safe_load(text)
    assert values["backbone"] == {"name": "toy_command:net", "model": "net_large", "width": 8}
    assert values["optim"]["lr"] == 1e-3
    lines = {line.split(" # ")[0].strip(): line.split(" # ")[1] for line in text.splitlines() if " # " in line}
    assert lines["lr: 0.001"] == "from command line"
    assert lines["model: net_large"] == "from command line"
    assert lines["name: toy_command:net"] == "from command line"
    assert lines["epochs: 3.0"] == "from preset guess"
    assert lines["betas: [0.9, 0.999]"] == "from default"
    assert lines["batch_size: 64"] == "from adjusted: 128 of preset guess, shrunk"
    assert "# batch 128 -> 64 to fit 64 images" in text.splitlines()
    assert [call[0] for call in training.calls] == ["open_data"]


def test_print_config_gives_a_file_that_config_takes(training, capsys, tmp_path):
    assert main([*GUESS, "--print-config", "--backbone", "net_large", "seed=4"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "run.yaml").write_text(text)
    assert main(["--plugin", PLUGIN, "--config", str(tmp_path / "run.yaml"), "--print-config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == yaml.safe_load(text)


def test_resume(training):
    assert main(["--resume", "runs/a", "runtime.device=cpu", "optim.lr=1", "--config", "b.yaml", "--json"]) == 0
    name, path, keywords = training.calls[-1]
    assert (name, path) == ("resume", Path("runs/a"))
    assert keywords == {
        "settings": {"runtime.device": "cpu", "optim.lr": "1"},
        "config": Path("b.yaml"),
        "force": False,
        "json_output": True,
    }
    assert main(["--resume", "runs/a", "optim.lr=1", "--force"]) == 0
    assert training.calls[-1][2]["force"]


def test_resume_takes_no_other_parts(training, capsys):
    assert main(["--resume", "runs/a", "--method", "guess", "--init-from", "x", "optim.lr=1"]) == 2
    assert "so --method, --init-from cannot be given" in capsys.readouterr().err
    assert training.calls == []


def test_force_without_resume(training, capsys):
    assert main([*GUESS, "--force"]) == 2
    assert "--force belongs to --resume RUN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (CheckpointError("x: no checkpoint"), 2, "error: x: no checkpoint"),
        (Interrupted("saved at step 3"), 75, "saved at step 3"),
        (OSError(28, "No space left on device", "runs/a"), 5, "error: runs/a: no space left on device"),
        (MemoryError("30 GiB"), 5, "error: out of memory: 30 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 5, "error: out of memory: "),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (ValueError("oops"), 1, "Traceback (most recent call last):"),
    ],
)
def test_exit_codes(training, monkeypatch, capsys, raised, code, line):
    def run(*_, **__):
        raise raised

    monkeypatch.setattr(training, "run", run)
    assert main([*GUESS, "--json"]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(line)
    assert json.loads(captured.out)["exit_code"] == code
    assert ("this is a bug" in captured.err) == (code == 1)


def test_memory_of_a_gpu(training, monkeypatch, capsys):
    class OutOfMemoryError(RuntimeError):
        """As torch names it."""

    def run(*_, **__):
        raise OutOfMemoryError("CUDA out of memory.\nTried to allocate 3 GiB")

    monkeypatch.setattr(training, "run", run)
    assert main(GUESS) == 5
    assert capsys.readouterr().err.splitlines() == [
        "error: out of memory: CUDA out of memory. Tried to allocate 3 GiB",
        "hint: try a smaller train.micro_batch_size",
    ]


def test_help_without_a_method_lists_the_methods(capsys):
    assert main(["--plugin", PLUGIN, "--help"]) == 0
    text = capsys.readouterr().out
    assert "  guess                  guesses what is hidden" in text
    assert "  --init-from CKPT" in text
    assert "optim.lr=0.0015" in text
    assert "backbone.width" not in text


def test_help_shows_the_options_of_just_the_chosen_parts(capsys):
    assert main([*GUESS, "--backbone", "net_large", "--help", "optim.lr=2"]) == 0
    text = capsys.readouterr().out
    assert "backbone toy_command:net: a net for tests" in text
    assert (
        "  backbone.width=8                   whole number, at least 1, at most 512\n      Features of a patch." in text
    )
    assert "  backbone.model=net_large           text (command line)" in text
    assert "  train.epochs=3                     number or none, above 0 (preset guess)" in text
    assert "dataset.images=64" in text
    assert "masker." not in text
    assert "tiny: for dots" in text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ssl {ssl_core.__version__}\n"


@pytest.mark.parametrize(
    "code",
    [
        f"from ssl_core.cli.train import main; main(['--help', '--plugin', {PLUGIN!r}, '--method', 'guess'])",
        "from ssl_core.cli.train import main; main(['--help'])",
        "from ssl_core.cli.plugins import main; main(['list'])",
        "from ssl_core.cli.plugins import main; main(['info', 'core'])",
        f"from ssl_core.cli.train import main; main(['--plugin', {PLUGIN!r}, '--method', 'guess', 'optim.lrr=3'])",
    ],
)
def test_answers_need_neither_torch_nor_numpy(code):
    check = "; import sys; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'PIL', 'timm')))"
    finished = subprocess.run([sys.executable, "-c", code + check], capture_output=True)
    assert finished.returncode == 0
    assert b"Traceback" not in finished.stderr
