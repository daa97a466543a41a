"""What is measured of a training step is what training does, and counts see what they count."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssl_benchmarks import bench_all, bench_attention, bench_step, bench_tokenizer, step_case
from ssl_benchmarks.bench_cli import SUBCOMMANDS, main
from ssl_benchmarks.bench_parts import DALLE_SIZE, beit_method, noise_batch
from ssl_benchmarks.step_case import FULL_STEP, GIVEN_STEP, StepCase
from ssl_benchmarks.step_counts import graphs_after, waits
from ssl_benchmarks.timing import Comparison, compare_times, not_measured, show_rows
from ssl_core.api import Device, unit_views

CPU = Device(torch.device("cpu"), "fp32")
COLUMNS = {"name", "baseline", "ratio", "spread", "goal", "met"}
SMALL = {**DALLE_SIZE, "vocab_size": 16, "hidden": 8}


@pytest.fixture
def small_dvae(monkeypatch):
    for module in (step_case, bench_tokenizer):
        monkeypatch.setattr(module, "DALLE_SIZE", SMALL)


@pytest.fixture
def pairs(monkeypatch) -> list:
    """Calls what would be measured, once, and keeps it."""
    kept = []

    def compare(candidate, baseline, repeats, name):
        candidate(), baseline()
        kept.append((candidate, baseline))
        return Comparison((1.2, 0.1), (1.06, 0.01), 0.5)

    for module in (step_case, bench_tokenizer, bench_attention):
        monkeypatch.setattr(module, "compare_times", compare)
    return kept


def small_case(**changes) -> StepCase:
    return replace(StepCase(CPU, "vit_tiny", 32, 2, 1, compiled=False), **changes)


def test_both_clocks_are_in_a_row_and_the_devices_own_is_judged():
    compared = Comparison(wall=(1.2, 0.1), cpu=(1.04, 0.01), seconds=1.0)
    on_cpu = compared.row("a", "b", torch.device("cpu"), goal=1.1)
    assert (on_cpu["ratio"], on_cpu["met"], on_cpu["wall_ratio"], on_cpu["cpu_ratio"]) == (1.04, True, 1.2, 1.04)
    on_gpu = compared.row("a", "b", torch.device("cuda"), goal=1.1)
    assert (on_gpu["ratio"], on_gpu["met"], on_gpu["clock"]) == (1.2, False, "wall")


def test_candidate_and_baseline_take_turns_and_one_function_may_be_both(monkeypatch):
    order = []
    compare_times(lambda: order.append("ours"), lambda: order.append("theirs"), repeats=2)
    assert order == ["ours", "theirs", "ours", "theirs", "theirs", "ours"]
    work = dict.fromkeys
    assert compare_times(lambda: work(range(50_000)), lambda: work(range(50_000)), repeats=3).cpu[0] < 3
    same = lambda: work(range(50_000))  # noqa: E731
    assert compare_times(same, same, repeats=3).wall[0] > 0


def test_a_goal_of_another_machine_is_a_row_that_says_why(capsys):
    line = not_measured("a", "b", "there is no GPU here", 1.05)
    assert line.keys() >= COLUMNS
    assert (line["ratio"], line["met"], line["goal"]) == (None, None, 1.05)
    show_rows([line])
    assert "not measured: there is no GPU here" in capsys.readouterr().out


def test_steps_train_and_only_one_of_them_runs_the_tokenizer(small_dvae, pairs, monkeypatch):
    calls = []
    built = step_case.beit_method

    def watched(*arguments, **options):
        method = built(*arguments, **options)
        trunk = method.target.encoder.trunk
        method.target.encoder.trunk = lambda pixels: calls.append(pixels.shape[-1]) or trunk(pixels)
        before.update({name: value.clone() for name, value in method.named_parameters()})
        after.update(dict(method.named_parameters()))
        return method

    before, after = {}, {}
    monkeypatch.setattr(step_case, "beit_method", watched)
    rows = small_case().steps({GIVEN_STEP: 1.1})
    assert [line["goal"] for line in rows] == [1.1, None]
    assert rows[0]["met"] is True
    assert rows[1]["name"].startswith(FULL_STEP)
    assert rows[0]["images_per_second"] == 4
    assert calls == [16]  # half the backbone's pixels, in the full step alone
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "backbone.blocks.11.mlp.fc1.weight" in moved
    assert not any(name.startswith("target.") for name in moved)


def test_blocks_and_backbones_have_the_size_of_timms(pairs):
    case = small_case(image_size=16, patch_size=4)
    assert case.blocks(0.95)["met"] is False
    line = case.whole_backbone(None)
    assert line["name"] == "BEiT vit_tiny on 17 tokens"
    ours, theirs = case._vit(), case._timm("beit")
    count = [sum(value.numel() for value in model.get_submodule("blocks").parameters()) for model in (ours, theirs)]
    tables = sum(value.numel() for name, value in theirs.named_parameters() if "relative_position" in name)
    assert count[0] == count[1] - tables  # timm has a table in each block


def test_the_ceiling_multiplies_as_much_as_the_step(small_dvae, pairs, monkeypatch):
    monkeypatch.setattr(step_case, "_MATRIX", {"cpu": 256})
    line = small_case().ceiling(2.0)
    with FlopCounterMode(display=False) as counter:
        pairs[-1][1]()
    assert counter.get_total_flops() / 2 / 1e9 == pytest.approx(line["gflop_per_image"], rel=0.04)
    # The fake says half a second for the step, 1.2 times the products'.
    assert line["tflops_of_products"] == pytest.approx(2 * line["gflop_per_image"] * 1.2 / 0.5 / 1000, abs=1e-3)


def test_gradients_are_not_summed_over_the_turns(pairs):
    case = small_case(image_size=16, patch_size=4)
    work = case._there_and_back(vit := case._vit(), lambda: vit(case._pixels()).patches)
    work()
    assert all(parameter.grad is None for parameter in vit.parameters())


def test_goals_of_other_machines_are_rows():
    found = {line["name"]: line["goal"] for line in bench_step._elsewhere("cpu")}
    assert found[f"{GIVEN_STEP}, GPU"] == 1.05
    assert found[f"{FULL_STEP}, GPU"] == 1.7
    for size in ("vit_base", "vit_large"):
        assert found[f"{FULL_STEP}, {size}, GPU"] == 2
    assert found["BEiT vit_base, bf16 CPU"] == pytest.approx(1 / 1.12, abs=1e-3)
    assert found["BEiT vit_tiny, bf16 CPU"] == pytest.approx(1 / 1.5, abs=1e-3)
    assert not any("bf16 CPU" in line["name"] for line in bench_step._elsewhere("bf16 cpu"))


def test_waits_are_seen(small_dvae):
    method = beit_method("dvae", SMALL, 32, model="vit_tiny", depth=1)
    batch = unit_views(noise_batch(method, 2, CPU.device))
    x = torch.arange(4.0)
    for work in (lambda: x.sum().item(), lambda: x[x > 1], lambda: bool((x > 1).all()), lambda: x.nonzero()):
        assert waits(work, CPU.device) == 1
    assert waits(lambda: x[torch.tensor([1])], CPU.device) == 0
    assert waits(lambda: method(batch, bench_step.PROGRESS).loss.backward(), CPU.device) == 0


def test_graphs_that_are_made_late_are_seen():
    torch._dynamo.reset()
    length = iter(range(2, 100))
    work = torch.compile(lambda x: x.sin() + x.shape[0], backend="eager", dynamic=False)
    assert graphs_after(lambda: work(torch.ones(next(length))), warm=2, steps=2) == 2
    assert graphs_after(lambda: work(torch.ones(2)), warm=2, steps=2) == 0


def test_the_plain_encoder_gives_the_same_codes(small_dvae, pairs):
    bench_tokenizer.encoder_rows(CPU, 32, 3, repeats=1)
    ours, plain = pairs[-1]
    assert torch.equal(ours(), plain())


def test_explicit_and_fused_attention_are_measured_on_the_same_numbers(pairs):
    for gradient in (True, False):
        bench_attention.function_row(CPU, 2, 5, 1, gradient, repeats=1)
    names = ["function_row", "layer_row"]
    assert len(pairs) == len(names)
    assert bench_attention.precisions(Device(torch.device("cpu"), "bf16")) == ("fp32", "bf16")


def test_all_is_one_table_and_a_bench_that_cannot_run_loses_nothing_else(monkeypatch, capsys):
    def fail(flags, device):
        raise bench_all.UsageError("faiss does not work here")

    monkeypatch.setattr("ssl_benchmarks.bench_knn.measure", fail)
    monkeypatch.setattr(bench_all, "BENCHES", ("knn", "attention"))
    assert main(["all", "--batch-size", "1", "--repeats", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"] == "ssl-bench all --batch-size 1 --repeats 1 --json"
    assert all(line.keys() >= COLUMNS for line in found["rows"])
    assert found["rows"][0]["not_measured"] == "faiss does not work here"
    assert {line["bench"] for line in found["rows"]} == {"knn", "attention"}


@pytest.mark.parametrize("command", ["all", "step", "loader", "tokenizer", "overhead"])
def test_an_unknown_backbone_is_refused_before_anything_is_measured(command, capsys):
    assert main([command, "--backbone", "nope"]) == 2
    assert "invalid choice: 'nope'" in capsys.readouterr().err


def test_memory_that_ends_loses_one_benchmark_and_what_was_measured_is_shown_at_once(monkeypatch, capsys):
    def fail(flags, device):
        assert "attention layer of BEiT" in capsys.readouterr().out
        raise torch.OutOfMemoryError("CUDA out of memory.\nA long story")

    monkeypatch.setattr("ssl_benchmarks.bench_knn.measure", fail)
    monkeypatch.setattr(bench_all, "BENCHES", ("attention", "knn"))
    assert main(["all", "--batch-size", "1", "--repeats", "1"]) == 0
    assert "not measured: CUDA out of memory.\n" in capsys.readouterr().out


def test_all_knows_every_benchmark_of_speed(capsys):
    assert {*bench_all.BENCHES, "all", "compare", "recipes"} == set(SUBCOMMANDS)
    assert main(["all", "--only", "knm"]) == 2
    assert "unknown benchmark 'knm'. Did you mean 'knn'?" in capsys.readouterr().err
