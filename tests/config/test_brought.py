"""Parts that bring the parts that go with them."""

from __future__ import annotations

import pytest
from paper_parts import CodesOptions, MimOptions, RandomOptions, paper_registry
from pydantic import Field

from ssl_core.cli.plugin_report import component_lines, component_values
from ssl_core.cli.print_config import config_text
from ssl_core.config.request import Request
from ssl_core.config.resolve import DataFacts, from_resolved, resolve
from ssl_core.config.select import select
from ssl_core.errors import ConfigError, PluginError
from ssl_core.options import Options
from ssl_core.plugins.component import Component, Recipe, When, check_component
from ssl_core.plugins.loader import Plugin

PHOTOS, THUMBNAILS = DataFacts(50_000, 400), DataFacts(50_000, 32)
VECTORS = ("head:vectors",)


class DenseOptions(Options):
    distance: str = "l2"
    norm: float = Field(0.5, gt=0)


PARTS = (
    Component("target", "pixels", "", "x:X", requires=VECTORS, slots={"head": "more:dense"}),
    Component("target", "edges", "", "x:X", slots={"head": "more:wide", "masker": "core:random"}),
    Component("head", "dense", "", "x:X", DenseOptions, provides=("vectors",)),
    Component("head", "wide", "", "x:X", DenseOptions, provides=("vectors",)),
    Component("tokenizer", "lost", "", "x:X", slots={"head": "gone:head"}),
    Component(
        "method",
        "own",
        "",
        "x:X",
        slots={"tokenizer": "toy:codes", "head": "toy:mim"},
        settings={"train.steps": 1, "head.kind": "none", "head.norm": False},
        recipes=(
            Recipe("small", "", {"tokenizer": "more:pixels", "head.distance": "l1"}, When(image_size=(0, 99))),
            Recipe("all", "", {"tokenizer": "more:pixels", "head": "more:wide"}, when=None),
        ),
    ),
    Component(
        "method",
        "regress",
        "",
        "x:X",
        slots={"tokenizer": "more:pixels", "head": "more:wide"},
        settings={"train.steps": 1},
    ),
    Component("method", "headless", "", "x:X", slots={"tokenizer": "toy:codes"}, settings={"train.steps": 1}),
)


def registry():
    return paper_registry(Plugin("more", "more 1", "ok", components=PARTS))


def settle(method="own", facts=PHOTOS, settings=None, **keywords):
    return resolve(select(Request.from_keywords(method=method, settings=settings, **keywords), registry()), facts)


def parts(config) -> tuple[str, str]:
    return config.parts["tokenizer"].match.qualified, config.parts["head"].match.qualified


def test_a_chosen_part_brings_its_own_and_says_so():
    config = settle(tokenizer="pixels")
    assert parts(config) == ("more:pixels", "more:dense")
    assert config.sources["head"] == "tokenizer 'pixels'"
    line = next(line for line in config_text(config).splitlines() if "more:dense" in line)
    assert line.split() == ["name:", "more:dense", "#", "from", "tokenizer", "'pixels'"]


def test_the_flag_the_settings_and_a_file_are_alike(tmp_path):
    (tmp_path / "run.yaml").write_text("method: own\ntokenizer: {name: pixels}\nhead: {distance: l1}\n")
    config = settle(None, config=tmp_path / "run.yaml")
    assert parts(config) == ("more:pixels", "more:dense")
    assert config.parts["head"].options.distance == "l1"
    assert parts(settle(settings={"tokenizer": "pixels"})) == ("more:pixels", "more:dense")


def test_keys_for_the_head_that_was_replaced_are_left_out():
    options = settle(tokenizer="pixels").parts["head"].options
    assert (options.distance, options.norm) == ("l2", 0.5)
    with pytest.raises(ConfigError, match=r"head\.kind: no such option"):
        settle(tokenizer="pixels", settings={"head.kind": "none"})


