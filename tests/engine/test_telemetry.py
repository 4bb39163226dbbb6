"""Device readings: real processes (a scripted nvidia-smi), real /proc, no waiting for the wall."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from engine import telemetry
from engine.clock import RealClock
from engine.cpu_meter import CpuMeter
from engine.device_query import QUERIES, count_foreign, parse_reading, reasons
from engine.telemetry import DeviceReadings
from engine.types import Reading
from tests.engine.fake_nvidia_smi import FakeNvidiaSmi

T = TypeVar("T")
ONE = "GPU-1, NVIDIA H200, 97, 81000, 143771, 612.35, 61, 1980, 0x0000000000000024"
TWO = "GPU-2, NVIDIA H200, [N/A], [Not Supported], 143771, [Unknown Error], N/A, [N/A], [N/A]"


class QuickClock(RealClock):
    """Real time for waiting on processes; a sleep only hands over, and is written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds == telemetry.FOREIGN_SECONDS:
            await asyncio.sleep(0.05)  # the counter runs beside the readings: it must not spin
        else:
            self.skipped += seconds
            await asyncio.sleep(0)

    async def timeout(self, work: Awaitable[T], seconds: float) -> T:
        return await super().timeout(work, seconds)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a scripted nvidia-smi first on PATH. ``$0.d`` is a directory of its own, for notes."""

    def install(query: str, apps: str = "") -> Path:
        program = tmp_path / "bin" / "nvidia-smi"
        notes = tmp_path / "bin" / "nvidia-smi.d"
        notes.mkdir(parents=True, exist_ok=True)
        program.write_text(
            f'#!/bin/sh\ncase "$1" in\n--query-gpu=*) echo "$$ $*" >> "$0.d/started"\n{query}\n;;\n'
            f"--query-compute-apps=*)\n{apps or ':'}\n;;\nesac\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return notes

    return install


def loop(*lines: str) -> str:
    printed = "\n".join(f"echo '{line}'" for line in lines)
    return f"while :; do\n{printed}\nsleep 0.3\ndone"


async def first(readings: DeviceReadings, count: int) -> list[list[Reading]]:
    batches: list[list[Reading]] = []
    async for batch in readings.batches():
        batches.append(batch)
        if len(batches) == count:
            break
    await readings.close()
    return batches


async def gone(pid: int) -> bool:
    """Whether the process ends (a zombie has ended; not every container's init reaps orphans)."""
    for _ in range(1000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        await asyncio.sleep(0.01)
    return False


def starts(notes: Path) -> list[str]:
    return (notes / "started").read_text().splitlines()


async def test_one_process_gives_every_device_once_a_round_and_is_stopped(smi) -> None:
    notes = smi(loop(ONE, TWO))
    batches = await first(DeviceReadings(QuickClock(), "box1"), 3)
    assert [[r.device for r in batch] for batch in batches] == [["GPU-1", "GPU-2"]] * 3
    full, sparse = batches[0]
    assert (full.host, full.name, full.utilisation, full.memory_used_mb) == ("box1", "NVIDIA H200", 97, 81000)
    assert (full.memory_total_mb, full.power_w, full.temperature_c) == (143771, 612.35, 61)
    assert sparse.utilisation is sparse.memory_used_mb is sparse.power_w is sparse.temperature_c is None
    assert (full.clock_mhz, full.throttle) == (1980, ("thermal", "power cap"))
    assert sparse.memory_total_mb == 143771 and sparse.clock_mhz is sparse.throttle is None
    (line,) = starts(notes)
    pid, arguments = line.split(" ", 1)
    assert arguments == f"--query-gpu={QUERIES[0]} --format=csv,noheader,nounits -l 1"
    assert await gone(int(pid))


async def test_it_yields_single_readings_too(smi) -> None:
    smi(loop(ONE, TWO))
    readings = DeviceReadings(QuickClock(), "box1")
    found = []
    async for reading in readings:
        found.append(reading.device)
        if len(found) == 3:
            break
    await readings.close()
    assert found == ["GPU-1", "GPU-2", "GPU-1"]


async def test_processes_that_are_not_ours_are_counted(smi) -> None:
    smi(loop(ONE, TWO), apps="echo 'GPU-1, 100'; echo 'GPU-1, 200'; echo 'GPU-1, 200'; echo 'GPU-2, 100'")
    readings = DeviceReadings(QuickClock(), "box1", ours=lambda pid: pid == 100)
    async for batch in readings.batches():
        if batch[0].foreign:
            break
    await readings.close()
    assert [r.foreign for r in batch] == [1, 0]


async def test_a_process_that_dies_is_started_again_with_back_off_and_the_cpu_is_read_meanwhile(smi) -> None:
    notes = smi("echo 'NVIDIA-SMI has failed because it could not reach the driver'; exit 9")
    clock = QuickClock()
    readings = DeviceReadings(clock, "box1")
    devices = set()
    async for batch in readings.batches():
        devices |= {(r.device, r.trouble) for r in batch}
        if len(starts(notes)) == 4:
            break
    await readings.close()
    assert devices == {("cpu", readings.trouble)}
    assert readings.trouble == "nvidia-smi ended: NVIDIA-SMI has failed because it could not reach the driver"
    pauses = clock.slept.count(1.0)
    assert pauses >= 1 + 2 + 5, "the pauses before the fourth start are those of the back-off"


@pytest.mark.parametrize(("switch", "asked"), [("old", 2), ("ancient", 3)])
async def test_a_driver_that_does_not_know_a_field_costs_that_field_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str, asked: int
) -> None:
    smi = FakeNvidiaSmi(tmp_path / "smi")
    smi.turn(switch)
    monkeypatch.setenv("PATH", f"{smi.bin}{os.pathsep}{os.environ['PATH']}")
    clock = QuickClock()
    readings = DeviceReadings(clock, "box1")
    ((one, two),) = await first(readings, 1)
    assert (one.device, one.power_w, two.device) == ("GPU-0", 612.35, "GPU-1")
    assert (one.clock_mhz, one.throttle) == ((1755, ("power cap",)) if asked == 2 else (None, None))
    assert [line.split("--query-gpu=")[1].split()[0] for line in smi.started] == list(QUERIES[:asked])
    assert 1.0 not in clock.slept and readings.trouble == "", "no back-off is due to it"


async def test_a_life_that_gave_readings_resets_the_back_off_and_the_trouble(smi) -> None:
    notes = smi(f"echo '{ONE}'")
    readings = DeviceReadings(QuickClock(), "box1")
    async for batch in readings.batches():
        if len(starts(notes)) == 5 and batch[0].device == "GPU-1":
            break
    assert readings.trouble == ""
    await readings.close()


async def test_a_silent_process_is_taken_for_hung_and_replaced(smi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "SILENCE_SECONDS", 0.3)
    notes = smi("trap '' TERM; sleep 1000 & echo $! > \"$0.d/child\"; wait")
    monkeypatch.setattr(telemetry, "GRACE_SECONDS", 0.2)
    readings = DeviceReadings(QuickClock(), "box1")
    async for _ in readings.batches():
        if len(starts(notes)) == 2:
            break
        assert "said nothing" in readings.trouble
    await readings.close()
    for line in starts(notes):
        assert await gone(int(line.split()[0])), "TERM was ignored: KILL was not"
    assert await gone(int((notes / "child").read_text())), "its child would hold the pipe open"


async def test_close_ends_a_loop_that_waits(smi) -> None:
    notes = smi("sleep 1000")
    readings = DeviceReadings(QuickClock(), "box1")

    async def drain() -> int:
        return len([batch async for batch in readings.batches()])

    task = asyncio.ensure_future(drain())
    while not (notes / "started").exists():
        await asyncio.sleep(0.01)
    await readings.close()
    assert await asyncio.wait_for(task, 30) == 0
    await readings.close()


async def test_a_cancelled_reader_leaves_no_process(smi) -> None:
    notes = smi(loop(ONE), apps='echo $$ > "$0.d/apps"; exec sleep 1000')
    readings = DeviceReadings(QuickClock(), "box1")
    seen = asyncio.Event()

    async def drain() -> None:
        async for _ in readings.batches():
            seen.set()
            await asyncio.sleep(1000)  # cancelled between two batches: the generator stays suspended

    task = asyncio.ensure_future(drain())
    await asyncio.wait_for(seen.wait(), 60)
    while not (notes / "apps").exists() or not (notes / "apps").read_text().strip():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    await readings.close()
    pids = [int(starts(notes)[0].split()[0]), int((notes / "apps").read_text())]
    assert [await gone(pid) for pid in pids] == [True, True]


async def test_without_nvidia_smi_the_cpu_is_read_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    clock = QuickClock()
    batches = await first(DeviceReadings(clock, "here"), 3)
    assert [[r.device for r in batch] for batch in batches] == [["cpu"]] * 3
    assert clock.slept == [1.0] * 3
    reading = batches[-1][0]
    assert reading.memory_total_mb is not None and reading.memory_used_mb is not None
    assert 0 < reading.memory_used_mb < reading.memory_total_mb


def proc(tmp_path: Path, stat: str) -> Path:
    (tmp_path / "stat").write_text(f"{stat}\ncpu0 1 1 1 1\n")
    (tmp_path / "meminfo").write_text("MemTotal: 2048000 kB\nMemFree: 1 kB\nMemAvailable:  1024000 kB\n")
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 3 GHz\n")
    return tmp_path


def test_cpu_utilisation_is_what_was_busy_between_two_readings(tmp_path: Path) -> None:
    meter = CpuMeter(proc(tmp_path, "cpu  100 0 100 700 100 0 0 0 50 0"), "here")
    started = meter.read(1.0)
    assert started == Reading("here", "cpu", "Some CPU @ 3 GHz", 1.0, None, 1000.0, 2000.0)
    proc(tmp_path, "cpu  160 0 115 720 105 0 0 0 90 0")  # 75 busy, 20 idle, 5 waiting; guest is in user
    second = meter.read(2.0)
    assert second is not None and second.utilisation == 75.0


@pytest.mark.parametrize("stat", ["", "cpu", "cpu a b c d e", "nonsense 1"])
def test_a_proc_that_cannot_be_read_gives_no_reading(tmp_path: Path, stat: str) -> None:
    assert CpuMeter(proc(tmp_path, stat), "here").read(1.0) is None
    assert CpuMeter(tmp_path / "none", "here").read(1.0) is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"No devices were found",
        b"GPU-1, NVIDIA H200, 97",
        b"a, b, c, d, e, f, g",
        b"\xff\xfe",
        b"GPU-1" + b"," * 9,
        b"GPU-1" + b"," * 7,
    ],
)
def test_what_is_no_reading(line: bytes) -> None:
    assert parse_reading(line, "box1", 0.0) is None


