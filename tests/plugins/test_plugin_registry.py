"""From a name to the part that it means."""

from __future__ import annotations

import pluggy
import pytest

from ssl_core.api import Component, Options
from ssl_core.errors import PluginError, UnknownPartError
from ssl_core.plugins import hookspecs
from ssl_core.plugins.loader import Plugin
from ssl_core.plugins.registry import Registry


class SizeOptions(Options):
    model: str = "small"


def answers(name: str) -> bool:
    return name.startswith("giant")


def make(*plugins: tuple[str, list[Component]]) -> Registry:
    manager = pluggy.PluginManager(hookspecs.NAMESPACE)
    manager.add_hookspecs(hookspecs)
    return Registry([Plugin(name, f"{name} 1", "ok", components=tuple(parts)) for name, parts in plugins], manager)


def masker(name: str, **keywords) -> Component:
    return Component("masker", name, "", "x:X", **keywords)


FAMILY = Component(
    "backbone",
    "vit",
    "",
    "x:X",
    SizeOptions,
    names=("small", "large"),
    name_option="model",
    answers=f"{__name__}:answers",
)


def test_a_short_name_and_a_full_one():
    registry = make(("a", [masker("block")]))
    assert registry.find("block", "masker").qualified == "a:block"
    assert registry.find("a:block", "masker").qualified == "a:block"


def test_an_ambiguous_name_lists_both():
    registry = make(("a", [masker("block")]), ("b", [masker("block")]))
    with pytest.raises(PluginError, match=r"masker 'block' is ambiguous: a:block, b:block. Write one of them in full."):
        registry.find("block", "masker")
    assert registry.find("b:block", "masker").plugin.name == "b"
    assert registry.find("block", "masker", prefer="b:block").plugin.name == "b"
    assert registry.names("masker") == ["a:block", "b:block"]


def test_an_ambiguous_name_is_one_only_within_its_kind():
    registry = make(("a", [masker("x")]), ("b", [Component("head", "x", "", "x:X")]))
    assert registry.find("x", "head").plugin.name == "b"


def test_a_name_of_a_family_sets_its_option():
    registry = make(("a", [FAMILY]))
    assert registry.find("large", "backbone").settings == {"model": "large"}
    assert registry.find("a:large", "backbone").settings == {"model": "large"}
    assert registry.find("a:vit", "backbone").settings == {}
    assert registry.names("backbone") == ["small", "large"]


def test_a_listed_name_goes_before_an_answer():
    registry = make(("a", [FAMILY]), ("b", [Component("backbone", "giant", "", "x:X")]))
    assert registry.find("giant", "backbone").qualified == "b:giant"
    assert registry.find("giant_2", "backbone").settings == {"model": "giant_2"}


def test_a_broken_answer_spoils_no_other_search():
    bad = Component("backbone", "bad", "", "x:X", answers="no_such_module:function")
    assert make(("a", [bad]), ("b", [FAMILY])).find("giant_2", "backbone").plugin.name == "b"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("blok", "unknown masker 'blok'. Did you mean 'block'? Allowed: block, grid."),
        ("aa:block", "unknown masker 'aa:block'. Did you mean 'a:block'? Allowed: block, grid."),
        ("zzz", "unknown masker 'zzz'. Allowed: block, grid."),
        ("large", "'large' is of kind backbone, not masker"),
    ],
)
def test_an_unknown_name(name, line):
    with pytest.raises(UnknownPartError) as caught:
        make(("a", [masker("block"), masker("grid"), FAMILY])).find(name, "masker")
    assert str(caught.value) == line


def test_an_unknown_name_tells_of_plugins_that_were_not_loaded():
    good = make(("a", [masker("block")]))
    registry = Registry([*good.plugins, Plugin("b", "b 1", "broken", "boom")], _manager())
    with pytest.raises(UnknownPartError, match=r"Allowed: block. Not loaded: 'b', see `ssl-plugins list`."):
        registry.find("spiral", "masker")


def test_a_part_whose_code_is_missing():
    with pytest.raises(PluginError, match="masker 'm': cannot import no_such_module:X: No module named"):
        Component("masker", "m", "", "no_such_module:X").load()
    with pytest.raises(PluginError, match="cannot import json:Nothing: module 'json' has no attribute"):
        Component("masker", "m", "", "json:Nothing").load()


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.NAMESPACE)
    manager.add_hookspecs(hookspecs)
    return manager
