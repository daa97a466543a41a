"""Checks of how a part is described, and that it can be built: all kinds."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from functools import cache

import yaml

from ssl_core.config.docstrings import option_help
from ssl_core.config.validate import validate_options
from ssl_core.errors import PluginError
from ssl_core.testing.bench import built
from ssl_core.testing.check import check, require, skip
from ssl_core.testing.contract import CONTRACTS, missing_methods
from ssl_core.testing.source import place_of
from ssl_core.testing.subject import NotBuilt, Subject

HEAVY = ("torch", "numpy", "torchvision", "timm", "faiss", "sklearn", "mmengine")


@check()
def can_be_imported(subject: Subject) -> None:
    """The component's target can be imported and called."""
    try:
        target = subject.component.load()
    except PluginError as error:
        require(False, str(error), f"correct the component's target='{subject.component.target}' or that module")
    require(callable(target), "the target cannot be called", "name the class in the component's target")


@check()
def has_what_its_kind_needs(subject: Subject) -> None:
    """The class derives from the contract of its kind and defines every method that it must."""
    target = subject.component.load()
    if not inspect.isclass(target):
        skip("it is built by a function")
    contract = CONTRACTS[subject.kind]()
    require(
        issubclass(target, contract),
        f"the class does not derive from {contract.__name__}",
        f"write `class {target.__name__}({contract.__name__})`, with {contract.__name__} from ssl_core.api",
    )
    missing = missing_methods(target)
    require(not missing, f"it does not define {', '.join(missing)}", f"define {missing[0] if missing else ''}")


@check()
def can_be_built(subject: Subject) -> None:
    """It is built from its options alone."""
    if subject.kind == "monitor":
        skip("it is built inside of a run, see leaves_the_run_alone")
    try:
        built(subject)
    except NotBuilt as error:
        require(
            False,
            f"it cannot be built: {error}",
            "give what it needs: conformance(..., options={...}), or `ssl-plugins check NAME option=value`",
        )


@check()
def options_have_help(subject: Subject) -> None:
    """Every option has a string under its field, which is its help."""
    options = subject.component.options
    missing = [name for name in options.model_fields if name not in option_help(options)]
    require(
        not missing,
        f"{options.__name__} ({place_of(options)}) has options without help: {', '.join(missing)}",
        'write a string below each field: """What it does, and its unit."""',
    )


@check()
def options_survive_a_config_file(subject: Subject) -> None:
    """Options that were written to YAML or JSON and read again are the same options."""
    values = subject.options.model_dump(mode="json")
    for form, text in (("YAML", yaml.safe_dump(values)), ("JSON", json.dumps(values))):
        again = validate_options(type(subject.options), yaml.safe_load(text) if form == "YAML" else json.loads(text))
        differ = [name for name, value in subject.options if value != getattr(again, name)]
        require(
            not differ,
            f"after {form} these options differ: {', '.join(differ)}",
            "use plain types (int, float, str, bool, Path, tuples, Literal) or a validator that takes its own output",
        )


@check()
def plugin_imports_nothing_heavy(subject: Subject) -> None:
    """Neither `plugin.py` nor the module of the options imports torch or numpy: every --help imports them."""
    if subject.match.plugin.sha256 is not None:
        skip("a single file holds its description and its class together")
    modules = sorted({part.options.__module__ for part in subject.match.plugin.components})
    described = _plugin_module(subject.match.plugin.name)
    found = _heavy_imports(tuple(modules if described is None else [*modules, described]))
    require(
        not found,
        f"importing {found[0] if found else ''} imports {', '.join(found[1:])}",
        "keep the classes in another module, which the component names as its target, and import nothing heavy here",
    )


def _plugin_module(name: str) -> str | None:
    import importlib.metadata

    points = importlib.metadata.entry_points(group="ssl_core", name=name)
    return next((point.module for point in points), None)


@cache
def _heavy_imports(modules: tuple[str, ...]) -> tuple[str, ...]:
    """Returns (module, heavy packages that it imports), or () where none does. One fresh interpreter looks."""
    code = (
        f"import importlib, sys, json\nsys.path[:0] = {sys.path!r}\n"
        f"for name in {modules!r}:\n    importlib.import_module(name)\n"
        f"    heavy = [found for found in {HEAVY!r} if found in sys.modules]\n"
        "    if heavy:\n        sys.exit(json.dumps([name, *heavy]))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    line = result.stderr.strip().rpartition("\n")[2]
    if result.returncode and not line.startswith("["):
        return (modules[0], f"what is not there: {line}")
    return tuple(json.loads(line)) if result.returncode else ()
