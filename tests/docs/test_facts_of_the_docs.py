"""What the documents state about the code is true of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, anchors, blocks, code_spans, links, prose, table_after

from ssl_core.cli import console
from ssl_core.config.sections import SECTIONS, GeneralOptions, TokenizerTrainOptions
from ssl_core.errors import SslError
from ssl_core.plugins import hookspecs
from ssl_core.plugins.component import SLOT_KINDS
from ssl_core.plugins.registry import Registry
from ssl_core.runner.run_folder import RunFolder

IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
PACKAGE_ROOTS = [ROOT, ROOT / "ssl_core", *sorted((ROOT / "plugins").iterdir()), ROOT / "benchmarks"]
FOLDERS = ("ssl_(?!checkerboard)\\w+", "tests", "contracts", "runner", "data", "plugins", "benchmarks")
"""Where a path in the text starts; relative to one of the roots."""

NO_OPTIONS = {"backbone.spec"}
"""What looks like an option and is Python."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_links_lead_somewhere(document):
    for link in links(document):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_named_files_exist(document):
    for name in code_spans(prose(document)):
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w/]*(\.py)?", name):
            assert any((root / name).exists() for root in PACKAGE_ROOTS), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_named_options_exist(document, registry):
    known = {name: set(options.model_fields) for name, options in SECTIONS.items()}
    known["tokenizer.train"] = set(TokenizerTrainOptions.model_fields)
    for section, kinds in {**SLOT_KINDS, "method": ("method",)}.items():
        options = [match.component.options for match in registry.components(*kinds)]
        known[section] = {name for cls in options for name in cls.model_fields}
    for name in set(code_spans(prose(document))) - NO_OPTIONS:
        found = re.match(r"((?:tokenizer\.)?[a-z]+)\.(\w+)(=|$)", name)
        if found and found[1] in known and not name.endswith((".py", ".json", ".yaml", ".log", ".safetensors")):
            assert found[2] in known[found[1]], name
        general = re.match(r"(seed|recipe)=", name)
        assert general is None or general[1] in GeneralOptions.model_fields


def test_every_hook_is_documented_with_its_arguments():
    hooks = {name: value for name, value in vars(hookspecs).items() if hasattr(value, "ssl_core_spec")}
    expected = {f"{name}({', '.join(inspect.signature(hook).parameters)})" for name, hook in hooks.items()}
    documented = {code_spans(row[0])[0] for row in table_after(ROOT / "docs/plugins.md", "## Hooks")}
    assert documented == expected


def test_exit_codes_are_those_of_the_errors():
    def codes(error: type[SslError]) -> set[int]:
        return {error.exit_code}.union(*map(codes, error.__subclasses__()))

    documented = [int(row[0]) for row in table_after(ROOT / "docs/options.md", "## Exit codes")]
    assert sorted(documented) == sorted({0, console.BUG, console.INTERRUPTED} | codes(SslError))


def test_parts_and_recipes_of_beit(registry):
    method = registry.find("beit", "method").component
    rows = table_after(ROOT / "docs/beit.md", "# BEiT")
    assert {code_spans(row[0])[0]: code_spans(row[1])[0] for row in rows} == dict(method.slots)
    rows = table_after(ROOT / "docs/beit.md", "## Recipes")
    assert {name for row in rows for name in code_spans(row[0])} == {recipe.name for recipe in method.recipes}


def test_parts_and_recipes_of_beit_v2(registry):
    method = registry.find("beitv2", "method").component
    rows = table_after(ROOT / "docs/beit.md", "## BEiT v2")
    pairs = [zip(code_spans(row[0]), code_spans(row[1]), strict=False) for row in rows]
    assert dict(pair for row in pairs for pair in row) == dict(method.slots)
    rows = table_after(ROOT / "docs/beit.md", "### Recipes of BEiT v2")
    assert {name for row in rows for name in code_spans(row[0])} == {recipe.name for recipe in method.recipes}


def test_parts_and_recipes_of_dino(registry):
    method = registry.find("dino", "method").component
    rows = table_after(ROOT / "docs/dino.md", "# DINO")
    assert {code_spans(row[0])[0]: code_spans(row[1])[0] for row in rows} == dict(method.slots)
    rows = table_after(ROOT / "docs/dino.md", "## Recipes")
    assert {name for row in rows for name in code_spans(row[0])} == {recipe.name for recipe in method.recipes}


def test_the_run_folder_is_documented(tmp_path):
    documented = {
        name.rstrip("/") for row in table_after(ROOT / "README.md", "## The run folder") for name in code_spans(row[0])
    }
    documented = {name.partition("/")[0] for name in documented}
    paths = {path for path in vars(RunFolder(tmp_path)).values() if isinstance(path, Path)} - {tmp_path}
    assert {path.name for path in paths} <= documented


def test_ci_installs_what_the_readme_says():
    commands = next(block.text for block in blocks(ROOT / "README.md") if "pytest" in block.text).strip().split(" && ")
    installs = [command.removeprefix("pip install ") for command in commands if command.startswith("pip install ")]
    assert len(installs) == len(commands) - 1
    script = (ROOT / ".ci/run").read_text()
    assert [install for install in installs if install not in script] == []


def test_results_can_be_filled_in():
    text = (ROOT / "README.md").read_text()
    assert text.count("<!-- results:begin -->") == text.count("<!-- results:end -->") == 1
