"""Request: what a user asked for, before anything is looked up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_core.errors import UsageError
from ssl_core.plugins.component import SLOT_KINDS

SLOT_FLAGS = ("backbone", "tokenizer", "masker", "head", "transform")
"""Slots with a flag, and a keyword in Python, of their own."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        method: its name; None = the config file names it.
        slots: slot -> name of a part.
        data: a path or the name of a data set; None = the config file's, or the demonstration.
        settings: dotted option -> value; text is read as YAML. `method`, a slot or `data` may stand here too.
        config: a YAML file whose values lie under the ones above.
        values: nested values that lie under those of the file (a config.yaml that is already read).
        origin: what `RunConfig.sources` calls the values that are given here.
    """

    method: str | None = None
    slots: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None
    values: Mapping[str, Any] | None = None
    origin: str = "command line"

    @classmethod
    def from_keywords(
        cls,
        method: str | None = None,
        *,
        data: str | os.PathLike[str] | None = None,
        config: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        **slots: str | None,
    ) -> Request:
        """Makes the request of a call from Python.

        Args:
            method: its name.
            data: a path or the name of a data set.
            config: a YAML file.
            settings: {"train.epochs": 3}, or nested {"train": {"epochs": 3}}.
            slots: `backbone`, `tokenizer`, `masker`, `head`, `transform`: name of a part; None = the method's own.

        Raises:
            UsageError: another keyword.
        """
        for slot in slots:
            if slot not in SLOT_KINDS:
                allowed = ", ".join(("method", *SLOT_FLAGS, "data", "config", "settings"))
                raise UsageError(f"unknown keyword '{slot}'; allowed: {allowed}. Options go into settings={{...}}.")
        return cls(
            method=method,
            slots={slot: name for slot, name in slots.items() if name is not None},
            data=None if data is None else os.fspath(data),
            settings=dict(settings or {}),
            config=None if config is None else Path(config),
            origin="arguments",
        )
