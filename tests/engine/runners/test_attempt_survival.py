"""The engine may die at any moment: its attempts go on, and the next engine finds them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from runner_bench import Bench, exited, log_of, make_archive, processes_with

from engine.clock import RealClock
from engine.runners import Exited, LogChunk, Lost, Started
from engine.runners.launcher import job_script, render
from engine.runners.local import LocalHost
from engine.runners.transport import trusted_environment

ENGINE = """
import asyncio, sys
from pathlib import Path
from engine.clock import RealClock
from engine.runners import AttemptPlan, LogChunk, Step
from engine.runners.local import LocalHost
from engine.types import Allocation

async def main(root, directory):
    host = LocalHost("local", Path(root), RealClock())
    await host.open()
    await host.stage(directory, root + "/archive.tar", {})
    command = "i=0; while [ ! -e ../enough ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo last"
    plan = AttemptPlan(directory, "token-of-survival", (Step("train", command, 60.0),),
                       {"PATH": "/usr/local/bin:/usr/bin:/bin"}, Allocation("local", "cpu0"),
                       wrap=host.containment.wrap)
    await host.launch(plan)
    async for item in host.follow(directory, 0):
        if isinstance(item, LogChunk) and item.offset + len(item.data) > 60:
            print(open(directory + "/control/pid").read(), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_an_attempt_survives_its_engine_and_is_found_again(tmp_path: Path) -> None:
    make_archive(tmp_path / "archive.tar", {"train.py": ""})
    directory = str(tmp_path / "7" / "attempt-1")
    root = Path(__file__).parents[3]
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(tmp_path), directory],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert engine.stdout is not None
    identity = engine.stdout.readline().decode().strip()
    # The whole group and session of the engine, as when a terminal closes.
    os.killpg(engine.pid, signal.SIGKILL)
    engine.wait()
    engine.stdout.close()

    clock = RealClock()
    host = LocalHost("local", tmp_path, clock)
    await host.open()
    bench = Bench(host, tmp_path)
    bench.directories.append(directory)
    seen = b""
    async for item in host.follow(directory, 0):
        if isinstance(item, Started):
            assert item.identity == identity, "the same process, still running"
        if isinstance(item, LogChunk):
            seen += item.data
            if len(seen) > 200:
                break
    middle = len(seen)
    Path(directory, "enough").touch()
    rest = await bench.follow(directory, middle)
    assert exited(rest).reason == "finished"
    whole = Path(directory, "control", "log").read_bytes()
    assert seen + log_of(rest) == whole
    lines = whole.decode().splitlines()
    assert lines[-1] == "last" and lines[:-1] == [f"line {n}" for n in range(1, len(lines))]
    await host.close()


async def test_a_cut_anywhere_between_launch_and_start_runs_once_and_never_sticks(bench: Bench) -> None:
    """job.sh is killed at a random moment of its first 12 ms; the conductor just launches again."""
    seed = 20261121
    print("seed", seed)
    chance = random.Random(seed)
    ends: Counter[str] = Counter()
    for number in range(50):
        plan = await bench.plan("echo ran >>../runs")
        for name, data in {**render(plan, "/nowhere"), "job.sh": job_script()}.items():
            Path(plan.directory, "control", name).write_bytes(data)
        job = subprocess.Popen(
            ["sh", f"{plan.directory}/control/job.sh", plan.directory],
            env=trusted_environment(),
            start_new_session=True,
        )
        if number % 5:  # every fifth at once: on a fast machine it has claimed within a millisecond
            await bench.clock.sleep(chance.uniform(0.0, 0.012))
        job.kill()
        job.wait()
        await bench.host.launch(plan)
        end = (await bench.follow(plan.directory))[-1]
        assert isinstance(end, Exited | Lost)
        ends[end.reason.split(" ")[0] if isinstance(end, Exited) else "lost"] += 1
        runs = Path(plan.directory, "runs")
        ran = runs.read_text() if runs.exists() else ""
        assert ran == "ran\n" or (ran == "" and isinstance(end, Lost))
    await bench.wait_for(lambda: not processes_with(str(bench.root)))
    print(dict(ends))
    assert set(ends) == {"finished", "lost"}, "a seed that cuts only before or only after shows nothing"


FULL_DISK = """
import asyncio, os, sys
from pathlib import Path
from engine.clock import RealClock
from engine.errors import StorageFull
from engine.runners import AttemptPlan, Exited, Step
from engine.runners.local import LocalHost
from engine.types import Allocation

async def main(disk, big, small):
    host = LocalHost("local", Path(disk), RealClock())
    await host.open()
    directory = disk + "/7/attempt-1"
    try:
        await host.stage(directory, big, {})
        print("staged")
    except StorageFull as fault:
        print("full", os.listdir(disk + "/7"), bool(fault.mend))
    await host.stage(directory, small, {})
    command = "cat /dev/zero >filler 2>/dev/null; echo lost words; exit 3"
    plan = AttemptPlan(directory, "token-of-a-full-disk", (Step("train", command, 60.0),),
                       {"PATH": "/usr/local/bin:/usr/bin:/bin"}, Allocation("local", "cpu0"),
                       wrap=host.containment.wrap)
    await host.launch(plan)
    async for item in host.follow(directory, 0):
        if isinstance(item, Exited):
            print(item.reason, [step.code for step in item.steps], os.statvfs(disk).f_bavail)
    second = AttemptPlan(disk + "/7/attempt-2", "token-of-a-full-disk-2", (), {}, Allocation("local", "cpu0"))
    try:
        await host.stage(second.directory, small, {})
        await host.launch(second)
    except StorageFull as fault:
        print("full again")

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_full_disk_pauses_and_takes_no_result_away(tmp_path: Path) -> None:
    big = make_archive(tmp_path / "big.tar", {"big.bin": "x" * (2 << 20)})
    small = make_archive(tmp_path / "small.tar", {"train.py": ""})
    disk = tmp_path / "disk"
    disk.mkdir()
    private = ["unshare", "--user", "--map-root-user", "--mount"]
    script = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'
    done = subprocess.run(
        [*private, "sh", "-c", script, "sh", disk, sys.executable, "-c", FULL_DISK, disk, big, small],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no private mount here: {done.stderr}")
    assert done.stdout.splitlines() == ["full [] True", "failed [3] 0", "full again"], done.stderr
