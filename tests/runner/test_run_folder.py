"""What `--overwrite` keeps, and what a refused command leaves behind."""

from __future__ import annotations

import pytest

from ssl_core.errors import UsageError
from ssl_core.runner.run_folder import RunFolder


@pytest.fixture
def former(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.yaml").write_text("seed: 1\n")
    (path / "weights").write_text("days of work")
    return path


def test_an_overwritten_run_comes_back_when_the_new_one_is_refused(former):
    folder = RunFolder.create(former, overwrite=True)
    assert list(former.iterdir()) == []
    folder.write_status("failed", 0, 2, "a wrong option")
    folder.forget()
    assert (former / "weights").read_text() == "days of work"
    assert [path.name for path in former.parent.iterdir()] == ["run"]


def test_an_overwritten_run_is_gone_once_the_new_one_has_begun(former):
    folder = RunFolder.create(former, overwrite=True)
    folder.settle()
    assert [path.name for path in former.parent.iterdir()] == ["run"]
    assert not (former / "weights").exists()


def test_a_run_that_has_computed_something_is_never_forgotten(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.append_metrics({"step": 1, "loss": float("nan")})
    folder.forget()
    assert folder.metrics.read_text() == '{"step": 1, "loss": null}\n'


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make this folder"):
        RunFolder.create(tmp_path / "file" / "run")
    with pytest.raises(UsageError, match="this is a file"):
        RunFolder.create(tmp_path / "file")


def test_a_start_that_was_killed_before_it_wrote_its_config_is_not_in_the_way(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".tmp-config.yaml").write_text("method: ")
    assert RunFolder.create(tmp_path / "run").path == tmp_path / "run"
