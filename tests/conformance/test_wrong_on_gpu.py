"""What would fail or wait on a GPU is caught without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_core.plugins.registry import Registry
from ssl_core.testing.check import bound_checks
from ssl_core.testing.conformance import Request

FILE = Path(__file__).with_name("wrong_on_gpu.py")
WRONG = {
    "tokenizer PlainTensor": ("cuda:0", "register_buffer"),
    "head MaskIndex": ("decides how large a result is", "indexing with masks"),
    "target Numpy": ("it fails on a GPU", "not numpy"),
    "method ReadsTheLoss": ("the CPU waits for the GPU", "no .item()"),
    "method CopiesItsLogs": ("the CPU waits for the GPU", "no .item(), .cpu()"),
    "method LogsOnTheCpu": ("returns images on the CPU", "device=x.device"),
}
"""Part -> what the message says of it, and of what to change."""


@pytest.fixture(scope="module")
def registry():
    return Registry.load(files=[FILE])


@pytest.mark.parametrize("part", WRONG)
def test_it_is_caught_where_it_is_written(part, registry):
    kind, name = part.split()
    what, fix = WRONG[part]
    checks = {one.name: one for one in bound_checks(Request(f"wrong_on_gpu:{name}", kind), registry)}
    verdict = checks["a_step_stays_on_the_gpu"].run()
    assert verdict.state == "failed", verdict
    assert what in verdict.what
    assert fix in verdict.fix
    if name != "LogsOnTheCpu":
        assert f"{FILE}:" in verdict.what
