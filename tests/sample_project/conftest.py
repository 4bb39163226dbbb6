"""The sample project's files as modules, and one prepared corpus for all tests."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[2] / "sample_project"


def module(name: str) -> ModuleType:
    """A file of the project under a name of its own, so that no other `train` or `prepare` is in the way."""
    spec = importlib.util.spec_from_file_location(f"sample_{name}", PROJECT / f"{name}.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def prepare() -> ModuleType:
    return module("prepare")


@pytest.fixture(scope="session")
def evaluate() -> ModuleType:
    return module("evaluate")


@pytest.fixture(scope="session")
def train(prepare: ModuleType) -> ModuleType:
    pytest.importorskip("torch", reason="the sample project needs torch: pip install 'ratchet-console[sample]'")
    pytest.importorskip("safetensors", reason="the sample project needs safetensors")
    sys.modules.setdefault("prepare", prepare)  # train.py imports its neighbour by that name
    return module("train")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with both splits of the standard library's text."""
    folder = tmp_path_factory.mktemp("corpus")
    run("prepare.py", {"RATCHET_DATA": str(folder)}).check_returncode()
    return folder


def run(
    script: str | Path, given: Mapping[str, str], *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A script of the project (or of ``cwd``) in a process of its own, as a person would start it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RATCHET_")}
    path = PROJECT / script
    return subprocess.run(
        [sys.executable, "-B", str(path), *arguments],
        env=kept | {"OMP_NUM_THREADS": "1"} | dict(given),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )
