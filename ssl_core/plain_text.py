"""Text of unknown origin, such as a file name, made safe for a terminal, a line of a log, and Markdown."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"([\\`*_\[\]<>|#&!~])")


def printable(text: str) -> str:
    """Escapes what is no visible character: control characters and escape sequences, ends of lines, marks that
    reverse the direction of writing, bytes that could not be decoded. Letters of all languages stay."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def markdown(text: str) -> str:
    """Returns the text as Markdown shows it: one line, without links, HTML or anything else that it asks for."""
    return _MARKUP.sub(r"\\\1", printable(text))
