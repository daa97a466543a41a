"""How options look in a help."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from ssl_core.cli.option_table import type_name


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "whole number or none"),
        (Literal["a", "b"], "a | b"),
        (tuple[float, float], "2 numbers"),
        (tuple[Annotated[int, Field(ge=1)], ...], "list of whole numbers"),
        (tuple[Literal["mean", "cls"], ...], "list of (mean | cls)"),
        (Literal["all"] | tuple[int | Literal["final"], ...], "all or list of (whole number or final)"),
    ],
)
def test_types_in_words(annotation, words):
    assert type_name(annotation) == words
