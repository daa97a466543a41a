"""The one folder that imports mmengine: its Runner, loop, optimizer wrapper, hooks and TensorBoard backend.

What mmengine is not asked to do, because of what version 0.10.7 does there: loading and saving
checkpoints, reading config files, launching processes, seeding, schedules, and its own folders.
"""

from __future__ import annotations

from ssl_core.runner.engine.cv2_stub import opencv_or_stub

with opencv_or_stub():
    import mmengine.hooks
    import mmengine.runner
    import mmengine.visualization  # noqa: F401
