"""Telemetry of all hosts, each followed by a task of its own; who disturbs a trial, and what it draws."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Protocol, cast

from engine.clock import Clock
from engine.fleet import Fleet
from engine.host_readings import DistantReadings, Far
from engine.post import Post
from engine.store import hosting
from engine.store.core import StoreThread
from engine.telemetry import DeviceReadings
from engine.types import Reading

log = logging.getLogger("ratchet.watching")

TOKEN = b"RATCHET_ATTEMPT_TOKEN="
WAIT_SECONDS = 5.0  # until a host that is not open yet is looked at again
MOST_ANCESTORS = 64
KEPT_SECONDS = 86400.0  # a device that was not read for so long is not shown any more


class Readings(Protocol):
    def batches(self) -> AsyncGenerator[list[Reading], None]: ...
    async def close(self) -> None: ...


class Watching:
    """Writes every host's readings, and tells the fleet what they mean for its trials."""

    def __init__(self, fleet: Fleet, store: StoreThread, clock: Clock) -> None:
        self._fleet = fleet
        self._store = store
        self._clock = clock
        self._foreign: dict[str, dict[str, int]] = {}  # host -> device -> processes that are not ours

    async def run(self) -> None:
        # A Slurm host's login node runs none of its trials, and which node runs one is Slurm's choice: readings
        # of the login node would be taken for the devices'. So there are none, and no joules of its trials.
        posts = [post for post in self._fleet.posts if post.sort != "slurm"]
        without = [post.name for post in self._fleet.posts if post.sort == "slurm"]
        await self._store.write(hosting.forget_readings, self._clock.now() - KEPT_SECONDS, without)
        async with asyncio.TaskGroup() as tasks:
            for post in posts:
                tasks.create_task(self._watch(post), name=f"telemetry of {post.name}")

    async def _watch(self, post: Post) -> None:
        while not self._fleet.reachable(post.name):
            await self._clock.sleep(WAIT_SECONDS)
        readings = self._readings(post)
        try:
            async with aclosing(readings.batches()) as batches:
                async for batch in batches:
                    self.take(post.name, batch)
                    await self._store.write(hosting.add_readings, batch)
        finally:
            await readings.close()

    def _readings(self, post: Post) -> Readings:
        grounds = post.grounds
        if grounds.variables is not None and grounds.transport is not None:
            return DistantReadings(self._clock, post.name, cast(Far, grounds.transport))
        return DeviceReadings(self._clock, post.name, is_ours)

    def take(self, name: str, batch: list[Reading]) -> None:
        self._fleet.meter.read(self._fleet.held_on(name), batch, self._clock.monotonic())
        # A round may come in two batches; what is not in this one is as it was.
        known = self._foreign.setdefault(name, {})
        known |= {reading.device: reading.foreign for reading in batch}
        self._fleet.seen(name, [device for device, count in known.items() if count])


def is_ours(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process belongs to a trial: an attempt's token is in its environment, or in an ancestor's."""
    for _ in range(MOST_ANCESTORS):
        if pid <= 1:
            return False
        try:
            if any(word.startswith(TOKEN) for word in (proc / str(pid) / "environ").read_bytes().split(b"\0")):
                return True
        except OSError:
            pass  # another user's, or gone: its parent may tell
        try:
            stat = (proc / str(pid) / "stat").read_bytes()
            pid = int(stat.rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
    return False
