"""What the devices are doing: one long-lived ``nvidia-smi`` -> readings; without a GPU, /proc.

Asking ``nvidia-smi`` afresh every second initialises the driver's library each time, so one process
loops by itself (``-l 1``) and is read line by line. Processes of other people on a device
matter to every comparison (TRUST.md), so they are counted too, at a slow rate.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from engine.clock import Clock
from engine.types import Reading

QUERY = "uuid,name,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu"
FORMAT = "--format=csv,noheader,nounits"

SILENCE_SECONDS = 15.0  # a looping nvidia-smi that says nothing for so long hangs in the driver
FOREIGN_SECONDS = 10.0
BACKOFF_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
GRACE_SECONDS = 2.0


class DeviceReadings:
    """Readings of one host's devices, about once a second, until closed.

    ``ours`` says whether a process id belongs to a trial of ours; the rest on a device is foreign. When
    ``nvidia-smi`` cannot be kept running (no driver, a hang) the CPU is read meanwhile and it is tried
    again with back-off; ``trouble`` then says why, for the doctor and the hosts screen.
    """

    def __init__(
        self,
        clock: Clock,
        host: str,
        ours: Callable[[int], bool] = lambda pid: False,
        *,
        proc: Path = Path("/proc"),
    ) -> None:
        self.trouble = ""
        self._clock = clock
        self._host = host
        self._ours = ours
        self._proc = proc
        self._program = shutil.which("nvidia-smi")
        self._process: asyncio.subprocess.Process | None = None
        self._replacing = asyncio.Lock()
        self._counting: asyncio.Future[None] | None = None
        self._foreign: Mapping[str, int] = {}
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[Reading]:
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for reading in batch:
                    yield reading

    async def close(self) -> None:
        """Stop the process; a loop over the readings ends. May be called twice."""
        self._closed = True
        await self._stop()

    async def batches(self) -> AsyncGenerator[list[Reading], None]:
        """The same readings as they came together: one write to the store each."""
        cpu = CpuMeter(self._proc, self._host)
        failures = 0
        if self._program:
            self._counting = asyncio.ensure_future(self._count_foreign())
        try:
            while not self._closed:
                if self._program:
                    async with aclosing(self._from_nvidia_smi()) as live:
                        async for batch in live:
                            failures = 0
                            self.trouble = ""
                            yield batch
                    pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
                    failures += 1
                else:
                    pause = 1.0
                # The back-off is spent reading the CPU: the screen always shows something true.
                until = self._clock.monotonic() + pause
                while not self._closed and self._clock.monotonic() < until:
                    await self._clock.sleep(1.0)
                    if not self._closed and (reading := cpu.read(self._clock.now())):
                        yield [reading]
        finally:
            await self._stop()

    async def _stop(self) -> None:
        # Also from close(): a reader that was cancelled between two batches leaves the generator
        # suspended, and its own clean-up would wait for the garbage collector.
        counting, self._counting = self._counting, None
        if counting is not None:
            counting.cancel()
            await asyncio.wait([counting])
        await self._replace(None)

    async def _replace(self, process: asyncio.subprocess.Process | None) -> None:
        """End the present process and put ``process`` in its place.

        The lock: closing the generator and close() may come at once, and both must only return when
        the process is gone, whichever of them ends it.
        """
        async with self._replacing:
            before, self._process = self._process, process
            if before is not None:
                await self._end(before)

    async def _from_nvidia_smi(self) -> AsyncGenerator[list[Reading], None]:
        """One life of the process: a batch a second (one line a device), until it dies or hangs."""
        assert self._program is not None
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                f"--query-gpu={QUERY}",
                FORMAT,
                "-l",
                "1",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            self.trouble = f"nvidia-smi cannot be started: {error}"
            return
        await self._replace(process)
        assert process.stdout is not None
        batch: dict[str, Reading] = {}
        said = ""
        try:
            while True:
                # The loop prints all devices at once: what is buffered belongs to one sample, and a
                # pause (or a device seen again) ends it.
                line = await self._line(process.stdout, SILENCE_SECONDS if not batch else 0.2)
                if line is None and batch:
                    yield list(batch.values())
                    batch = {}
                    continue
                if not line:
                    hung = line is None
                    self.trouble = (
                        f"nvidia-smi said nothing for {SILENCE_SECONDS:g} s"
                        if hung
                        else f"nvidia-smi ended{f': {said}' if said else ''}"
                    )
                    if batch:
                        yield list(batch.values())
                    return
                reading = parse_reading(line, self._host, self._clock.now())
                if reading is None:
                    said = line.decode("utf-8", "replace").strip()[:200]
                    continue
                if reading.device in batch:
                    yield list(batch.values())
                    batch = {}
                batch[reading.device] = replace(reading, foreign=self._foreign.get(reading.device, 0))
        finally:
            await self._replace(None)

    async def _line(self, stream: asyncio.StreamReader, seconds: float) -> bytes | None:
        """The next line, b"" at the end, None when nothing came in time."""
        try:
            return await self._clock.timeout(stream.readline(), seconds)
        except TimeoutError:
            return None
        except ValueError:  # a line beyond the reader's limit: no line of nvidia-smi's
            return b"\n"

    async def _count_foreign(self) -> None:
        """Every ten seconds: processes with a CUDA context that are not ours, by device."""
        assert self._program is not None
        while True:
            process: asyncio.subprocess.Process | None = None
            try:
                process = await asyncio.create_subprocess_exec(
                    self._program,
                    "--query-compute-apps=gpu_uuid,pid",
                    FORMAT,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env={**os.environ, "LC_ALL": "C"},
                    start_new_session=True,
                )
                out, _ = await self._clock.timeout(process.communicate(), SILENCE_SECONDS)
                self._foreign = count_foreign(out, self._ours)
            except (OSError, TimeoutError):
                self._foreign = {}  # unknown now: an old count would blame somebody who has left
            finally:
                if process is not None and process.returncode is None:
                    await self._end(process)
            await self._clock.sleep(FOREIGN_SECONDS)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """TERM, grace, KILL. Never waits for ever: a process stuck in the driver cannot be reaped.

        To its whole group (it has a session of its own), for on some clusters ``nvidia-smi`` is a script
        around the real one, and a child that is left would hold the pipe open.
        """
        for stop in (signal.SIGTERM, signal.SIGKILL):
            if process.returncode is not None:
                return
            with suppress(ProcessLookupError):
                os.killpg(process.pid, stop)
            try:
                await self._clock.timeout(process.wait(), GRACE_SECONDS)
            except TimeoutError:
                continue
            except asyncio.CancelledError:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise


def parse_reading(line: bytes, host: str, at: float) -> Reading | None:
    """One CSV line in the order of ``QUERY``; None when it is none (an error message, a torn line).

    ``[N/A]``, ``[Not Supported]`` and the like are None: unknown, which is not zero.
    """
    fields = [field.strip() for field in line.decode("utf-8", "replace").split(",")]
    if len(fields) != QUERY.count(",") + 1 or not fields[0].startswith(("GPU-", "MIG-")):
        return None
    utilisation, used, total, power, temperature = (_quantity(field) for field in fields[2:])
    return Reading(
        host=host,
        device=fields[0],
        name=fields[1],
        at=at,
        utilisation=utilisation,
        memory_used_mb=used,
        memory_total_mb=total,
        power_w=power,
        temperature_c=temperature,
    )


def count_foreign(output: bytes, ours: Callable[[int], bool]) -> dict[str, int]:
    """``gpu_uuid, pid`` lines -> processes that are not ours, by device."""
    seen: set[tuple[str, int]] = set()  # a process with two contexts is listed twice
    for line in output.decode("utf-8", "replace").splitlines():
        uuid, _, pid = line.partition(",")
        if uuid.startswith(("GPU-", "MIG-")) and pid.strip().isdecimal() and not ours(int(pid)):
            seen.add((uuid.strip(), int(pid)))
    counts: dict[str, int] = {}
    for uuid, _ in seen:
        counts[uuid] = counts.get(uuid, 0) + 1
    return counts


@dataclass(slots=True)
class CpuMeter:
    """Utilisation of all cores between two readings, and memory in use, from /proc."""

    proc: Path
    host: str
    _busy: float = 0.0
    _total: float = 0.0
    _name: str = ""

    def read(self, at: float) -> Reading | None:
        """None where there is no /proc. The first reading has no utilisation: nothing to compare with."""
        try:
            stat, meminfo = (self.proc / "stat").read_text(), (self.proc / "meminfo").read_text()
        except OSError:
            return None
        self._name = self._name or _cpu_name(self.proc / "cpuinfo")
        return self.take(stat, meminfo, self._name, at)

    def take(self, stat: str, meminfo: str, name: str, at: float) -> Reading | None:
        """From the text of the two files, wherever they were read."""
        try:
            busy, total = _cpu_times(stat)
            used, whole = _memory(meminfo)
        except (ValueError, IndexError):
            return None
        spent = total - self._total
        utilisation = None
        if self._total and spent > 0:
            utilisation = min(max(100.0 * (busy - self._busy) / spent, 0.0), 100.0)
        self._busy, self._total = busy, total
        return Reading(self.host, "cpu", name, at, utilisation, used, whole)


def _cpu_times(stat: str) -> tuple[float, float]:
    """Busy and total jiffies of all cores; waiting for disks is not busy. Guest time is within user's."""
    times = [float(x) for x in stat.split("\n", 1)[0].split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def _memory(meminfo: str) -> tuple[float, float]:
    """Used and total megabytes; page cache that can be given back counts as free."""
    kb = {
        key: float(rest.split()[0])
        for key, _, rest in (line.partition(":") for line in meminfo.splitlines())
        if key in ("MemTotal", "MemAvailable")
    }
    if len(kb) != 2:
        raise ValueError("no MemTotal or MemAvailable")
    return (kb["MemTotal"] - kb["MemAvailable"]) / 1024, kb["MemTotal"] / 1024


def _cpu_name(cpuinfo: Path) -> str:
    with suppress(OSError):
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    return os.uname().machine


def _quantity(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if isfinite(value) else None
