"""job.sh against candidates that will not end, will not fit, or will not stop talking."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

import pytest
from runner_bench import Bench, exited, log_of, processes_with

from engine.runners import LogChunk, LogSkipped, Lost
from engine.runners.following import LOG_TAIL_BYTES, log_head_bytes
from engine.runners.launcher import job_script

JOB = Path(__file__).parents[3] / "engine" / "runners" / "job.sh"


def marked() -> str:
    """A command's unmistakable name in the process list: a sleep of an odd length."""
    return f"300.{uuid.uuid4().int % 10**15:015d}"


def stubborn(mark: str, times: int = 1) -> str:
    """Ignores TERM, double-forks, takes its own session, wipes its environment, in all combinations."""
    inner = f"trap '' TERM; sleep {mark} & wait; sleep {mark}"
    return f"""
        trap '' TERM
        for i in $(seq {times}); do
            (setsid sh -c "{inner}" &)
            (env -i PATH="$PATH" setsid sh -c "{inner}" &)
            (sh -c "{inner}" &)
        done
        sleep 0.2; echo up; sleep {mark}
    """


async def test_deadline_ends_all_of_a_candidate_that_ignores_it_and_flees(each_rung: Bench) -> None:
    mark = marked()
    plan = await each_rung.plan(stubborn(mark, 5), timeout=1.0)
    await each_rung.host.launch(plan)
    await each_rung.until(plan.directory, b"up\n")
    before = len(processes_with(mark))
    assert before >= 31
    end = exited(await each_rung.follow(plan.directory))
    alive = processes_with(mark)
    print(f"{before} processes, {len(alive)} alive at exit; {end.steps[0].seconds - 1.0:+.2f} s late")
    assert end.reason == "timeout" and end.steps[0].code == 128 + signal.SIGKILL
    assert alive == []


async def test_fifty_escapees_of_a_namespace_are_dead_at_its_end(bench: Bench) -> None:
    """Those that leave no trace either: no token, no log."""
    if bench.host.containment.kind == "sweep":
        pytest.skip("this machine allows no namespace: " + str(bench.host.containment.refused))
    mark = marked()
    command = f"""
        for i in $(seq 50); do
            (env -i setsid sh -c "trap '' TERM; exec >/dev/null 2>&1; sleep {mark} & wait" &)
        done
        while [ "$(grep -slzxF -e {mark} /proc/[0-9]*/cmdline | wc -l)" -lt 50 ]; do sleep 0.05; done
        echo up; sleep 300
    """
    plan = await bench.plan(command)
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    before = len(processes_with(f"sleep\0{mark}"))
    await bench.host.cancel(plan.directory)
    assert exited(await bench.follow(plan.directory)).reason == "cancelled"
    after = processes_with(mark)
    print(f"{before} escapees, {len(after)} alive at exit")
    assert before == 50 and after == []


@pytest.mark.parametrize("wrap", ["best rung", "sweep", "forking wrapper"])
async def test_a_step_may_end_in_peace_within_its_grace(bench: Bench, wrap: str) -> None:
    if wrap != "best rung":
        bench.wrap = (str(shutil.which("setsid")), "--fork", "--wait") if wrap == "forking wrapper" else ()
    command = "trap 'echo saved; exit 5' TERM; echo up; while :; do sleep 0.1; done"
    plan = await bench.plan(command, kill_grace_seconds=20.0)
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    await bench.host.cancel(plan.directory)
    items = await bench.follow(plan.directory)
    assert exited(items).steps[0].code == 5, log_of(items)
    assert b"saved\n" in log_of(items)


async def test_what_a_step_leaves_behind_is_gone_before_the_next(each_rung: Bench) -> None:
    mark = marked()
    plan = await each_rung.plan(
        f"(setsid sh -c 'while sleep 0.05; do echo {mark} >>../beats; done' &); sleep 0.3",
        "one=$(wc -c <../beats); sleep 0.3; echo $((one > 0)) $(($(wc -c <../beats) - one))",
    )
    items = await each_rung.run(plan)
    assert log_of(items) == b"1 0\n"
    assert processes_with(mark) == []


async def test_a_sweep_spares_bystanders(bench: Bench) -> None:
    """Another attempt's token may begin with ours, and a person may be reading the log."""
    bench.wrap = ()
    plan = await bench.plan("echo up; sleep 300")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    log = str(Path(plan.directory, "control", "log"))
    bystanders = [
        subprocess.Popen(["sleep", "300"], env={**os.environ, "RATCHET_ATTEMPT_TOKEN": plan.token + "0"}),
        subprocess.Popen(["sleep", "300"], env={**os.environ, "X_RATCHET_ATTEMPT_TOKEN": plan.token}),
        subprocess.Popen(["tail", "-f", log], stdout=subprocess.DEVNULL),
        subprocess.Popen(["sleep", "300"], cwd=Path(plan.directory, "work")),
    ]
    try:
        await bench.host.cancel(plan.directory)
        assert exited(await bench.follow(plan.directory)).reason == "cancelled"
        assert [process.poll() for process in bystanders] == [None] * 4
    finally:
        for process in bystanders:
            process.kill()
            process.wait()


