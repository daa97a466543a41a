"""It was written for contracts of the future."""

from __future__ import annotations

from ssl_core.api import API_VERSION, Component, hookimpl


@hookimpl
def register_maskers() -> list[Component]:
    return [
        Component(
            "masker", "future", "Masks of the future", "ssl_sample_incompatible:Future", api_version=API_VERSION + 1
        )
    ]


class Future:
    pass
