"""docs/finetuning.md: its commands work on the README's first run, and its numbers are those of the code."""

from __future__ import annotations

import json
from pathlib import Path

from documents import ROOT, blocks, code_spans, prose, table_after
from test_commands_of_the_docs import SHORT, _run, folder  # noqa: F401

from ssl_benchmarks.cli import main as evaluate
from ssl_core.plugins.registry import Registry

DOCUMENT = ROOT / "docs/finetuning.md"


def test_its_commands(folder):  # noqa: F811
    """On a run of two blocks and few images; each cut to two updates."""
    few = {**SHORT, "dataset.images": 64, "tokenizer.images": 64, "tokenizer.vocab_size": 8}
    _run("ssl-train --method beit --backbone vit_tiny --out runs/first", **few)
    for block in blocks(DOCUMENT):
        for command in block.text.splitlines():
            if command.startswith("ssl-eval"):
                assert evaluate([*command.split()[1:], "steps=2", "batch_size=6", "dataset.images=64"]) == 0, command
            else:
                _run(command, **{**SHORT, "dataset.images": 64})
    results = [json.loads(Path(f"runs/first/eval/finetune-{number}.json").read_text()) for number in (1, 2)]
    assert [result["protocol"]["train"]["images"] for result in results] == [64, 10]
    assert {"random_init", "majority"} == results[1]["baselines"].keys()


def test_its_recipes_are_those_of_the_method():
    method = Registry.load().find("finetune", "method").component
    rows = list(table_after(DOCUMENT, "## Recipes"))
    assert [code_spans(row[0])[0] for row in rows] == [recipe.name for recipe in method.recipes]
    for row, recipe in zip(rows, method.recipes, strict=True):
        assert (row[2] == "by name only") == (recipe.when is None), recipe.name
    preset = method.settings
    stated = " ".join(prose(DOCUMENT).split())
    assert "100 epochs, batch 1024, learning rate 4e-3 with 20 epochs of warm-up, decay 0.65, drop path 0.1" in stated
    names = ("train.epochs", "train.batch_size", "optim.lr", "optim.warmup_epochs", "method.layer_decay")
    assert [preset[name] for name in names] == [100, 1024, 4e-3, 20, 0.65]
    assert preset["backbone.drop_path"] == 0.1


def test_its_rates_are_those_of_the_decay():
    text = prose(DOCUMENT)
    assert all(f"{0.65**power:.{digits}f}" in text for power, digits in ((13, 4), (12, 4), (1, 2)))
