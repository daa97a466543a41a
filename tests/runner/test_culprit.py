"""A third party's part that gives the wrong shape ends a run with an error that names part, plugin and distribution."""

from __future__ import annotations

import pytest
from toy_runs import train

from ssl_core.errors import SslError
from ssl_core.plugins.registry import Registry
from ssl_core.runner import culprit
from ssl_core.testing import stand_ins
from ssl_core.testing.stand_in_plugin import with_stand_ins

CODE = """
from ssl_core.api import Component, hookimpl
from ssl_core.testing import stand_ins

class Wide(stand_ins.StandInBackbone):
    def encode(self, tokens, grid, ids=None, layers=()):
        found = super().encode(tokens, grid, ids, layers)
        return type(found)(found.patches[:, :-1], found.summary, found.prefix, grid)

class Raises(stand_ins.StandInBackbone):
    def embed(self, pixels):
        if len(pixels) > 1:
            raise RuntimeError("no such kernel")
        return super().embed(pixels)

class Shifted(stand_ins.BrightnessCodes):
    def encode(self, pixels):
        return super().encode(pixels) + 8

class Floats(stand_ins.BrightnessCodes):
    def encode(self, pixels):
        return super().encode(pixels).float()

class Short(stand_ins.BrightnessCodes):
    def encode(self, pixels):
        return super().encode(pixels)[:, :-1]

class Flat(stand_ins.HalfMasker):
    def sample(self, grid, rng, batch_rng):
        mask = super().sample(grid, rng, batch_rng)
        return type(mask)(mask.hidden[0])

class Pair(stand_ins.CodeHead):
    def loss(self, features, targets, mask):
        return {"loss": super().loss(features, targets, mask)["loss"].expand(2)}

def parts(kind, *classes):
    return [Component(kind, part.__name__, "", f"acme:{part.__name__}") for part in classes]

@hookimpl
def register_backbones():
    return parts("backbone", Wide, Raises)

@hookimpl
def register_tokenizers():
    return parts("tokenizer", Shifted, Floats, Short)

@hookimpl
def register_maskers():
    return parts("masker", Flat)

@hookimpl
def register_heads():
    return parts("head", Pair)
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    file = tmp_path_factory.mktemp("acme") / "acme.py"
    file.write_text(CODE)
    return with_stand_ins(Registry.load(files=[file]))


@pytest.mark.parametrize(
    ("slot", "name", "words"),
    [
        ("backbone", "Wide", "encode() gives Features.patches of shape (8, 15, 16), not (8, 16, 16)"),
        ("backbone", "Raises", "RuntimeError: no such kernel"),
        ("tokenizer", "Shifted", "its vocab_size is 8"),
        ("tokenizer", "Floats", "gives targets float32 (8, 16), not int64 (8, 16)"),
        ("tokenizer", "Short", "gives 12 targets"),
        ("masker", "Flat", "must be a numpy bool array of shape (1, 4, 4)"),
        ("head", "Pair", "loss() gives 'loss' of shape (2,), not a 0-d tensor"),
    ],
)
def test_the_error_names_part_plugin_and_distribution(slot, name, words, registry, tmp_path):
    plugin = next(plugin for plugin in registry.plugins if plugin.name == "acme")
    with pytest.raises(SslError) as caught:
        train("masked", tmp_path / "run", registry, **{slot: f"acme:{name}"})
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert words in message
    assert f"{slot} 'acme:{name}' of plugin 'acme' ({plugin.distribution}), {name} ({plugin.distribution}:" in message
    assert caught.value.hint == f"ssl-plugins check acme:{name} --plugin {plugin.distribution}"


def test_one_process_of_several_calls_no_part_again(monkeypatch):
    """A part may talk to the others, which do something else by then."""
    monkeypatch.setattr(culprit.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(culprit.dist, "get_world_size", lambda: 2)
    assert list(culprit._broken_promises("a method that is not called", "a batch")) == []  # pyright: ignore


def test_a_bug_of_our_own_stays_one(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(stand_ins.CodeHead, "loss", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train("masked", tmp_path / "run", registry)
