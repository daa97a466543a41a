"""`ssl-bench compare`: a table of runs that goes on where it was stopped."""

from __future__ import annotations

import json
import signal
import sys
import threading

import pytest
import yaml

from ssl_benchmarks import compare
from ssl_benchmarks.bench_cli import main
from ssl_benchmarks.comparison import included_comparisons, read_comparison, trainings

SPEC = {
    "title": "two maskers",
    "prepare": {"codes": {"method": "dvae", "train.steps": 5}},
    "settings": {"method": "beit", "tokenizer.checkpoint": "${codes}", "masker.ratio": 0.4},
    "rows": {"blocks": {"settings": {"masker": "block"}}, "random": {"evaluate": {"knn": {"baselines": True}}}},
    "evaluate": {"knn": {"k": 5, "baselines": False}},
}


@pytest.fixture
def spec(tmp_path):
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(SPEC, sort_keys=False))
    return file


class Commands:
    """Stands in for our commands: remembers them, and answers what they would."""

    def __init__(self):
        self.seen = []
        self.fails_at = None
        self.seconds = 90.0

    def __call__(self, command):
        self.seen.append(list(command))
        if self.fails_at == len(self.seen):
            raise compare.CommandFailed("stopped", 75)
        if command[0] == "ssl-eval":
            number = len(self.seen)
            return {
                "metrics": {"knn_5": 50.0 + number, "knn_5_ci": [49.0, 52.0]},
                "protocol": {"headline": "knn_5"},
                "baselines": {"random_init": {"knn_5": 20.0, "knn_5_ci": [19.0, 21.0]}, "majority": 10.0},
            }
        return {"seconds": self.seconds, "images_seen": 6400, "metrics": {"loss": 1.0}}


@pytest.fixture
def commands(monkeypatch):
    commands = Commands()
    monkeypatch.setattr(compare, "_run", commands)
    return commands


def test_rows_share_settings_and_use_earlier_runs(spec, tmp_path):
    runs = trainings(read_comparison(str(spec)), tmp_path)
    assert list(runs) == ["codes", "blocks", "random"]
    assert runs["codes"][1] == {"method": "dvae", "train.steps": "5"}
    assert runs["blocks"][1] == {
        "method": "beit",
        "tokenizer.checkpoint": str(tmp_path / "codes"),
        "masker.ratio": "0.4",
        "masker": "block",
    }


def test_safe_mode_reaches_every_command_and_is_not_kept_with_it(spec, tmp_path, commands):
    out = ["--out", str(tmp_path / "out"), "--data", "images"]
    assert main(["compare", str(spec), *out, "--safe"]) == 0
    assert len(commands.seen) > 3
    assert all(command[-1] == "--safe" for command in commands.seen)
    commands.seen.clear()
    assert main(["compare", str(spec), *out]) == 0
    assert commands.seen == []


def test_each_row_is_trained_and_evaluated_by_the_commands_in_the_table(spec, tmp_path, commands):
    assert main(["compare", str(spec), "--out", str(tmp_path / "out"), "--data", "images", "train.steps=2"]) == 0
    programs = [command[0] for command in commands.seen]
    assert programs == ["ssl-train", "ssl-train", "ssl-eval", "ssl-train", "ssl-eval"]
    codes = str(tmp_path / "out" / "codes")
    assert commands.seen[0] == [
        "ssl-train", "method=dvae", "train.steps=2", "--data", "images", "--out", codes,
    ]  # fmt: skip
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| blocks | 6,400 | 1.5 + 1.5 min | 53.0 [49.0, 52.0] |" in table
    assert "| random init | - | - | 20.0 [19.0, 21.0] |" in table
    assert table.count("random init") == 1  # both rows measured the same
    assert "ssl-train method=beit" in table
    values = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [row["name"] for row in values["rows"]] == ["codes", "blocks", "random"]


def test_what_is_finished_is_not_run_again_and_what_was_stopped_goes_on(spec, tmp_path, commands):
    out = tmp_path / "out"
    commands.fails_at = 4  # while the second row trains
    assert main(["compare", str(spec), "--out", str(out)]) == 75
    (out / "random").mkdir()  # the run that was stopped has left its folder
    assert main(["compare", str(spec), "--out", str(out)]) == 0
    assert [command[:3] for command in commands.seen[4:]] == [
        ["ssl-train", "--resume", str(out / "random")],
        ["ssl-eval", "knn", str(out / "random")],
    ]
    commands.seen.clear()
    assert main(["compare", str(spec), "--out", str(out)]) == 0
    assert commands.seen == []


