"""Settings of the method `dvae` as data. Imports no torch."""

from __future__ import annotations

DVAE_SETTINGS: dict = {}
DVAE_RECIPES: tuple = ()
