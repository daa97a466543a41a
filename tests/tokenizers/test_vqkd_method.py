"""Training of VQ-KD: what is minimised, who learns, and that a run goes on with the teacher it began with."""

from __future__ import annotations

import os
import shutil
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from vqkd_parts import SMALL, batch, teacher, tokenizer, training

import ssl_core
from ssl_core.api import Batch, CheckpointError, Progress, Registry, TrainingHook, UsageError, load
from ssl_core.errors import Interrupted
from ssl_core.training import resume

FIRST, LATER = Progress(0, 100, 10), Progress(5, 100, 10)


def run(method, data: Batch, steps: int, lr: float = 3e-3) -> list[float]:
    optimizer = torch.optim.AdamW(method.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        output = method(data, Progress(step, steps, 10))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step(Progress(step + 1, steps, 10))
        losses.append(output.loss.item())
    return losses


def exact(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def test_loss_on_pixels():
    method = training(tokenizer(), commitment=0.5)
    data = batch(4)
    output = method(data, LATER)
    part = method.tokenizer
    unit = torch.nn.functional.normalize(part.encoder(data.views["image"]), dim=-1)
    codes = exact(part.quantizer.codebook)[(exact(unit) @ exact(part.quantizer.codebook).T).argmax(-1)]
    patches = exact(part.decoder(torch.from_numpy(codes).float()))  # (B, N, p * p * C)
    image = exact(data.views["image"]).transpose(0, 2, 3, 1)
    cells = image.reshape(4, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(4, 16, 48)
    distance = ((patches - (2 * cells - 1)) ** 2).mean()
    commitment = ((exact(unit) - codes) ** 2).mean()
    assert output.logs["reconstruction"].item() == pytest.approx(distance, rel=1e-4)
    assert output.logs["commitment"].item() == pytest.approx(commitment, rel=1e-4)
    assert output.loss.item() == pytest.approx(distance + 0.5 * commitment, rel=1e-4)


def test_loss_against_a_teacher(tmp_path):
    path = teacher(tmp_path)
    method = training(tokenizer(teacher=str(path)))
    data = batch(4)
    output = method(data, LATER)
    quantized = method.tokenizer.quantizer(method.tokenizer.encoder(data.views["image"]))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    wanted = exact(load(path)((data.views["image"] - mean) / std).patches)
    found = exact(method.decoder(quantized.codes))
    cosines = (wanted * found).sum(-1) / np.linalg.norm(wanted, axis=-1) / np.linalg.norm(found, axis=-1)
    assert wanted.shape == (4, 16, 12)
    assert output.logs["reconstruction"].item() == pytest.approx(1 - cosines.mean(), rel=1e-4)
    assert output.loss.item() == pytest.approx(1 - cosines.mean() + quantized.commitment.item(), rel=1e-4)
    assert set(method.views) == {"image"}


def test_loss_falls(tmp_path):
    for name in ("pixels", str(teacher(tmp_path))):
        losses = run(training(tokenizer(teacher=name)), batch(), 40)
        assert sum(losses[-5:]) / 5 < 0.6 * losses[0]


def test_runs_repeat_exactly():
    assert run(training(tokenizer()), batch(), 5) == run(training(tokenizer()), batch(), 5)


def test_every_parameter_gets_a_gradient_but_the_teachers(tmp_path):
    for name in ("pixels", str(teacher(tmp_path))):
        method = training(tokenizer(teacher=name))
        method(batch(), LATER).loss.backward()
        named = {name: parameter for name, parameter in method.named_parameters() if not name.startswith("teacher.")}
        assert not [name for name, p in named.items() if p.grad is None or not p.grad.abs().sum() > 0]
        groups = method.param_groups()
        assert sorted(name for group in groups for name in group.names) == sorted(named)
        assert "tokenizer.encoder.vit.pos_embed" in groups[1].names
        assert "tokenizer.encoder.head.0.weight" in groups[0].names
        if method.teacher is not None:
            assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


def test_low_precision_step():
    method = training(tokenizer())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = method(batch(), FIRST)
    output.loss.backward()
    method.after_step(Progress(1, 100, 10))
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite()


def test_the_teacher_stays_in_eval_mode_and_out_of_the_state(tmp_path):
    method = training(tokenizer(teacher=str(teacher(tmp_path))))
    method.train()
    assert not any(module.training for module in method.teacher.modules())
    state = method.state_dict()
    assert not [name for name in state if name.startswith("teacher.")]
    assert any(name.startswith("decoder.") for name in state)
    assert not [name for name in method.export()["tokenizer"].state_dict() if "decoder" in name]
    again = training(tokenizer(teacher=str(tmp_path)))
    assert not again.load_state_dict(state).missing_keys
    with pytest.raises(RuntimeError, match=r"Missing key.*tokenizer"):
        again.load_state_dict({"teacher_digest": state["teacher_digest"]})


def test_a_teacher_of_another_size_has_a_view_of_its_own(tmp_path):
    method = training(tokenizer(teacher=str(teacher(tmp_path, image_size=32, patch_size=8))))
    assert method.views["teacher"].size == 32
    assert method.views["teacher"].crop_of == "image"
    data = batch(2)
    views = {**data.views, "teacher": batch(2, 32).views["image"]}
    assert method(Batch(views, data.index, data.source, data.label), LATER).loss.isfinite()


def test_a_teacher_with_another_grid_is_one_clear_line(tmp_path):
    path = teacher(tmp_path, image_size=16, patch_size=8)
    with pytest.raises(UsageError) as caught:
        training(tokenizer(teacher=str(path)))
    assert str(caught.value) == (
        f"tokenizer.teacher {path} divides images of 16 pixels into 2x2 patches of 8, the tokenizer images of 16 into "
        "4x4 of 4; set tokenizer.teacher_size=32 or data.image_size=8"
    )
    assert training(tokenizer(teacher=str(path), teacher_size=32)).views["teacher"].size == 32
    assert training(tokenizer(8, teacher=str(path))).views["teacher"].size == 16


def test_a_teacher_that_is_none_is_one_clear_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"^tokenizer\.teacher: .*nowhere") as caught:
        training(tokenizer(teacher=str(tmp_path / "nowhere")))
    assert "\n" not in str(caught.value)


def test_pictures_and_export(tmp_path):
    method = training(tokenizer())
    assert method.pictures(batch())["reconstructions"].shape == (3, 32, 8 * 16)
    assert method.export() == {"tokenizer": method.tokenizer}
    assert set(training(tokenizer(teacher=str(teacher(tmp_path)))).pictures(batch())) == {"codes"}


def test_a_collapse_is_said():
    method = training(tokenizer(), restart_dead=False)
    collapsed = {"perplexity": 1.1, "codes_used": 0.05}
    line = method.diagnose(collapsed, Progress(50, 100, 10))["codebook"]
    assert "1.1 of 24 codes" in line
    assert "method.restart_dead=true" in line
    assert method.diagnose(collapsed, FIRST) == {}
    assert method.diagnose({"perplexity": 20.0, "codes_used": 1.0}, Progress(50, 100, 10)) == {}


class StopAt(TrainingHook):
    def __init__(self, step: int):
        self.step = step

    def after_step(self, method, progress) -> None:
        if progress.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_goes_on_with_its_own_teacher_only(tmp_path):
    path = teacher(tmp_path / "teacher", image_size=32, patch_size=8)
    settings = {f"tokenizer.{name}": value for name, value in SMALL.items()} | {
        "tokenizer.teacher": str(path),
        "tokenizer.patch_size": 8,
        "method.restart_every": 2,
        "data.image_size": 32,
        "dataset.images": 40,
        "train.batch_size": 8,
        "train.micro_batch_size": 4,
        "train.steps": 6,
        "log.every": 1,
        "log.pictures_every": 0,
        "runtime.device": "cpu",
        "runtime.precision": "fp32",
        "runtime.threads": 1,
    }
    registry = Registry.load()
    ssl_core.train("vqkd", out=tmp_path / "whole", settings=settings, registry=registry)
    with pytest.raises(Interrupted):
        ssl_core.train("vqkd", out=tmp_path / "cut", settings=settings, registry=registry, hooks=[StopAt(3)])
    other = teacher(tmp_path / "other", image_size=32, patch_size=8, seed=1)
    shutil.move(path, tmp_path / "kept")
    with pytest.raises(CheckpointError, match=r"tokenizer\.teacher: .*no such"):
        resume(tmp_path / "cut", registry)
    shutil.move(other, path)
    with pytest.raises(CheckpointError, match=r"its weights are not those that this run began with"):
        resume(tmp_path / "cut", registry)
    shutil.rmtree(path)
    shutil.move(tmp_path / "kept", path)
    resume(tmp_path / "cut", registry)
    one, two = (
        load_file(tmp_path / run / "checkpoints" / "step-00000006" / "model.safetensors") for run in ("whole", "cut")
    )
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
