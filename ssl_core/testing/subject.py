"""Subject: the part that is checked, small, and everything that it needs around it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from ssl_core.config.validate import check_options, validate_options
from ssl_core.contracts.context import BuildContext
from ssl_core.errors import PluginError, SslError, UsageError, did_you_mean
from ssl_core.options import Options
from ssl_core.plugins.component import Component, Kind
from ssl_core.plugins.registry import Match, Registry
from ssl_core.testing.conformance import Request
from ssl_core.testing.source import file_of, place_of

SMALL: Mapping[str, Any] = {
    "width": 32,
    "embed_dim": 32,
    "depth": 2,
    "heads": 2,
    "num_heads": 2,
    "patch_size": 8,
    "vocab_size": 8,
    "code_width": 8,
    "hidden": 8,
    "hidden_dim": 16,
    "hidden_width": 16,
    "bottleneck": 8,
    "bottleneck_dim": 8,
    "blocks": 1,
    "out_dim": 16,
    "head_hidden_dim": 16,
    "head_bottleneck_dim": 8,
    "local_crops_number": 2,
    "block_size": 16,
    "outputs": 16,
    "prototypes": 16,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "images": 40,
    "iterations": 2,
    "epochs": 1,
    "steps": 2,
    "workers": 0,
}
"""Options by these names are set to these values, where a part has them and takes them: checks stay quick."""

IMAGE_SIZE = 32
"""Pixels of the images that parts are checked on."""

TRAIN_IMAGES = 40


class NotBuilt(Exception):
    """The part refused to be built with these options."""


@dataclass
class Subject:
    """One part under test.

    Attributes:
        match: the component and its plugin.
        registry: every plugin, for the parts that go with it.
        given: options that the author gave.
        leave_out: check -> why it cannot hold.
        cache: what several checks share (trial runs).
    """

    match: Match
    registry: Registry
    given: Mapping[str, Any] = field(default_factory=dict)
    leave_out: Mapping[str, str] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def component(self) -> Component:
        return self.match.component

    @property
    def kind(self) -> Kind:
        return self.component.kind

    @cached_property
    def target(self) -> Any:
        """The class, or the function that builds the part."""
        return self.component.load()

    @cached_property
    def described(self) -> str:
        """The part with its class and the line of its source, for messages."""
        name = f"{self.kind} {self.match.qualified}"
        try:
            return f"{name}: {self.target.__name__} ({place_of(self.target)})"
        except Exception:  # the check can_be_imported says what is wrong
            return f"{name}: {self.component.target}"

    @cached_property
    def files(self) -> frozenset[str]:
        """The files in which the part's class and its bases are written, without the engine's contracts."""
        if not inspect.isclass(self.target):
            return frozenset(filter(None, [file_of(self.target)]))
        own = [base for base in self.target.__mro__ if not base.__module__.startswith(("ssl_core.contracts", "torch"))]
        return frozenset(filter(None, map(file_of, own)))

    @cached_property
    def options(self) -> Options:
        """The part's options: given ones, and those of `SMALL` that it takes."""
        return small_options(self.component, {**self.match.settings, **self.given})

    def context(self, image_size: int = IMAGE_SIZE, **parts: Any) -> BuildContext:
        """Returns what the part may know when it is built."""
        names = {slot: f"stand-in {slot}" for slot in parts}
        return BuildContext(
            image_size=image_size,
            train_images=TRAIN_IMAGES,
            classes=("dark", "light"),
            parts=parts,
            names=names,
            registry=self.registry,
        )

    def build(self, context: BuildContext | None = None, seed: int = 0) -> Any:
        """Builds the part.

        Args:
            context: None = one with no other parts.
            seed: of its weights.

        Raises:
            NotBuilt: it refuses these options, or is no finished class.
        """
        context = context or self.context()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                return self.target(self.options, context)
            except (SslError, NotImplementedError) as error:
                raise NotBuilt(" ".join(str(error).split())) from error
            except TypeError as error:
                if "abstract" in str(error):
                    raise NotBuilt(str(error)) from error
                raise

    def refuse_unknown(self, names: Iterable[str]) -> None:
        """Refuses a check to be left out that does not exist."""
        for name in self.leave_out:
            if name not in names:
                raise UsageError(
                    f"leave_out: a {self.kind} has no check '{name}'.{did_you_mean(name, names)} "
                    f"Checks: {', '.join(names)}"
                )


def small_options(component: Component, given: Mapping[str, Any]) -> Options:
    """Returns options of a component that make it small.

    Raises:
        ConfigError: the given ones are wrong.
    """
    kept = dict(given)
    for name, value in SMALL.items():
        if name in component.options.model_fields and name not in given:
            options, _ = check_options(component.options, {**kept, name: value})
            if options is not None:
                kept[name] = value
    return validate_options(component.options, kept)


def find_subject(request: Request, registry: Registry) -> Subject:
    """Finds the part that a request names.

    Raises:
        PluginError: no such part, several of that name, or its plugin is broken.
        ConfigError: the part does not take the request's options.
    """
    if request.kind is not None:
        return _subject(registry.find(request.name, request.kind), registry, request)
    prefix, _, short = request.name.rpartition(":")
    found = [
        match
        for match in registry.components()
        if prefix in ("", match.plugin.name) and short in (match.component.name, *match.component.names)
    ]
    kinds = sorted({match.component.kind for match in found})
    if len(kinds) > 1:
        raise PluginError(f"'{request.name}' is the name of a {' and a '.join(kinds)}; say which kind: {kinds[0]}")
    return _subject(registry.find(request.name, *kinds), registry, request)


def _subject(match: Match, registry: Registry, request: Request) -> Subject:
    subject = Subject(match, registry, request.options, request.leave_out)
    if request.options:
        subject.options  # noqa: B018  # refuses wrong ones at once
    return subject
