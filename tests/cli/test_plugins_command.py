from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_core.cli.plugins import main
from ssl_core.plugins.component import API_VERSION
from ssl_core.plugins.registry import Registry

PLUGIN = ["--plugin", str(Path(__file__).with_name("toy_command.py"))]


def ask(capsys, *arguments: str) -> str:
    assert main([*arguments, *PLUGIN]) == 0
    return capsys.readouterr().out


def test_list_shows_every_plugin_and_its_parts(capsys):
    text = ask(capsys, "list")
    assert "core  (ssl-vision " in text
    assert "  dataset            folder, shards, textures" in text
    assert "toy_command  (" in text
    assert "  backbone           net_small, net_large" in text


def test_list_shows_what_is_wrong(capsys, monkeypatch):
    monkeypatch.setenv("SSL_DISABLE_PLUGINS", "beit")
    assert "  disabled: switched off by the user" in ask(capsys, "list")


def test_list_as_json(capsys):
    plugins = {plugin["name"]: plugin for plugin in json.loads(ask(capsys, "list", "--json"))["plugins"]}
    assert plugins["core"]["state"] == "ok"
    assert plugins["toy_command"]["components"]["method"] == ["guess"]
    assert len(plugins["toy_command"]["sha256"]) == 64
    assert plugins["core"]["distribution"] == "ssl-vision"
    assert plugins["core"]["version"] == importlib.metadata.version("ssl-vision")
    assert plugins["toy_command"]["distribution"] == PLUGIN[1]
    assert plugins["toy_command"]["version"] is None


@pytest.mark.parametrize("name", ["net", "net_large", "toy_command:net"])
def test_info_of_a_part(capsys, name):
    lines = ask(capsys, "info", name).splitlines()
    assert lines[0] == "backbone toy_command:net: a net for tests"
    assert "  provides    cls" in lines
    assert "  references  Nobody 2020" in lines
    assert "    backbone.width=8                   whole number, at least 1, at most 512" in lines
    assert "        Features of a patch." in lines


def test_info_of_a_method(capsys):
    lines = ask(capsys, "info", "guess").splitlines()
    assert "    backbone    toy_command:net" in lines
    assert "    train.epochs=3" in lines
    assert "  recipe tiny (images of at most 64 px, net_small): for dots" in lines
    assert "    data.image_size=32" in lines


def test_info_of_a_plugin_shows_all_its_parts(capsys):
    text = ask(capsys, "info", "toy_command")
    assert text.startswith("toy_command  (")
    for part in ("backbone toy_command:net:", "dataset toy_command:dots:", "method toy_command:guess:"):
        assert part in text


def test_info_as_json(capsys):
    answer = json.loads(ask(capsys, "info", "guess", "--json"))
    (method,) = answer["components"]
    assert method["slots"]["backbone"] == "toy_command:net"
    assert method["recipes"][0]["settings"] == {"data.image_size": 32}
    (net,) = json.loads(ask(capsys, "info", "net", "--json"))["components"]
    assert (net["provides"], net["requires"], net["references"]) == (["cls"], [], ["Nobody 2020"])
    assert (net["plugin"], net["distribution"], net["version"], net["api_version"]) == (
        "toy_command",
        PLUGIN[1],
        None,
        API_VERSION,
    )
    assert net["options"][1] == {
        "name": "backbone.width",
        "type": "whole number",
        "value": 8,
        "origin": "default",
        "bounds": "at least 1, at most 512",
        "help": "Features of a patch.",
    }


def test_info_of_an_evaluator_has_its_protocols(capsys):
    (linear,) = json.loads(ask(capsys, "info", "benchmarks:linear", "--json"))["components"]
    protocols = {protocol["name"]: protocol["settings"] for protocol in linear["protocols"]}
    assert protocols["mae"]
    assert "  protocol mae: " in ask(capsys, "info", "benchmarks:linear")


@pytest.mark.parametrize("part", ["dataset", "method", "masker", "evaluator", "checkpoint_format"])
def test_every_installed_part_is_described_in_full(capsys, part):
    for match in Registry.load().components(part):
        components = json.loads(ask(capsys, "info", match.qualified, "--json"))["components"]
        found = next(found for found in components if found["kind"] == part)
        assert found["summary"]
        assert [option["name"] for option in found["options"] if not option["help"] or not option["type"]] == []


def test_doctor_loads_every_part(capsys):
    assert main(["doctor", "toy_command", *PLUGIN]) == 2
    captured = capsys.readouterr()
    assert "  WRONG  backbone toy_command:net: toy_command:Net" in captured.out
    assert "  WRONG  transform toy_command:cut: no_such_module:Cut" in captured.out
    plugin = f"plugin 'toy_command' ({PLUGIN[1]})"
    lines = captured.err.splitlines()
    assert lines[0].startswith(f"error: backbone toy_command:net of {plugin}: Net ({PLUGIN[1]}:")
    assert lines[0].endswith("does not derive from Backbone, the contract of a backbone")
    expected = f"error: transform toy_command:cut of {plugin}: cannot load no_such_module:Cut: ModuleNotFoundError"
    assert any(line.startswith(expected) for line in lines)


def test_doctor_of_a_good_plugin(capsys, tmp_path):
    (tmp_path / "healthy.py").write_text(
        "from ssl_core.api import Component, hookimpl\n"
        "@hookimpl\ndef register_heads():\n    return [Component('head', 'h', '', 'json:dumps')]\n"
    )
    assert main(["doctor", "healthy", "--plugin", str(tmp_path / "healthy.py")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["  ok     head healthy:h: json:dumps", "healthy: all is well"]


def test_doctor_of_a_disabled_plugin(capsys):
    assert main(["doctor", "beit", "--no-plugin", "beit"]) == 2
    assert capsys.readouterr().err == "error: plugin 'beit' (ssl-vision 0.1.0) is disabled: switched off by the user\n"


def test_the_reference_as_json(capsys):
    assert main(["reference", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reference"].startswith("# ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["reference", "masker"], "ssl-plugins reference: 'masker' is not expected. See ssl-plugins --help"),
        (["lst"], "ssl-plugins: no command 'lst'. Did you mean 'list'? Allowed: list, info, doctor"),
        (["info"], "ssl-plugins info: which one? See ssl-plugins list"),
        (["info", "net_lage"], "no plugin and no part 'net_lage'. Did you mean 'net_large'? See ssl-plugins list"),
        (["doctor", "toy_comand"], "no plugin 'toy_comand'. Did you mean 'toy_command'? Installed: "),
        (["list", "core"], "ssl-plugins list takes no name. Did you mean 'ssl-plugins info core'?"),
        (["info", "core", "--al"], "ssl-plugins info: '--al' is not expected. See ssl-plugins --help"),
    ],
)
def test_a_wrong_command(arguments, line, capsys):
    assert main([*arguments, *PLUGIN]) == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")


def test_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: ssl-plugins COMMAND")


def test_a_reader_that_leaves_early():
    code = "import sys; from ssl_core.cli.plugins import main; sys.exit(main(['info', 'core']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
