from __future__ import annotations

from pathlib import Path

import pytest
from paper_parts import paper_registry

from ssl_core.config.request import Request
from ssl_core.config.select import choose, find_data, select, select_dataset
from ssl_core.errors import ConfigError, DataError, PluginError, UsageError
from ssl_core.plugins.component import Component
from ssl_core.plugins.loader import Plugin


def ask(**keywords):
    return select(Request.from_keywords(**keywords), paper_registry())


def message(error_class, **keywords) -> str:
    with pytest.raises(error_class) as caught:
        ask(**keywords)
    return str(caught.value)


def test_a_method_brings_its_own_parts_and_the_demonstration():
    selection = ask(method="guess")
    assert {slot: match.qualified for slot, match in selection.parts.items()} == {
        "backbone": "toy:vit",
        "tokenizer": "toy:codes",
        "masker": "toy:block",
        "head": "toy:mim",
        "transform": "core:augment",
        "dataset": "core:textures",
    }
    assert selection.demonstration


def test_a_short_name_means_the_methods_own_part_first():
    assert ask(method="guess", masker="block").parts["masker"].qualified == "toy:block"
    assert ask(method="guess", masker="other:block").parts["masker"].qualified == "other:block"


def test_a_target_fits_into_the_tokenizer_slot():
    assert ask(method="guess", tokenizer="clusters").parts["tokenizer"].component.kind == "target"


@pytest.mark.parametrize("settings", [{"backbone": "conv"}, {"backbone.name": "conv"}, {"backbone": {"name": "conv"}}])
def test_a_slot_may_be_written_among_the_settings(settings):
    assert ask(method="guess", settings=settings).parts["backbone"].qualified == "toy:conv"


def test_a_slot_given_twice():
    text = message(UsageError, method="guess", backbone="vit_base", settings={"backbone": "conv"})
    assert text == "backbone: given twice, as 'vit_base' and as 'conv'"


def test_without_a_method():
    assert message(UsageError) == "which method? --method NAME, one of guess, plain, dropper"


def test_an_unknown_method():
    assert "unknown method 'gues'. Did you mean 'guess'?" in message(PluginError, method="gues")


def test_a_slot_that_the_method_lacks():
    text = message(UsageError, method="plain", masker="block")
    assert text == "masker 'block': method 'plain' has no masker; its parts are backbone, transform, dataset"
    text = message(ConfigError, method="plain", settings={"masker.ratio": 0.3})
    assert text == "masker.ratio: method 'plain' has no masker; its parts are backbone, transform, dataset"


def test_all_unknown_parts_at_once():
    lines = message(ConfigError, method="guess", masker="blok", head="mimm").splitlines()
    assert len(lines) == 2
    assert "unknown masker 'blok'. Did you mean" in lines[0]
    assert "unknown head 'mimm'. Did you mean 'mim'?" in lines[1]


def test_the_plugin_of_a_default_part_hurts_only_who_needs_it():
    broken = Plugin("gone", "gone 1", "broken", "import failed: ImportError: boom")
    method = Component("method", "needy", "", "nowhere:X", slots={"masker": "gone:m"}, settings={"train.steps": 1})
    registry = paper_registry(broken, Plugin("needs", "needs 1", "ok", components=(method,)))
    with pytest.raises(PluginError, match=r"masker 'gone:m': the plugin 'gone' \(gone 1\) is broken: .*boom"):
        select(Request(method="needy"), registry)
    assert (
        select(Request(method="needy", slots={"masker": "random"}), registry).parts["masker"].qualified == "core:random"
    )


def test_a_missing_capability():
    text = message(ConfigError, method="dropper")
    assert text == "dropper needs backbone:drop_tokens; backbone 'toy:vit' does not provide it. These do: toy:conv"
    assert ask(method="dropper", backbone="conv")


def test_data_that_exists_is_a_folder(tmp_path):
    selection = ask(method="guess", data=tmp_path)
    assert selection.dataset.match.qualified == "core:folder"
    assert selection.dataset.options.path == str(tmp_path)
    assert not selection.demonstration


def test_a_folder_goes_over_a_data_set_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_data("cifar10", paper_registry()).qualified == "core:cifar10"
    (tmp_path / "cifar10").mkdir()
    assert find_data("cifar10", paper_registry()).qualified == "core:folder"


def test_data_by_name_with_options():
    part = ask(method="guess", data="cifar10", settings={"dataset.images": "7"}).dataset
    assert (part.match.qualified, part.options.images) == ("core:cifar10", 7)
    assert ask(method="guess", settings={"data": "cifar10"}).dataset.match.qualified == "core:cifar10"


def test_a_name_that_a_family_answers_to(monkeypatch):
    monkeypatch.setattr("paper_parts.is_remote", lambda name: name.startswith("hub/"), raising=False)
    family = Component("dataset", "hub", "", "nowhere:Hub", answers="paper_parts:is_remote")
    registry = paper_registry(Plugin("hub", "hub 1", "ok", components=(family,)))
    assert find_data("hub/flowers", registry).qualified == "hub:hub"
    assert find_data("photos/flowers", registry).qualified == "core:folder"


@pytest.mark.parametrize("data", ["./photos", "~/no such photos", "a/b"])
def test_what_looks_like_a_path_is_left_to_the_data_set(data):
    assert find_data(data, paper_registry()).settings == {"path": str(Path(data).expanduser().absolute())}


def test_data_that_is_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    text = message(DataError, method="guess", data="phtos")
    assert text.startswith("--data 'phtos': no such folder, and no data set of that name. Did you mean 'photos'?")
    assert DataError.exit_code == 3


def test_select_dataset_outside_of_a_run():
    registry = paper_registry()
    assert select_dataset(None, registry, {}).match.qualified == "core:textures"
    assert select_dataset("cifar10", registry, {"dataset.images": 3}).options.images == 3
    with pytest.raises(ConfigError, match=r"dataset.imagse: no such option. Did you mean 'dataset.images'\?"):
        select_dataset("cifar10", registry, {"dataset.imagse": 3})
    with pytest.raises(ConfigError, match=r"optim.lr: only dataset"):
        select_dataset("cifar10", registry, {"optim.lr": 3})


def test_help_may_choose_parts_with_wrong_options():
    assert choose(Request(method="guess", settings={"optim.lrr": 1}), paper_registry()).parts


def test_an_unknown_keyword():
    with pytest.raises(UsageError, match="unknown keyword 'bacbone'"):
        Request.from_keywords(method="guess", bacbone="x")
