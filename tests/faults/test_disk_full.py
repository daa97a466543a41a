"""A full disk costs a checkpoint, not the run, and never the checkpoint before."""

from __future__ import annotations

import contextlib
import errno
import json
import subprocess

import pytest
from stop_at import StopAt
from toy_runs import losses, toy_registry, train

from ssl_core.contracts.hooks import TrainingHook
from ssl_core.errors import ResourceError
from ssl_core.runner import checkpoint
from ssl_core.runner.hashed_file import HashedFile
from ssl_core.training import resume

EVERY = {"train__steps": 5, "train__checkpoint_every": 2}


@pytest.fixture(scope="module")
def registry():
    return toy_registry()


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


class FullDuring:
    """Makes the disk full from some update to another, before or while checkpoints are written."""

    def __init__(self, monkeypatch, first, last, while_writing):
        real_write = checkpoint._write
        full = {"now": False}

        def write(partial, captured):
            full["now"] = first <= captured.step <= last
            try:
                real_write(partial, captured)
            finally:
                full["now"] = False

        class FullFile(HashedFile):
            def __init__(self, path):
                super().__init__(path)
                if full["now"] and path.name == checkpoint.STATE:
                    self._error = OSError(errno.ENOSPC, "No space left on device")

        if while_writing:
            monkeypatch.setattr(checkpoint, "_write", write)
            monkeypatch.setattr(checkpoint, "HashedFile", FullFile)
        else:
            real_size = checkpoint.size

            def size(captured):
                needed = real_size(captured)
                return 10**15 if first <= captured.step <= last else needed

            monkeypatch.setattr(checkpoint, "size", size)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("while_writing", [True, False])
def test_the_old_checkpoint_stays_and_training_goes_on(while_writing, background, registry, tmp_path, monkeypatch):
    FullDuring(monkeypatch, 4, 4, while_writing)
    result = train("toy-dino", tmp_path / "run", registry, train__async_checkpoints=background, **EVERY)
    assert result["step"] == 5
    assert names(tmp_path / "run") == ["step-00000002", "step-00000005"]
    said = (tmp_path / "run" / "train.log").read_text()
    warnings = [line for line in said.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "no checkpoint of step 4" in warnings[0]
    assert "full" in warnings[0]
    assert "step-00000002 stays" in warnings[0]
    if not while_writing:
        assert "GB are missing (1,000,000.0 GB needed" in warnings[0]


@pytest.mark.parametrize("while_writing", [True, False])
def test_an_export_that_fits_is_a_run_that_finished(while_writing, registry, tmp_path, monkeypatch):
    FullDuring(monkeypatch, 4, 5, while_writing)
    assert train("toy-dino", tmp_path / "run", registry, **EVERY)["export"]
    assert names(tmp_path / "run") == ["step-00000002"]


def test_nothing_of_the_end_is_an_error_and_can_be_made_up_for(registry, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        FullDuring(patch, 4, 5, while_writing=True)
        patch.setattr(
            "ssl_core.loading.write_tensors",
            lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
        )
        with pytest.raises(ResourceError, match=r"neither the checkpoint of step 5 nor the export.*ssl-train --resume"):
            train("toy-dino", run, registry, **EVERY)
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 5)
    assert names(run) == ["step-00000002"]
    assert resume(run, registry)["step"] == 5
    assert names(run) == ["step-00000004", "step-00000005"]


def test_a_run_whose_export_alone_is_missing_computes_nothing_again(registry, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(
            "ssl_core.loading.write_tensors",
            lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
        )
        with pytest.raises(ResourceError, match=r"the export could not be written"):
            train("toy-dino", run, registry, **EVERY)
    before = len(losses(run))
    newest = run / "checkpoints" / "step-00000005" / "manifest.json"
    written = newest.stat().st_mtime_ns
    assert resume(run, registry)["export"]
    assert len(losses(run)) == before
    assert newest.stat().st_mtime_ns == written


def test_a_signal_on_a_full_disk_says_that_nothing_was_saved(registry, tmp_path, monkeypatch):
    FullDuring(monkeypatch, 3, 9, while_writing=True)
    with pytest.raises(ResourceError, match=r"stopped by SIGTERM at step 3, which could not be saved.*--resume"):
        train("toy-dino", tmp_path / "run", registry, **EVERY, hooks=[StopAt(3)])
    assert names(tmp_path / "run") == ["step-00000002"]


def test_another_error_of_the_disk_is_a_warning_as_well(registry, tmp_path, monkeypatch):
    real = checkpoint.save

    def save(folder, captured):
        if captured.step == 4:
            raise OSError(errno.EIO, "Input/output error")
        return real(folder, captured)

    monkeypatch.setattr(checkpoint, "save", save)
    assert train("toy-dino", tmp_path / "run", registry, **EVERY)["step"] == 5
    assert "no checkpoint of step 4: Input/output error" in (tmp_path / "run" / "train.log").read_text()


def test_a_bug_while_writing_is_not_hidden(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train("toy-dino", tmp_path / "run", registry, **EVERY)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB; only root can make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Ballast(TrainingHook):
    """Fills the disk after update 3 and makes room after update 5."""

    def __init__(self, folder):
        self.file = folder / "ballast"

    def after_step(self, method, progress):
        if progress.step == 3:
            with self.file.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
                while stream.write(b"0" * 4096):
                    pass
        if progress.step == 5:
            self.file.unlink()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
def test_a_disk_that_really_is_full(small_disk, registry):
    run = small_disk / "run"
    options = {"train__steps": 6, "train__checkpoint_every": 2, "log__pictures_every": 1}
    result = train("toy-mae", run, registry, **options, hooks=[Ballast(small_disk)])
    assert result["step"] == 6
    assert names(run) == ["step-00000002", "step-00000006"]
    assert len(losses(run)) == 6  # the lines of the full time were written later
    assert checkpoint.newest(run / "checkpoints") == (run / "checkpoints" / "step-00000006", [])
