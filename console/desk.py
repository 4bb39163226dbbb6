"""Where a person's wishes leave the console: rows in inbox.db, and nothing else is ever written.

One thread of its own, because a file on a busy disk may take seconds and the screen must not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from engine.clock import Clock
from engine.errors import NothingToDo
from engine.inbox import Inbox

T = TypeVar("T")


class Desk:
    def __init__(self, state_dir: Path, clock: Clock, actor: str) -> None:
        self._dir, self._clock, self.actor = state_dir, clock, actor
        self._inbox: Inbox | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="desk")

    async def ask(self, kind: str, **args: object) -> int:
        """File a request; returns its id. Raises RatchetError or sqlite3.Error when it cannot be written."""
        return await self._call(lambda box: box.ask(kind, self.actor, self._clock.now(), **args))

    async def repeat(self, request: int) -> None:
        await self._call(lambda box: box.repeat(request, self._clock.now()))

    async def withdraw(self, request: int) -> None:
        await self._call(lambda box: box.withdraw(request, self._clock.now()))

    async def _call(self, work: Callable[[Inbox], T]) -> T:
        def run() -> T:
            if self._inbox is None:
                if not (self._dir / "store.db").exists():  # never make a state folder where no campaign is
                    raise NothingToDo(f"no campaign in {self._dir}", "start one with `ratchet run`")
                self._inbox = Inbox(self._dir / "inbox.db")
            return work(self._inbox)

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    def close(self) -> None:
        """Waits for what is being written: a request that the person saw leave is never half a request."""
        self._pool.shutdown(wait=True)
        if self._inbox is not None:
            self._inbox.close()
