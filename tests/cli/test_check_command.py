"""`ssl-plugins check`: the checks as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssl_core.cli.plugins import main

WRONG = Path(__file__).parents[1] / "conformance" / "wrong_parts.py"


def test_a_good_part(capsys):
    assert main(["check", "core:random"]) == 0
    out = capsys.readouterr().out
    assert "masker core:random: RandomMasker (" in out
    assert "  ok      a_resumed_run_is_the_same" in out
    assert out.splitlines()[-1].startswith("all is well: ")


def test_a_wrong_part(capsys):
    assert main(["check", "HidesAll", "--plugin", str(WRONG)]) == 2
    captured = capsys.readouterr()
    assert "  failed  hides_some_and_shows_some" in captured.out
    assert "          change: leave at least one patch visible" in captured.out
    assert captured.err.startswith("error: ")


def test_a_wrong_part_as_json(capsys):
    assert main(["check", "wrong_parts:TakesEverything", "--plugin", str(WRONG), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    (part,) = answer["parts"]
    assert part["part"] == "checkpoint_format wrong_parts:TakesEverything"
    states = {check["check"]: check["state"] for check in part["checks"]}
    assert states["strangers_are_not_recognised"] == "failed"
    assert states["can_be_imported"] == "ok"
    assert answer["failed"] == sum(state == "failed" for state in states.values())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "ssl-plugins check: which one? Give a part"),
        (["core:randm"], "no plugin and no part 'core:randm'."),
        (["vit"], "'vit' is ambiguous: backbone beit:vit, backbone core:vit"),
        (["random", "--kind", "maskr"], "--kind maskr: no such kind. Did you mean 'masker'?"),
        (["random", "--kind", "head"], "no plugin and no head 'random'."),
        (["beit", "--no-plugin", "beit"], "plugin 'beit' (ssl-vision 0.1.0) is disabled: switched off by the user"),
        (["beit", "ratio=1"], "ratio=1: options are for one part; name one of backbone beit:vit"),
        (["core:random", "ratoi=0.3"], "ratoi: no such option"),
    ],
)
def test_a_wrong_request(arguments, line, capsys):
    assert main(["check", *arguments]) == 2
    assert line in capsys.readouterr().err
