"""Readings of a host that is elsewhere: one session of its connection yields a round a second.

The far side's script (runners/readings_remote.sh) runs one long-lived nvidia-smi, or reads /proc. Where the
server has no session to spare for that, a command looks every few seconds instead.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from engine.clock import Clock
from engine.cpu_meter import CpuMeter
from engine.device_query import FORMAT, QUERIES, count_foreign, parse_reading, refused
from engine.errors import HostFault
from engine.runners.ssh_faults import ConnectionFault
from engine.runners.transport import Completed
from engine.telemetry import BACKOFF_SECONDS, SILENCE_SECONDS
from engine.types import Reading

FOREIGN_SILENCE_SECONDS = 60.0  # a count of processes is due every ten: without it something hangs there
POLL_SECONDS = 5.0  # where no stream can be had; it costs the driver some tens of milliseconds a time
POLLS = 120  # before a stream is asked for again


class Far(Protocol):
    """What is needed of a transport; SshTransport has it."""

    async def run(self, argv: Sequence[str], *, input: bytes = b"", seconds: float = 30.0) -> Completed: ...
    def stream(self, script: str) -> AsyncGenerator[list[bytes], None]: ...


@functools.cache
def far_script() -> str:
    """The text of readings_remote.sh."""
    return (Path(__file__).parent / "runners" / "readings_remote.sh").read_text()


class DistantReadings:
    """As ``DeviceReadings``, of the machine at the end of ``transport``."""

    def __init__(self, clock: Clock, host: str, transport: Far) -> None:
        self.trouble = ""
        self._clock = clock
        self._host = host
        self._transport = transport
        self._cpu = CpuMeter(Path("/proc"), host)
        self._model = ""
        self._queries = list(QUERIES)
        self._foreign: dict[str, int] = {}
        self._counted_at = 0.0
        self._ended = ""  # how nvidia-smi ended; '' while it runs
        self._said = ""

    async def batches(self) -> AsyncGenerator[list[Reading], None]:
        failures = 0
        while True:
            pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
            failures += 1
            try:
                async with aclosing(self._stream(self._queries[0])) as live:
                    async for batch in live:
                        failures = 0
                        yield batch
                if self._ask_for_less():
                    continue
                # The back-off is spent reading the processor: the screen always shows something true.
                until = self._clock.monotonic() + pause
                async with aclosing(self._stream("")) as meanwhile:
                    async for batch in meanwhile:
                        yield [replace(reading, trouble=self.trouble) for reading in batch]
                        if self._clock.monotonic() >= until:
                            break
                await self._clock.sleep(max(0.0, until - self._clock.monotonic()))  # what is ended there at once
            except HostFault as fault:
                self.trouble = fault.message
                if not (isinstance(fault, ConnectionFault) and fault.crowded):
                    await self._clock.sleep(pause)
                    continue
                self.trouble = f"read every {POLL_SECONDS:g} s only: {fault.message}"
                async with aclosing(self._polled()) as polled:
                    async for batch in polled:
                        yield [replace(reading, trouble=self.trouble) for reading in batch]

    async def close(self) -> None:
        """Nothing is left running there, once ``batches`` was closed."""

    def _ask_for_less(self) -> bool:
        """Whether the driver did not know some field, and there are fewer to ask for."""
        if not refused(self.trouble) or len(self._queries) == 1:
            return False
        del self._queries[0]
        return True

    async def _stream(self, query: str) -> AsyncGenerator[list[Reading], None]:
        """One life of the far side's script: until its nvidia-smi ends or hangs. Raises HostFault."""
        script = f"set -- {shlex.quote(query)} {FORMAT} ''\n{far_script()}"
        self._ended, self._foreign, self._counted_at = "", {}, self._clock.monotonic()
        async with aclosing(self._transport.stream(script)) as rounds:
            await anext(rounds, None)  # it has begun: connecting and slow login files have time-outs of their own
            while True:
                try:
                    lines = await self._clock.timeout(anext(rounds), SILENCE_SECONDS)
                except StopAsyncIteration:
                    self.trouble = "what reads the devices was ended there"
                    return
                except TimeoutError:
                    self.trouble = f"nvidia-smi said nothing for {SILENCE_SECONDS:g} s"
                    return
                if batch := self._take(lines):
                    self.trouble = self.trouble if not query else ""
                    yield batch
                if self._ended:
                    self.trouble = self._ended
                    return
                devices = any(reading.device != "cpu" for reading in batch)
                if devices and self._clock.monotonic() - self._counted_at > FOREIGN_SILENCE_SECONDS:
                    self.trouble = "nvidia-smi does not say which processes are on the devices"
                    return

    async def _polled(self) -> AsyncGenerator[list[Reading], None]:
        """A command every few seconds, for a while. Raises HostFault."""
        for _ in range(POLLS):
            argv = ["sh", "-c", far_script(), "sh", self._queries[0], FORMAT, "once"]
            done = await self._transport.run(argv, seconds=30.0)
            self._ended, self._foreign = "", {}
            batch = self._take(done.stdout.splitlines())
            if not batch and refused(self._ended) and len(self._queries) > 1:
                del self._queries[0]
                continue
            if batch:
                yield batch
            await self._clock.sleep(POLL_SECONDS)

    def _take(self, lines: Iterable[bytes]) -> list[Reading]:
        """What the lines say of the devices, or of the processor."""
        now = self._clock.now()
        found: dict[str, Reading] = {}
        for line in lines:
            if line.startswith(b"= "):
                kind, _, rest = line[2:].decode("utf-8", "replace").partition(" ")
                reading = self._take_ours(kind, rest, now)
            else:
                reading = parse_reading(line, self._host, now)
                if reading is not None:
                    reading = replace(reading, foreign=self._foreign.get(reading.device, 0))
                elif line.strip():
                    self._said = line.decode("utf-8", "replace").strip()[:200]
            if reading is not None:
                found[reading.device] = reading
        return list(found.values())

    def _take_ours(self, kind: str, rest: str, now: float) -> Reading | None:
        """A line of the script's own."""
        match kind:
            case "ended":
                self._ended = f"nvidia-smi ended{f': {self._said}' if self._said else ''}"
                self._said = ""
            case "foreign" if rest.endswith("."):  # whole
                pairs = rest[:-1].split()
                lines = "\n".join(pair.replace(":", ",") for pair in pairs)
                self._foreign = count_foreign(lines.encode(), lambda pid: False)
                self._counted_at = self._clock.monotonic()
            case "model":
                self._model = rest[:200]
            case "proc":
                total, _, rest = rest.partition(" ")
                free, _, stat = rest.partition(" ")
                memory = f"MemTotal: {total} kB\nMemAvailable: {free} kB\n"
                return self._cpu.take(stat, memory, self._model, now)
        return None
