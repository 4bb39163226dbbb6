"""Readings of a host elsewhere: the far side's script in every shell, then a real sshd and a scripted nvidia-smi."""

from __future__ import annotations

import asyncio
import os
import random
import select
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine import host_readings
from engine.clock import RealClock
from engine.device_query import FORMAT, QUERIES
from engine.host_readings import DistantReadings, far_script
from engine.runners import ssh
from engine.runners.ssh import SshTransport
from engine.types import Reading
from tests.engine.fake_nvidia_smi import FakeNvidiaSmi
from tests.engine.runners.sshd import HOST, Proxy, Sshd, serve

CLOCK = RealClock()
PATIENCE = 30.0
SHELLS = [
    argv
    for argv in (["dash"], ["bash", "--posix"], ["busybox", "ash"], ["ksh"], ["mksh"])
    if shutil.which(argv[0]) is not None
]


@pytest.fixture
def smi(tmp_path: Path) -> FakeNvidiaSmi:
    return FakeNvidiaSmi(tmp_path / "smi")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """Not started yet."""
    yield from serve(tmp_path / "sshd")


def processes_with(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


async def none_left(mark: Path) -> None:
    async def gone() -> None:
        while processes_with(str(mark)):
            await CLOCK.sleep(0.02)

    await CLOCK.timeout(gone(), PATIENCE)


# --- the script ------------------------------------------------------------------------------------------


class Running:
    """The script in a shell of its own, as the leader of a group."""

    def __init__(self, shell: list[str], path: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [*shell, "-c", far_script(), "sh", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": path, "LC_ALL": "C"},
            start_new_session=True,
        )

    def lines(self, count: int) -> list[str]:
        assert self.process.stdout is not None
        found: list[str] = []
        while len(found) < count:
            ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
            assert ready, f"only {found}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"ended after {found}"
            found += data.decode().splitlines()
        return found

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda argv: str(argv[0]))
async def test_every_shell_runs_one_nvidia_smi_and_ends_it_though_it_hangs(
    shell: list[str], smi: FakeNvidiaSmi
) -> None:
    ours = subprocess.Popen(["sh", "-c", "sleep 100; :"], env={**os.environ, "RATCHET_ATTEMPT_TOKEN": "x"})
    try:
        smi.apps(("GPU-0", ours.pid), ("GPU-1", os.getpid()))
        running = Running(shell, f"{smi.bin}:{os.environ['PATH']}", QUERIES[0], FORMAT, "")
        found = running.lines(7)
        assert found[0] == f"= foreign GPU-1:{os.getpid()} ." or f"= foreign GPU-1:{os.getpid()} ." in found
        assert sum(line.startswith("GPU-0, NVIDIA H100 80GB HBM3, 10, ") for line in found) >= 2
        assert len(smi.started) == 1 and smi.started[0].endswith(f"--query-gpu={QUERIES[0]} {FORMAT} -l 1")
        smi.turn("hang")
        await CLOCK.sleep(0.3)
        assert processes_with(str(smi.bin))
        running.end()
        await none_left(smi.bin)
    finally:
        ours.kill()
        ours.wait()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda argv: str(argv[0]))
@pytest.mark.parametrize("query", ["", QUERIES[0]], ids=["not asked", "none there"])
def test_without_nvidia_smi_every_shell_reads_proc(shell: list[str], query: str) -> None:
    running = Running(shell, os.environ["PATH"], query, FORMAT, "")
    model, first, second = running.lines(3)
    running.end()
    assert model.startswith("= model ") and len(model) > 10
    for line in (first, second):
        equals, kind, total, free, cpu, *times = line.split()
        assert (equals, kind, cpu) == ("=", "proc", "cpu")
        assert 0 < int(free) < int(total) and len(times) >= 8


@pytest.mark.parametrize("shell", SHELLS, ids=lambda argv: str(argv[0]))
def test_one_look_ends_by_itself(shell: list[str], smi: FakeNvidiaSmi) -> None:
    def once(path: str) -> list[str]:
        done = subprocess.run(
            [*shell, "-c", far_script(), "sh", QUERIES[0], FORMAT, "once"],
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        return done.stdout.splitlines()

    found = once(f"{smi.bin}:{os.environ['PATH']}")
    assert [line.split(",")[0] for line in found] == ["= foreign .", "GPU-0", "GPU-1", "= ended 0"]
    assert [line.split()[1] for line in once(os.environ["PATH"])] == ["model", "proc"]


# --- over ssh --------------------------------------------------------------------------------------------


@asynccontextmanager
async def readings(server: Sshd, port: int | None = None) -> AsyncIterator[DistantReadings]:
    transport = SshTransport(HOST, CLOCK, server.client(port), random.Random(7))
    try:
        found = DistantReadings(CLOCK, "box1", transport)
        yield found
        await found.close()
    finally:
        await transport.close()


class Taking:
    """Takes batches in a task until told; ``until`` waits for one that ``fits``."""

    def __init__(self, source: DistantReadings) -> None:
        self.taken: list[list[Reading]] = []
        self._source = source
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._take())

    async def _take(self) -> None:
        batches = self._source.batches()
        try:
            async for batch in batches:
                self.taken.append(batch)
                self._news.set()
        finally:
            await batches.aclose()

    async def until(self, fits, count: int = 1) -> list[Reading]:  # type: ignore[no-untyped-def]
        """The ``count``-th batch from now on that fits."""
        at = len(self.taken)

        async def wait() -> list[Reading]:
            nonlocal at
            left = count
            while True:
                for batch in self.taken[at:]:
                    at += 1
                    left -= bool(fits(batch))
                    if not left:
                        return batch
                self._news.clear()
                await self._news.wait()

        return await CLOCK.timeout(wait(), PATIENCE)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def taking(source: DistantReadings) -> AsyncIterator[Taking]:
    found = Taking(source)
    try:
        yield found
    finally:
        await found.end()


