"""The demo as a newcomer meets it: real training of the sample project, from its own copy to a verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.engine_process import query
from tests.project_factory import git

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]  # one demo for all, in one worker


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One demo without a terminal, on three training steps a trial and one seed of calibration."""
    pytest.importorskip("torch", reason="the sample project trains with torch, which is not installed")
    from console.commands.demo import prepare

    project = tmp_path_factory.mktemp("demo") / "a demo's folder"
    prepare(project)
    file = project / "ratchet.toml"
    text = file.read_text().replace("calibrate_seeds = 5", "calibrate_seeds = 2")
    file.write_text(text.replace("[trial]", "[trial]\nsteps = 3", 1))
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", "demo", str(project), "--experiments", "2", "--seed", "5"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(Path.cwd())},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done.stdout


def test_without_a_terminal_it_prints_lines_and_ends_by_itself(demo: tuple[Path, str]) -> None:
    _, out = demo
    assert "no terminal: plain lines" in out
    assert "calibrated: mean" in out and "finished: limit reached: 2 experiments" in out
    assert "\x1b" not in out


def test_the_engine_computes_the_metric_not_the_training_script(demo: tuple[Path, str]) -> None:
    project, _ = demo
    sources = query(project, "SELECT DISTINCT source FROM score WHERE name = 'val_bpb'")
    assert sources == [("evaluated",)]
    assert query(project, "SELECT COUNT(*) FROM trial WHERE outcome = 'ok'")[0][0] >= 3


def test_the_copy_is_a_repository_that_the_campaign_leaves_alone(demo: tuple[Path, str]) -> None:
    project, _ = demo
    assert git(project, "status", "--porcelain") in ("", "M ratchet.toml")
    assert git(project, "log", "--oneline", "main").count("\n") == 0
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", "status", str(project), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    status = json.loads(done.stdout)
    assert status["engine"] is None and status["state"] == "finished"
    assert git(project, "rev-parse", f"ratchet/{status['campaign']}") == status["head"]
