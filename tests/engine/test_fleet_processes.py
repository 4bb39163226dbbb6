"""Real engines over two hosts on this machine, killed with trials on both: every trial is found again."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.engine.engine_process import assert_sound, finish, output, query, start, until, wait
from tests.project_factory import make_project, runs

pytestmark = pytest.mark.slow

FAR = '\n[[hosts]]\nname = "far"\ndirectory = "{place}"\nslots = 2\n'
RUNNING = "SELECT a.host, a.identity FROM attempt a JOIN trial t ON t.id = a.trial WHERE a.state = 'running'"


def two_hosts(folder: Path, **more: object) -> Path:
    judge = "calibrate_seeds = 4\nconfirm_seeds = 2\nanchor_seeds = 1"
    config = FAR.format(place=folder / "far")
    return make_project(folder, judge=judge, config=config, **more)  # type: ignore[arg-type]


def test_a_kill_with_trials_on_two_hosts_loses_none_and_runs_none_twice(tmp_path: Path) -> None:
    project = two_hosts(tmp_path, seconds=3.0)
    engine = start(project, experiments=1)
    until(lambda: {host for host, _ in query(project, RUNNING)} == {"local", "far"}, "trials on both hosts")
    before = set(query(project, RUNNING))
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    assert finish(project, experiments=1) == 0, output(project)
    print(assert_sound(tmp_path, project))
    ended = query(project, "SELECT host, identity FROM attempt WHERE state = 'ended' AND identity <> ''")
    assert before <= set(ended), "each came to its end as the process that it was"
    assert len(query(project, "SELECT 1 FROM attempt WHERE number > 1")) == 0
    there = list((tmp_path / "far").glob("*/trials/*/attempt-1/control/exit"))
    assert there, "the second host has its trials under its own directory"
    logs = query(project, "SELECT a.directory FROM attempt a WHERE a.host = 'far' AND a.identity <> ''")
    assert all((project / ".ratchet" / d / "control" / "log").read_bytes() for (d,) in logs), "logs are at hand"


def test_kills_at_random_moments_with_two_hosts_lose_nothing(tmp_path: Path) -> None:
    seed = 20261122
    rng = random.Random(seed)
    project = two_hosts(tmp_path, seconds=0.4)
    for _ in range(6):
        engine = start(project, experiments=10_000)
        try:
            engine.wait(rng.uniform(1.0, 3.0))
        except Exception:
            engine.send_signal(signal.SIGKILL)
            engine.wait()
    assert finish(project, experiments=2) == 0, output(project)
    print(f"seed {seed}: {assert_sound(tmp_path, project)}")
    assert {what for what, *_ in runs(tmp_path)} == {"start", "end"}
    assert {h for (h,) in query(project, "SELECT DISTINCT host FROM attempt")} == {"local", "far"}


def test_a_host_that_cannot_be_opened_is_set_aside_and_one_that_vanished_from_the_file_is_asked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "far").write_text("a file where the directory should be")
    project = two_hosts(tmp_path, seconds=0.2)
    assert finish(project, experiments=1) == 0, output(project)
    rows = dict(query(project, "SELECT name, state FROM host"))
    assert rows == {"local": "ready", "far": "away"}
    assert query(project, "SELECT 1 FROM event WHERE kind = 'Warned' AND data LIKE '%host far is set aside%'")
    # Killed with a trial on a host, which then is taken out of the file.
    (tmp_path / "far").unlink()
    engine = start(project, experiments=100)
    until(lambda: "far" in {host for host, _ in query(project, RUNNING)}, "a trial there")
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    config = project / "ratchet.toml"
    whole = config.read_text()
    config.write_text(whole[: whole.index('\n[[hosts]]\nname = "far"')])
    assert wait(start(project, experiments=0), project) == 2
    assert "may still run on host 'far'" in output(project)
    config.write_text(whole)
    assert finish(project, experiments=0) == 0, output(project)
    assert_sound(tmp_path, project)