def test_what_a_person_wrote_goes_over_it(tmp_path):
    assert parts(settle(tokenizer="pixels", head="wide")) == ("more:pixels", "more:wide")
    (tmp_path / "run.yaml").write_text("head: wide\n")
    assert parts(settle(tokenizer="pixels", config=tmp_path / "run.yaml")) == ("more:pixels", "more:wide")
    with pytest.raises(ConfigError, match=r"'more:pixels' needs head:vectors; head 'toy:mim' does not provide it"):
        settle(tokenizer="pixels", head="mim")


def test_a_recipes_part_brings_its_own_too():
    config = settle(facts=THUMBNAILS)
    assert parts(config) == ("more:pixels", "more:dense")
    assert config.parts["head"].options.distance == "l1"
    # Its head is not known before the data is, and so are its options.
    assert settle(facts=THUMBNAILS, settings={"head.distance": "l3"}).parts["head"].options.distance == "l3"


def test_a_recipe_may_say_which_head():
    config = settle(settings={"recipe": "all"})
    assert parts(config) == ("more:pixels", "more:wide")
    assert config.sources["head"] == "recipe all"


def test_a_part_that_was_replaced_brings_nothing():
    assert parts(settle(facts=THUMBNAILS, tokenizer="codes")) == ("toy:codes", "toy:mim")


def test_the_methods_own_part_brings_nothing():
    assert parts(settle("regress", tokenizer="pixels")) == ("more:pixels", "more:wide")


def test_what_has_the_capability_stays():
    other = Component("target", "others", "", "x:X", requires=VECTORS, slots={"head": "more:dense"})
    plugins = paper_registry(Plugin("more", "more 1", "ok", components=(*PARTS, other)))
    for keywords in ({"method": "regress"}, {"method": "own", "settings": {"recipe": "all"}}):
        request = Request.from_keywords(tokenizer="others", **keywords)
        assert parts(resolve(select(request, plugins), PHOTOS)) == ("more:others", "more:wide")


def test_without_a_requirement_it_always_comes_and_only_where_there_is_a_slot():
    config = settle("regress", tokenizer="edges")
    assert parts(config) == ("more:edges", "more:wide")
    assert "masker" not in config.parts
    assert settle("guess", tokenizer="edges").parts["masker"].match.qualified == "core:random"
    assert settle("headless", tokenizer="edges").parts["tokenizer"].match.qualified == "more:edges"


def test_a_part_that_is_not_installed_hurts_only_who_needs_it():
    with pytest.raises(PluginError, match="unknown head 'gone:head'"):
        settle(tokenizer="lost")
    assert parts(settle(tokenizer="lost", head="wide")) == ("more:lost", "more:wide")


def test_a_resolved_config_gives_itself_again():
    for config in (settle(tokenizer="pixels"), settle(tokenizer="pixels", head="wide"), settle(facts=THUMBNAILS)):
        again = from_resolved(config.as_dict(), registry())
        assert again == config
        assert again.as_dict() == config.as_dict()


@pytest.mark.parametrize(("kind", "slot"), [("head", "head"), ("target", "tokenizer"), ("backbone", "dataset")])
def test_slots_that_no_part_may_fill(kind, slot):
    component = Component(kind, "bad", "", "x:X", RandomOptions, slots={slot: "toy:mim"})
    with pytest.raises(ValueError, match=f"'bad', a {kind}, cannot bring a part for the slot '{slot}'"):
        check_component(component)
    check_component(Component(kind, "good", "", "x:X", CodesOptions, slots={"masker": "toy:mim"}))


def test_the_report_names_what_is_brought():
    match = registry().find("pixels", "target")
    assert component_lines(match)[-2:] == ["  brings:", "    head        more:dense"]
    assert component_values(match)["slots"] == {"head": "more:dense"}


def test_the_options_of_the_two_heads_differ():
    """Else the tests above would show nothing."""
    assert set(DenseOptions.model_fields) & set(MimOptions.model_fields) == {"norm"}
