"""mmengine imports OpenCV eagerly, and OpenCV needs libGL, which a slim host lacks. We need neither."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def opencv_or_stub() -> Iterator[None]:
    """Lets `import cv2` succeed inside the context: the real one if it can be imported, else an empty stand-in.

    The stand-in is gone afterwards, so that nobody else takes it for OpenCV.
    """
    try:
        import cv2  # noqa: F401
    except (ImportError, OSError):
        former = {"cv2": sys.modules["cv2"]} if "cv2" in sys.modules else {}
        sys.modules["cv2"] = ModuleType("cv2")
        try:
            yield
        finally:
            del sys.modules["cv2"]
            sys.modules.update(former)
    else:
        yield
