"""Whole campaigns by real engines on a real Slurm: queues, cancels, requeues, a dead controller, a dead engine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.inbox import Inbox
from engine.store.spending import device_cost
from tests.engine.engine_process import DEADLINE, assert_sound, finish, output, query, start, until, wait
from tests.engine.runners import sshd as sshds
from tests.engine.runners.slurmd import CPUS, Cluster, serve
from tests.project_factory import git, make_project, runs

pytestmark = pytest.mark.slow

USD_PER_HOUR = 3.6
POLL = 0.5
HALF = CPUS // 2  # cores of a trial of which two fill the cluster
OPEN = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
JUDGE = "calibrate_seeds = 4\nconfirm_seeds = 2\nanchor_seeds = 1"
SINGLE = 'mode = "single"\ncalibrate_seeds = 1'
WORDS = "SELECT id, trial, number, reason FROM attempt WHERE state IN ('launched', 'running')"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from serve(tmp_path_factory.mktemp("slurm"))


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """One cluster for all, left without a job."""
    yield shared
    for number in waiting_jobs(shared):
        shared.ask("scancel", number)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of the test's own, whose controller it may kill."""
    yield from serve(tmp_path / "cluster")


def make(
    folder: Path,
    cluster: Cluster,
    *,
    path: Path | None = None,
    seconds: float = 0.3,
    slots: int = 4,
    judge: str = SINGLE,
    ssh: str = "",
    **slurm: Any,
) -> Path:
    """A project whose only host is the cluster; two trials fill it, unless ``cpus_per_task`` says otherwise."""
    options = {"partition": "main", "cpus_per_task": HALF, "poll": POLL, "probe": 20, **slurm}
    options["bin"] = str(path or cluster.bin)
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in options.items())
    host = f'[[hosts]]\nname = "cluster"\nslots = {slots}\nusd_per_hour = {USD_PER_HOUR}\nslurm = {{ {table} }}\n{ssh}'
    project = make_project(folder, seconds=seconds, judge=judge)
    config = project / "ratchet.toml"
    config.write_text(config.read_text().replace("[[hosts]]\nslots = 2\n", host))
    git(project, "commit", "-qam", "a cluster")
    return project


def waiting_jobs(cluster: Cluster) -> list[str]:
    return [number for number, state in cluster.jobs().items() if state in OPEN]


def no_job_is_left(cluster: Cluster) -> None:
    until(lambda: not waiting_jobs(cluster), "the queue to be empty", 20.0)


def jobs_of(cluster: Cluster, project: Path) -> Counter[str]:
    """How often each attempt of a project was submitted, by token."""
    mine = {token for (token,) in query(project, "SELECT token FROM attempt")}
    return Counter(name.removeprefix("ratchet-") for name in cluster.names() if name[8:] in mine)


def job_of(project: Path, directory: str) -> str:
    return (project / ".ratchet" / directory / "control" / "jobid").read_text().strip()


def used(project: Path, directory: str) -> float:
    """Seconds of an attempt's steps, as the job itself wrote them down."""
    path = project / ".ratchet" / directory / "control" / "exit"
    found = re.findall(r"^step (.*)$", path.read_text(), re.MULTILINE) if path.exists() else []
    return sum(float(line.split()[-3]) for line in found)


def assert_charged_once_and_as_used(project: Path) -> str:
    """One closed booking for each attempt, of the seconds that its job's own record has."""
    rate = json.loads(query(project, "SELECT allocation FROM attempt")[0][0])["nano_per_second"]
    seconds = [used(project, directory) for (directory,) in query(project, "SELECT directory FROM attempt")]
    spent = query(project, "SELECT state, spent FROM spend WHERE kind = 'device' ORDER BY id")
    assert [state for state, _ in spent] == ["settled"] * len(seconds), spent
    due = sorted(device_cost(one, rate) for one in seconds)
    assert sorted(amount for _, amount in spent) == due
    return f"{len(seconds)} attempts, {sum(seconds):.2f} s used, ${sum(due) / 1e9:.6f} charged"