def test_rows_can_be_chosen_and_the_table_holds_what_is_finished(spec, tmp_path, commands, capsys):
    out = tmp_path / "out"
    assert main(["compare", str(spec), "--out", str(out), "--rows", "random"]) == 0
    assert [command[-1] for command in commands.seen if command[0] == "ssl-train"] == [
        str(out / "codes"),
        str(out / "random"),
    ]
    assert "not finished: blocks" in capsys.readouterr().out
    assert main(["compare", str(spec), "--out", str(out), "--rows", "blocks"]) == 0
    assert len(commands.seen) == 5  # the run that both need was not made again
    values = json.loads((out / "table.json").read_text())
    assert [row["name"] for row in values["rows"]] == ["codes", "blocks", "random"]
    assert (out / "table.png").read_bytes().startswith(b"\x89PNG")
    assert main(["compare", str(spec), "--out", str(out), "--rows", "block"]) == 2
    assert "--rows block: no such row. Did you mean 'blocks'? There is blocks, random" in capsys.readouterr().err


def test_of_two_processes_one_runs_a_row_and_the_other_waits(tmp_path, capfd):
    """The second one cannot hold the row until the first has let it go."""
    file, order = tmp_path / ".row.lock", []

    def second():
        with compare._alone(file, "row"):
            order.append("second")

    with compare._alone(file, "row"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert "waiting for row, which another process runs" in capfd.readouterr().err


def test_a_row_without_training_is_an_earlier_row_with_fresh_weights(tmp_path, commands):
    rows = {"blocks": {}, "fresh": {"untrained": "blocks", "label": "random weights"}}
    file = tmp_path / "spec.yaml"
    file.write_text(
        yaml.safe_dump({"title": "t", "settings": {"method": "beit"}, "rows": rows, "evaluate": {"knn": {}}})
    )
    out = tmp_path / "out"
    assert main(["compare", str(file), "--out", str(out), "--rows", "fresh"]) == 0
    assert [command[:4] for command in commands.seen if command[0] == "ssl-eval"] == [
        ["ssl-eval", "knn", str(out / "blocks")],
        ["ssl-eval", "knn", str(out / "blocks"), "--untrained"],
    ]
    assert "| random weights | - | - | 53.0 " in (out / "table.md").read_text()


def test_a_gpu_gets_settings_of_its_own(tmp_path, commands):
    file = tmp_path / "spec.yaml"
    larger = {"settings": {"train.steps": 9}, "evaluate": {"knn": {"k": 7}}, "prepare": {"codes": {"train.steps": 8}}}
    file.write_text(yaml.safe_dump({**SPEC, "gpu": larger, "notes": ["on one seed"]}))
    for flag in ("--gpu", "--no-gpu"):
        assert main(["compare", str(file), "--out", str(tmp_path / flag), flag]) == 0
    gpu, cpu = (
        [" ".join(command) for command in commands.seen if flag in command[-1] + command[2]]
        for flag in ("--gpu", "--no-gpu")
    )
    assert ["train.steps=8" in line for line in gpu] == [True, False, False, False, False]
    assert ["train.steps=9" in line for line in gpu] == [False, True, False, True, False]
    assert [line.count("k=7") for line in gpu] == [0, 0, 1, 0, 1]
    assert not any(text in " ".join(cpu) for text in ("train.steps=8", "train.steps=9", "k=7"))
    assert "- on one seed" in (tmp_path / "--gpu" / "table.md").read_text()


def test_a_row_of_other_settings_is_not_taken_for_this_one(spec, tmp_path, commands, capsys):
    out = tmp_path / "out"
    assert main(["compare", str(spec), "--out", str(out)]) == 0
    assert main(["compare", str(spec), "--out", str(out), "train.steps=3"]) == 2
    assert "made by another command" in capsys.readouterr().err


def test_a_row_that_was_trained_again_is_evaluated_again(spec, tmp_path, commands):
    out = tmp_path / "out"
    assert main(["compare", str(spec), "--out", str(out)]) == 0
    (out / "blocks.train.json").unlink()
    commands.seen.clear()
    commands.seconds = 91.0
    assert main(["compare", str(spec), "--out", str(out)]) == 0
    assert [command[0] for command in commands.seen] == ["ssl-train", "ssl-eval"]


def test_a_row_on_an_earlier_run_that_was_trained_again_is_not_taken_for_this_one(spec, tmp_path, commands, capsys):
    out = tmp_path / "out"
    assert main(["compare", str(spec), "--out", str(out)]) == 0
    (out / "codes.train.json").unlink()
    commands.seconds = 91.0
    assert main(["compare", str(spec), "--out", str(out)]) == 2
    assert f"{out / 'blocks'}: made with another run of codes; delete it" in capsys.readouterr().err


def test_what_is_kept_of_a_row_and_is_damaged_is_named(spec, tmp_path, commands, capsys):
    out = tmp_path / "out"
    assert main(["compare", str(spec), "--out", str(out)]) == 0
    (out / "blocks.knn.json").write_text("{")
    assert main(["compare", str(spec), "--out", str(out)]) == 2
    assert "blocks.knn.json: damaged; delete it" in capsys.readouterr().err


def test_an_unknown_evaluator_is_said_before_anything_is_trained(tmp_path, commands, capsys):
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump({**SPEC, "evaluate": {"knnn": {}}}))
    assert main(["compare", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "knnn" in capsys.readouterr().err
    assert commands.seen == []


def test_a_folder_that_cannot_be_made_is_said_in_a_line(spec, tmp_path, commands, capsys):
    assert main(["compare", str(spec), "--out", str(spec)]) == 2
    assert f"--out {spec}: cannot make this folder" in capsys.readouterr().err
    assert commands.seen == []


def test_a_signal_to_us_alone_stops_the_command_that_runs(tmp_path, monkeypatch):
    """SIGTERM is passed on, and what the command ended with is what we end with."""
    program = tmp_path / "ssl-train"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(20)\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(compare.CommandFailed, match="exit code 75") as failed:
        compare._run(["ssl-train"])
    assert failed.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {}}, "rows: Dictionary should have at least 1 item"),
        ({"rows": {1: {}}}, "rows.1: Input should be a valid string"),
        ({"rows": {"codes": {}}}, "codes: a prepared run and a row, in one folder; rename one"),
        ({"settings": {"tokenizer.checkpoint": "${nothing}"}}, "nothing is no earlier run"),
        ({"rows": {"a/b": {}}}, "a row's name is a folder"),
        ({"rows": {"a": {"settings": {"tokenizer.checkpoint": "${nothing}"}}}}, "is no earlier run"),
        ({"rows": {"a": {"untrained": "b"}}}, "b is no earlier run"),
        ({"rows": {"a": {}, "b": {"untrained": "a", "settings": {"seed": 1}}}}, "untrained and settings; give one"),
        ({"rows": {"a": {}, "b": {"untrained": "a"}, "c": {"untrained": "b"}}}, "b is not trained either"),
        ({"row": {}}, "row: Extra inputs are not permitted"),
        ({"rows": None}, "rows: "),
    ],
)
def test_a_wrong_file_is_refused_in_a_line(change, message, tmp_path, capsys):
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump({**SPEC, **change}))
    assert main(["compare", str(file), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "- a list", "words", "\x80"])
