"""The last lines of a run advise what can be done with it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ssl_core.runner.closing import closing_lines
from ssl_core.runner.data_wait import DataWait

RESULT = {
    "step": 2,
    "images_seen": 8,
    "seconds": 1.0,
    "bad_images": 0,
    "out": "runs/a",
    "export": {"backbone": "runs/a/export/backbone.safetensors"},
}


@pytest.mark.parametrize(
    ("labelled", "expected"),
    [
        (True, ["next      ssl-eval knn runs/a"]),
        (
            False,
            [
                "next      ssl-eval attention runs/a",
                "          a score needs labels: ssl-eval knn runs/a --data FOLDER, with a folder for each class",
            ],
        ),
    ],
)
def test_a_score_is_advised_where_there_are_labels(labelled, expected):
    lines = closing_lines(SimpleNamespace(demonstration=False), RESULT, DataWait(0.0, 1, 2, None, False), labelled)
    assert lines[-len(expected) :] == expected