def devices(batch: list[Reading]) -> bool:
    return [reading.device for reading in batch] == ["GPU-0", "GPU-1"]


def processor(batch: list[Reading]) -> bool:
    return [reading.device for reading in batch] == ["cpu"]


async def test_one_session_and_one_nvidia_smi_give_every_round_and_leave_nothing(
    sshd: Sshd, smi: FakeNvidiaSmi
) -> None:
    smi.apps(("GPU-1", os.getpid()))
    sshd.login = f"echo GPU-9, noise; {smi.login()}"
    sshd.start()
    async with readings(sshd) as source:
        async with taking(source) as found:
            first, second = await found.until(lambda b: devices(b) and b[1].foreign == 1, count=3)
            assert source.trouble == first.trouble == ""
        await none_left(smi.bin)
    assert (first.host, first.name, first.utilisation) == ("box1", "NVIDIA H100 80GB HBM3", 10)
    assert (first.power_w, first.temperature_c, first.clock_mhz, first.throttle) == (
        612.35,
        61,
        1755,
        ("power cap",),
    )
    assert (first.foreign, second.foreign, second.utilisation) == (0, 1, 11)
    assert len(smi.started) == 1 and all(devices(batch) for batch in found.taken)


@pytest.mark.parametrize(("switch", "asked"), [("old", 2), ("ancient", 3)])
async def test_a_driver_that_does_not_know_a_field_costs_that_field_alone(
    sshd: Sshd, smi: FakeNvidiaSmi, switch: str, asked: int
) -> None:
    smi.turn(switch)
    sshd.login = smi.login()
    sshd.start()
    async with readings(sshd) as source, taking(source) as found:
        first, _ = await found.until(devices)
        assert source.trouble == ""
    assert (first.clock_mhz, first.throttle) == ((1755, ("power cap",)) if asked == 2 else (None, None))
    assert [line.split("--query-gpu=")[1].split()[0] for line in smi.started] == list(QUERIES[:asked])


