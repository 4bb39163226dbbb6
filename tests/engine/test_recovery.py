"""`kill -9` anywhere, then start again (TRUST.md rows 14, 15, 16, 26, 30)."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from engine import failpoints
from tests.engine.engine_process import assert_sound, finish, output, query, start, until, wait
from tests.project_factory import make_project, runs

pytestmark = pytest.mark.slow


def test_a_kill_at_every_failpoint_loses_nothing_and_runs_nothing_twice(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.1)
    by_a_person = ("review.decided", "stepback.stored")
    calibrating = ("engine.started", "campaign.created", "trials.queued")
    reached = []
    for name in (*calibrating, *(n for n in failpoints.NAMES if n not in (*calibrating, *by_a_person))):
        code = wait(start(project, failpoint=name, experiments=50), project)
        assert code == -signal.SIGKILL, f"{name} was not reached: {output(project)}"
        reached.append(name)
    assert finish(project, experiments=2) == 0, output(project)
    print(f"{len(reached)} failpoints: {assert_sound(tmp_path, project)}")


def test_a_kill_after_a_persons_decision_keeps_the_decision(tmp_path: Path) -> None:
    from engine.inbox import Inbox

    project = make_project(tmp_path, seconds=0.1, review="proposals")
    engine = start(project, failpoint="review.decided", experiments=1)
    row = until(
        lambda: query(project, "SELECT number, revision FROM experiment WHERE state = 'review'"),
        "a proposal in review",
    )[0]
    inbox = Inbox(project / ".ratchet" / "inbox.db")
    inbox.ask("accept", "tester", 0.0, number=row[0], revision=row[1])
    assert wait(engine, project) == -signal.SIGKILL
    again = start(project, experiments=0)
    until(
        lambda: query(project, "SELECT 1 FROM experiment WHERE state = 'settled'"),
        "the accepted proposal's verdict",
    )
    assert wait(again, project) == 0
    assert len(query(project, "SELECT 1 FROM decision WHERE action = 'accept'")) == 1
    assert inbox.get(1).state in ("asleep", "done")  # type: ignore[union-attr]


def test_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    kills = int(os.environ.get("RATCHET_KILLS", "12"))
    seed = int(os.environ.get("RATCHET_KILL_SEED", "20261121"))
    rng = random.Random(seed)
    project = make_project(tmp_path, seconds=0.2)
    for _ in range(kills):
        engine = start(project, experiments=10_000)
        try:
            engine.wait(rng.uniform(0.1, 2.5))
        except Exception:
            engine.send_signal(signal.SIGKILL)
            engine.wait()
    assert finish(project, experiments=2) == 0, output(project)
    print(f"seed {seed}, {kills} random kills: {assert_sound(tmp_path, project)}")


def test_a_running_trial_keeps_its_pid_when_the_engine_is_killed(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=3)
    engine = start(project, experiments=0)
    until(lambda: runs(tmp_path), "the first trial's start")
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    again = start(project, experiments=0)
    assert wait(again, project) == 0, output(project)
    noted = runs(tmp_path)
    assert [what for what, *_ in noted] == ["start", "end"]
    assert noted[0][3] == noted[1][3], "the same process from its start to its end"
    assert query(project, "SELECT COUNT(*) FROM attempt") == [(1,)]


def test_a_trial_that_ended_while_no_engine_lived_is_collected(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=1)
    engine = start(project, experiments=0)
    until(lambda: runs(tmp_path), "the first trial's start")
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    until(lambda: len(runs(tmp_path)) == 2, "the trial's end without an engine")
    assert finish(project, experiments=0) == 0
    assert query(project, "SELECT state, outcome FROM trial") == [("done", "ok")]
    assert len(runs(tmp_path)) == 2


def test_a_killed_job_is_named_lost_and_its_trial_retried(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=2)
    engine = start(project, experiments=0)
    until(lambda: runs(tmp_path), "the first trial's start")
    pid_file = next((project / ".ratchet" / "trials").glob("*/attempt-1/control/pid"))
    pid = int(pid_file.read_text().split()[0])
    assert b"job.sh" in Path(f"/proc/{pid}/cmdline").read_bytes()
    os.kill(pid, signal.SIGKILL)
    assert wait(engine, project) == 0, output(project)
    assert query(project, "SELECT number, state FROM attempt ORDER BY number") == [(1, "lost"), (2, "ended")]
    assert query(project, "SELECT outcome FROM trial") == [("ok",)]
    assert [what for what, *_ in runs(tmp_path)] == ["start", "start", "end"], "the first one never ended"
    events = query(project, "SELECT data FROM event WHERE kind = 'AttemptLost'")
    assert len(events) == 1 and "gone" in events[0][0]


def stop_between_writes(engine: subprocess.Popen[bytes], project: Path) -> None:
    """SIGSTOP at a moment when the engine is in no transaction: what stops inside one locks everybody out."""
    for _ in range(100):
        engine.send_signal(signal.SIGSTOP)
        conn = sqlite3.connect(project / ".ratchet" / "store.db", timeout=0.2, isolation_level=None)
        try:
            conn.execute("BEGIN IMMEDIATE")
            conn.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            engine.send_signal(signal.SIGCONT)
        finally:
            conn.close()
    raise AssertionError("the engine was never between two writes")


def test_an_overtaken_engine_writes_and_launches_nothing_more(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.3)
    first = start(project, experiments=10_000)
    until(lambda: len(runs(tmp_path)) >= 3, "a campaign at work")
    stop_between_writes(first, project)
    second = start(project, experiments=2, take_over=True)
    until(lambda: query(project, "SELECT 1 FROM fence WHERE epoch = 2"), "the second engine's epoch")
    boundary = query(project, "SELECT MAX(id) FROM event WHERE kind = 'EngineStarted'")[0][0]
    first.send_signal(signal.SIGCONT)
    assert wait(first, project) == 1
    assert wait(second, project) == 0, output(project)
    assert "took over" in output(project)
    epochs = query(project, "SELECT DISTINCT epoch FROM attempt ORDER BY epoch")
    assert epochs == [(1,), (2,)]
    stops = query(project, "SELECT data FROM event WHERE kind = 'EngineStopped' AND id > ?", boundary)
    assert [s for s in stops if '"epoch": 1' in s[0]] == [], "the first one wrote after it was fenced"
    print(f"stale writes after the take-over: 0; {assert_sound(tmp_path, project)}")


def test_a_second_engine_is_refused_and_told_who_holds_the_project(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.5)
    first = start(project, experiments=10_000)
    until(lambda: runs(tmp_path), "a campaign at work")
    assert finish(project, experiments=1) == 1
    assert f"an engine (pid {first.pid}) runs this project already" in output(project)
    first.terminate()
    assert wait(first, project) == 0
    assert query(project, "SELECT state FROM trial WHERE state NOT IN ('done', 'queued')") == []