@contextmanager
def next_in_line(cluster: Cluster) -> Iterator[str]:
    """Once what runs now has ended, the whole cluster is somebody else's."""
    words = ["--parsable", "--exclusive", "--chdir=/", "--output=/dev/null", "--wrap=sleep 300"]
    number = cluster.ask("sbatch", *words)
    try:
        yield number
    finally:
        cluster.ask("scancel", number)


def ratchet(project: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "console.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return done.stdout + done.stderr


def running(project: Path) -> list[str]:
    return [a for (a,) in query(project, "SELECT directory FROM attempt WHERE state = 'running'")]


def said(project: Path) -> list[str]:
    return [reason for *_, reason in query(project, WORDS)]


# --- 1 ------------------------------------------------------------------------------------------------


def test_a_campaign_on_a_cluster_submits_runs_and_judges_with_one_squeue_a_poll(
    cluster: Cluster, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    path = cluster.shim(tmp_path / "path", {"squeue": f'echo "$*" >>{calls}; exec $REAL "$@"'})
    project = make(tmp_path / "p", cluster, path=path, judge=JUDGE, seconds=0.7)
    began = time.monotonic()
    engine = start(project, experiments=2)
    words: set[str] = set()
    shown = ""
    while engine.poll() is None:
        words |= {reason for *_, reason in query(project, WORDS)}
        if not shown and any(word.startswith("PENDING") for word in said(project)):
            shown = ratchet(project, "hosts") + "\0" + ratchet(project, "status")
        time.sleep(0.05)
    seconds = time.monotonic() - began
    assert wait(engine, project) == 0, output(project)
    print(assert_sound(tmp_path / "p", project))
    print(assert_charged_once_and_as_used(project))
    assert {"PENDING (Resources)", "PENDING (Priority)"} & words and "RUNNING on node7" in words, words
    hosts, _, status = shown.partition("\0")
    assert "PENDING" in hosts and re.search(r"waiting: trial \d+ .* on cluster: PENDING", status), shown
    submitted = jobs_of(cluster, project)
    attempts = query(project, "SELECT COUNT(*) FROM attempt")[0][0]
    assert set(submitted.values()) == {1} and len(submitted) == attempts
    no_job_is_left(cluster)
    polls = [line for line in calls.read_text().splitlines() if "--jobs=" in line]
    most = max(len(re.findall(r"\d+", line.partition("--jobs=")[2].split()[0])) for line in polls)
    print(f"{attempts} jobs in {seconds:.1f} s: {len(polls)} calls of squeue, of up to {most} jobs at once")
    assert most == 4, "all jobs in one call"
    # One each poll, and one more at once when a job was submitted, and when it is first asked about.
    assert len(polls) <= seconds / POLL + 2 * attempts


# --- 2 ------------------------------------------------------------------------------------------------


def test_trials_that_a_person_stops_pending_or_running_leave_the_queue_and_the_campaign_goes_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    project = make(tmp_path, cluster, seconds=2.0)
    of = "SELECT t.id, t.experiment, a.directory FROM trial t JOIN attempt a ON a.trial = t.id"
    done = "SELECT outcome, detail FROM trial WHERE id = ? AND state = 'done'"
    engine = start(project, experiments=4)
    until(lambda: running(project), "the baseline to run")
    with next_in_line(cluster) as somebody:
        until(lambda: cluster.jobs()[somebody] == "RUNNING", "somebody's job to fill the cluster")
        waits = f"{of} WHERE a.state = 'launched' AND a.reason LIKE 'PENDING%'"
        trial, first, directory = until(lambda: query(project, waits), "a job that waits")[0]
        inbox = Inbox(project / ".ratchet" / "inbox.db")
        inbox.ask("stop_trial", "tester", time.time(), trial=trial)
        assert until(lambda: query(project, done, trial), "its end") == [("cancelled", "stopped by tester")]
        until(lambda: cluster.jobs()[job_of(project, directory)] == "CANCELLED", "it to leave the queue")
        assert cluster.jobs()[somebody] == "RUNNING", "while it could not have started"
    claimed = "SELECT COUNT(*) FROM attempt WHERE identity <> ''"
    until(lambda: running(project), "one that runs")
    until(
        lambda: query(project, claimed)[0][0] == sum(what == "start" for what, *_ in runs(tmp_path)), "its program"
    )
    other, second, _ = query(project, f"{of} WHERE a.state = 'running'")[0]
    inbox.ask("stop_trial", "tester", time.time(), trial=other)
    assert until(lambda: query(project, done, other), "its end") == [("cancelled", "stopped by tester")]
    inbox.close()
    assert wait(engine, project) == 0, output(project)
    verdicts = dict(query(project, "SELECT id, verdict FROM experiment"))
    print(verdicts)
    assert verdicts.pop(first) == verdicts.pop(second) == "cancelled" and "keep" in verdicts.values()
    assert not query(project, "SELECT 1 FROM attempt WHERE trial = ? AND identity <> ''", trial), "never started"
    no_job_is_left(cluster)
    print(assert_sound(tmp_path, project), assert_charged_once_and_as_used(project), sep="\n")


# --- 3 ------------------------------------------------------------------------------------------------


@pytest.fixture
def at_its_limit(cluster: Cluster, tmp_path: Path) -> tuple[Path, str, subprocess.Popen[bytes]]:
    """A campaign whose first job Slurm will end at its limit, which it looks at twice a minute; project, job, engine."""
    project = make(tmp_path / "limit", cluster)
    config = project / "ratchet.toml"
    slow_once = f"test -e {tmp_path}/once || {{ : >{tmp_path}/once; sleep 300; }}; python3 train.py"
    text = config.read_text().replace("python3 train.py", slow_once)
    config.write_text(text.replace("timeout_seconds = 30", "timeout_seconds = 400"))
    git(project, "commit", "-qam", "slow, once")
    engine = start(project, experiments=0)
    (directory,) = until(lambda: running(project), "it to run")
    job = job_of(project, directory)
    cluster.ask("scontrol", "update", f"JobId={job}", "EndTime=now")
    return project, job, engine


def test_a_trial_requeued_more_often_than_it_may_be_lost_has_one_verdict_and_is_charged_as_used(
    cluster: Cluster, tmp_path: Path, at_its_limit: tuple[Path, str, subprocess.Popen[bytes]]
) -> None:
    """Beside it, on the other half of the cluster, a job that Slurm ends at its limit: that one is a lost attempt."""
    times = 4
    folder = tmp_path / "requeued"
    project = make(folder, cluster, seconds=1.5, requeue=True)
    engine = start(project, experiments=1)
    live = "SELECT t.id, a.number, a.directory FROM attempt a JOIN trial t ON t.id = a.trial WHERE a.state = 'running'"
    live += " AND t.experiment IS NOT NULL"
    for number in range(1, times + 1):
        until(lambda n=number: sum(what == "start" for what, *_ in runs(folder)) == n + 1, "its program")
        trial, seen, directory = until(lambda: query(project, live), "it to run")[0]
        assert seen == number
        cluster.ask("scontrol", "requeue", job_of(project, directory))
    assert wait(engine, project) == 0, output(project)
    rows = query(project, "SELECT state, reason FROM attempt WHERE trial = ? ORDER BY number", trial)
    assert [state for state, _ in rows] == ["lost"] * times + ["ended"]
    assert all(re.match(r"preempted: .*Restarts=1", reason) for state, reason in rows if state == "lost"), rows
    assert [v for (v,) in query(project, "SELECT verdict FROM experiment")] == ["keep"]
    assert sum(what == "start" for what, *_ in runs(folder)) == 1 + times + 1
    assert len(query(project, "SELECT 1 FROM event WHERE kind = 'VerdictGiven'")) == 1
    print(f"{times} requeues:", assert_charged_once_and_as_used(project))

    project, job, engine = at_its_limit
    assert wait(engine, project) == 0, output(project)
    first, second = query(project, "SELECT state, reason FROM attempt ORDER BY number")
    print(first[1])
    assert first == ("lost", f"Slurm's job {job}: TIMEOUT (TimeLimit)") and second == ("ended", "finished")
    print("at its limit:", assert_charged_once_and_as_used(project))
    no_job_is_left(cluster)


# --- 4 ------------------------------------------------------------------------------------------------


def test_a_limit_that_is_too_short_for_a_trial_is_refused_before_anything_is_submitted(
    cluster: Cluster, tmp_path: Path
) -> None:
    project = make(tmp_path, cluster, time="00:01:00")
    before = cluster.names()
    said = ratchet(project, "run", "--experiments", "1")
    print(said)
    assert "a trial may take 0-00:02:00 with all its deadlines, and the time limit is 0-00:01:00" in said
    assert 'write time = "0-00:02:00" or more' in said
    assert [name for name in cluster.names() if name not in before and "probe" not in name] == []


# --- 5, 6 ---------------------------------------------------------------------------------------------


def busy(project: Path) -> tuple[set[str], set[str]]:
    """Tokens of the attempts that run, and of those that wait in the queue."""
    rows = query(project, "SELECT token, state, reason FROM attempt")
    return (
        {token for token, state, _ in rows if state == "running"},
        {token for token, state, reason in rows if state == "launched" and reason},
    )


def both(project: Path) -> set[str]:
    ours, theirs = busy(project)
    return ours | theirs if len(ours) == 2 and len(theirs) == 2 else set()


def test_a_controller_that_is_killed_with_jobs_running_and_pending_loses_none(
    own: Cluster, tmp_path: Path
) -> None:
    project = make(tmp_path / "p", own, judge=JUDGE, seconds=3.0)
    engine = start(project, experiments=0)
    tokens = until(lambda: both(project), "two that run and two that wait")
    own.save_state()
    own.kill_controller()
    until(lambda: any("squeue: " in words for words in said(project)), "it to be missed")
    own.start_controller()
    assert wait(engine, project) == 0, output(project)
    print(assert_sound(tmp_path / "p", project), assert_charged_once_and_as_used(project), sep="\n")
    ended = {
        token for (token,) in query(project, "SELECT token FROM attempt WHERE state = 'ended' AND number = 1")
    }
    submitted = jobs_of(own, project)
    assert tokens <= ended and not query(project, "SELECT 1 FROM attempt WHERE number > 1")
    assert set(submitted.values()) == {1}
    no_job_is_left(own)


def test_an_engine_that_is_killed_with_jobs_running_and_pending_finds_them_on_a_full_cluster(
    cluster: Cluster, tmp_path: Path
) -> None:
    """No node is free to prove anything: what one has proved before still holds, and so does the protocol."""
    project = make(tmp_path, cluster, judge=JUDGE, seconds=3.0, probe=2)
    config = project / "ratchet.toml"
    config.write_text(config.read_text().replace("require = []", 'require = ["processes"]'))
    git(project, "commit", "-qam", "containment")
    engine = start(project, experiments=0)
    tokens = until(lambda: both(project), "two that run and two that wait")
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    with next_in_line(cluster):
        again = start(project, experiments=0)
        until(lambda: query(project, "SELECT 1 FROM event WHERE kind = 'EngineStarted' AND id > 1"), "it to start")
        until(
            lambda: len(
                query(project, "SELECT 1 FROM host WHERE state = 'ready' AND containment LIKE '%earlier%'")
            ),
            "it",
        )
    assert wait(again, project) == 0, output(project)
    print(assert_sound(tmp_path, project), assert_charged_once_and_as_used(project), sep="\n")
    ended = {
        token for (token,) in query(project, "SELECT token FROM attempt WHERE state = 'ended' AND number = 1")
    }
    assert tokens <= ended and not query(project, "SELECT 1 FROM attempt WHERE number > 1")
    assert len(query(project, "SELECT 1 FROM protocol")) == 1, "nothing is measured anew"
    assert set(jobs_of(cluster, project).values()) == {1}
    no_job_is_left(cluster)


# --- 7 ------------------------------------------------------------------------------------------------


def test_one_pilot_serves_a_campaign_of_ten_trials_and_more_and_then_ends(
    cluster: Cluster, tmp_path: Path
) -> None:
    before = cluster.names()
    project = make(
        tmp_path, cluster, judge=JUDGE, slots=3, cpus_per_task=1, pilot=True, time="01:00:00", idle=2, seconds=0.2
    )
    assert finish(project, experiments=2) == 0, output(project)
    print(assert_sound(tmp_path, project), assert_charged_once_and_as_used(project), sep="\n")
    trials = query(project, "SELECT COUNT(*) FROM attempt WHERE state = 'ended' AND identity <> ''")[0][0]
    submitted = [name for name in cluster.names() if name not in before and "probe" not in name]
    print(f"{trials} trials, {len(submitted)} jobs: {trials / len(submitted):.0f} trials a job")
    assert trials >= 10 and len(submitted) == 1 and submitted[0].startswith("ratchet-pilot-")
    no_job_is_left(cluster)  # by itself: the engine is gone


# --- 8 ------------------------------------------------------------------------------------------------


def test_a_queue_that_fails_or_says_nothing_makes_nothing_lost_and_nothing_run_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    down, asked = tmp_path / "down", tmp_path / "asked"
    script = f'if [ -e {down} ]; then echo "${{0##*/}} $(cat {down})" >>{asked}; . {down}; fi\nexec $REAL "$@"'
    path = cluster.shim(tmp_path / "path", {"squeue": script, "scontrol": script})
    project = make(tmp_path / "p", cluster, path=path, judge=JUDGE, seconds=6.0)
    engine = start(project, experiments=0)
    tokens = until(lambda: both(project), "two that run and two that wait")

    def withheld() -> Counter[str]:
        return Counter(asked.read_text().splitlines()) if asked.exists() else Counter()

    for silence in ("exit 1", "exit 0"):
        down.write_text(silence)
        until(lambda said=silence: withheld()[f"squeue {said}"] >= 4, "four polls")
        assert set.union(*busy(project)) == tokens, "all of it in the middle of them"
    down.unlink()
    assert wait(engine, project) == 0, output(project)
    again = query(project, "SELECT COUNT(*) FROM attempt WHERE state = 'lost' OR number > 1")[0][0]
    print(f"withheld: {dict(withheld())}; {again} lost or run again;", assert_sound(tmp_path / "p", project))
    assert again == 0 and set(jobs_of(cluster, project).values()) == {1}
    no_job_is_left(cluster)


# --- as at a site ---------------------------------------------------------------------------------------


def test_a_site_whose_commands_need_slurm_conf_is_served_from_its_login_node(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cluster.by_conf(tmp_path / "path")
    project = make(tmp_path / "p", cluster, path=path)
    monkeypatch.delenv("SLURM_CONF", raising=False)
    assert finish(project, experiments=0) != 0 and "sinfo" in output(project), "there is no cluster but by that"
    monkeypatch.setenv("SLURM_CONF", f"{cluster.folder}/slurm.conf")
    assert finish(project, experiments=1) == 0, output(project)
    print(assert_sound(tmp_path / "p", project))
    looked = ratchet(project, "doctor")
    print(looked)
    looked = " ".join(looked.split())
    for words in ("cluster: Slurm partition main is up; trials at once: 4", "cluster: containment unshare"):
        assert f"ok {words}" in looked
    assert "a node sees" in looked and "logind" not in looked.partition("cluster: ")[2]


def test_a_campaign_through_a_login_node_over_ssh(cluster: Cluster, tmp_path: Path) -> None:
    """Its login files, not ours, say where the cluster is."""
    with contextmanager(sshds.serve)(tmp_path / "sshd") as server:
        server.login = f"export SLURM_CONF={cluster.folder}/slurm.conf"
        server.start()
        ssh = f'ssh = "{" ".join(server.client())} box"\ndirectory = "~/trials"\n'
        project = make(tmp_path / "p", cluster, path=cluster.by_conf(tmp_path / "path"), ssh=ssh)
        assert finish(project, experiments=1) == 0, output(project)
        print(assert_sound(tmp_path / "p", project))
        logs = query(project, "SELECT directory FROM attempt")
        assert all(b"val_loss" in (project / ".ratchet" / d / "control" / "log").read_bytes() for (d,) in logs)
        no_job_is_left(cluster)
