"""mmengine imports OpenCV, which cannot be imported on a host without libGL; training starts all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
sys.modules["cv2"] = None  # `import cv2` raises ImportError from now on
sys.path.insert(0, {folder!r})
from pathlib import Path
from toy_runs import train
train("toy-dino", Path({out!r}), train__steps=1)
try:
    import cv2
except ImportError:
    print("cv2 is still missing for everybody else")
"""


def test_training_starts_where_opencv_cannot_be_imported(tmp_path):
    script = SCRIPT.format(folder=str(Path(__file__).parent), out=str(tmp_path / "run"))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "cv2 is still missing for everybody else" in result.stdout
    assert (tmp_path / "run" / "export" / "backbone.safetensors").is_file()
