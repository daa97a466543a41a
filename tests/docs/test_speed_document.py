"""docs/benchmarks.md: what the table of goals says was measured is in the results that it names."""

from __future__ import annotations

import json
import re

import pytest
from documents import ROOT, links, table_after

DOCUMENT = ROOT / "docs" / "benchmarks.md"
_FIGURE = re.compile(r"(\d\.(\d+)) \+- (\d\.\d+)(: missed|: met)?")


@pytest.fixture(scope="module")
def measured() -> list[dict]:
    files = [DOCUMENT.parent / link for link in links(DOCUMENT) if link.endswith(".json")]
    return [line for file in files for line in json.loads(file.read_text())["rows"] if line["ratio"] is not None]


def test_every_ratio_beside_a_goal_was_measured(measured):
    found = [match for row in table_after(DOCUMENT, "### Goals") for match in _FIGURE.finditer(row[-1])]
    assert len(found) > 8
    for match in found:
        ratio, digits, spread, verdict = match[1], len(match[2]), match[3], match[4]
        lines = [
            line
            for line in measured
            if (f"{line['ratio']:.{digits}f}", f"{line['spread']:.{digits}f}") == (ratio, spread)
        ]
        assert lines, f"{match[0]} is in no row"
        if verdict:
            assert any(line["met"] == (verdict == ": met") for line in lines), match[0]


def test_results_hold_the_command_that_made_them_and_judge_their_goals():
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        found = json.loads(file.read_text())
        assert found["command"].startswith("ssl-bench ")
        for line in found["rows"]:
            judged = line["ratio"] is not None and line["goal"] is not None
            assert line["met"] == (line["ratio"] <= line["goal"] if judged else None), line["name"]
