"""What a person is told about when a recipe applies."""

from __future__ import annotations

import pytest

from ssl_core.api import Recipe, Registry, When
from ssl_core.cli.plugin_report import when_text


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (When(), "always"),
        (None, "by name only"),
        (
            When(image_size=(161, 1_000_000), backbones=("vit_large", "vit_huge")),
            "161 px or more, vit_large or vit_huge",
        ),
        (When(image_size=(1, 40), demonstration=True), "the demonstration, images of 1 to 40 px"),
    ],
)
def test_in_words(when, words):
    assert when_text(Recipe("r", "", {}, when)).endswith(words)


def test_every_recipe_says_by_name_only_or_can_apply():
    seen = set()
    for match in Registry.load().components():
        for recipe in match.component.recipes:
            if recipe.when is None:
                seen.add(recipe.name)
                assert when_text(recipe) == "by name only"
            else:
                assert recipe.when.image_size[0] < recipe.when.image_size[1], (match.qualified, recipe.name)
    assert {"imagenet-base-1600", "cpu-32", "scratch"} <= seen
