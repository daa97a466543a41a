"""What a reader is told to type works: every block of the documents, in order, with a run cut to two updates."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from documents import ROOT, blocks, code_spans, table_after
from PIL import Image
from torch.distributed.run import get_args_parser

import ssl_benchmarks.bench_cli
import ssl_benchmarks.cli
import ssl_core
import ssl_core.cli.plugins
import ssl_core.cli.train
import ssl_tokenizers.cli
from ssl_core.plugins.registry import Registry

MAINS = {
    "ssl-train": ssl_core.cli.train.main,
    "ssl-eval": ssl_benchmarks.cli.main,
    "ssl-plugins": ssl_core.cli.plugins.main,
    "ssl-tokenizer": ssl_tokenizers.cli.main,
    "ssl-bench": ssl_benchmarks.bench_cli.main,
}
SHORT = {"train.steps": 2, "backbone.depth": 2}
FEW = {"dataset.images": 64}
NO_RUN = ("--help", "--resume", "--version")
NO_BACKBONE = ("dvae", "vqkd")
ELSEWHERE = ("dalle", "encoder.pkl", "cifar10", "timm:")
"""What needs a download."""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Returns an empty working folder; `~/photos` holds two classes of small pictures."""
    home = tmp_path / "home"
    pixels = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (home / "photos" / name).mkdir(parents=True)
        for number in range(10):
            picture = pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(picture).save(home / "photos" / name / f"{number}.png")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    monkeypatch.setattr(ssl_core, "train", _short_training(ssl_core.train), raising=False)
    yield work
    for name in ("checkerboard", "chessboard", "palette"):
        sys.modules.pop(name, None)


def _short_training(train):
    def short(*, settings=None, **keywords):
        kept = {name: value for name, value in (settings or {}).items() if name != "train.epochs"}
        return train(**keywords, settings={**kept, **SHORT, **({} if "data" in keywords else FEW)})

    return short


def _run(command: str, **short) -> None:
    words = shlex.split(command)
    if words[0] == "torchrun":
        given = get_args_parser().parse_args(words[1:])
        assert given.no_python
        words = [given.training_script, *given.training_script_args]
    if words[0] in ("pip", "pytest"):
        return
    if words[0] == "ssl-train" and not any(flag in words for flag in NO_RUN):
        words = [word for word in words if not word.startswith("train.epochs=")]
        settings = short or {**SHORT, **({} if "--data" in words else FEW)}
        if any(method in words for method in NO_BACKBONE):
            settings = {name: value for name, value in settings.items() if not name.startswith("backbone.")}
        words += [f"{name}={value}" for name, value in settings.items()]
    if words[:2] == ["ssl-eval", "finetune"] and "--help" not in words:
        words = [word for word in words if not word.startswith("per_class=")]
        words += ["per_class=2", "batch_size=4", "steps=2"]
    assert MAINS[words[0]](words[1:]) == 0, command


def _follow(document: Path) -> None:
    for block in blocks(document):
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, str(document), "exec"), {"__name__": "__main__"})
        elif block.language == "bash":
            for command in block.text.replace("&&", "\n").splitlines():
                _run(command)


def test_readme(folder):
    _follow(ROOT / "README.md")
    runs = {path.name for path in (folder / "runs").iterdir()}
    assert {"first", "photos", "python", "longer", "checkerboard", "base"} <= runs
    result = json.loads((folder / "runs/first/eval/knn-1.json").read_text())
    documented = [
        name for row in table_after(ROOT / "docs/evaluation.md", "## What `--json` prints") for name in row[:1]
    ]
    assert {name for cell in documented for name in code_spans(cell)} == result.keys()
    present = {path.name for path in (folder / "runs/first").iterdir()}
    listed = {
        Path(name).parts[0]
        for row in table_after(ROOT / "README.md", "## The run folder")
        for name in code_spans(row[0])
    }
    assert present <= listed


