"""Every part of every plugin in this distribution keeps the promises of its kind; new ones are found by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from part_files import make_files

from ssl_core.plugins.loader import DISTRIBUTION
from ssl_core.plugins.registry import Registry
from ssl_core.testing.check import BoundCheck, bound_checks
from ssl_core.testing.conformance import Request

ELSEWHERE = {
    "dataset core:timm": "opens what others publish; tests/builtin/test_timm_source.py",
    "tokenizer tokenizers:dalle": "needs files of OpenAI's networks; tests/tokenizers/test_dalle_tokenizer.py",
}
"""Parts that cannot be checked without files from elsewhere, and where they are tested."""

LEFT_OUT: dict[str, dict[str, str]] = {
    "dataset core:image": dict.fromkeys(
        ("a_run_trains", "a_resumed_run_is_the_same"), "it is one image, not data to train on"
    ),
}
"""Part -> check -> why it cannot hold."""

SLOW = {"tokenizer": ("two_processes_learn_the_same",), "target": ("two_processes_learn_the_same",)}
"""Kind -> checks that are slow and that `tests/runner/test_distributed.py` makes in part."""

MAY_SKIP_BUILDING = {"monitor benchmarks:online"}


def _checks() -> Iterator[pytest.param]:
    registry = Registry.load(safe=True)
    for plugin in registry.plugins:
        assert plugin.distribution.startswith(DISTRIBUTION), plugin
        for component in plugin.components:
            part = f"{component.kind} {plugin.name}:{component.name}"
            if part in ELSEWHERE:
                continue
            request = Request(f"{plugin.name}:{component.name}", component.kind, leave_out=LEFT_OUT.get(part, {}))
            for check in bound_checks(request, registry):
                marks = [pytest.mark.slow] if check.name in SLOW.get(component.kind, ()) else []
                yield pytest.param(part, check, id=f"{part}-{check.name}".replace(" ", "-"), marks=marks)


@pytest.fixture(scope="session")
def options(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize(("part", "check"), list(_checks()))
def test_a_part_keeps_its_promises(part: str, check: BoundCheck, options):
    check.subject.given = options.get(part, {})
    verdict = check.run()
    if verdict.state == "skipped":
        assert verdict.check != "can_be_built" or part in MAY_SKIP_BUILDING, verdict.what
        pytest.skip(verdict.what)
    assert verdict.state == "ok", verdict.message
