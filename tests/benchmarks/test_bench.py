"""Speed is measured side by side, and printed as a ratio against a named baseline."""

from __future__ import annotations

import json
import time

import pytest
import torch

from ssl_benchmarks import bench_overhead, bench_tokenizer, timing
from ssl_benchmarks.bench_cli import main
from ssl_benchmarks.timing import PairsDone, compare_times, row
from ssl_core.api import Device, Registry, validate_options

CPU = Device(torch.device("cpu"), "fp32")


def test_a_ratio_is_that_of_the_times():
    ratio, spread = compare_times(lambda: time.sleep(0.04), lambda: time.sleep(0.02), repeats=5).wall
    assert ratio == pytest.approx(2, rel=0.25)
    assert spread < 0.5


def test_cpu_time_does_not_see_waiting():
    def work():
        return sum(range(300_000))

    def work_and_wait():
        time.sleep(0.3)
        return work()

    found = compare_times(work_and_wait, work, repeats=3)
    assert found.wall[0] > 2
    assert found.cpu[0] < 2


def test_a_long_measurement_says_how_far_it_is(monkeypatch, capsys):
    now = iter((0.0, 1.0, 3.0, 12.0, 13.0, 30.0))
    monkeypatch.setattr(timing.time, "monotonic", lambda: next(now))
    told = PairsDone("a step", 4)
    for done in range(5):
        told(done)
    printed = capsys.readouterr()
    assert printed.out == ""
    # After two seconds, then ten seconds apart, and not at the end.
    assert printed.err.splitlines() == ["a step: 1 of 4 pairs measured", "a step: 3 of 4 pairs measured"]


def test_a_goal_is_met_or_missed():
    assert row("a", "b", 1.04, 0.01, goal=1.05)["met"] is True
    assert row("a", "b", 1.06, 0.01, goal=1.05)["met"] is False
    assert row("a", "b", 1.06, 0.01)["met"] is None


def test_the_tokenizers_share_of_a_step_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(bench_tokenizer, "_TOKENIZERS", {"kmeans": {"vocab_size": 16}})
    monkeypatch.setattr(bench_tokenizer, "DALLE_SIZE", {**bench_tokenizer.DALLE_SIZE, "vocab_size": 16, "hidden": 8})
    assert main(["tokenizer", "--image-size", "32", "--batch-size", "2", "--repeats", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    codes = "codes of DALL-E's size of the dVAE"
    assert [line["name"] for line in found] == ["step with tokenizer kmeans", codes, f"{codes}, bf16 CPU"]
    assert {"baseline", "ratio", "spread", "goal", "met", "share_of_step"} <= found[0].keys()


def test_every_tokenizer_of_the_benchmark_can_be_built():
    for name, options in bench_tokenizer._TOKENIZERS.items():
        component = Registry.load().find(f"tokenizers:{name.split(' ')[0]}", "tokenizer").component
        validate_options(component.options, options)


@pytest.mark.parametrize("command", ["tokenizer", "knn", "features"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "0"], "--repeats: '0' given; give a whole number, 1 or more"),
        (["--image-size", "-32"], "a whole number, 1 or more"),
        (["seed=1"], "seed: ssl-bench"),
    ],
)
def test_wrong_arguments_are_answered_in_a_line(command, arguments, message, capsys):
    if command == "knn" and "--image-size" in arguments:
        arguments = ["--bank", "-32"]
    assert main([command, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_is_charged_to_the_steps_between_two():
    turns = bench_overhead._Turns(CPU, batch_size=8, steps=10, repeats=4, workers=0)
    block = bench_overhead._Block
    warm = [block(99.0, 99.0)]
    turns._bare = warm + [block(10.0, 5.0)] * 4
    turns._ours = warm + [block(10.1, 5.0), block(12.1, 5.5, saved=True)] * 2
    wall, cpu = turns.rows()
    assert wall["without_checkpoints"] == pytest.approx(1.01)
    assert wall["checkpoint_seconds"] == pytest.approx(2.0)
    assert wall["ratio"] == pytest.approx(1.01 + 2.0 / 100)  # a step takes a second
    assert cpu["ratio"] == pytest.approx(1 + 0.5 / 50)
    assert (wall["met"], cpu["met"]) == (True, True)
