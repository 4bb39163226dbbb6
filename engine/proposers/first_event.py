"""The gate of parallel drafts: one writes the cache, the others read it.

A cache entry is readable only once the first response has begun to stream. Drafts with the same prefix
therefore wait for the first one's first event, or for its failure (then the next one leads), or a bounded time.
"""

from __future__ import annotations

import asyncio

from engine.clock import Clock

PATIENCE_SECONDS = 60.0


class FirstEvent:
    """Shared by all drafts of one engine. A prefix is named by its hash (``requests.prefix_hash``)."""

    def __init__(self, clock: Clock, patience: float = PATIENCE_SECONDS) -> None:
        self._clock = clock
        self._patience = patience
        self._warm: dict[str, float] = {}  # prefix -> when its cache entry goes (monotonic)
        self._leading: dict[str, asyncio.Event] = {}

    async def turn(self, prefix: str) -> Lead | None:
        """Wait until a request may be sent. A Lead to be kept when this one goes first, else None."""
        until = self._clock.monotonic() + self._patience
        while True:
            if self._warm.get(prefix, 0.0) > self._clock.monotonic():
                return None
            ended = self._leading.get(prefix)
            if ended is None:
                self._leading[prefix] = asyncio.Event()
                return Lead(self, prefix)
            left = until - self._clock.monotonic()
            if left <= 0:
                return None
            try:
                await self._clock.timeout(ended.wait(), left)
            except TimeoutError:
                return None

    def opened(self, prefix: str, seconds: float) -> None:
        """A response with this prefix has begun: it can be read for ``seconds`` from now."""
        now = self._clock.monotonic()
        self._warm = {one: end for one, end in self._warm.items() if end > now}
        self._warm[prefix] = now + seconds
        self.end(prefix)

    def end(self, prefix: str) -> None:
        if (event := self._leading.pop(prefix, None)) is not None:
            event.set()


class Lead:
    """Held by the draft that goes first. ``close`` lets the others go on, whatever became of it."""

    def __init__(self, gate: FirstEvent, prefix: str) -> None:
        self._gate: FirstEvent | None = gate
        self._prefix = prefix

    def close(self) -> None:
        if self._gate is not None:
            self._gate.end(self._prefix)
            self._gate = None
