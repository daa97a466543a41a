"""The supervised baseline: a ViT from random weights that learns the classes, and is used like any other backbone."""

from __future__ import annotations

import json

import pytest
import timm
import torch
import yaml
from PIL import Image
from torch.nn import functional as F

import ssl_core
from ssl_core.api import Batch, BuildContext, ClassifierOptions, DataError, Progress, Registry
from ssl_core.classification.classifier import Classifier
from ssl_core.cli.train import main as train_main

CLASSES = tuple("abcdefg")
PLAIN = {"pooling": "cls", "layer_decay": 1.0, "init_scale": 1.0, "mixup": 0.0, "cutmix": 0.0, "erasing": 0.0}
SMALL = {"width": 32, "depth": 2, "heads": 2, "patch_size": 8}
RUN = [
    *(f"backbone.{name}={value}" for name, value in SMALL.items()),
    "dataset.images=40", "train.steps=4", "train.batch_size=8", "runtime.threads=1", "runtime.device=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


def _method(registry, classes):
    component = registry.find("core:vit", "backbone").component
    torch.manual_seed(0)
    backbone = component.load()(component.options(model="vit_tiny", **SMALL), BuildContext(image_size=32))
    context = BuildContext(image_size=32, classes=classes, parts={"backbone": backbone})
    return Classifier(ClassifierOptions(**PLAIN), context)


def test_a_step_is_that_of_timms_vit_with_its_classifier(registry):
    """The preset's pooling, on a whole model that timm builds, with the loss of plain torch."""
    method = _method(registry, CLASSES)
    reference = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, num_classes=7, patch_size=8, embed_dim=32, depth=2, num_heads=2
    )
    own = {
        **method.backbone.vit.state_dict(),
        **{f"head.{name}": value for name, value in method.head.state_dict().items()},
    }
    reference.load_state_dict(own)
    images, labels = torch.rand(5, 3, 32, 32), torch.tensor([0, 6, 2, 2, 4])
    batch = Batch({"image": images}, torch.arange(5), torch.arange(5), labels)
    output = method.train().training_step(batch, Progress(0, 10, 5))
    answers = reference((images - 0.5) / 0.5)
    torch.testing.assert_close(output.loss, F.cross_entropy(answers, labels, label_smoothing=0.1), rtol=1e-5, atol=1e-6)
    assert output.logs["acc"] == (answers.argmax(1) == labels).float().mean()


def test_a_run_logs_accuracy_and_its_backbone_is_evaluated_like_any_other(tmp_path):
    out = tmp_path / "run"
    assert train_main(["--method", "supervised", *RUN, "--out", str(out), "log.every=2"]) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert any(0 <= line.get("acc", -1) <= 1 for line in lines)
    assert any("test/top1" in line for line in lines)
    backbone = ssl_core.load(out)
    assert backbone.spec.component == "core:vit"
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["method"]["layer_decay"], config["method"]["init_scale"]) == (1.0, 1.0)  # not fine-tuning's
    assert (config["train"]["batch_size"], config["optim"]["lr"]) == (8, 1e-3 * 8 / 64)
    assert backbone(torch.rand(2, 3, 32, 32)).patches.shape == (2, 16, 32)


def test_images_without_labels_are_refused_in_a_line(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for number in range(8):
        Image.new("RGB", (32, 32), (30 * number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    small = [item for item in RUN if not item.startswith("dataset.")]
    out = tmp_path / "run"
    assert train_main(["--method", "supervised", "--data", str(tmp_path / "images"), "--out", str(out), *small]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: a classifier learns from labels, and the training images have none; give class")
    assert not out.exists()


def test_one_class_is_refused_in_a_line(registry):
    with pytest.raises(DataError, match=r"only one class, 'a', so there is nothing to learn; give two or more"):
        _method(registry, ("a",))
