from __future__ import annotations

import pytest
import yaml
from paper_parts import CORE, TOY, paper_registry

from ssl_core.config.files import read_config, write_config
from ssl_core.config.request import Request
from ssl_core.config.resolve import DataFacts, from_resolved, resolve
from ssl_core.config.select import select
from ssl_core.errors import ConfigError, DataError, UsageError
from ssl_core.plugins.component import Component, Recipe
from ssl_core.plugins.loader import Plugin

PHOTOS = DataFacts(1_281_167, 400)
THUMBNAILS = DataFacts(50_000, 32)


def settle(facts=PHOTOS, settings=None, registry=None, method="guess", **keywords):
    request = Request.from_keywords(method=method, settings=settings, **keywords)
    return resolve(select(request, registry or paper_registry()), facts)


def with_recipe(recipe_settings, **component) -> Plugin:
    base = {"settings": {"train.steps": 10}, "slots": {"masker": "toy:block", "tokenizer": "toy:codes"}}
    recipe = Recipe("only", "", recipe_settings)
    return Plugin(
        "own",
        "own 1",
        "ok",
        components=(Component("method", "own", "", "x:X", recipes=(recipe,), **(base | component)),),
    )


# Layers


def test_each_layer_goes_over_the_one_below(tmp_path):
    (tmp_path / "run.yaml").write_text("optim: {lr: 2e-3}\nmasker: {ratio: 0.3}\n")
    config = settle(config=tmp_path / "run.yaml", settings={"masker.ratio": "0.2"})
    found = {
        "data.max_bad_fraction": config.data.max_bad_fraction,
        "masker.min_block": config.parts["masker"].options.min_block,
        "train.epochs": config.train.epochs,
        "optim.lr": config.optim.lr,
        "masker.ratio": config.parts["masker"].options.ratio,
    }
    assert {key: (value, config.sources[key]) for key, value in found.items()} == {
        "data.max_bad_fraction": (0.01, "default"),
        "masker.min_block": (16, "preset guess"),
        "train.epochs": (800, "recipe large-images"),
        "optim.lr": (2e-3, "run.yaml"),
        "masker.ratio": (0.2, "arguments"),
    }


def test_sources_name_every_option_and_part():
    config = settle(masker="random")
    assert config.sources["masker"] == "arguments"
    assert config.sources["head"] == "preset guess"
    assert config.sources["dataset"] == "default"
    for section, values in config.as_dict().items():
        if isinstance(values, dict):
            for key in values.keys() - {"name"}:
                assert f"{section}.{key}" in config.sources


def test_method_options_and_seed():
    config = settle(settings={"method.momentum": "0.5", "seed": "3"})
    assert (config.method.options.momentum, config.seed) == (0.5, 3)


def test_the_name_of_a_family_sets_its_option():
    for keywords in ({"backbone": "vit_base"}, {"settings": {"backbone.model": "vit_base"}}):
        part = settle(**keywords).parts["backbone"]
        assert part.options.model == "vit_base"
        assert part.match.settings == {"model": "vit_base"}


def test_the_later_of_epochs_and_steps_counts(tmp_path):
    assert (settle().train.epochs, settle().train.steps) == (800, None)
    train = settle(settings={"train.steps": "5"}).train
    assert (train.epochs, train.steps) == (None, 5)
    (tmp_path / "run.yaml").write_text("train: {steps: 7, epochs: null}\n")
    assert settle(config=tmp_path / "run.yaml").train.steps == 7
    train = settle(config=tmp_path / "run.yaml", settings={"train.epochs": "2"}).train
    assert (train.epochs, train.steps) == (2, None)


def test_a_run_without_a_length():
    with pytest.raises(ConfigError, match=r"train.epochs: how long\? Give train.epochs or train.steps"):
        settle(method="own", registry=paper_registry(with_recipe({}, settings={})))


def test_warm_up_in_epochs_clears_a_recipes_steps():
    registry = paper_registry(with_recipe({"optim.warmup_steps": 100}))
    assert settle(method="own", registry=registry).optim.warmup_steps == 100
    config = settle(method="own", registry=registry, settings={"optim.warmup_epochs": 1})
    assert (config.optim.warmup_epochs, config.optim.warmup_steps) == (1, None)


def test_the_tokenizers_own_training():
    config = settle(settings={"tokenizer.train.steps": "9", "tokenizer.train.optim.lr": "1e-2"})
    assert config.tokenizer_train == {"steps": 9, "optim.lr": 1e-2}
    assert settle().tokenizer_train == {}


# Recipes


