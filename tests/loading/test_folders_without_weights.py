"""What is said of a folder that holds no trained part."""

from __future__ import annotations

import pytest

import ssl_core
from ssl_core.errors import CheckpointError


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), r"no export/backbone\.safetensors in it, and it is no run folder; name a run"),
        (("config.yaml",), r"Has the run finished\? `ssl-train --resume"),
        (
            ("config.yaml", "export/tokenizer.safetensors"),
            r"; this run exported: tokenizer\. Name the run that trained a backbone$",
        ),
    ],
)
def test_the_message_says_what_the_folder_is(tmp_path, files, message):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=message):
        ssl_core.load(tmp_path)
