"""Real engines over two hosts on this machine, killed with trials on both: every trial is found again."""

from __future__ import annotations

import contextlib
import random
import signal
from pathlib import Path

import pytest

from tests.engine.engine_process import assert_sound, finish, output, query, start, until, wait
from tests.engine.runners.sshd import serve
from tests.project_factory import git, make_project, runs

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


def test_a_campaign_over_this_machine_and_one_over_ssh_survives_a_kill_and_the_servers_absence(
    tmp_path: Path,
) -> None:
    with contextlib.contextmanager(serve)(tmp_path / "sshd") as sshd:
        sshd.start()
        options = " ".join(sshd.client())
        far = f'\n[[hosts]]\nname = "far"\nssh = "{options} box"\ndirectory = "~/trials"\nslots = 2\n'
        judge = "calibrate_seeds = 4\nconfirm_seeds = 2\nanchor_seeds = 1"
        project = make_project(tmp_path, judge=judge, config=far, seconds=3.0)
        config = project / "ratchet.toml"
        # Built on each host, in its own place; the trial says which one it found.
        setup = 'setup = \'mkdir -p "$VIRTUAL_ENV/bin" && echo built >"$VIRTUAL_ENV/mark"\'\n'
        config.write_text(config.read_text().replace("[environment]\n", f"[environment]\n{setup}"))
        git(project, "commit", "-aqm", "an environment")
        engine = start(project, experiments=1)
        until(lambda: {host for host, _ in query(project, RUNNING)} == {"local", "far"}, "trials on both hosts")
        before = set(query(project, RUNNING))
        engine.send_signal(signal.SIGKILL)
        engine.wait()
        assert finish(project, experiments=1) == 0, output(project)
        print(assert_sound(tmp_path, project))
        ended = query(project, "SELECT host, identity FROM attempt WHERE state = 'ended' AND identity <> ''")
        assert before <= set(ended)
        assert len(list(sshd.home.glob("trials/*/trials/*/attempt-1/control/exit"))) >= 2
        marks = list(sshd.home.glob("trials/*/environments/*/venv/mark"))
        assert [mark.read_text() for mark in marks] == ["built\n"], "the environment was built there, once"
        logs = query(project, "SELECT a.directory FROM attempt a WHERE a.host = 'far' AND a.identity <> ''")
        texts = [(project / ".ratchet" / d / "control" / "log").read_text() for (d,) in logs]
        assert texts and all("val_loss" in text for text in texts), "its logs are at hand here"
        readings = {host for (host,) in query(project, "SELECT DISTINCT host FROM reading")}
        assert readings == {"local", "far"}
        sshd.stop()
        again = start(project, experiments=2)
        until(lambda: ("far", "away") in query(project, "SELECT name, state FROM host"), "it to be set aside")
        assert wait(again, project) == 0, output(project)
        assert_sound(tmp_path, project)
