"""Plugins that are good, and every way in which one can be bad."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from ssl_core.errors import PluginError
from ssl_core.plugins.loader import Plugin
from ssl_core.plugins.registry import Registry

GOOD = """
from ssl_core.api import Component, hookimpl

@hookimpl
def register_maskers():
    return [Component("masker", "{name}", "a masker", "{name}:Masker")]

class Masker:
    pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Returns a function that installs a plugin as pip would, but in a folder of the test."""
    found = importlib.metadata.entry_points
    points: list[importlib.metadata.EntryPoint] = []
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: points if group == "ssl_core" else found(group)
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SSL_DISABLE_PLUGINS", raising=False)
    before = set(sys.modules)

    def add(name: str, code: str | None, distribution: str | None = None, version: str = "1.0") -> None:
        distribution = distribution or f"dist-{name}"
        module = f"{distribution}_{name}".replace("-", "_")
        if code is not None:
            (tmp_path / f"{module}.py").write_text(code)
        folder = tmp_path / f"{distribution}-{version}.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        with (folder / "entry_points.txt").open("a") as file:
            file.write(f"[ssl_core]\n{name} = {module}\n" if file.tell() == 0 else f"{name} = {module}\n")
        installed = importlib.metadata.PathDistribution(folder)
        points[:] = [point for point in points if point.dist.name != distribution]
        points.extend(installed.entry_points.select(group="ssl_core"))

    yield add
    for module in set(sys.modules) - before:
        del sys.modules[module]


def states(registry: Registry) -> dict[str, str]:
    return {plugin.name: plugin.state for plugin in registry.plugins}


def reason(registry: Registry, name: str) -> str:
    return next(plugin.reason for plugin in registry.plugins if plugin.name == name)


def test_good_plugins_offer_their_parts(install):
    install("one", GOOD.format(name="one"))
    install("two", GOOD.format(name="two"))
    registry = Registry.load()
    assert states(registry) == {"one": "ok", "two": "ok"}
    assert [plugin.distribution for plugin in registry.plugins] == ["dist-one 1.0", "dist-two 1.0"]
    assert registry.find("two").qualified == "two:two"


@pytest.mark.parametrize(
    ("code", "state", "why"),
    [
        ("raise RuntimeError('boom')", "broken", "import failed: RuntimeError: boom ("),
        ("import sys; sys.exit(3)", "broken", "import failed: SystemExit: 3"),
        ("import no_such_package", "broken", "No module named 'no_such_package'"),
        (None, "broken", "No module named"),
        (
            GOOD.replace("maskers", "maskerz"),
            "broken",
            "unknown hook 'register_maskerz'. Did you mean 'register_maskers'?",
        ),
        (GOOD.replace("maskers()", "maskers(a)"), "broken", "{'a'} are declared in the hookimpl but can not be found"),
        (GOOD.replace('"masker"', '"head"'), "broken", "register_maskers() returned 'bad' of kind 'head'"),
        (GOOD.replace("return [", "return (").replace('")]', '"))'), "broken", "must return a list of Component"),
        (GOOD.replace("return [Component", "return [str").replace(")]", ")] #"), "broken", "registration failed:"),
        (GOOD.replace("return [", "return 2 * ["), "broken", "register_maskers() returned 'bad' twice"),
        (
            GOOD.replace('Masker")', 'Masker", api_version=9)'),
            "incompatible",
            "'bad' was written for api version 9, this is",
        ),
        (
            GOOD.replace('Masker")', 'Masker", name_option="x")'),
            "broken",
            "'bad' has no option 'x' to receive its name",
        ),
        (GOOD.replace('Masker")', 'Masker", slots={{"hat": "a"}})'), "broken", "'bad' has an unknown slot 'hat'"),
    ],
)
def test_a_bad_plugin_hurts_no_other(install, code, state, why):
    install("bad", code and code.format(name="bad"))
    install("good", GOOD.format(name="good"))
    registry = Registry.load()
    assert states(registry) == {"bad": state, "good": "ok"}
    assert why in reason(registry, "bad")
    assert "\n" not in reason(registry, "bad")
    assert [match.qualified for match in registry.components()] == ["good:good"]
    with pytest.raises(PluginError, match=f"the plugin 'bad' \\(dist-bad 1.0\\) is {state}: "):
        registry.find("bad:bad", "masker")


def test_an_option_called_name_is_refused(install):
    code = "from ssl_core.api import Options\nclass O(Options):\n    name: str = ''\n" + GOOD
    install("bad", code.format(name="bad").replace('Masker")', 'Masker", options=O)'))
    assert "'bad' has an option 'name'" in reason(Registry.load(), "bad")


def test_events_of_a_refused_plugin_are_never_called(install):
    code = GOOD.replace('Masker")', 'Masker", api_version=9)') + "\n@hookimpl\ndef run_ended(out, status):\n    1 / 0\n"
    install("bad", code.format(name="bad"))
    Registry.load().hook.run_ended(out=Path(), status="finished")


def test_events_of_a_good_plugin_are_called(install):
    code = GOOD + "\nseen = []\n@hookimpl\ndef run_ended(status):\n    seen.append(status)\n"
    install("good", code.format(name="good"))
    Registry.load().hook.run_ended(out=Path(), status="finished")
    assert sys.modules["dist_good_good"].seen == ["finished"]


def test_the_second_plugin_of_a_name_is_a_duplicate(install):
    install("same", GOOD.format(name="first"), distribution="aaa")
    install("same", GOOD.format(name="second"), distribution="bbb")
    registry = Registry.load()
    assert [(plugin.distribution, plugin.state) for plugin in registry.plugins] == [
        ("aaa 1.0", "ok"),
        ("bbb 1.0", "duplicate"),
    ]
    assert registry.plugins[1].reason == "the name 'same' is taken by aaa 1.0"
    assert [match.qualified for match in registry.components()] == ["same:first"]


def test_a_disabled_plugin_is_not_even_imported(install, monkeypatch):
    install("bad", "raise RuntimeError('boom')")
    install("good", GOOD.format(name="good"))
    assert states(Registry.load(disabled=["bad"])) == {"bad": "disabled", "good": "ok"}
    monkeypatch.setenv("SSL_DISABLE_PLUGINS", "good, bad, never-heard-of")
    registry = Registry.load()
    assert states(registry) == {"bad": "disabled", "good": "disabled"}
    with pytest.raises(PluginError, match=r"'good' .* is disabled: switched off by the user"):
        registry.find("good:good")


def test_disabling_a_plugin_that_is_not_there(install):
    install("good", GOOD.format(name="good"))
    with pytest.raises(PluginError, match=r"--no-plugin goood: no such plugin. Did you mean 'good'\?"):
        Registry.load(disabled=["goood"])


# Single files


def test_a_single_file(install, tmp_path):
    file = tmp_path / "my_masker.py"
    file.write_text(GOOD.format(name="my_masker"))
    registry = Registry.load(files=[file])
    match = registry.find("my_masker")
    assert match.qualified == "my_masker:my_masker"
    assert match.component.load().__name__ == "Masker"
    assert match.plugin.distribution == str(file)
    assert len(match.plugin.sha256) == 64
    Registry.load(files=[file])  # a second time in one process


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("bad_file.py", "1 / 0", "import failed: ZeroDivisionError: division by zero"),
        ("random.py", GOOD, "a module named 'random' exists already. Rename the file."),
        ("notes.txt", GOOD, "not a Python file; its name must end in .py"),
        ("good.py", GOOD, "the name 'good' is taken by dist-good 1.0. Rename the file."),
        (None, None, "no such file"),
    ],
)
def test_a_bad_single_file_stops_at_once(install, tmp_path, name, code, why):
    install("good", GOOD.format(name="good"))
    (tmp_path / "files").mkdir()
    file = tmp_path / "files" / (name or "missing.py")
    if code is not None:
        file.write_text(code)
    with pytest.raises(PluginError) as caught:
        Registry.load(files=[file])
    assert str(caught.value).startswith(f"--plugin {file}: {why}")
    assert file.stem == "random" or file.stem not in sys.modules


def test_plugins_are_described_by_values():
    assert Plugin("a", "b 1", "ok").components == ()