async def test_killing_the_job_is_lost_and_leaves_nothing(each_rung: Bench) -> None:
    mark = marked()
    plan = await each_rung.plan(stubborn(mark))
    await each_rung.host.launch(plan)
    started = await each_rung.until(plan.directory, b"up\n")
    pid = int(started.identity.split()[0])
    watcher = int(Path(plan.directory, "control", "watcher").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    items = await each_rung.follow(plan.directory)
    assert isinstance(items[-1], Lost) and str(pid) in items[-1].reason, items[-1]
    assert log_of(items) == b"up\n"
    assert processes_with(mark) == []
    assert watcher not in processes_with("job.sh")


async def test_a_killed_jobs_candidate_dies_even_with_no_engine_to_notice(each_rung: Bench) -> None:
    mark = marked()
    plan = await each_rung.plan(stubborn(mark), timeout=1000.0)
    await each_rung.host.launch(plan)
    started = await each_rung.until(plan.directory, b"up\n")
    os.kill(int(started.identity.split()[0]), signal.SIGKILL)
    await each_rung.wait_for(lambda: not processes_with(mark))


async def test_a_stopped_job_is_not_lost(bench: Bench) -> None:
    plan = await bench.plan("echo up; sleep 1; echo down")
    await bench.host.launch(plan)
    started = await bench.until(plan.directory, b"up\n")
    pid = int(started.identity.split()[0])
    os.kill(pid, signal.SIGSTOP)
    following = asyncio.create_task(bench.follow(plan.directory))
    await bench.clock.sleep(1.5)
    assert not following.done()
    os.kill(pid, signal.SIGCONT)
    assert exited(await following).reason == "finished"


async def test_a_job_that_is_slow_between_claim_and_pid_is_not_lost(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "bin", "mv", f'sleep 1\nexec {shutil.which("mv")} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    plan = await bench.plan("echo ran")
    assert exited(await bench.run(plan)).reason == "finished"


async def test_a_child_that_holds_the_log_does_not_delay_the_exit(bench: Bench) -> None:
    bench.wrap = ()  # a namespace would kill it
    mark = marked()
    holder = f"exec 7>&1 >/dev/null 2>&1; echo still here >&7; exec sleep {mark}"
    plan = await bench.plan(f'(env -i setsid sh -c "{holder}" &); sleep 0.3; echo done')
    items = await bench.run(plan)
    assert exited(items).reason == "finished" and log_of(items) == b"still here\ndone\n"
    holders = processes_with(mark)
    assert len(holders) == 1, "this must be the escapee that no sweep finds, or the test shows nothing"
    os.kill(holders[0], signal.SIGKILL)


async def test_a_tree_over_its_memory_is_killed(each_rung: Bench) -> None:
    hog = "import time; hold = bytearray(160 << 20); print('up', flush=True); time.sleep(300)"
    plan = await each_rung.plan(f'python3 -c "{hog}"', memory_bytes=96 << 20)
    end = exited(await each_rung.run(plan))
    assert end.reason == "memory" and end.peak_memory_bytes > 96 << 20


async def test_memory_shared_by_workers_counts_once(bench: Bench) -> None:
    code = """
import os, time
hold = bytearray(os.urandom(1 << 20) * 60)
workers = []
for _ in range(4):
    pid = os.fork()
    if not pid:
        time.sleep(1.5)
        os._exit(0)
    workers.append(pid)
pages = os.sysconf("SC_PAGESIZE")
total = sum(int(open(f"/proc/{pid}/statm").read().split()[1]) * pages for pid in workers)
print(total)
for pid in workers:
    os.waitpid(pid, 0)
"""
    plan = await bench.plan("python3 run.py", memory_bytes=200 << 20)
    Path(plan.directory, "work", "run.py").write_text(code)
    items = await bench.run(plan)
    assert int(log_of(items)) > 200 << 20, "summed naively this is over the limit, or the test shows nothing"
    assert exited(items).reason == "finished"
    assert 60 << 20 < exited(items).peak_memory_bytes < 200 << 20


async def test_no_address_space_limit_is_set(bench: Bench) -> None:
    """CUDA reserves far more than it uses."""
    plan = await bench.plan("ulimit -v; cat /proc/self/oom_score_adj", memory_bytes=1 << 30)
    limit, priority = log_of(await bench.run(plan)).split()
    assert limit == b"unlimited" and int(priority) >= 500


CAP = 3 << 20


@pytest.mark.parametrize("pace", ["at once", "in bursts"])
async def test_a_flooded_log_keeps_its_head_and_its_last_megabyte(bench: Bench, pace: str) -> None:
    pause = "sleep 0.4" if pace == "in bursts" else ":"
    flood = f"for i in 1 2 3 4 5; do yes 0123456789abcde | head -c 8000000; {pause}; done"
    command = f"echo first; {flood}; echo last"
    plan = await bench.plan(command, log_cap_bytes=CAP)
    live = await bench.run(plan)
    end = exited(live)
    size = end.steps[0].log_end
    assert end.reason == "finished" and size == 40_000_000 + len("first\nlast\n")
    log = Path(plan.directory, "control", "log")
    used = log.stat().st_blocks * 512
    print(f"{size} bytes printed, {used} kept on disk, cap {CAP}")
    assert log.stat().st_size == size and used <= CAP + 65536
    for items in (live, await bench.follow(plan.directory)):
        position = 0
        for item in items:
            if isinstance(item, LogChunk):
                assert item.offset == position
                position += len(item.data)
            elif isinstance(item, LogSkipped):
                assert item.offset == position
                position += item.length
        assert position == size
        assert b"\0" not in log_of(items)
        assert log_of(items).startswith(b"first\n") and log_of(items).endswith(b"\nlast\n")
    kept = [item for item in items if isinstance(item, LogChunk)]
    gaps = [item for item in items if isinstance(item, LogSkipped)]
    assert len(gaps) == 1 and gaps[0].offset >= log_head_bytes(CAP)
    assert sum(len(chunk.data) for chunk in kept if chunk.offset > gaps[0].offset) >= LOG_TAIL_BYTES


def fake(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text("#!/bin/sh\n" + script)
    (directory / name).chmod(0o755)


async def test_a_log_that_cannot_be_capped_ends_the_attempt(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "bin", "fallocate", "exit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    plan = await bench.plan("while :; do head -c 1000000 /dev/zero; sleep 0.01; done", log_cap_bytes=1 << 20)
    end = exited(await bench.run(plan))
    assert end.reason == "output"
    assert end.steps[0].log_end < 1 << 32


async def test_a_setsid_without_fork_still_detaches(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "bin", "setsid", f'[ "$1" = -f ] && exit 1\nexec {shutil.which("setsid")} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    plan = await bench.plan("echo up; sleep 300")
    await bench.host.launch(plan)
    started = await bench.until(plan.directory, b"up\n")
    assert os.getsid(int(started.identity.split()[0])) != os.getsid(0)
    await bench.host.cancel(plan.directory)
    assert exited(await bench.follow(plan.directory)).reason == "cancelled"


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox", "ksh"])
async def test_any_posix_shell_runs_the_job(
    bench: Bench, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    check = [program, "sh", "-n"] if shell == "busybox" else [program, "-n"]
    read = subprocess.run([*check, JOB], capture_output=True)
    # ksh93 also gives advice ("slower than") on what is plain POSIX.
    assert read.returncode == 0 and all(b"warning:" in line for line in read.stderr.splitlines()), read.stderr
    fake(tmp_path / "bin", "sh", "")
    (tmp_path / "bin" / "sh").unlink()
    (tmp_path / "bin" / "sh").symlink_to(program)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    mark = marked()
    plan = await bench.plan("echo one", f"(setsid sleep {mark} &) ; sleep 0.1; exit 3", "echo never")
    end = exited(await bench.run(plan))
    assert (end.reason, [step.code for step in end.steps]) == ("failed", [0, 3])
    plan = await bench.plan(stubborn(mark), timeout=1.0)
    assert exited(await bench.run(plan)).reason == "timeout"
    plan = await bench.plan(stubborn(mark))
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    await bench.host.cancel(plan.directory)
    assert exited(await bench.follow(plan.directory)).reason == "cancelled"
    assert processes_with(mark) == []


def test_no_duration_comes_from_the_wall_clock() -> None:
    code = [line.split(" #")[0] for line in job_script().decode().splitlines() if not line.startswith("#")]
    assert not re.search(r"\bdate\b|EPOCH|SECONDS\b", "\n".join(code))
    assert "/proc/uptime" in "\n".join(code)


async def test_a_pid_that_was_given_to_somebody_else_is_not_signalled(bench: Bench) -> None:
    """Same number, another start time: neither cancel nor the clearing of a lost attempt may touch it."""
    plan = await bench.plan("true")
    control = Path(plan.directory, "control")
    await bench.run(plan)
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        boot = (control / "pid").read_text().split()[2]
        (control / "exit").unlink()
        (control / "pid").write_text(f"{bystander.pid} 1 {boot}\n")
        (control / "step").write_text(f"1 {bystander.pid} 1 1\n")
        (control / "watcher").write_text(f"{bystander.pid} 1\n")
        assert await bench.host.cancel(plan.directory) is False
        assert isinstance((await bench.follow(plan.directory))[-1], Lost)
        (control / "pid").write_text(f"{bystander.pid} {start_time(bystander.pid)} another-boot\n")
        (control / "step").write_text(f"1 {bystander.pid} {start_time(bystander.pid)} 1\n")
        assert await bench.host.cancel(plan.directory) is False
        assert isinstance((await bench.follow(plan.directory))[-1], Lost)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def start_time(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
