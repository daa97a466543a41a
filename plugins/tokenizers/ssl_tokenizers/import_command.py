"""`ssl-tokenizer import`: OpenAI's pickled files in, one safetensors file out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_core.api import CheckpointError, Parser, UsageError, make_writable

_SUFFIX = ".safetensors"


def import_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Does what the arguments say; prints it for people and returns it as JSON-ready values."""
    parser = _parser()
    flags, rest = parser.parse_known_args(arguments)
    if flags.help:
        text = parser.format_help().rstrip()
        print(text)
        return {"help": text}
    parser.parse_with_settings([item for item in rest if item.startswith("-")])  # says what is wrong with a flag
    if not 1 <= len(rest) <= 2:
        raise UsageError("ssl-tokenizer import: give encoder.pkl, perhaps decoder.pkl, and --out FILE.safetensors")
    if flags.out is None or flags.out.suffix != _SUFFIX:
        given = "nothing" if flags.out is None else f"'{flags.out}'"
        raise UsageError(f"--out: {given} given; name the file to write, ending in {_SUFFIX}")
    files = [Path(item) for item in rest]
    for file in files:
        if not file.is_file() or not os.access(file, os.R_OK):
            raise CheckpointError(f"{file}: {'cannot be read' if file.is_file() else 'no such file'}")
    if len(flags.sha256) > len(files):
        raise UsageError("--sha256: given more often than there are files")
    if flags.out.is_dir():
        raise UsageError(f"--out {flags.out}: this is a folder; name the file to write")
    make_writable(flags.out.parent)

    # torch is imported from here on.
    from ssl_tokenizers.dalle_import import import_dalle

    print(f"reading {' and '.join(str(file) for file in files)}", flush=True)
    facts = import_dalle(files[0], files[1] if len(files) == 2 else None, flags.out, flags.sha256)
    for file, sha256 in zip(files, facts.values(), strict=True):
        print(f"{file}: sha256 {sha256}")
    print(f"written: {flags.out}, and {flags.out.with_suffix('.json').name} beside it")
    return {"out": str(flags.out), "sha256": facts}


def _parser() -> Parser:
    parser = Parser(prog="ssl-tokenizer import", usage="%(prog)s encoder.pkl [decoder.pkl] --out FILE.safetensors")
    add = parser.add_argument
    add("--out", metavar="FILE", type=Path, help="where the imported weights are written, ending in .safetensors")
    add("--sha256", metavar="HEX", action="append", default=[], help="of each file in turn, where you know it: checked")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--help", "-h", action="store_true", help="this help")
    return parser
