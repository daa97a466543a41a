"""Checks of parts: what a run would trip over later, found before. For authors of plugins, in three lines of a test:

    from ssl_core.testing import conformance

    test_my_masker = conformance("my-masks:checker")

`ssl-plugins check NAME` does the same without pytest. Imports no torch until a check runs.
"""

from ssl_core.testing.conformance import conformance

__all__ = ["conformance"]
