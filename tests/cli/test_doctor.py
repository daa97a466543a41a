"""`ssl-plugins doctor` names the plugin, its distribution, and the line of what is wrong."""

from __future__ import annotations

import importlib.metadata
import json
import sys

import pytest

from ssl_core.cli.plugins import main

START = "from ssl_core.api import Component, Mask, Masker, hookimpl\n"
HOOK = "@hookimpl\ndef register_maskers():\n    return [Component('masker', 'm', 's', 'dist_sick:M')]\n"
CLASS = "class M(Masker):\n    def __init__(self, options, context):\n        pass\n"
SAMPLE = "    def sample(self, grid, rng, batch_rng):\n        pass\n"
MOST = "    def max_hidden(self, grid):\n        return 1\n"


@pytest.fixture
def sick(tmp_path, monkeypatch):
    """Returns a function that installs a plugin `sick` of the distribution `dist-sick 1.0`, and the file's path."""
    found = importlib.metadata.entry_points

    def install(code: str) -> str:
        file = tmp_path / "dist_sick.py"
        file.write_text(code)
        folder = tmp_path / "dist_sick-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: dist-sick\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("[ssl_core]\nsick = dist_sick\n")
        points = importlib.metadata.PathDistribution(folder).entry_points
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda **k: points if k["group"] == "ssl_core" else found(**k)
        )
        return str(file)

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    sys.modules.pop("dist_sick", None)


@pytest.mark.parametrize(
    ("code", "line", "words"),
    [
        (f"{START}\nimport no_such_module\n", 3, "broken: import failed: ModuleNotFoundError: No module named"),
        (f"{START}\nx = (\n", 3, "broken: import failed: SyntaxError: '(' was never closed"),
        (f"{START}Component(1)\n", 2, "broken: import failed: TypeError"),
        (START + HOOK.replace("maskers", "masker"), 2, "broken: unknown hook 'register_masker'. Did you mean"),
        (START + HOOK.replace("maskers()", "maskers(a)"), 2, "{'a'} are declared in the hookimpl but can not be found"),
        (START + HOOK.replace("[Component", "[str"), 4, "broken: registration failed: TypeError"),
        (START + HOOK.replace("'masker'", "'head'"), 2, "register_maskers() returned 'm' of kind 'head'"),
        (START + HOOK.replace("M')", "M', api_version=9)"), 2, "incompatible: 'm' was written for api version 9"),
        (START + HOOK + CLASS + SAMPLE, 5, "does not define max_hidden(self, grid)"),
        (START + HOOK + CLASS.replace("(Masker)", ""), 5, "does not derive from Masker, the contract of a masker"),
        (START + HOOK + CLASS.replace(", context", "") + SAMPLE + MOST, 5, "cannot be called as M(options, context)"),
        (START + HOOK + CLASS + SAMPLE.replace(", batch_rng", "") + MOST, 8, "sample(self, grid, rng) ("),
        (START + HOOK.replace(":M'", ":N'") + CLASS, None, "cannot load dist_sick:N: AttributeError"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(sick, code, line, words, capsys):
    file = sick(code)
    assert main(["doctor", "sick", "--json"]) == 2
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    (problem,) = answer["problems"]
    assert answer["exit_code"] == 2
    assert words in problem
    assert "plugin 'sick' (dist-sick 1.0)" in problem
    assert line is None or f"({file}:{line})" in problem
    assert "Traceback" not in captured.err
    assert f"error: {problem}" in captured.err


def test_a_healthy_plugin(sick, capsys):
    sick(START + HOOK + CLASS + SAMPLE + MOST)
    assert main(["doctor", "sick", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["problems"] == []
    assert answer["plugins"][0]["state"] == "ok"


def test_without_a_name_all_plugins_are_examined(capsys):
    assert main(["doctor", "--safe", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"beit", "core", "tokenizers"} <= {plugin["name"] for plugin in found["plugins"]}
    assert found["problems"] == []
