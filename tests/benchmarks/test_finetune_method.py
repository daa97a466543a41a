"""Fine-tuning as a method: what is trained, how fast, on which targets, and that it follows from the seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.data.mixup import mixup_target
from torch.nn import functional as F
from toy_plugin import SIZE, MemorySet, MemorySource

import ssl_core
from ssl_core.api import Batch, BuildContext, ClassifierOptions, DataError, Progress, Registry, UsageError
from ssl_core.classification.accuracy import AccuracyHook
from ssl_core.classification.classifier import Classifier
from ssl_core.classification.mixing import Mixing
from ssl_core.cli.train import main
from ssl_core.config.sections import OptimOptions
from ssl_core.runner.optimizer import apply_schedule, build_optimizer
from ssl_core.runner.schedule import Schedule

CLASSES = tuple("abcdefg")
PROGRESS = Progress(0, 10, 5)
TINY = {
    "backbone.width": 32,
    "backbone.depth": 2,
    "backbone.heads": 2,
    "backbone.patch_size": 8,
    "data.image_size": 32,
    "runtime.threads": 1,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
}


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


def _backbone(registry, name="beit:vit", size=32, **options):
    component = registry.find(name, "backbone").component
    small = {"width": 32, "depth": 2, "heads": 2, "patch_size": 8}
    torch.manual_seed(0)
    return component.load()(component.options(**small | options), BuildContext(image_size=size))


def _method(backbone, size=32, classes=CLASSES, **options):
    context = BuildContext(image_size=size, classes=classes, parts={"backbone": backbone})
    torch.manual_seed(1)
    return Classifier(ClassifierOptions(**options), context)


def _batch(count=8, size=32, labels=None):
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(count) % len(CLASSES) if labels is None else torch.tensor(labels)
    index = torch.arange(count)
    return Batch({"image": torch.rand(count, 3, size, size, generator=generator)}, index, index, label)


def test_the_rates_of_the_layers_reach_the_optimizer_of_twelve_blocks(registry):
    """As deep as BEiT-Base, decay 0.65: 0.003697 for the patches, 0.005688 for the first block, up to 0.65 and 1."""
    backbone = _backbone(registry, width=24, depth=12, heads=12, pool="mean")
    method = _method(backbone)
    optimizer = build_optimizer(method, OptimOptions(lr=4e-3, weight_decay=0.05))
    apply_schedule(optimizer, Schedule(10, 0, 4e-3, 0, 0.05, 0.05), 0)
    rate = {id(p): group["lr"] / 4e-3 for group in optimizer.param_groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}

    expected = {0: 0.003697, 1: 0.005688, 2: 0.008751, 12: 0.65, 13: 1.0}
    names = dict(method.named_parameters())
    assert rate.keys() == {id(parameter) for parameter in names.values() if parameter.requires_grad}
    for name, parameter in names.items():
        depth = 13
        if name.startswith(("backbone.cls_token", "backbone.patch_embed")):
            depth = 0
        elif name.startswith("backbone.blocks."):
            depth = int(name.split(".")[2]) + 1
        assert rate[id(parameter)] == pytest.approx(0.65 ** (13 - depth), rel=1e-9), name
        if depth in expected:
            assert rate[id(parameter)] == pytest.approx(expected[depth], abs=5e-7), name
        plain = parameter.ndim <= 1 or name.endswith(".bias") or name == "backbone.cls_token"
        assert decay[id(parameter)] == (0 if plain else 0.05), name
    assert len({round(value, 9) for value in rate.values()}) == 14


def test_the_rates_reach_the_optimizer_through_the_engine(registry, tmp_path):
    from ssl_core.api import TrainingHook

    groups = []

    class Look(TrainingHook):
        def before_run(self, method, progress, out):
            groups.extend(method.param_groups())

    settings = {**TINY, "dataset.images": 40, "train.steps": 1, "optim.warmup_steps": 0, "method.eval_every": 0}
    ssl_core.train("finetune", out=tmp_path / "run", settings=settings, hooks=[Look()], registry=registry)
    by_rate = {round(group.lr_scale, 6) for group in groups}
    assert by_rate == {round(0.75**power, 6) for power in range(4)}
    state = torch.load(tmp_path / "run/checkpoints/step-00000001/state.pt", weights_only=True)
    assert "backbone.blocks.0.attn.qkv.weight" in state["optimizer"]


def test_classifier_and_norm_start_as_in_beit(registry):
    method = _method(
        _backbone(registry, "core:vit", model="vit_tiny", width=192, heads=3), classes=tuple(map(str, range(500)))
    )
    assert method.head.weight.std().item() == pytest.approx(0.02 * 0.001, rel=0.02)
    assert not method.head.bias.any()
    assert (method.fc_norm.weight == 1).all()
    assert not method.fc_norm.bias.any()
    assert method.fc_norm.eps == 1e-6


@pytest.mark.parametrize("name", ["core:vit", "beit:vit"])
def test_answers_are_those_of_timms_fine_tuned_model(registry, name):
    """Mean of the patches before the final norm, a norm of its own, a linear layer."""
    beit = name == "beit:vit"
    options = {"pool": "mean"} if beit else {"model": "vit_tiny"}
    method = _method(_backbone(registry, name, **options)).eval()
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    reference = timm.create_model(
        "beit_base_patch16_224" if beit else "vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        num_classes=len(CLASSES),
        global_pool="avg",
    )
    state = {key.removeprefix("vit."): tensor for key, tensor in method.backbone.state_dict().items()}
    state = {key: tensor for key, tensor in state.items() if beit or not key.startswith("norm.")}
    state |= {key: tensor for key, tensor in method.state_dict().items() if key.startswith(("head.", "fc_norm."))}
    reference.load_state_dict(state)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(method.logits(images), reference.eval()(images), atol=1e-4, rtol=1e-4)


def test_what_the_mean_does_not_see_is_not_trained(registry):
    """Several processes would wait for the gradient of the final norm for ever."""
    method = _method(_backbone(registry, "core:vit", model="vit_tiny"))
    frozen = {name for name, parameter in method.named_parameters() if not parameter.requires_grad}
    assert frozen == {"backbone.vit.norm.weight", "backbone.vit.norm.bias"}
    method.training_step(_batch(), PROGRESS).loss.backward()
    assert all(parameter.grad is not None for parameter in method.parameters() if parameter.requires_grad)
    assert method.training


def test_cls_pooling_reads_the_normalised_token(registry):
    backbone = _backbone(registry)
    method = _method(backbone, pooling="cls").eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(method.logits(images), method.head(backbone(images).summary))
    assert all(parameter.requires_grad for parameter in method.parameters())
    with pytest.raises(UsageError, match=r"no normalised CLS token; set method.pooling=mean, or backbone.pool=cls"):
        _method(_backbone(registry, pool="mean"), pooling="cls")


def _mix(seed=5, count=8, classes=7, **options):
    off = {"mixup": 0.0, "cutmix": 0.0, "erasing": 0.0, "smoothing": 0.0}
    torch.manual_seed(0)
    images, labels = torch.randn(count, 3, 16, 16), torch.arange(count) % classes
    mixed, targets = Mixing(ClassifierOptions(**off | options), classes)(images.clone(), labels, seed)
    return images, labels, mixed, targets


def test_mixup_is_one_share_for_images_and_targets():
    images, labels, mixed, targets = _mix(mixup=0.8, smoothing=0.1)
    difference = images - images.flip(0)
    share = ((mixed - images.flip(0)) * difference).sum() / difference.square().sum()
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.flip(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(targets, mixup_target(labels, 7, share.item(), 0.1), atol=1e-5, rtol=0)


def test_cutmix_weighs_targets_by_the_area_that_is_left():
    for seed in range(20):
        images, labels, mixed, targets = _mix(seed, cutmix=1.0)
        own = (mixed == images).all(1)  # (B, H, W)
        assert torch.equal(torch.where(own.unsqueeze(1), images, images.flip(0)), mixed)
        torch.testing.assert_close(targets, mixup_target(labels, 7, own[0].float().mean().item()), atol=1e-6, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_targets_without_mixing_are_smoothed_labels(smoothing):
    images, labels, mixed, targets = _mix(smoothing=smoothing)
    assert torch.equal(images, mixed)
    torch.testing.assert_close(targets, mixup_target(labels, 7, 1.0, smoothing))
    logits = torch.randn(8, 7)
    torch.testing.assert_close(
        F.cross_entropy(logits, targets), F.cross_entropy(logits, labels, label_smoothing=smoothing)
    )


def test_erasing_fills_rectangles_of_some_images_with_noise():
    images, _, mixed, _ = _mix(count=400, erasing=0.25)
    changed = (images != mixed).any(1)  # (B, H, W)
    assert changed.flatten(1).any(1).float().mean().item() == pytest.approx(0.25, abs=0.07)
    noise = mixed.permute(0, 2, 3, 1)[changed]
    assert (noise.mean().item(), noise.std().item()) == (pytest.approx(0, abs=0.05), pytest.approx(1, abs=0.05))


def test_an_odd_image_out_stays_as_it_is():
    images, labels, mixed, targets = _mix(count=7, mixup=0.8, smoothing=0.1)
    assert torch.equal(mixed[-1], images[-1])
    torch.testing.assert_close(targets[-1:], mixup_target(labels[-1:], 7, 1.0, 0.1))
    assert not torch.equal(mixed[0], images[0])
    single = _mix(count=1, mixup=0.8)
    assert torch.equal(single[0], single[2])


def test_mixing_follows_from_the_seed_and_leaves_the_global_generators_alone():
    import random

    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()[1].copy()
    everything = {"mixup": 0.8, "cutmix": 1.0, "erasing": 0.5, "smoothing": 0.1}
    one, two, other = _mix(5, **everything), _mix(5, **everything), _mix(6, **everything)
    assert torch.equal(one[2], two[2])
    assert torch.equal(one[3], two[3])
    assert not torch.equal(one[2], other[2])
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()


def test_an_evaluation_counts_and_ignores_what_has_no_label(registry):
    method = _method(_backbone(registry)).eval()
    batch = _batch(labels=[0, 1, 2, 3, 4, 5, -1, -1])
    with torch.no_grad():
        output = method(batch, PROGRESS)
        logits = method.logits(method.normalize(batch.views["image"]))[:6]
    labels = batch.label[:6]
    assert output.logs["images"] == 6
    assert output.logs["top1"] == (logits.argmax(1) == labels).sum()
    assert output.logs["top5"] == (logits.topk(5).indices == labels[:, None]).any(1).sum()
    torch.testing.assert_close(output.loss, F.cross_entropy(logits, labels, reduction="sum"))


def _folder(path: Path, **counts):
    from PIL import Image

    pixels = np.random.default_rng(0)
    for name, count in counts.items():
        folder = path / name.replace("__", "/")
        folder.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return path


def _command(data, out, *more):
    settings = [f"{name}={value}" for name, value in TINY.items()]
    return main(["--method", "finetune", "--data", str(data), "--out", str(out), "train.steps=1", *settings, *more])


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"pictures": 4}, "a classifier learns from labels, and the training images have none"),
        ({"train__a": 3, "train__b": 3, "test__a": 3, "test__c": 3}, "only in test: c"),
        ({"train__a": 3, "train__b": 3, "test": 3}, "split 'test' has no labels"),
    ],
)
def test_data_that_cannot_be_learnt_from_is_one_line(layout, message, tmp_path, capsys):
    more = ["method.test_split=test"] if "test" in layout else []
    assert _command(_folder(tmp_path / "data", **layout), tmp_path / "run", *more) == 3
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_one_class_has_nothing_to_learn(registry):
    with pytest.raises(DataError, match=r"only one class, 'a'"):
        _method(_backbone(registry), classes=("a",))


def test_images_without_a_label_are_counted(registry):
    from types import SimpleNamespace

    train = MemorySet([0, 1, -1, -1], ("a", "b"), seed=1)
    run = SimpleNamespace(images=train, source=MemorySource(train=train))
    with pytest.raises(DataError, match=r"2 of 4 training images have no label.*data.per_class"):
        _method(_backbone(registry, size=SIZE, patch_size=4), size=SIZE).hooks(run)


def test_a_training_split_alone_is_learnt_without_a_score(tmp_path, capsys):
    assert _command(_folder(tmp_path / "data", a=4, b=4), tmp_path / "run") == 0
    assert "no accuracy is measured" in capsys.readouterr().out


def test_the_test_split_is_scored_now_and_then_and_at_the_end(registry, tmp_path):
    settings = {**TINY, "dataset.images": 60, "train.batch_size": 20, "train.steps": 5, "method.eval_every": 0.67}
    result = ssl_core.train("finetune", out=tmp_path / "run", settings=settings, registry=registry)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "test/top1" in line]
    assert [line["step"] for line in scored] == [2, 4, 5]
    assert all(line["test/images"] == 20 for line in scored)
    assert result["metrics"]["test/top1"] == scored[-1]["test/top1"]


@pytest.mark.parametrize(("test_images", "every"), [(100, 10), (600, 17), (3000, 50), (4000, 100)])
def test_evaluations_before_the_end_cost_a_tenth_of_the_training(test_images, every):
    """Of 100 updates on 10,000 images, three times as much work an image."""
    from types import SimpleNamespace

    run = SimpleNamespace(images=range(1000))
    splits = SimpleNamespace(
        queries=MemorySet([0] * test_images, ("a", "b"), seed=0), queries_name="test", classes=("a", "b")
    )
    hook = AccuracyHook(run, splits, ClassifierOptions(), 32)
    assert hook._steps(Progress(0, 100, 10)) == every


def test_the_average_is_scored_where_it_is_exported(registry, tmp_path):
    """And the training goes on with the last weights, as if nobody had looked."""
    settings = {**TINY, "dataset.images": 60, "train.batch_size": 20, "train.steps": 4, "optim.lr": 1e-2}
    for name, extra in {"seen": {"train.ema": 0.9}, "unseen": {"train.ema": 0.9, "method.eval_every": 0}}.items():
        ssl_core.train("finetune", out=tmp_path / name, settings={**settings, **extra}, registry=registry)
    seen, unseen = (
        load_file(tmp_path / name / "checkpoints/step-00000004/model.safetensors") for name in ("seen", "unseen")
    )
    assert all(torch.equal(seen[key], unseen[key]) for key in seen)
    average = load_file(tmp_path / "seen/checkpoints/step-00000004/average.safetensors")
    method = _method(_backbone(registry, pool="mean"), classes=tuple("abcdefghij"))
    source = ssl_core.api.open_source(None, registry, {"dataset.images": 60}).open("test")
    losses = {}
    for name, state in {"average": average, "last": seen}.items():
        method.load_state_dict(state)
        pixels = torch.stack([torch.from_numpy(np.array(source.read(i))).permute(2, 0, 1) for i in range(20)]) / 255
        label = torch.tensor([source.label(i) for i in range(20)])
        with torch.no_grad():
            losses[name] = method.eval()(Batch({"image": pixels}, label, label, label), PROGRESS).loss.item() / 20
    line = json.loads((tmp_path / "seen" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["test/loss"] == pytest.approx(losses["average"], rel=1e-4)
    assert losses["average"] != pytest.approx(losses["last"], rel=1e-4)


def test_two_runs_with_one_seed_agree_bit_for_bit(registry, tmp_path):
    everything = {
        "transform.policy": "rand-m9-mstd0.5-inc1",
        "method.mixup": 0.8,
        "method.cutmix": 1.0,
        "method.erasing": 0.25,
        "backbone.drop_path": 0.1,
    }
    settings = {**TINY, **everything, "dataset.images": 40, "train.batch_size": 8, "train.steps": 4}
    for name, workers in (("a", 0), ("b", 2)):
        own = {**settings, "data.workers": workers}
        ssl_core.train("finetune", out=tmp_path / name, settings=own, registry=registry)
    one, two = (load_file(tmp_path / name / "export" / "backbone.safetensors") for name in ("a", "b"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_it_learns_the_textures(registry, tmp_path):
    """Far more than the commonest class, in seconds; from scratch, with first weights large enough for that."""
    own = {
        "backbone.width": 64,
        "backbone.init_values": 0,
        "backbone.init_std": 0.1,
        "method.init_scale": 1.0,
        "method.layer_decay": 1.0,
        "method.eval_every": 0,
        "dataset.images": 400,
        "train.batch_size": 32,
        "train.steps": 60,
        "optim.lr": 3e-3,
        "optim.warmup_steps": 10,
    }
    result = ssl_core.train("finetune", out=tmp_path / "run", settings={**TINY, **own}, registry=registry)
    assert result["metrics"]["test/top1"] > 30  # ten classes, equally many of each
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] - 0.3
