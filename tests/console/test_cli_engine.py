"""start, stop, pause, resume, Ctrl-C: real engines in processes of their own, ended through the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.ratchet_command import COMMAND, begin, data, living_in, ratchet, untouched, well
from tests.engine.engine_process import assert_sound, query, until
from tests.project_factory import git, make_project, runs

LONG = 60.0  # seconds of a trial that only ends when somebody ends it


@pytest.fixture
def projects(tmp_path: Path) -> Iterator[list[Path]]:
    """Projects whose engines are stopped at the end, however the test ends."""
    made: list[Path] = []
    yield made
    for project in made:
        ratchet("stop", at=project)
        assert not living_in(project), "a process outlived its engine"


def training(project: Path) -> list[tuple[object, ...]]:
    """Attempts that have claimed their directory and not ended."""
    return query(project, "SELECT trial, number FROM attempt WHERE state = 'running'")


def test_an_engine_outlives_the_terminal_that_started_it(tmp_path: Path, projects: list[Path]) -> None:
    project = make_project(tmp_path, seconds=LONG)
    projects.append(project)
    # A session leader with the command in it, ended as a terminal ends it: hang-up to everybody.
    shell = subprocess.Popen(
        ["sh", "-c", '"$@" start; echo started; sleep 600', "sh", *COMMAND],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    first = shell.stdout.readline()
    found = re.search(r"engine started \(pid (\d+)\)", first)
    assert found, first
    assert shell.stdout.readline() == "started\n"
    os.killpg(shell.pid, signal.SIGHUP)
    assert shell.wait(30) == -signal.SIGHUP
    until(lambda: training(project), "a trial to run")
    engine = data("status", at=project)["engine"]
    assert engine["pid"] == int(found[1]) and engine["ready"]
    again = ratchet("start", at=project)
    assert again.returncode == 3 and f"pid {found[1]}" in again.stderr
    second = ratchet("run", at=project)
    assert second.returncode == 1 and f"pid {found[1]}" in second.stderr


def test_stop_ends_the_trials_and_the_next_start_runs_them_again(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=LONG)
    before = untouched(project)
    well("start", "--experiments", "1", at=project)
    until(lambda: len(training(project)) == 2, "both slots to be used")
    assert living_in(project)
    assert "engine stopped" in well("stop", at=project)
    assert not living_in(project), "stop ended what ran"
    trials = query(project, "SELECT state, outcome FROM trial")
    assert trials and all(row == ("queued", None) for row in trials), trials
    assert ratchet("stop", at=project).returncode == 3
    seeds = {row[0] for row in query(project, "SELECT seed FROM trial")}
    assert {k: v for k, v in untouched(project).items() if k != "refs"} == {
        k: v for k, v in before.items() if k != "refs"
    }
    well("start", at=project)
    until(lambda: len(training(project)) == 2, "the same trials to run again")
    assert {row[0] for row in query(project, "SELECT seed FROM trial")} == seeds
    numbers = {row[0] for row in query(project, "SELECT MAX(number) FROM attempt GROUP BY trial")}
    assert numbers == {2}, "each is a second attempt of the same trial"
    well("stop", at=project)


def test_trials_left_to_themselves_are_collected_by_the_next_run(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=2.0)
    well("start", "--experiments", "1", at=project)
    until(lambda: training(project), "a trial to run")
    well("stop", "--leave-trials", at=project)
    before = {row[0] for row in query(project, "SELECT id FROM attempt")}
    done = ratchet("run", "--experiments", "0", at=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not query(project, "SELECT 1 FROM attempt WHERE state NOT IN ('ended', 'lost')")
    assert all(n == 1 for (n,) in query(project, "SELECT COUNT(*) FROM attempt GROUP BY trial")), (
        "none was run twice"
    )
    assert before
    assert_sound(tmp_path, project)


def test_a_paused_campaign_starts_nothing_until_it_is_resumed(tmp_path: Path, projects: list[Path]) -> None:
    project = make_project(tmp_path, seconds=0.3)
    projects.append(project)
    well("start", at=project)
    until(lambda: query(project, "SELECT 1 FROM experiment WHERE verdict IS NOT NULL"), "a verdict")
    assert "paused" in well("pause", at=project)
    shape = data("status", at=project)
    assert shape["state"] == "paused" and shape["pause_reason"].startswith("paused by ")
    until(lambda: not training(project), "what ran to end")
    assert not query(project, "SELECT 1 FROM trial WHERE state = 'running'")
    started = len(runs(tmp_path))
    assert "running" in well("resume", "-C", str(project), at=tmp_path)
    until(lambda: len(runs(tmp_path)) > started, "trials to start again")
    assert data("status", at=project)["state"] == "running"


def test_a_persons_pause_outlives_the_engine_and_the_next_run_says_so(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.05)
    well("start", at=project)
    well("pause", at=project)
    well("stop", at=project)
    process = begin("run", "--experiments", "1", at=project)
    try:
        assert process.stdout is not None
        line = until(process.stdout.readline, "the first line")
        assert "PAUSED: paused by" in line and "`ratchet resume" in line
        well("resume", at=project)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "engine stopped: limit reached" in said, said


def test_a_persons_pause_does_not_end_a_foreground_run(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.3)
    process = begin("run", "--experiments", "3", at=project)
    try:
        until(lambda: training(project), "a trial to run")
        well("pause", at=project)
        until(lambda: not training(project), "what ran to end")
        assert process.poll() is None
        well("resume", at=project)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "PAUSED: paused by" in said and "engine stopped: limit reached: 3 experiments" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_cleanly_with_its_trials(tmp_path: Path, number: signal.Signals, code: int) -> None:
    project = make_project(tmp_path, seconds=LONG)
    process = begin("run", at=project)
    try:
        until(lambda: len(training(project)) == 2, "both slots to be used")
        assert any("train.py" in line for line in living_in(project))
        os.killpg(process.pid, number)  # as a terminal does: the whole group in the foreground
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code, said
    assert "engine stopped: " in said and "Traceback" not in said
    assert not living_in(project), "no process of a trial is left"
    assert all(row == ("queued",) for row in query(project, "SELECT state FROM trial"))
    assert data("status", at=project)["engine"] is None
    assert git(project, "status", "--porcelain") == ""


def test_a_second_interrupt_does_not_wait_for_a_trial_that_will_not_end(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=1.0)
    script = project / "train.py"
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    script.write_text(deaf + script.read_text())
    git(project, "commit", "-qam", "deaf to the polite signal")
    process = begin("run", "--experiments", "0", at=project)
    try:
        until(lambda: training(project), "a trial to run")
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert ratchet("run", "--experiments", "0", at=project).returncode == 0
    assert not query(project, "SELECT 1 FROM attempt WHERE state NOT IN ('ended', 'lost')")
    # Who asked it to end may have been gone before it did: then it was cancelled, and another seed took its place.
    ended = query(project, "SELECT state, outcome FROM trial")
    assert ended.count(("done", "ok")) == 1 and set(ended) <= {("done", "ok"), ("done", "cancelled")}


def test_an_interrupt_while_the_engine_is_still_opening_ends_it(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    config = project / "ratchet.toml"
    config.write_text(config.read_text().replace("[environment]", '[environment]\nsetup = "sleep 60"'))
    git(project, "commit", "-qam", "slow setup")
    process = begin("run", at=project)
    try:
        until(lambda: living_in(project / ".ratchet" / "environments"), "the setup to run")
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not living_in(project)
    assert not query(project, "SELECT 1 FROM campaign")


def test_a_limit_ends_a_run_with_0_and_the_next_run_goes_on(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.05)
    first = well("run", "--experiments", "1", "--seed", "7", at=project)
    assert "engine stopped: limit reached: 1 experiments" in first and "seed 7" in first
    second = well("run", "--experiments", "1", at=project)
    assert "calibrated" not in second, "the baseline is measured once"
    assert [row["number"] for row in data("history", at=project)] == [1, 2]
    assert_sound(tmp_path, project)
