"""Reads the Markdown files of the project: their code blocks, tables, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [path for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md") for path in ROOT.glob(name)]
    + list((ROOT / "docs").rglob("*.md"))
)

_FENCE = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        language: `bash`, `python`, `toml`, ...; "" for none.
        file: where a reader is told to save it, as in "```python file=checkerboard.py"; None = nowhere.
        text: its lines.
    """

    language: str
    file: str | None
    text: str


def blocks(path: Path) -> list[Block]:
    """Returns the code blocks of a document, in order."""
    return [Block(*match.groups()) for match in _FENCE.finditer(path.read_text())]


def prose(path: Path) -> str:
    """Returns a document without its code blocks."""
    return _FENCE.sub("", path.read_text())


def links(path: Path) -> list[str]:
    """Returns the targets of all links and pictures."""
    return _LINK.findall(prose(path))


def anchors(path: Path) -> set[str]:
    """Returns the fragments that GitHub makes of the headings."""
    headings = _HEADING.findall(prose(path))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_after(path: Path, heading: str) -> Iterator[list[str]]:
    """Yields the cells of each row of the first table below a heading, without its head."""
    text = prose(path).partition(f"{heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None, f"{path}: no table below '{heading}'"
    for row in table[0].splitlines()[2:]:
        yield [cell.strip() for cell in row.strip("|").split("|")]


def code_spans(text: str) -> list[str]:
    """Returns what stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", text)
