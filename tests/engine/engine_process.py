"""Real engine processes for tests: start, kill, wait; and what must hold of store, refs and runs after."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.project_factory import git, runs

DEADLINE = 60.0
STARTED: list[subprocess.Popen[bytes]] = []  # by the test that runs now; conftest ends what it leaves behind


def start(project: Path, failpoint: str = "", **order: Any) -> subprocess.Popen[bytes]:
    """A detached-like engine over ``project``; its output goes to ``project``/../engine-output."""
    environment = {**os.environ, "RATCHET_FAILPOINT": failpoint}
    with (project.parent / "engine-output").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.service", json.dumps({"project": str(project), **order})],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    STARTED.append(process)
    return process


def end_leftovers() -> None:
    """End the engines that a failed test left running; their trials end with them."""
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait(process: subprocess.Popen[bytes], project: Path) -> int:
    try:
        return process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        raise AssertionError(f"the engine did not end:\n{output(project)}") from None


def finish(project: Path, **order: Any) -> int:
    return wait(start(project, **order), project)


def output(project: Path) -> str:
    return (project.parent / "engine-output").read_text(errors="replace")[-4000:]


def until(condition: Any, what: str, seconds: float = DEADLINE) -> Any:
    """Poll a real process's traces; returns the condition's value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s in vain for: {what}")


def query(project: Path, sql: str, *args: object) -> list[tuple[Any, ...]]:
    path = project / ".ratchet" / "store.db"
    if not path.exists():
        return []
    conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
    try:
        return conn.execute(sql, args).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    finally:
        conn.close()


def assert_sound(folder: Path, project: Path) -> str:
    """Nothing lost, nothing run twice, store and refs agree. Returns the figures in a line."""
    trials = query(project, "SELECT id, state, outcome FROM trial")
    assert all(state == "done" for _, state, _ in trials), trials
    assert not query(project, "SELECT number, state FROM experiment WHERE state <> 'settled'")
    lost = query(project, "SELECT trial FROM attempt WHERE state NOT IN ('ended', 'lost')")
    assert not lost, f"attempts without an end: {lost}"
    for trial, ended in query(project, "SELECT trial, SUM(state = 'ended') FROM attempt GROUP BY trial"):
        assert ended == 1, f"trial {trial} ended {ended} times"
    twice = [k for k, n in Counter((p, s) for what, p, s, _ in runs(folder) if what == "start").items() if n > 1]
    assert not twice, f"run twice: {twice}"
    starts = sum(what == "start" for what, *_ in runs(folder))
    # One that was cancelled may have ended before its script began.
    claims = "SELECT COUNT(*), SUM(reason <> 'cancelled') FROM attempt WHERE identity <> ''"
    claimed, sure = query(project, claims)[0]
    assert (sure or 0) <= starts <= claimed, (sure, starts, claimed)
    keeps = query(project, "SELECT k.sha FROM keep k ORDER BY k.id")
    name, head = query(project, "SELECT c.name, l.head FROM campaign c JOIN line l ON l.campaign = c.id")[0]
    assert git(project, "rev-parse", f"refs/ratchet/{name}/head") == head
    assert git(project, "rev-parse", f"refs/heads/ratchet/{name}") == head
    baseline = git(project, "rev-parse", f"refs/ratchet/{name}/baseline")
    commits = git(project, "rev-list", "--reverse", f"{baseline}..{head}").split()
    assert commits == [k[0] for k in keeps], "one commit a keep, in order"
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "rev-parse", "HEAD") == git(project, "rev-parse", "main")
    experiments = query(project, "SELECT COUNT(*) FROM experiment")[0][0]
    return (
        f"{experiments} experiments, {starts} runs, {len(keeps)} keeps: 0 lost, 0 run twice, refs and store agree"
    )
