"""Every promise in SECURITY.md and in the table of faults names a test, and that test exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (.+) \| `(.+?)::(.+?)` \|$", re.MULTILINE)


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/faults.md"])
def test_every_promise_has_its_test(document):
    text = (ROOT / document).read_text()
    rows = ROW.findall(text)
    assert len(rows) == len(re.findall(r"^\| (?!promise|fault)", text, re.MULTILINE)) > 12
    for promise, file, name in rows:
        tree = ast.parse((ROOT / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, promise


def test_every_security_test_is_a_promise():
    text = (ROOT / "SECURITY.md").read_text()
    tree = ast.parse((ROOT / "tests" / "faults" / "test_security.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert f"::{node.name}`" in text
