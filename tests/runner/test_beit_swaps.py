"""Parts of BEiT and BEiT v2 swap where it makes sense; where it does not, one line names what is missing."""

from __future__ import annotations

import pytest
from toy_runs import losses, toy_registry

import ssl_core
from ssl_core.config.files import read_config
from ssl_core.errors import ConfigError, UsageError

SETTINGS = {
    "data.image_size": 32,
    "dataset.images": 40,
    "train.batch_size": 8,
    "train.steps": 2,
    "optim.warmup_steps": 1,
    "log.every": 1,
    "log.pictures_every": 0,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
    "runtime.threads": 1,
    "backbone.width": 32,
    "backbone.depth": 2,
    "backbone.heads": 2,
    "backbone.patch_size": 8,
}
KMEANS = {"tokenizer": "kmeans", "tokenizer.vocab_size": 8, "tokenizer.images": 40}
VQKD = {
    "tokenizer.vocab_size": 8,
    "tokenizer.width": 16,
    "tokenizer.depth": 1,
    "tokenizer.heads": 2,
    "tokenizer.code_width": 8,
}
V2_HEAD = "heads:patch_aggregation"


@pytest.fixture(scope="module")
def registry():
    return toy_registry()


def _train(method, out, registry, swaps):
    return ssl_core.train(method, out=out, settings={**SETTINGS, **swaps}, registry=registry)


@pytest.mark.parametrize(
    ("method", "swaps", "parts"),
    [
        ("beit", {"tokenizer": "pixel"}, {"head": "heads:regression"}),
        ("beit", {**KMEANS, "backbone": "vit_small_patch16_224"}, {"backbone": "core:vit"}),
        ("beit", {**KMEANS, "masker": "random"}, {"masker": "core:random"}),
        ("beit", {**KMEANS, "head": "patch_aggregation"}, {"head": V2_HEAD}),
        ("beit", {**KMEANS, "transform": "augment"}, {"transform": "core:augment"}),
        ("beitv2", KMEANS, {"tokenizer": "tokenizers:kmeans", "head": V2_HEAD}),
        ("beitv2", {**VQKD, "head": "mim"}, {"tokenizer": "tokenizers:vqkd", "head": "heads:mim"}),
        ("beitv2", {"tokenizer": "pixel"}, {"head": "heads:regression"}),
        ("beitv2", {**KMEANS, "masker": "random", "backbone.variant": "plain"}, {"masker": "core:random"}),
        ("beitv2", {**KMEANS, "backbone": "vit_small_patch16_224", "head": "mim"}, {"backbone": "core:vit"}),
    ],
)
def test_what_swaps(method, swaps, parts, registry, tmp_path):
    _train(method, tmp_path / "run", registry, swaps)
    config = read_config(tmp_path / "run" / "config.yaml")
    assert {slot: config[slot]["name"] for slot in parts} == parts
    assert len(losses(tmp_path / "run")) == 2


@pytest.mark.parametrize(
    ("method", "swaps", "error", "message"),
    [
        (
            "beitv2",
            {**KMEANS, "backbone": "vit_small_patch16_224"},
            ConfigError,
            r"head 'heads:patch_aggregation' needs backbone:branch; backbone 'core:vit' .* beit:vit",
        ),
        (
            "beit",
            {"tokenizer": "pixel", "head": "mim"},
            ConfigError,
            r"tokenizer 'tokenizers:pixel' needs head:vectors; head 'heads:mim' .* heads:regression",
        ),
        ("beit", {**KMEANS, "head": "regression"}, UsageError, r"head 'regression' .* head=mim"),
        (
            "beit",
            {**KMEANS, "method.corrupt": "drop"},
            UsageError,
            r"a backbone that can leave patches out",
        ),
        ("beitv2", {**KMEANS, "backbone.pool": "mean"}, UsageError, r"backbone.pool=cls, or head=mim"),
    ],
)
def test_what_does_not_go_together(method, swaps, error, message, registry, tmp_path):
    with pytest.raises(error, match=message) as caught:
        _train(method, tmp_path / "run", registry, swaps)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
