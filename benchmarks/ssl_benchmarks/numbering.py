"""Numbers of the results in a folder."""

from __future__ import annotations

from pathlib import Path


def next_number(out: Path, evaluator: str) -> int:
    """Returns N of the next result, OUT/EVALUATOR-N.json: one more than the highest; pictures share it."""
    numbers = [file.stem.rpartition("-")[2] for file in out.glob(f"{evaluator}-*.json")]
    return max((int(number) for number in numbers if number.isdigit()), default=0) + 1
