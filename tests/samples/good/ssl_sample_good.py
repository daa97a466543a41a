"""What this distribution offers. Imports neither torch nor numpy."""

from __future__ import annotations

from ssl_sample_good_options import SpreadOptions, StripesOptions

from ssl_core.api import Component, hookimpl


@hookimpl
def register_maskers() -> list[Component]:
    return [
        Component(
            kind="masker",
            name="stripes",
            summary="Hides every other row or column of patches",
            target="ssl_sample_good_parts:Stripes",
            options=StripesOptions,
            references=("Nobody 2026",),
        )
    ]


@hookimpl
def register_evaluators() -> list[Component]:
    return [
        Component(
            kind="evaluator",
            name="spread",
            summary="How far the features of images lie apart",
            target="ssl_sample_good_parts:Spread",
            options=SpreadOptions,
        )
    ]
