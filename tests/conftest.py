"""Where tests run side by side (`pytest -n`), a process computes with one thread: they are not to crowd the cores."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
