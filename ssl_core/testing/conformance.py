"""What an author's test file calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_core.plugins.component import Kind

if TYPE_CHECKING:
    from ssl_core.testing.check import BoundCheck

MARK = "conformance"
"""The pytest mark of a test that is one conformance suite."""


@dataclass(frozen=True)
class Request:
    """Which part is to be checked.

    Attributes:
        name: as for `ssl-plugins info`: `my-masks:checker`, or short where that is clear.
        kind: where parts of several kinds have that name; None = there is one.
        options: of the part, besides those that keep it small.
        files: single-file plugins.
        leave_out: check -> why it cannot hold for this part; the reason is shown with the skipped test.
    """

    name: str
    kind: Kind | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    leave_out: Mapping[str, str] = field(default_factory=dict)


def conformance(
    name: str,
    kind: Kind | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    files: Iterable[str | Path] = (),
    leave_out: Mapping[str, str] | None = None,
) -> Callable[[BoundCheck], None]:
    """Returns a test function that pytest runs once for each check of the part's kind.

    The pytest plugin that comes with this distribution finds the checks when the tests are collected; assign the
    result to a name that begins with `test_`.

    Args:
        name, kind, options, files, leave_out: see `Request`.
    """
    import pytest

    request = Request(name, kind, dict(options or {}), tuple(Path(file) for file in files), dict(leave_out or {}))

    def test(conformance_check: BoundCheck) -> None:
        verdict = conformance_check.run()
        if verdict.state == "skipped":
            pytest.skip(verdict.what)
        if verdict.state == "failed":
            pytest.fail(verdict.message, pytrace=False)

    return getattr(pytest.mark, MARK)(request)(test)
