"""What the plugin registers: parts that can be built, and recipes whose options exist."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ssl_beit.recipes import PRESET, RECIPES
from ssl_beit.recipes_v2 import PRESET_V2, RECIPES_V2
from ssl_core.api import Registry
from ssl_core.config.sections import SECTIONS


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def test_registering_imports_no_torch():
    code = "import sys, ssl_beit.plugin, ssl_heads.plugin; assert not {'torch', 'numpy', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("method", "beit"),
        ("method", "beitv2"),
        ("backbone", "beit:vit"),
        ("masker", "beit:block"),
        ("transform", "beit:two_view"),
        ("head", "heads:mim"),
        ("head", "heads:patch_aggregation"),
        ("head", "heads:regression"),
        ("backbone", "core:vit"),
        ("checkpoint_format", "beit:microsoft"),
        ("checkpoint_format", "beit:transformers"),
    ],
)
def test_targets_exist(registry, kind, name):
    assert callable(registry.find(name, kind).component.load())


def test_short_names_mean_beits_own_vit(registry):
    match = registry.find("vit_small", "backbone", prefer="beit:vit")
    assert (match.qualified, match.settings) == ("beit:vit", {"model": "vit_small"})
    assert registry.find("deit3_base_patch16_224", "backbone").qualified == "core:vit"


@pytest.mark.parametrize(
    ("name", "tokenizer", "settings"),
    [
        *(("beit", "tokenizers:kmeans", settings) for settings in (PRESET, *(r.settings for r in RECIPES))),
        *(("beitv2", "tokenizers:vqkd", settings) for settings in (PRESET_V2, *(r.settings for r in RECIPES_V2))),
    ],
)
def test_every_setting_is_an_option_of_the_default_parts(registry, name, tokenizer, settings):
    method = registry.find(name, "method").component
    slots = {**method.slots, "tokenizer": settings.get("tokenizer", tokenizer)}
    kinds = {"backbone": "backbone", "tokenizer": "tokenizer", "masker": "masker", "transform": "transform"}
    for key in settings.keys() - {"tokenizer", "tokenizer.train.steps"}:  # the latter is an option of any first stage
        section, option = key.split(".")
        options = SECTIONS.get(section) or registry.find(slots[section], kinds[section]).component.options
        assert option in options.model_fields, key


def _settings(
    size: int, backbone: str = "vit_base", demonstration: bool = False, preset=PRESET, recipes=RECIPES
) -> dict:
    """Returns the preset with every recipe that fits, as the engine layers them."""
    settings = dict(preset)
    for recipe in recipes:
        when = recipe.when
        if when is None:
            continue
        fits = when.image_size[0] <= size <= when.image_size[1]
        if fits and (not when.backbones or backbone in when.backbones) and (demonstration or not when.demonstration):
            settings |= recipe.settings
    return settings


@pytest.mark.parametrize(("preset", "recipes"), [(PRESET, RECIPES), (PRESET_V2, RECIPES_V2)])
def test_recipes_follow_the_size_of_the_images(preset, recipes):
    sizes = {20: 32, 40: 32, 41: 64, 80: 64, 81: 128, 160: 128, 161: 224, 500: 224}
    found = {size: _settings(size, preset=preset, recipes=recipes) for size in sizes}
    assert {size: settings["data.image_size"] for size, settings in found.items()} == sizes
    for settings in found.values():
        patch_size = settings.get("backbone.patch_size", 16)
        assert settings["data.image_size"] % patch_size == 0
        assert settings["data.image_size"] // patch_size in (8, 14)


def test_imagenet_recipes_are_the_papers():
    base, large = _settings(400), _settings(400, "vit_large")
    assert round(base["masker.ratio"] * 196) == 75
    assert (base["optim.clip_grad"], large["optim.clip_grad"]) == (3.0, 1.0)
    assert (base["train.epochs"], base["train.batch_size"], base["optim.lr"]) == (800, 2048, 1.5e-3)
    assert "tokenizer" not in base
    assert large["backbone.init_values"] == 1e-5


def test_imagenet_recipes_of_v2_are_the_papers():
    base = _settings(400, preset=PRESET_V2, recipes=RECIPES_V2)
    large = _settings(400, "vit_large", preset=PRESET_V2, recipes=RECIPES_V2)
    long = {recipe.name: recipe.settings for recipe in RECIPES_V2}["imagenet-base-1600"]
    for settings in (base, large, {**PRESET_V2, **long}):
        assert round(settings["masker.ratio"] * 196) == 75
        assert (settings["optim.clip_grad"], settings["optim.lr"], settings["train.batch_size"]) == (3.0, 1.5e-3, 2048)
        assert settings["transform.scale"] == (0.2, 1.0)
        assert settings["data.mean"] == (0.485, 0.456, 0.406)
    assert large["backbone.init_values"] == 1e-5
    names = ("train.epochs", "optim.betas", "backbone.drop_path")
    assert [base[name] for name in names] == [300, (0.9, 0.98), 0.0]
    assert [long[name] for name in names] == [1600, (0.9, 0.999), 0.1]


def test_demonstration_is_short():
    tiny = _settings(32, "vit_tiny", demonstration=True)
    base = _settings(32, "vit_base", demonstration=True)
    assert tiny["tokenizer"] == "tokenizers:kmeans"
    assert tiny["tokenizer.window"] == tiny["backbone.patch_size"] == 8
    assert base["train.steps"] < tiny["train.steps"]
