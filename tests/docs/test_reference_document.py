"""docs/reference.md is what the code says today, and leaves nothing out."""

from __future__ import annotations

import inspect
import re
from typing import get_args

import pytest
from documents import ROOT, code_spans

import ssl_core.api
from ssl_core.cli.plugins import main
from ssl_core.config.sections import SECTIONS, GeneralOptions, TokenizerTrainOptions
from ssl_core.plugins import hookspecs
from ssl_core.plugins.component import Kind

TEXT = (ROOT / "docs" / "reference.md").read_text()


@pytest.fixture(scope="module")
def contracts() -> list[type]:
    offered = [getattr(ssl_core.api, name) for name in ssl_core.api.__all__]
    return [value for value in offered if inspect.isclass(value) and value.__module__.startswith("ssl_core.contracts.")]


def test_it_is_what_the_code_says_today(capsys):
    assert main(["reference"]) == 0
    generated = capsys.readouterr().out
    assert generated == TEXT, "run: ssl-plugins reference > docs/reference.md"


def test_every_hook_is_in_it_with_its_arguments():
    hooks = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "ssl_core_spec")}
    shown = re.findall(r"@hookimpl\ndef (\w+)\((.*?)\)", TEXT)
    assert {name: re.findall(r"(\w+):", arguments) for name, arguments in shown} == {
        name: list(inspect.signature(hook).parameters) for name, hook in hooks.items()
    }


def test_every_kind_of_part_is_in_it_with_its_contract():
    rows = [code_spans(row) for row in TEXT.splitlines() if "`register_" in row]
    assert {row[0] for row in rows} == set(get_args(Kind))
    assert [row[2] for row in rows if row[2] not in ssl_core.api.__all__] == []


def test_everything_the_api_offers_is_in_it():
    named = set(re.findall(r"^### (\w+)$", TEXT, re.MULTILINE)) | set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert set(ssl_core.api.__all__) - named == {"hookimpl"}


def test_every_contract_is_in_it_with_its_public_methods(contracts):
    assert len(contracts) > 20
    for contract in contracts:
        section = TEXT.partition(f"### {contract.__name__}\n")[2].partition("\n### ")[0]
        assert (contract.__doc__ or "").strip().splitlines()[0] in section
        own = [name for name, value in vars(contract).items() if inspect.isfunction(value) and name[0] != "_"]
        written = [name for name in own if name in inspect.getsource(contract)]  # not those that dataclass adds
        assert [name for name in written if f"def {name}(" not in section] == []


def test_every_option_of_the_engine_is_in_it():
    sections = {**SECTIONS, "tokenizer.train": TokenizerTrainOptions, "": GeneralOptions}
    options = {f"{name}.{key}".lstrip(".") for name, cls in sections.items() for key in cls.model_fields}
    assert {found for found in re.findall(r"^\| `([\w.]+)` \| `", TEXT, re.MULTILINE) if found in options} == options
