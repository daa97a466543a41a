"""docs/mae.md: its parts and recipes are those of the methods."""

from __future__ import annotations

from documents import ROOT, code_spans, table_after

from ssl_core.plugins.registry import Registry

DOCUMENT = ROOT / "docs/mae.md"


def test_its_parts_are_those_of_the_methods():
    registry = Registry.load()
    rows = list(table_after(DOCUMENT, "# MAE and SimMIM"))
    for column, name in ((1, "mae"), (2, "simmim")):
        stated = {code_spans(row[0])[0]: code_spans(row[column])[0] for row in rows}
        assert stated == dict(registry.find(name, "method").component.slots)


def test_its_recipes_are_those_of_mae():
    method = Registry.load().find("mae", "method").component
    rows = list(table_after(DOCUMENT, "## Recipes"))
    assert {name for row in rows for name in code_spans(row[0])} == {recipe.name for recipe in method.recipes}
    by_name = {name for row in rows if row[1] == "by name only" for name in code_spans(row[0])}
    assert by_name == {recipe.name for recipe in method.recipes if recipe.when is None}