def test_a_file_that_is_no_comparison_is_refused_in_a_line(text, tmp_path, capsys):
    file = tmp_path / "wrong.yaml"
    file.write_text(text, encoding="latin-1")
    assert main(["compare", str(file), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {file}: no")


def test_an_unknown_comparison_names_those_there_are(capsys):
    assert main(["compare", "nothing"]) == 2
    assert "targets" in capsys.readouterr().err
    assert included_comparisons()
    assert all(read_comparison(name).rows for name in included_comparisons())


def test_an_unknown_subcommand_is_answered_in_a_line(capsys):
    assert main(["compar"]) == 2
    assert "compare" in capsys.readouterr().err


def test_the_real_commands_fill_a_table(tmp_path):
    """One row, by the commands themselves."""
    small = {"backbone.width": 32, "backbone.depth": 1, "backbone.heads": 2, "dataset.images": 60, "train.steps": 2}
    spec = {
        "title": "one row",
        "settings": {"method": "beit", "backbone": "vit_tiny", "runtime.threads": 1, **small},
        "rows": {"blocks": {}},
        "evaluate": {"knn": {"k": 5, "baselines": False}},
    }
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    assert main(["compare", str(file), "--out", str(tmp_path / "out")]) == 0
    values = json.loads((tmp_path / "out" / "table.json").read_text())
    assert 0 <= values["rows"][0]["evaluations"]["knn"]["metrics"]["knn_5"] <= 100
    assert values["rows"][0]["run"]["images_seen"] > 0