@pytest.mark.parametrize(
    "word", ["[N/A]", "[Not Supported]", "N/A", "[Insufficient Permissions]", "nan", "inf", ""]
)
def test_unknown_is_none_and_not_zero(word: str) -> None:
    reading = parse_reading(f"GPU-1, X, {word}, 1, 2, 3, 4\n".encode(), "box1", 5.0)
    assert reading == Reading("box1", "GPU-1", "X", 5.0, None, 1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("0x0000000000000000", ()),
        ("0x0000000000000001", ("idle",)),
        ("0x0000000000000004", ("power cap",)),
        ("0x0000000000000020", ("thermal",)),
        ("0x0000000000000048", ("thermal",)),  # NVML sets the general bit beside the one that says why
        ("0x0000000000000088", ("power brake",)),
        ("0x0000000000000008", ("hardware slowdown",)),
        ("0x0000000000000064", ("thermal", "power cap")),
        ("0x0000000000000112", ("sync boost", "clocks set", "display clocks")),
        ("0x0000000000001000", ()),  # a reason that is newer than this program
        ("0x8000000000000000", None),
        ("[N/A]", None),
        ("Active", None),
        ("0x", None),
        ("0x00000000000000004", None),
        ("", None),
    ],
)
def test_what_holds_the_clocks_down_is_said_in_words(mask: str, words: tuple[str, ...] | None) -> None:
    assert reasons(mask) == words


def test_foreign_lines_that_are_none_are_passed_over() -> None:
    out = b"GPU-1, 7\nGPU-1, [N/A]\nNo running processes found\nGPU-2, 8\nGPU-2, 9\n\xff"
    assert count_foreign(out, lambda pid: pid == 9) == {"GPU-1": 1, "GPU-2": 1}
