"""Who may import whom, and that what a user waits for first imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = [ROOT, *sorted((ROOT / "plugins").glob("*")), ROOT / "benchmarks"]
PACKAGES = [folder for root in ROOTS for folder in sorted(root.glob("ssl_*")) if folder.is_dir()]
MODULES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]
INSTANT = (
    "ssl_core.api",
    "ssl_core.plugins",
    "ssl_core.config",
    "ssl_core.cli",
    "ssl_benchmarks.cli",
    "ssl_tokenizers.cli",
)
"""Modules and packages that `--help` and `ssl-plugins list` import, besides each plugin's own description."""
DESCRIPTIONS = ("plugin", "options", "recipes")
HEAVY = ("torch", "numpy", "torchvision", "timm", "faiss", "sklearn", "mmengine", "PIL")


def _package(path: Path) -> Path:
    return next(package for package in PACKAGES if package in path.parents)


def _module(path: Path) -> str:
    parts = path.relative_to(_package(path).parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[str]:
    """Yields the absolute names that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def _importers(name: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in MODULES
        if any(found == name or found.startswith(f"{name}.") for found in _imports(path))
    }


def test_the_contracts_of_import_linter_hold():
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_mmengine_stays_behind_one_folder():
    assert {path for path in _importers("mmengine") if not path.startswith("ssl_core/runner/engine/")} == set()


def test_faiss_stays_in_one_module():
    assert _importers("faiss") == {"benchmarks/ssl_benchmarks/knn/search_faiss.py"}


def test_plugins_use_only_the_api_of_the_engine():
    for path in MODULES:
        if _package(path).name != "ssl_core" and _package(path).parent != ROOT:
            inside = {name for name in _imports(path) if name.split(".")[0] == "ssl_core"} - {"ssl_core.api"}
            assert inside == set(), f"{path} imports {inside}"


def test_built_in_parts_are_reached_by_entry_point_only():
    users = {path for path in _importers("ssl_core.builtin") if not path.startswith("ssl_core/builtin/")}
    assert users == set()


def test_what_help_imports_is_light():
    """One fresh interpreter imports every such module and then looks at what came along."""
    described = {_module(path) for path in MODULES if path.stem in DESCRIPTIONS or path.stem.endswith("_options")}
    instant = {name for name in map(_module, MODULES) if any(f"{name}.".startswith(f"{part}.") for part in INSTANT)}
    modules = sorted(described | instant)
    code = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
    heavy = [found for found in {HEAVY!r} if found in sys.modules]
    if heavy:
        sys.exit(f"{{name}} imports {{heavy}}")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_imports_alone(package):
    result = subprocess.run([sys.executable, "-c", f"import {package.name}"], capture_output=True, text=True, cwd="/")
    assert result.returncode == 0, result.stderr
