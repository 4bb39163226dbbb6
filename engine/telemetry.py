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
from dataclasses import replace
from pathlib import Path

from engine.clock import Clock
from engine.cpu_meter import CpuMeter
from engine.device_query import FORMAT, QUERIES, count_foreign, parse_reading, refused
from engine.types import Reading

SILENCE_SECONDS = 15.0  # a looping nvidia-smi that says nothing for so long hangs in the driver
FOREIGN_SECONDS = 10.0
BACKOFF_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
GRACE_SECONDS = 2.0


class DeviceReadings:
    """Readings of one host's devices, about once a second, until closed.

    ``ours`` says whether a process id belongs to a trial of ours; the rest on a device is foreign. When
    ``nvidia-smi`` cannot be kept running (no driver, a hang) the CPU is read meanwhile and it is tried
    again with back-off; ``trouble``, and these readings, then say why. A driver that does not know some field
    is asked for fewer.
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
        self._queries = list(QUERIES)
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
                    if refused(self.trouble) and len(self._queries) > 1:
                        del self._queries[0]
                        continue
                    pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
                    failures += 1
                else:
                    pause = 1.0
                # The back-off is spent reading the CPU: the screen always shows something true.
                until = self._clock.monotonic() + pause
                while not self._closed and self._clock.monotonic() < until:
                    await self._clock.sleep(1.0)
                    if not self._closed and (reading := cpu.read(self._clock.now())):
                        yield [replace(reading, trouble=self.trouble)]
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
                f"--query-gpu={self._queries[0]}",
                FORMAT,
                "-l",
                "1",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,  # its complaint, wherever it says it
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
                    said = line.decode("utf-8", "replace").strip()[:200] or said
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
