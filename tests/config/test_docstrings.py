from __future__ import annotations

from pydantic import Field

from ssl_core.api import Options
from ssl_core.config.docstrings import option_help
from ssl_core.config.sections import SECTIONS


class ParentOptions(Options):
    """A parent."""

    first: int = 1
    """The first,
    in two lines."""
    silent: int = 2
    changed: int = 3
    """Of the parent."""


class ChildOptions(ParentOptions):
    changed: int = 4
    """Of the child."""
    described: int = Field(5, description="In its field.")


def test_the_string_under_a_field_is_its_help():
    assert option_help(ChildOptions) == {
        "first": "The first, in two lines.",
        "changed": "Of the child.",
        "described": "In its field.",
    }


def test_a_class_without_a_file_has_no_help():
    made = type("MadeOptions", (Options,), {"__annotations__": {"x": int}, "x": 1})
    assert option_help(made) == {}


def test_every_option_of_the_engine_has_help():
    for options in SECTIONS.values():
        assert option_help(options).keys() == options.model_fields.keys()
