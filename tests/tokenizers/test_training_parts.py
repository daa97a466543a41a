"""A method that trains a tokenizer trains its own kind, and says so of any other."""

from __future__ import annotations

import pytest

from ssl_core.cli.train import main


@pytest.mark.parametrize(("method", "other"), [("vqkd", "dvae"), ("dvae", "vqkd"), ("dvae", "kmeans")])
def test_another_kind_of_tokenizer_is_refused_in_a_line(method, other, capsys):
    assert main(["--method", method, "--tokenizer", other, "--print-config"]) == 2
    error = capsys.readouterr().err
    expected = f"{method} needs tokenizer:{method}; tokenizer 'tokenizers:{other}' does not provide it"
    assert f"error: {expected}. These do: tokenizers:{method}" in error
    assert "Traceback" not in error
