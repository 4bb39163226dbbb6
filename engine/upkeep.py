"""What keeps a long campaign's folder in order: backups, the storage limit, artifacts that nobody needs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from engine.conductor import Conductor
from engine.config import Config
from engine.errors import HostFault
from engine.fleet import Fleet
from engine.store import attempting, reading, writes
from engine.store.core import StoreThread

ROUND_SECONDS = 60.0
STREAMS_KEPT = 500  # newest settled experiments whose streamed text can be looked at again
BACKUP_SECONDS = 3600.0
PARTS = ("work", "home", "tmp")  # of an attempt; its control/ with the log stays


class Upkeep:
    """Runs beside the conductor; each round may be cut short anywhere and is simply done again."""

    def __init__(
        self, conductor: Conductor, store: StoreThread, fleet: Fleet, state: Path, config: Callable[[], Config]
    ) -> None:
        self._conductor = conductor
        self._store = store
        self._fleet = fleet
        self._state = state
        self._config = config

    async def run(self) -> None:
        since_backup = BACKUP_SECONDS  # the first at once: something to restore from
        while True:
            if since_backup >= BACKUP_SECONDS:
                since_backup = 0.0
                await self._back_up()
            await self.tidy()
            await self._store.write(writes.forget_streams, self._conductor.campaign.id, STREAMS_KEPT)
            await self._limit()
            await self._conductor.setting.clock.sleep(ROUND_SECONDS)
            since_backup += ROUND_SECONDS

    async def _back_up(self) -> None:
        try:
            await self._store.call(self._store.store.backup)
        except Exception as error:
            await self._store.write(writes.warn, self._conductor.campaign.id, f"no backup was made: {error}")

    async def tidy(self) -> int:
        """Delete the files of ended attempts that [storage] keep_artifacts does not keep; returns how many."""
        policy = self._config().storage.keep_artifacts
        if policy == "all":
            return 0
        found = await self._store.read(reading.disposable, self._conductor.campaign.id, kept_too=policy == "none")
        by_host: dict[str, list[reading.Disposable]] = {}
        for one in found:
            by_host.setdefault(one.host, []).append(one)
        # Each host's own pace: one that hangs holds up no other.
        done = await asyncio.gather(*(self._clear(host, those) for host, those in by_host.items()))
        return sum(done)

    async def _clear(self, name: str, attempts: list[reading.Disposable]) -> int:
        if not self._fleet.reachable(name):
            return 0  # later, when it is back
        post, cleared = self._fleet.post(name), 0
        for one in attempts:
            try:
                for part in PARTS:
                    await post.host.remove(f"{post.grounds.root}/{one.directory}/{part}")
            except HostFault as error:
                await self._store.write(writes.warn, self._conductor.campaign.id, error.message, error.mend)
                break
            await self._store.write(attempting.attempt_cleared, one.attempt)
            cleared += 1
        return cleared

    async def _limit(self) -> None:
        """Pause before the state folder outgrows its limit."""
        limit = self._config().storage.max_gb
        used = await asyncio.to_thread(folder_bytes, self._state)
        if used > limit * 1e9 and self._conductor.campaign.state == "running":
            await self._conductor.pause(
                f"{self._state} holds {used / 1e9:.1f} GB, the limit is {limit:g} GB",
                "raise [storage] max_gb or delete old trials there, then `ratchet resume`",
            )


def folder_bytes(folder: Path) -> int:
    """What ``folder`` takes on disk (holes take nothing)."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118 - a hot loop
            except OSError:
                continue
    return total
