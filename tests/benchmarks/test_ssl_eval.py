"""`ssl-eval` as a user runs it: answers, files and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from toy_plugin import SIZE, MemorySet, MemorySource

from ssl_benchmarks.cli import main

PLUGIN = Path(__file__).with_name("toy_plugin.py")
FLAGS = ["--plugin", str(PLUGIN), "device=cpu", "precision=fp32", "k=5,20"]


@pytest.fixture
def run_folder(tmp_path) -> Path:
    from ssl_core.api import BackboneSpec, Registry, build_untrained, write_export
    from ssl_core.loading import spec_values

    spec = BackboneSpec("toy_plugin:vit", {"width": 8}, SIZE, (0.5,) * 3, (0.25,) * 3, "shapes", {"dataset.size": 32})
    backbone = build_untrained(spec, seed=5, registry=Registry.load(files=[PLUGIN]))
    folder = tmp_path / "run=a"
    write_export(folder / "export" / "backbone.safetensors", backbone.state_dict(), spec_values(spec))
    return folder


@pytest.fixture
def opened(monkeypatch) -> list:
    """Replaces the data by images in memory; lists what was asked for."""
    asked = []

    def open_source(data, registry, settings=None):
        asked.append((data, settings))
        train = MemorySet([index % 3 for index in range(60)], ("a", "b", "c"), seed=1)
        test = MemorySet([index % 3 for index in range(30)], ("a", "b", "c"), seed=2)
        return MemorySource(train=train, test=test)

    monkeypatch.setattr("ssl_core.api.open_source", open_source, raising=False)
    return asked


def test_json_is_the_only_thing_on_stdout(run_folder, opened, capsys):
    assert main(["knn", str(run_folder), "--json", *FLAGS]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"evaluator", "protocol", "metrics", "baselines", "checkpoint", "data", "seconds"} <= set(result)
    assert set(result["metrics"]) == {"knn_5", "knn_20", "knn_20_ci"}
    assert set(result["baselines"]) == {"random_init", "raw_pixels", "majority"}
    assert result["checkpoint"] == str(run_folder)
    assert opened == [("shapes", {"dataset.size": 32})]  # what the backbone was trained on
    assert result["data"] == "memory"


def test_untrained_evaluates_the_same_backbone_with_fresh_weights(run_folder, opened, monkeypatch, capsys):
    """Those of the baseline that is drawn by the same seed."""
    import torch

    from ssl_benchmarks import cli
    from ssl_core.api import Registry, build_untrained

    evaluated, evaluate = [], cli._evaluate
    monkeypatch.setattr(cli, "_evaluate", lambda *given: evaluated.append(given[3]) or evaluate(*given))
    assert main(["knn", str(run_folder), *FLAGS]) == 0
    capsys.readouterr()
    assert main(["knn", str(run_folder), "--untrained", "--json", "seed=3", *FLAGS]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["checkpoint"] == f"{run_folder}, untrained"
    trained, fresh = evaluated
    expected = build_untrained(trained.spec, 3, Registry.load(files=[PLUGIN])).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in fresh.state_dict().items())
    assert any(not torch.equal(value, expected[name]) for name, value in trained.state_dict().items())


def test_the_table_names_every_baseline(run_folder, opened, capsys):
    assert main(["knn", str(run_folder), *FLAGS]) == 0
    out = capsys.readouterr().out
    for words in ("random init", "raw pixels", "majority", "knn_20"):
        assert words in out


def test_results_are_kept_in_the_run_and_numbered(run_folder, opened, capsys):
    for _ in range(2):
        assert main(["knn", str(run_folder), "--json", *FLAGS]) == 0
        printed = json.loads(capsys.readouterr().out)
    assert sorted(file.name for file in (run_folder / "eval").iterdir()) == ["knn-1.json", "knn-2.json"]
    assert json.loads((run_folder / "eval" / "knn-2.json").read_text()) == printed
    lines = [line for line in (run_folder / "report.md").read_text().splitlines() if line.startswith("- ")]
    assert len(lines) == 2
    assert "knn_20" in lines[1]
    assert "random init" in lines[1]
    assert "eval/knn-2.json" in lines[1]


def test_a_path_is_never_read_as_markup(run_folder, opened, capsys):
    run_folder.with_name("[").mkdir()
    folder = run_folder.rename(run_folder.with_name("[") / "a]")
    assert main(["knn", str(folder), *FLAGS]) == 0
    assert "[/a]" in "".join(capsys.readouterr().out.split())
    assert (folder / "eval" / "knn-1.json").is_file()


def test_a_result_is_kept_before_it_is_shown(run_folder, opened, monkeypatch):
    def fail(*_):
        raise OSError("no screen")

    monkeypatch.setattr("ssl_benchmarks.report.show", fail)
    assert main(["knn", str(run_folder), *FLAGS]) != 0
    assert (run_folder / "eval" / "knn-1.json").is_file()


def test_a_run_that_has_not_finished_is_evaluated_by_its_newest_checkpoint(tmp_path, capsys):
    import shutil

    import ssl_core
    from ssl_core.api import Registry

    run, toy = tmp_path / "run", Path(__file__).parents[1] / "toys" / "toy_mae.py"
    settings = {
        "data.image_size": 32,
        "dataset.images": 40,
        "train.steps": 2,
        "train.batch_size": 8,
        "optim.warmup_steps": 1,
        "log.pictures_every": 0,
        "runtime.device": "cpu",
        "runtime.precision": "fp32",
        "runtime.threads": 1,
    }
    ssl_core.train("toy-mae", out=run, settings=settings, registry=Registry.load(files=[toy]))
    shutil.rmtree(run / "export")
    checkpoint = run / "checkpoints" / "step-00000002"
    flags = ["--plugin", str(toy), "--json", "device=cpu", "precision=fp32", "k=5", "baselines=false"]
    results = []
    for path in (run, checkpoint, checkpoint / "model.safetensors"):
        capsys.readouterr()
        assert main(["knn", str(path), *flags]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0]["metrics"] == results[1]["metrics"] == results[2]["metrics"]
    noted = [any("weights of step-00000002" in note for note in result["notes"]) for result in results]
    assert noted == [True, False, False]
    # Beside the run's other results, not inside a checkpoint that the run deletes one day.
    assert sorted(file.name for file in (run / "eval").iterdir()) == ["knn-1.json", "knn-2.json"]
    assert not (checkpoint / "eval").exists()


def test_out_takes_everything_and_a_file_alone_writes_nothing(run_folder, opened, tmp_path):
    export = run_folder / "export" / "backbone.safetensors"
    assert main(["knn", str(export), *FLAGS]) == 0
    assert not (run_folder / "eval").exists()
    assert main(["knn", str(export), "--out", str(tmp_path / "kept"), *FLAGS]) == 0
    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == ["knn-1.json", "report.md"]


def test_data_and_its_settings_reach_the_data_set(run_folder, opened):
    assert main(["knn", "--data", "other", "dataset.size=64", str(run_folder), *FLAGS]) == 0
    assert main(["knn", "dataset.size=16", str(run_folder), *FLAGS]) == 0
    assert opened == [("other", {"dataset.size": "64"}), ("shapes", {"dataset.size": "16"})]


def test_plugins_hear_of_the_result(run_folder, opened, tmp_path):
    listener = tmp_path / "listener.py"
    listener.write_text(
        "from pathlib import Path\n"
        "from ssl_core.api import hookimpl\n\n"
        "@hookimpl\n"
        "def evaluated(checkpoint, result):\n"
        f"    Path({str(tmp_path / 'heard')!r}).write_text(result['evaluator'])\n"
    )
    assert main(["knn", str(run_folder), "--plugin", str(listener), *FLAGS]) == 0
    assert (tmp_path / "heard").read_text() == "knn"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["knm", "RUN"], 2, "unknown evaluator 'knm'. Did you mean 'knn'?"),
        (["knn"], 2, "ssl-eval knn: of what?"),
        (["knn", "nowhere"], 2, "nowhere: no such run folder"),
        (["knn", "RUN", "temprature=1"], 2, "Did you mean 'temperature'?"),
        (["knn", "RUN", "temperature=0"], 2, "must be above 0"),
        (["knn", "RUN", "--jsn"], 2, "Did you mean '--json'?"),
        (["knn", "RUN", "layer=7"], 2, "blocks 0 to 1"),
        (["knn", "RUN", "test_split=dev"], 3, "split 'dev' is not in the data"),
        (["knn", "RUN", "--out", "RUN/export/backbone.json"], 2, "cannot make this folder"),
    ],
)
def test_a_mistake_is_one_clear_line(run_folder, opened, capsys, arguments, code, message):
    arguments = [argument.replace("RUN", str(run_folder)) for argument in arguments]
    assert main([*arguments, "--plugin", str(PLUGIN)]) == code
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert captured.out == ""


def test_unlabelled_data_exits_with_3(run_folder, monkeypatch, capsys):
    source = MemorySource(train=MemorySet([-1] * 5, None, seed=0))
    monkeypatch.setattr("ssl_core.api.open_source", lambda *_: source, raising=False)
    assert main(["knn", str(run_folder), *FLAGS]) == 3
    assert "no labels" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["knn", "--help"], []])
def test_help_needs_no_torch(arguments):
    code = (
        "import sys; from ssl_benchmarks.cli import main; "
        f"sys.exit(main({arguments!r}) or ('torch' in sys.modules and 'torch was imported'))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "knn" in result.stdout
    if arguments[:1] == ["knn"]:
        assert "temperature=0.07" in result.stdout