async def test_one_that_hangs_is_ended_and_the_processor_read_until_it_answers(
    sshd: Sshd, smi: FakeNvidiaSmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_readings, "SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(host_readings, "BACKOFF_SECONDS", (0.1,))
    smi.turn("hang")
    sshd.login = smi.login()
    sshd.start()
    async with readings(sshd) as source, taking(source) as found:
        (meanwhile,) = await found.until(processor, count=2)
        assert meanwhile.trouble == "nvidia-smi said nothing for 2 s" and meanwhile.memory_total_mb
        smi.turn("hang", on=False)
        await found.until(devices)
        assert source.trouble == ""
        pids = [int(line.split()[0]) for line in smi.started]
        assert len(pids) >= 2 and not [pid for pid in pids[:-1] if pid in processes_with(str(smi.bin))]
    await none_left(smi.bin)


async def test_under_a_login_file_that_leads_the_group_nothing_is_left_either(
    sshd: Sshd, smi: FakeNvidiaSmi
) -> None:
    sshd.login = f'{smi.login()}\n"$SHELL" -c "$SSH_ORIGINAL_COMMAND"; exit $?'
    sshd.start()
    async with readings(sshd) as source:
        async with taking(source) as found:
            await found.until(devices)
            smi.turn("hang")
            await CLOCK.sleep(0.4)
            assert processes_with(str(smi.bin))
        await none_left(smi.bin)


async def test_one_that_dies_is_started_again_with_back_off(
    sshd: Sshd, smi: FakeNvidiaSmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_readings, "BACKOFF_SECONDS", (0.1, 0.2))
    smi.turn("die")
    sshd.login = smi.login()
    sshd.start()
    async with readings(sshd) as source, taking(source) as found:
        (meanwhile,) = await found.until(processor, count=5)  # two a pause at most
        said = "nvidia-smi ended: NVIDIA-SMI has failed because it could not reach the driver"
        assert meanwhile.trouble == source.trouble == said
        smi.turn("die", on=False)
        await found.until(devices)
        assert source.trouble == "" and len(smi.started) >= 3


async def test_a_cut_connection_is_gone_on_with_and_leaves_nothing(
    sshd: Sshd, smi: FakeNvidiaSmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (0.02, 0.1))
    monkeypatch.setattr(host_readings, "BACKOFF_SECONDS", (0.1,))
    sshd.login = smi.login()
    sshd.start()
    proxy = Proxy(sshd.port)
    await proxy.start()
    try:
        async with readings(sshd, proxy.port) as source, taking(source) as found:
            for life in range(1, 4):
                await found.until(devices, count=2)
                assert len(smi.started) == life
                proxy.cut()

                async def another(lives: int = life) -> None:
                    while len(smi.started) == lives:
                        await CLOCK.sleep(0.02)

                await CLOCK.timeout(another(), PATIENCE)
                assert len(processes_with(str(smi.bin / "nvidia-smi"))) <= 2
        await none_left(smi.bin)
    finally:
        await proxy.close()


async def test_a_server_with_two_sessions_is_asked_now_and_then_and_says_why(
    sshd: Sshd, smi: FakeNvidiaSmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (0.02, 0.1))
    monkeypatch.setattr(host_readings, "POLL_SECONDS", 0.1)
    sshd.login = smi.login()
    sshd.max_sessions = 2
    sshd.start()
    smi.turn("old")
    transport = SshTransport(HOST, CLOCK, sshd.client(), random.Random(7))
    try:
        async with taking(source := DistantReadings(CLOCK, "box1", transport)) as found:
            await found.until(devices)
            assert (await transport.run(["echo", "done"])).stdout == b"done\n", "a command is served"
            first, _ = await found.until(lambda b: devices(b) and b[0].trouble, count=2)
            assert first.throttle == ("power cap",)
            assert source.trouble.startswith("read every 0.1 s only: box: it allows no more sessions at once")
            assert (await transport.run(["echo", "done"])).stdout == b"done\n"
    finally:
        await transport.close()
    await none_left(smi.bin)


async def test_no_gpu_there_is_no_trouble(sshd: Sshd) -> None:
    sshd.start()
    async with readings(sshd) as source, taking(source) as found:
        (reading,) = await found.until(lambda b: processor(b) and b[0].utilisation is not None)
        assert source.trouble == reading.trouble == ""
        assert reading.name and 0 <= (reading.utilisation or 0) <= 100
        assert 0 < (reading.memory_used_mb or 0) < (reading.memory_total_mb or 0)


async def test_a_host_that_is_not_there_is_told_and_asked_again(
    sshd: Sshd, smi: FakeNvidiaSmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (0.02, 0.1))
    monkeypatch.setattr(host_readings, "BACKOFF_SECONDS", (0.1,))
    sshd.login = smi.login()
    sshd.start()
    sshd.stop()
    async with readings(sshd) as source, taking(source) as found:

        async def told() -> None:
            while "refused" not in source.trouble:
                await CLOCK.sleep(0.02)

        await CLOCK.timeout(told(), PATIENCE)
        assert found.taken == []
        sshd.start()
        await found.until(devices)
        assert source.trouble == ""


# --- what is no reading ------------------------------------------------------------------------------------


class Nowhere:
    """A transport whose lines are given."""

    def __init__(self, *rounds: list[bytes]) -> None:
        self._rounds = rounds

    async def stream(self, script: str):  # type: ignore[no-untyped-def]
        yield []
        for one in self._rounds:
            yield one
        await CLOCK.sleep(PATIENCE)

    async def run(self, argv, *, input: bytes = b"", seconds: float = 30.0):  # type: ignore[no-untyped-def]
        raise AssertionError(argv)


async def test_hostile_lines_are_passed_over() -> None:
    seed = 5
    print("seed", seed)
    chance = random.Random(seed)
    junk = [
        b"", b"=", b"= ", b"= proc", b"= proc a b c", b"= proc 1 2 cpu", b"= ended", b"= foreign GPU-0:1",
        b"= foreign GPU-0 : :: GPU-0:x .", b"= foreign \xff\xfe .", b"GPU-0, X", b"GPU-0" + b"," * 8, b"\x00" * 50,
        b"= model " + b"x" * 5000, *(chance.randbytes(80).replace(b"\n", b"") for _ in range(200)),
    ]  # fmt: skip
    junk.remove(b"= ended")
    good = b"GPU-0, X, 1, 2, 3, 4, 5, 6, 0x0"
    batches = DistantReadings(CLOCK, "box1", Nowhere(junk, [good])).batches()
    try:
        found = [await CLOCK.timeout(anext(batches), PATIENCE)]
        while found[-1][-1].device != "GPU-0" or found[-1][-1].utilisation is None:
            found.append(await CLOCK.timeout(anext(batches), PATIENCE))
    finally:
        await batches.aclose()
    last = found[-1][-1]
    assert (last.utilisation, last.clock_mhz, last.throttle, last.foreign) == (1.0, 6.0, (), 0)