def test_every_recipe_that_fits_is_applied_in_order():
    assert settle(PHOTOS).recipes == ("large-images",)
    assert settle(THUMBNAILS, backbone="vit_base").recipes == ("small-images", "base-only")
    config = settle(DataFacts(6000, 32, demonstration=True))
    assert config.recipes == ("small-images", "demonstration")
    assert config.train.epochs == 6


def test_a_recipe_by_name_stands_in_for_those_that_fit():
    assert settle(PHOTOS, {"recipe": "base-only"}).recipes == ("base-only",)
    assert settle(PHOTOS, {"recipe": "small-images, base-only"}).recipes == ("small-images", "base-only")
    assert settle(PHOTOS, {"recipe": "none"}).recipes == ()
    assert settle(PHOTOS, {"recipe": "auto"}).recipes == ("large-images",)


def test_a_recipe_may_choose_a_part_unless_the_user_does():
    config = settle(THUMBNAILS)
    assert config.parts["tokenizer"].match.qualified == "toy:clusters"
    assert config.parts["tokenizer"].options.clusters == 256
    assert config.sources["tokenizer"] == "recipe small-images"
    config = settle(THUMBNAILS, tokenizer="codes")
    assert config.parts["tokenizer"].match.qualified == "toy:codes"
    assert config.parts["tokenizer"].options.vocab == 8192


def test_options_of_the_part_that_a_recipe_chooses_can_be_set():
    assert settle(THUMBNAILS, {"tokenizer.clusters": "64"}).parts["tokenizer"].options.clusters == 64
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab: no such option"):
        settle(THUMBNAILS, {"tokenizer.vocab": "64"})


def test_a_recipes_part_that_is_not_installed_hurts_only_who_needs_it():
    registry = paper_registry(with_recipe({"tokenizer": "gone:t", "tokenizer.x": 1}))
    with pytest.raises(ConfigError, match="gone:t"):
        settle(method="own", registry=registry)
    assert settle(method="own", registry=registry, tokenizer="codes").parts["tokenizer"].match.qualified == "toy:codes"


def test_settings_for_a_part_that_was_swapped_count_only_as_far_as_they_fit():
    # The preset's masker.min_block does not exist there, its backbone.variant is of another type there.
    config = settle(masker="random", backbone="conv")
    assert config.parts["masker"].options.ratio == 0.6
    assert config.parts["backbone"].options.variant == 1
    registry = paper_registry(with_recipe({"masker.ratio": 0.3, "masker.min_block": 4}))
    assert settle(method="own", registry=registry, masker="random").parts["masker"].options.ratio == 0.3


def test_a_mistake_in_a_recipe_for_its_own_part_is_reported():
    registry = paper_registry(with_recipe({"masker.min_blok": 4}))
    with pytest.raises(ConfigError, match=r"masker.min_blok: no such option. .* \(in recipe only\)"):
        settle(method="own", registry=registry)


def test_a_recipe_cannot_choose_the_data():
    with pytest.raises(ConfigError, match="recipe only: it cannot choose the data"):
        settle(method="own", registry=paper_registry(with_recipe({"dataset.images": 4})))


def test_a_file_for_a_part_that_the_command_line_swaps(tmp_path):
    (tmp_path / "run.yaml").write_text("backbone: {name: vit_base, patch_size: 8}\n")
    config = settle(config=tmp_path / "run.yaml")
    assert (config.parts["backbone"].options.model, config.parts["backbone"].options.patch_size) == ("vit_base", 8)
    assert settle(config=tmp_path / "run.yaml", backbone="conv").parts["backbone"].options.stages == 4


# Fitting to the data


@pytest.mark.parametrize(
    ("images", "batch"), [(1_281_167, 2048), (12_431, 256), (4096, 128), (4095, 64), (100, 64), (40, 40), (5, 5)]
)
def test_the_batch_shrinks_to_the_data(images, batch):
    config = settle(DataFacts(images, 400))
    assert config.train.batch_size == batch
    assert config.optim.lr == pytest.approx(1.5e-3 * batch / 2048)
    assert config.optim.min_lr == pytest.approx(1e-5 * batch / 2048)


def test_what_was_fitted_is_told():
    config = settle(DataFacts(12_431, 400))
    assert config.adjustments == ("batch 2048 -> 256 to fit 12,431 images", "lr 1.5e-3 at 2048 -> 1.9e-4 at 256")
    assert config.sources["optim.lr"] == "recipe large-images: 0.0015 at batch 2048, scaled"
    assert config.sources["train.batch_size"] == "adjusted: 2048 of recipe large-images, shrunk"
    assert settle().adjustments == ()


def test_what_the_user_set_stays():
    config = settle(DataFacts(300, 400), {"train.batch_size": 256, "optim.lr": 1e-3})
    assert (config.train.batch_size, config.optim.lr) == (256, 1e-3)
    assert config.optim.min_lr == pytest.approx(1e-5 * 256 / 2048)
    config = settle(PHOTOS, {"train.batch_size": 1024})
    assert config.optim.lr == pytest.approx(7.5e-4)
    assert config.adjustments == ("lr 1.5e-3 at 2048 -> 7.5e-4 at 1024",)


def test_a_learning_rate_of_nobody_is_meant_for_the_presets_batch():
    config = settle(DataFacts(512 * 32, 32))
    assert (config.train.batch_size, config.optim.lr) == (512, 1.5e-3)
    assert settle(DataFacts(256 * 32, 32)).optim.lr == pytest.approx(7.5e-4)
    assert settle(DataFacts(512 * 32, 32), {"train.batch_size": 256}).optim.lr == pytest.approx(7.5e-4)


def test_a_batch_that_the_user_set_larger_than_the_data():
    with pytest.raises(DataError) as caught:
        settle(DataFacts(100, 400), {"train.batch_size": 512})
    assert str(caught.value) == (
        "train.batch_size=512 but the data has 100 images; set train.batch_size to at most 100"
    )


@pytest.mark.parametrize(("median", "size"), [(400, 224), (150, 144), (120, 128), (10, 32)])
def test_the_image_size_follows_the_images(median, size):
    config = settle(DataFacts(10_000, median), {"recipe": "none"})
    assert config.data.image_size == size
    assert config.sources["data.image_size"].startswith("adjusted")
    assert settle(DataFacts(10_000, median), {"data.image_size": 96}).data.image_size == 96


# Files


def test_a_resolved_config_gives_itself_again(tmp_path):
    config = settle(
        DataFacts(3000, 32),
        {"seed": 5, "tokenizer.train.optim.lr": 1e-3, "tokenizer.train.epochs": 2, "head.kind": "none"},
        backbone="vit_base",
    )
    assert config.recipes
    assert config.adjustments
    write_config(tmp_path / "config.yaml", config.as_dict())
    registry = paper_registry()
    again = resolve(select(Request(config=tmp_path / "config.yaml"), registry), DataFacts(3000, 32))
    assert again == config
    assert again.as_dict() == config.as_dict()
    assert from_resolved(read_config(tmp_path / "config.yaml"), registry) == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_recipes_are_not_applied_again():
    config = settle(THUMBNAILS)
    values = config.as_dict()
    values["train"]["epochs"] = 3
    registry = paper_registry()
    again = resolve(select(Request(values=values), registry), PHOTOS)
    assert (again.train.epochs, again.data.image_size, again.recipes) == (3, 32, config.recipes)
    with pytest.raises(ConfigError, match="recipe: 'none' would change nothing"):
        select(Request(values=values, settings={"recipe": "none"}), registry)


def test_a_resumed_run_may_override():
    config = settle()
    again = from_resolved(config.as_dict(), paper_registry(), {"data.workers": "3"})
    assert again.data.workers == 3
    assert again.train == config.train


def test_a_config_is_plain_values():
    values = settle(THUMBNAILS).as_dict()
    assert yaml.safe_load(yaml.safe_dump(values)) == values
    assert values["backbone"]["name"] == "toy:vit"
    assert values["recipes"] == ["small-images"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2", "line 2, column 2: expected"),
        ("- 1", "expected sections such as `train:`, not list"),
        ("!!python/object/apply:os.system [ls]", "line 1, column 1"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml") as caught:
        read_config(tmp_path / "run.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1: x\n", r"^1: the name of a setting is text, not int; "),
        ("on: x\n", r"^True: the name of a setting is text, not bool; YAML reads .* on, .*in quotes$"),
        ("train: {no: x}\n", r"^train.False: the name of a setting is text"),
        ("recipes: 3\n", r"^recipes: expected a list of names, not 3$"),
        ("recipes: small\n", r"^recipes: expected a list of names, not 'small'$"),
    ],
)
def test_keys_that_yaml_does_not_read_as_text(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        settle(config=file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml: no such file"):
        read_config(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="is a directory"):
        read_config(tmp_path)
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ConfigError, match="not a text file"):
        read_config(tmp_path / "picture.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert read_config(tmp_path / "empty.yaml") == {}


def test_the_paper_parts_are_sound():
    from ssl_core.plugins.component import check_component

    for component in (*CORE, *TOY):
        check_component(component)
