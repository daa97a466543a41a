"""`ssl-plugins new`: a folder with a working part, ready to install, to be changed into one's own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import keyword
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ssl_core.cli.arguments import Parser
from ssl_core.cli.output_folder import make_writable
from ssl_core.errors import UsageError, did_you_mean
from ssl_core.plugins.component import Kind
from ssl_core.plugins.hookspecs import NAMESPACE
from ssl_core.plugins.registry import Registry

_EXAMPLE = "ssl-plugins new masker my-masks"
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


@dataclass(frozen=True)
class Start:
    """What a new plugin of one kind begins as.

    Attributes:
        summary: what its part does, one line.
        command: uses the part for a moment; `$name` stands for the name.
    """

    summary: str
    command: str


_TRAIN = "ssl-train --method beit --backbone vit_tiny --tokenizer kmeans"

STARTS: Mapping[Kind, Start] = {
    "masker": Start("Hides every second field of a chessboard", f"{_TRAIN} --masker $name train.steps=20"),
    "tokenizer": Start(
        "The code of a patch is its mean colour, rounded",
        "ssl-train --method beit --backbone vit_tiny --tokenizer $name train.steps=20",
    ),
    "target": Start(
        "The mean colours of a patch's cells, as a vector",
        "ssl-train --method beit --backbone vit_tiny --tokenizer $name train.steps=20",
    ),
    "head": Start("Linear layer to the codes, with smoothed labels", f"{_TRAIN} --head $name train.steps=20"),
    "backbone": Start(
        "Convolutions down to one token per patch, then transformer blocks",
        "ssl-train --method beit --backbone $name --tokenizer kmeans train.steps=20",
    ),
    "method": Start(
        "Predicts clean pixels from an image with noise", "ssl-train --method $name --backbone vit_tiny train.steps=20"
    ),
    "transform": Start("Random crops, some of them mirrored", f"{_TRAIN} --transform $name train.steps=20"),
    "dataset": Start("Discs and squares, drawn in memory", f"{_TRAIN} --data $name train.steps=20"),
    "evaluator": Start(
        "Classifies by the most similar class mean",
        f"{_TRAIN} train.steps=20 --out runs/new && ssl-eval $name runs/new",
    ),
}
"""Kind -> what a new one begins as. The files are in `ssl_core/templates/`."""


def new_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Writes the folder that the arguments ask for; prints what to do with it and returns JSON-ready values.

    Raises:
        UsageError: an unknown kind, a name that cannot be used, or a folder that is there already.
    """
    parser = Parser(prog="ssl-plugins new")
    parser.add_argument("kind", nargs="?")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--safe", action="store_true")
    parser.add_argument("--json", action="store_true")
    flags, rest = parser.parse_known_args(arguments)
    if rest:
        raise UsageError(f"ssl-plugins new: '{rest[0]}' is not expected. Write: ssl-plugins new KIND NAME [--out DIR]")
    if flags.kind is None or flags.name is None:
        raise UsageError(f"ssl-plugins new: give a kind and a name, as in `{_EXAMPLE}`. Kinds: {', '.join(STARTS)}")
    if flags.kind not in STARTS:
        suggestion = did_you_mean(flags.kind, STARTS)
        raise UsageError(f"ssl-plugins new: no kind '{flags.kind}'.{suggestion} Allowed: {', '.join(STARTS)}")
    check_name(flags.kind, flags.name, flags.safe)
    out = flags.out or Path(flags.name)
    written = write_plugin(flags.kind, flags.name, out)
    folder = shlex.quote(str(out))
    commands = [f"pip install -e {folder}", f"ssl-plugins check {flags.name}", _command(flags.kind, flags.name)]
    print(f"{out}: {_article(flags.kind)} that works: {_lower(STARTS[flags.kind].summary)}. Make it yours:")
    print("\n".join(f"  {out / file}" for file in written))
    print("\n".join(["then", *(f"  {command}" for command in commands)]))
    return {"out": str(out), "kind": flags.kind, "name": flags.name, "files": written, "commands": commands}


def check_name(kind: Kind, name: str, safe: bool = False) -> None:
    """Refuses a name that could not be installed, imported or asked for.

    Args:
        safe: other distributions' parts are not looked at, since nothing of theirs is imported.

    Raises:
        UsageError: not a valid name, or one that is taken.
    """
    package = package_of(name)
    if not _NAME.fullmatch(name) or keyword.iskeyword(package):
        raise UsageError(
            f"ssl-plugins new: '{name}' cannot be the name of a package; take small letters, digits and single "
            "hyphens, beginning with a letter: my-masks"
        )
    installed = {point.name for point in importlib.metadata.entry_points(group=NAMESPACE)}
    if name in installed:
        raise UsageError(f"ssl-plugins new: a plugin '{name}' is installed already; choose another name")
    if _is_distribution(name):
        raise UsageError(
            f"ssl-plugins new: a distribution '{name}' is installed, which pip would replace; choose another name"
        )
    if importlib.util.find_spec(package) is not None:
        raise UsageError(f"ssl-plugins new: a module '{package}' exists already; choose another name")
    class_name = _class_name(package)
    if keyword.iskeyword(class_name) or re.search(rf"\b{class_name}\b", _template(f"{kind}/{kind}.py")):
        raise UsageError(
            f"ssl-plugins new: the class would be called {class_name}, which the new part's code means something else "
            f"by; choose another name: my-{name}"
        )
    if name in Registry.load(safe=safe).names(kind):
        raise UsageError(f"ssl-plugins new: a {kind} '{name}' exists already; choose another name")


def package_of(name: str) -> str:
    """Returns the name that is imported: `my_masks` of `my-masks`."""
    return name.replace("-", "_")


def write_plugin(kind: Kind, name: str, out: Path) -> list[str]:
    """Writes the folder and returns its files, relative to it.

    Raises:
        UsageError: the folder is there already, or cannot be made.
    """
    if out.exists():
        raise UsageError(f"ssl-plugins new: {out} exists already; remove it, or name another folder with --out")
    make_writable(out)
    package = package_of(name)
    values = {
        "name": name,
        "package": package,
        "class_name": _class_name(package),
        "kind": kind,
        "a_kind": _article(kind),
        "summary": STARTS[kind].summary,
        "summary_start": _lower(STARTS[kind].summary),
        "command": _command(kind, name),
    }
    sources = {
        "pyproject.toml": "package/pyproject.toml",
        "README.md": "package/README.md",
        f"{package}/__init__.py": "package/__init__.py",
        f"{package}/plugin.py": f"{kind}/plugin.py",
        f"{package}/options.py": f"{kind}/options.py",
        f"{package}/{kind}.py": f"{kind}/{kind}.py",
        f"tests/test_{package}.py": "package/test.py",
    }
    for file, source in sources.items():
        path = out / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(_template(source)).substitute(values), encoding="utf-8")
    return list(sources)


def _template(source: str) -> str:
    return (files("ssl_core") / "templates" / f"{source}.tmpl").read_text(encoding="utf-8")


def _class_name(package: str) -> str:
    return "".join(word.capitalize() for word in package.split("_"))


def _is_distribution(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _command(kind: Kind, name: str) -> str:
    return Template(STARTS[kind].command).substitute(name=name)


def _article(kind: Kind) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
