"""A host over ssh: a command's round trip, code's way there, how old output is when it arrives, what idling costs.

Against a real sshd on 127.0.0.1: a real network adds its own round trips, which are printed beside.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import pytest

from engine.clock import RealClock
from engine.runners import AttemptPlan, LogChunk, Step
from engine.runners.remote import RemoteHost
from engine.runners.ssh import SshTransport
from engine.types import Allocation
from tests.benchmarks.figures import Figure
from tests.engine.runners.runner_bench import make_archive
from tests.engine.runners.sshd import HOST, Sshd, serve

COMMANDS = 100
LINES = 100
ATTEMPTS = 12
IDLE_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as name:
        try:
            for server in serve(Path(name) / "sshd"):
                server.start()
                return asyncio.run(_measure(server, Path(name)))
        except pytest.skip.Exception as why:
            print(f"  skipped: {why}")
    return []


async def _measure(server: Sshd, folder: Path) -> list[Figure]:
    clock = RealClock()
    transport = SshTransport(HOST, clock, server.client())
    host = RemoteHost("there", transport, str(folder / "there"), clock, slots=ATTEMPTS)
    began = time.perf_counter()
    await transport.connect()
    connected = time.perf_counter() - began
    await host.open()
    print(f"  connected in {1000 * connected:.0f} ms, opened in {time.perf_counter() - began:.1f} s")
    try:
        return [
            await _round_trip(transport),
            *await _sync(host, folder),
            await _latency(host, folder),
            *await _idle(host, folder),
        ]
    finally:
        await host.close()


async def _round_trip(transport: SshTransport) -> Figure:
    found = []
    for _ in range(COMMANDS):
        began = time.perf_counter()
        await transport.run(["true"])
        found.append(1000 * (time.perf_counter() - began))
    median = statistics.median(found)
    return Figure("a command over the shared connection (median)", "<= 30 ms", median, "ms", median <= 30)


async def _sync(host: RemoteHost, folder: Path) -> list[Figure]:
    content = random.Random(1).randbytes(500_000).hex()
    archive = make_archive(folder / "code.tar", {"data.txt": content})
    seconds = []
    for n in range(6):
        began = time.perf_counter()
        await host.stage(f"{host.directory}/trials/1/attempt-{n}", str(archive), {})
        seconds.append(1000 * (time.perf_counter() - began))
    first, again = seconds[0], statistics.median(seconds[1:])
    return [
        Figure("1 MB of code staged, first time", "<= 500 ms", first, "ms", first <= 500),
        Figure("1 MB of code staged again (median)", "<= 50 ms", again, "ms", again <= 50),
    ]


def _plan(host: RemoteHost, number: int, command: str) -> AttemptPlan:
    return AttemptPlan(
        f"{host.directory}/trials/2/attempt-{number}",
        f"token-of-the-bench-{os.getpid()}-{number}",
        (Step("train", command, 120.0),),
        {"PATH": os.environ["PATH"]},
        Allocation("there", "cpu0"),
        wrap=host.containment.wrap,
    )


async def _latency(host: RemoteHost, folder: Path) -> Figure:
    """From a line's being printed to its being here."""
    archive = make_archive(folder / "empty.tar", {"train.py": ""})
    plan = _plan(host, 0, f"for i in $(seq {LINES}); do date +%s.%N; sleep 0.08; done")
    await host.stage(plan.directory, str(archive), {})
    await host.launch(plan)
    ages, rest = [], b""
    async for item in host.follow(plan.directory, 0):
        if isinstance(item, LogChunk):
            *lines, rest = (rest + item.data).split(b"\n")
            ages += [1000 * (time.time() - float(line)) for line in lines]
    ages.sort()
    p95 = ages[int(0.95 * (len(ages) - 1))]
    print(f"  output's age: p50 {statistics.median(ages):.0f} ms, p95 {p95:.0f} ms, max {ages[-1]:.0f} ms")
    return Figure("output's age when it arrives (p95)", "<= 500 ms", p95, "ms", p95 <= 500)


async def _idle(host: RemoteHost, folder: Path) -> list[Figure]:
    """What following silent attempts costs: there, and in this process."""
    plans = [_plan(host, n, "sleep 100") for n in range(1, ATTEMPTS + 1)]
    for plan in plans:
        await host.stage(plan.directory, str(folder / "empty.tar"), {})
        await host.launch(plan)

    async def follow(plan: AttemptPlan) -> None:
        async for _ in host.follow(plan.directory, 0):
            pass

    following = [asyncio.create_task(follow(plan)) for plan in plans]
    await asyncio.sleep(6)
    script = _follow_script()
    there, here = _cpu(script), time.process_time()
    await asyncio.sleep(IDLE_SECONDS)
    far = 100 * (_cpu(script) - there) / IDLE_SECONDS
    near = 100 * (time.process_time() - here) / IDLE_SECONDS
    for plan in plans:
        await host.cancel(plan.directory)
    await asyncio.gather(*following)
    return [
        Figure(f"far side's CPU, following {ATTEMPTS} silent attempts", "<= 2 %", far, "%", far <= 2),
        Figure("engine's CPU for it", "<= 2 %", near, "%", near <= 2),
    ]


def _follow_script() -> int:
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if words[:2] == [b"sh", b"-c"] and words[2].startswith(b"# One stream for all followed attempts"):
            return int(entry.name)
    raise AssertionError("the follow script does not run")


def _cpu(pid: int) -> float:
    """Seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS
