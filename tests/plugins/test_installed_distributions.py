"""Distributions that pip builds and installs into a fresh environment, used from there."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sysconfig
import time
import venv
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[1] / "samples"
MAINS = {
    "ssl-train": "ssl_core.cli.train",
    "ssl-plugins": "ssl_core.cli.plugins",
    "ssl-eval": "ssl_benchmarks.cli",
}
RUN = ["--method", "beit", "--backbone", "vit_tiny", "--tokenizer", "kmeans", "tokenizer.vocab_size=4"]
TINY = ["tokenizer.images=8", "tokenizer.iterations=1", "backbone.depth=1", "backbone.width=24", "backbone.heads=2"]
SHORT = ["train.batch_size=8", "dataset.images=24", "data.workers=0", "runtime.device=cpu"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Environment:
    """A virtual environment that sees the packages of this one, and has a pip of its own.

    Args:
        folder: where it is made.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"
        self.variables = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        found = self._run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        # With addsitedir the .pth files there count as well, such as the one of an editable installation.
        line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (Path(found.stdout.strip()) / "packages_of_the_outer_environment.pth").write_text(line)

    def _run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), *arguments]
        result = subprocess.run(command, cwd=self.folder, env=self.variables, capture_output=True, text=True)
        assert result.returncode == code, result.stdout + result.stderr
        return result

    def install(self, *arguments: str) -> None:
        """Calls `pip install` without a network: no dependencies, and what builds is what is here."""
        self._run("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", *arguments)

    def call(self, command: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Calls one of our commands; its folder is that of the environment."""
        start = f"import sys; from {MAINS[command]} import main; sys.exit(main())"
        return self._run("-c", start, *arguments, code=code)

    def test(self, folder: str) -> None:
        """Calls pytest."""
        self._run("-m", "pytest", "-q", folder)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    for needed in ("ensurepip", "hatchling"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    return Environment(tmp_path_factory.mktemp("environment") / "fresh")


def test_the_samples_are_built_installed_and_used_by_name(environment):
    for name in ("good", "broken", "conflicting", "incompatible"):
        copy = environment.folder / "samples" / name
        shutil.copytree(SAMPLES / name, copy)
        environment.install(str(copy))
    plugins = json.loads(environment.call("ssl-plugins", "list", "--json").stdout)["plugins"]
    states = {plugin["distribution"]: plugin["state"] for plugin in plugins if plugin["name"].startswith("sample-")}
    assert states == {
        "ssl-sample-good": "ok",
        "ssl-sample-broken": "broken",
        "ssl-sample-conflicting": "ok",
        "ssl-sample-incompatible": "incompatible",
    }
    masker = ["--masker", "sample-good:stripes", "train.steps=1"]
    environment.call("ssl-train", *RUN, *TINY, *SHORT, *masker, "--out", "run")
    environment.call("ssl-train", "--resume", "run", "train.steps=2", "--force")
    result = json.loads(environment.call("ssl-eval", "spread", "run", "--json").stdout)
    assert result["metrics"]["spread"] > 0
    for name, said in {
        "stripes": "is ambiguous: sample-conflicting:stripes, sample-good:stripes",
        "sample-broken:any": "(ssl-sample-broken 0.3) is broken: import failed",
        "sample-incompatible:future": "(ssl-sample-incompatible 9.0) is incompatible",
    }.items():
        error = environment.call("ssl-train", *RUN, "--masker", name, "--out", "refused", code=2).stderr
        assert said in error
        assert "Traceback" not in error


def test_from_nothing_to_two_steps_with_a_new_part_in_less_than_a_minute(environment):
    started, before = time.monotonic(), os.times()
    environment.call("ssl-plugins", "new", "masker", "my-masks")
    environment.install("-e", "my-masks")
    environment.call("ssl-train", *RUN, *TINY, *SHORT, "--masker", "my-masks", "train.steps=2", "--out", "mine")
    after = os.times()
    # What the commands compute, so that a machine that is busy with something else does not fail it.
    computed = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"{computed:.1f} s of computing, {time.monotonic() - started:.1f} s in all")
    assert computed < 60
    assert "name: my-masks:my-masks" in (environment.folder / "mine/config.yaml").read_text()
    environment.test("my-masks")


def test_this_environment_is_left_as_it_was():
    installed = [path.name for path in Path(sysconfig.get_path("purelib")).iterdir()]
    assert [name for name in installed if name.startswith(("ssl_sample", "my_masks"))] == []
