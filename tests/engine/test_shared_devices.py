"""Real engines of two projects on one device: one shares it among its own trials, the other wants it whole."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runners.launcher import LOCK_DIRECTORY
from tests.engine.engine_process import output, query, start, wait
from tests.project_factory import git, make_project

pytestmark = pytest.mark.slow

SMI = """#!/bin/sh
case $* in
*compute-apps*) ;;
*driver_version*) echo '{device}, 0, NVIDIA H200, 143771, 570.86.15' ;;
*) exec sleep 600 ;;
esac
"""
NOTE = """
import os, time
def spell(what):
    with open("{notes}", "a") as file:
        file.write(f"{{time.monotonic()}} {who} {{what}} {{os.environ['CUDA_VISIBLE_DEVICES']}}\\n")
"""


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A device that no other test has: the locks are this machine's own."""
    found = f"GPU-{uuid.uuid4()}"
    (directory := tmp_path / "bin").mkdir()
    (directory / "nvidia-smi").write_text(SMI.format(device=found))
    (directory / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield found
    for lock in Path(f"{LOCK_DIRECTORY}.{os.getuid()}").glob(f"{found}@*"):
        shutil.rmtree(lock)


def project_of(folder: Path, who: str, host: str, seconds: float = 0.5, seeds: int = 4) -> Path:
    project = make_project(folder / who, seconds=seconds, judge=f"calibrate_seeds = {seeds}\nconfirm_seeds = 1")
    config = project / "ratchet.toml"
    config.write_text(config.read_text().replace("slots = 2", host))
    script = project / "train.py"
    told = NOTE.format(notes=folder / "notes", who=who) + script.read_text()
    script.write_text(
        told.replace('note("start")', 'note("start"); spell("+")').replace(
            'note("end")', 'spell("-"); note("end")'
        )
    )
    git(project, "commit", "-aqm", "says when it runs, and on what")
    return project


def test_one_that_shares_a_device_and_one_that_wants_it_whole_never_run_at_the_same_time(
    tmp_path: Path, device: str
) -> None:
    shared = project_of(tmp_path, "shared", "trials_per_device = 2")
    whole = project_of(tmp_path, "whole", "")
    engines = [(project, start(project, experiments=2)) for project in (shared, whole)]
    for project, engine in engines:
        assert wait(engine, project) == 0, output(project)
        assert query(project, "SELECT DISTINCT state FROM trial") == [("done",)]
    lines = sorted((tmp_path / "notes").read_text().splitlines(), key=lambda line: float(line.split()[0]))
    running, most = {"shared": 0, "whole": 0}, {"shared": 0, "whole": 0}
    for _, who, what, visible in map(str.split, lines):
        assert visible == device
        running[who] += 1 if what == "+" else -1
        most[who] = max(most[who], running[who])
        assert not (running["shared"] and running["whole"]), "two projects on one device"
    print(f"{len(lines) // 2} runs; most at once: {most}")
    assert most == {"shared": 2, "whole": 1}
    assert len(lines) == 2 * sum(
        len(query(p, "SELECT 1 FROM trial WHERE outcome = 'ok'")) for p in (shared, whole)
    )
    slots = {slot for (slot,) in query(shared, "SELECT DISTINCT slot FROM attempt WHERE identity <> ''")}
    assert slots == {"gpu0.1", "gpu0.2"}
    kinds = query(shared, "SELECT DISTINCT hardware FROM trial WHERE outcome = 'ok'")
    assert kinds == [("NVIDIA H200 x 1, driver 570.86.15, 1 of 2 sharing",)]
    assert query(whole, "SELECT DISTINCT hardware FROM trial WHERE outcome = 'ok'") == [
        ("NVIDIA H200 x 1, driver 570.86.15",)
    ]
    seconds = (
        "SELECT s.value, t.seconds FROM score s JOIN trial t ON t.id = s.trial WHERE s.name = 'device_seconds'"
    )
    assert all(held == pytest.approx(took / 2) for held, took in query(shared, seconds))
    assert all(held == pytest.approx(took) for held, took in query(whole, seconds))


def test_a_change_of_the_cut_measures_anew(tmp_path: Path, device: str) -> None:
    """A score beside a neighbour is no score of a whole device."""
    project = project_of(tmp_path, "one", "slots = 1", 0.1, 2)
    assert wait(start(project, experiments=1), project) == 0, output(project)
    config = project / "ratchet.toml"
    config.write_text(config.read_text().replace("slots = 1", "slots = 2\ntrials_per_device = 2"))
    assert wait(start(project, experiments=1), project) == 0, output(project)
    kinds = dict(
        query(project, "SELECT protocol, MIN(hardware) FROM trial WHERE outcome = 'ok' GROUP BY protocol")
    )
    assert list(kinds.values()) == [
        "NVIDIA H200 x 1, driver 570.86.15",
        "NVIDIA H200 x 1, driver 570.86.15, 1 of 2 sharing",
    ]
    both = "SELECT MAX(n) FROM (SELECT COUNT(DISTINCT hardware) AS n FROM trial WHERE outcome = 'ok' GROUP BY protocol)"
    assert query(project, both) == [(1,)]
