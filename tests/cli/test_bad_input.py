"""Each mistake a user can make: one clear line and its exit code, from the real commands."""

from __future__ import annotations

import pytest
from PIL import Image

from ssl_core.cli.train import main


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "photos"
    path.mkdir()
    for number in range(12):
        Image.new("RGB", (32, 32), (20 * number, 100, 50)).save(path / f"{number}.png")
    return path


def refused(capsys, code: int, *arguments: object) -> str:
    """Runs ssl-train, which must exit with `code` and without a traceback; returns what it said."""
    exit_code = main(["--method", "beit", "--backbone", "vit_tiny", *map(str, arguments)])
    said = capsys.readouterr().err
    assert exit_code == code, said
    assert "Traceback" not in said
    assert said.startswith("error: ")
    return said


def test_a_missing_folder(capsys, tmp_path):
    assert "no such" in refused(capsys, 3, "--data", tmp_path / "nowhere")


def test_an_empty_folder(capsys, tmp_path):
    assert "no images" in refused(capsys, 3, "--data", tmp_path)


def test_a_file_instead_of_a_folder(capsys, folder):
    assert "file" in refused(capsys, 3, "--data", folder / "0.png")


def test_a_name_of_no_data_set(capsys):
    assert "Did you mean 'textures'?" in refused(capsys, 3, "--data", "texture")


@pytest.mark.parametrize(
    ("flag", "given", "nearest"),
    [("--method", "biet", "beit"), ("--backbone", "vit_bse", "vit_base"), ("--masker", "blok", "block")],
)
def test_an_unknown_part(capsys, flag, given, nearest):
    exit_code = main(["--method", "beit", flag, given])
    said = capsys.readouterr().err
    assert exit_code == 2
    assert f"'{given}'" in said
    assert f"Did you mean '{nearest}'?" in said


def test_an_unknown_option_and_a_wrong_type_at_once(capsys):
    said = refused(capsys, 2, "optim.lrr=1", "train.epochs=ten")
    assert "optim.lrr: no such option. Did you mean 'optim.lr'?" in said
    assert "train.epochs: 'ten' is not a number" in said


def test_a_batch_larger_than_the_data(capsys, folder, tmp_path):
    said = refused(capsys, 3, "--data", folder, "--out", tmp_path / "run", "train.batch_size=64")
    assert "train.batch_size" in said
    assert "12" in said


def test_an_image_size_that_does_not_divide(capsys, folder, tmp_path):
    options = ["train.batch_size=4", "train.steps=1", "data.image_size=30", "backbone.patch_size=4"]
    assert "data.image_size" in refused(capsys, 2, "--data", folder, "--out", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()  # the corrected command may use the name


def test_a_folder_in_use(capsys, folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    said = refused(capsys, 2, "--data", folder, "--out", tmp_path / "run", "train.batch_size=4", "train.steps=1")
    assert "--resume" in said
    assert "--overwrite" in said


def test_a_checkpoint_that_is_none(capsys, folder, tmp_path):
    no_checkpoint = tmp_path / "weights.safetensors"
    no_checkpoint.write_text("not weights")
    options = ["train.batch_size=4", "train.steps=1", "tokenizer.images=12", "tokenizer.vocab_size=8"]
    said = refused(capsys, 2, "--data", folder, "--out", tmp_path / "run", "--init-from", no_checkpoint, *options)
    assert str(no_checkpoint) in said


def test_a_tokenizer_for_another_grid(capsys, folder, tmp_path):
    options = ["train.batch_size=4", "train.steps=1", "tokenizer.images=12", "tokenizer.vocab_size=8"]
    first = tmp_path / "first"
    arguments = ["--method", "beit", "--backbone", "vit_tiny", "--data", str(folder), "--out", str(first), *options]
    assert main(arguments) == 0
    capsys.readouterr()
    said = refused(
        capsys,
        2,
        "--data",
        folder,
        "--out",
        tmp_path / "second",
        f"tokenizer.checkpoint={first / 'tokenizer'}",
        "backbone.patch_size=8",
        *options[:2],
    )
    assert "cells of 4 pixels" in said
    assert "backbone's patches are 8" in said


def test_resuming_what_is_no_run(capsys, tmp_path):
    assert main(["--resume", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err
