"""The pytest plugin: turns what `conformance` returned into one test a check. It does nothing without such a test."""

from __future__ import annotations

from typing import Any

from ssl_core.testing.conformance import MARK


def pytest_configure(config: Any) -> None:
    """Makes the mark known, for `--strict-markers`."""
    config.addinivalue_line("markers", f"{MARK}: the checks of ssl_core.testing for one part")


def pytest_generate_tests(metafunc: Any) -> None:
    """Gives a conformance test its checks."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None or "conformance_check" not in metafunc.fixturenames:
        return
    import pytest

    from ssl_core.errors import SslError
    from ssl_core.testing.check import bound_checks

    try:
        checks = bound_checks(mark.args[0])
    except SslError as error:
        raise pytest.UsageError(str(error)) from None
    metafunc.parametrize("conformance_check", checks, ids=[check.name for check in checks])