def test_tokenizers(folder):
    for block in blocks(ROOT / "docs/tokenizers.md"):
        for command in block.text.splitlines() if block.language == "bash" else ():
            if not any(name in command for name in ELSEWHERE):
                _run(command)
    report = json.loads((folder / "runs/dvae/tokenizer-report/report.json").read_text())
    assert {"psnr", "psnr_patch_mean", "psnr_gain", "mae", "mae_normalized", "mse"} <= report["metrics"].keys()


def test_beit(folder):
    """Its small backbones; the large one differs by nothing but its name."""
    for block in blocks(ROOT / "docs/beit.md"):
        for command in block.text.splitlines() if block.language == "bash" else ():
            if not any(name in command for name in (*ELSEWHERE, "vit_base")):
                _run(command)
    assert (folder / "runs/taught/tokenizer/export/tokenizer.safetensors").is_file()


def test_benchmarks(folder):
    """The comparison that the text writes; the one that comes with the package takes too long."""
    for block in blocks(ROOT / "docs/benchmarks.md"):
        if block.file is not None:
            Path(block.file).write_text(block.text)
        elif block.language == "bash":
            for command in block.text.splitlines():
                if "maskers" in command:
                    _run(command)
    table = (folder / "runs/maskers/table.md").read_text()
    assert "| blocks |" in table
    assert "| scattered |" in table


def test_options(folder):
    _follow(ROOT / "docs/options.md")


def test_plugins(folder, monkeypatch):
    _follow(ROOT / "docs/plugins.md")
    _install_the_package(folder / "ssl-checkerboard", (folder / "checkerboard.py").read_text())
    monkeypatch.syspath_prepend(str(folder / "ssl-checkerboard"))
    match = Registry.load().find("checkerboard", "masker")
    assert match.component.load().__module__ == "ssl_checkerboard.masker"
    assert match.component.options(period=3).period == 3


def test_tutorial(folder):
    document = ROOT / "docs/tutorial.md"
    files = {block.file: block.text for block in blocks(document) if block.file is not None}
    assert set(files) == {"chessboard.py", "palette.py"}
    assert all(len(text.splitlines()) < 60 for text in files.values())
    _follow(document)
    config = yaml.safe_load((folder / "runs/palette/config.yaml").read_text())
    assert config["masker"]["name"] == "chessboard:chessboard"
    assert config["tokenizer"] == {"name": "palette:palette", "vocab_size": 32, "images": 1000}
    assert len(list((folder / "runs/palette/eval").glob("knn-*.json"))) == 1
    assert (folder / "chess-masks/pyproject.toml").is_file()
    values = [json.loads(line) for line in (folder / "runs/palette/metrics.jsonl").read_text().splitlines()]
    logged = set().union(*values)
    assert {"acc", "unigram_acc", "dead_codes"} <= logged


def _install_the_package(package: Path, single_file: str) -> None:
    """Adds what the text tells the reader to move there, and what pip would write."""
    import tomllib

    head, options = single_file.split("class CheckerboardOptions")
    options, masker = options.split("class Checkerboard(")
    masker = masker.partition("@hookimpl")[0]
    code = package / "ssl_checkerboard"
    (code / "options.py").write_text(
        f"from pydantic import Field\nfrom ssl_core.api import Options\nclass CheckerboardOptions{options}"
    )
    (code / "masker.py").write_text(f"{head}\nclass Checkerboard({masker}")
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    metadata = package / "ssl_checkerboard-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = [f"{name} = {target}" for name, target in project["entry-points"]["ssl_core"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[ssl_core]", *points, ""]))


@pytest.mark.slow
def test_the_first_command_in_full(folder):
    """The demonstration, as it stands: training must lift k-NN above random initialisation, beyond the intervals."""
    first = next(block for block in blocks(ROOT / "README.md") if "ssl-train" in block.text)
    for command in first.text.split("&&"):
        _run(command.strip(), seed=0)
    result = json.loads((folder / "runs/first/eval/knn-1.json").read_text())
    assert result["metrics"]["knn_20_ci"][0] > result["baselines"]["random_init"]["knn_20_ci"][1]
