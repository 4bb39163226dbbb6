"""One response as it arrives, read in a task of its own and watched from outside.

The package hides pings, which keep a silent connection alive for ever, so the watchdog counts the events that
mean something. Reading ends at ``message_stop``, where the package would wait for the server to hang up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any

from engine.clock import Clock

_AHEAD = 2000  # events read before anybody takes them; then the connection waits


class Stalled(Exception):
    """Nothing came for too long, or the whole response took too long. ``what`` says which, in words."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class CutShort(Exception):
    """The body ended without ``message_stop``: the package raises nothing then."""


class Response:
    """``async with`` opens the request; ``events`` gives the service's own events up to ``message_stop``.

    Errors of the package and of the transport come out of ``events`` as they are; so do Stalled and CutShort.
    Leaving closes the connection, whatever happened.
    """

    def __init__(
        self, client: Any, kwargs: Mapping[str, Any], clock: Clock, stall_seconds: float, total_seconds: float
    ) -> None:
        self._client, self._kwargs, self._clock = client, kwargs, clock
        self._stall, self._total = stall_seconds, total_seconds
        self._queue: asyncio.Queue[tuple[Any, BaseException | None]] = asyncio.Queue(_AHEAD)
        self._ended = asyncio.Event()
        self._moved = 0.0
        self._stalled = ""
        self._tasks: list[asyncio.Task[None]] = []
        self.snapshot: Any = None  # the whole message, once ``message_stop`` came

    async def __aenter__(self) -> Response:
        self._moved = self._clock.monotonic()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._watch())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def events(self) -> AsyncIterator[Any]:
        while True:
            event, error = await self._queue.get()
            if error is not None:
                raise error
            yield event
            if event.type == "message_stop":
                return

    async def _read(self) -> None:
        error: BaseException = CutShort("the stream ended before the message did")
        try:
            async with (
                self._client.messages.stream(**self._kwargs) as stream,
                # Closed by hand: a generator that is left to the collector keeps its connection for a while.
                contextlib.aclosing(aiter(stream)) as events,
            ):
                async for event in events:
                    self._moved = self._clock.monotonic()
                    if event.type not in _OWN:
                        continue  # the package's own summaries of what was just seen
                    last = event.type == "message_stop"
                    if last:
                        self.snapshot = stream.current_message_snapshot
                    await self._queue.put((event, None))
                    if last:
                        return
        except asyncio.CancelledError:
            if not self._stalled:
                raise
            error = Stalled(self._stalled)
        except Exception as fault:
            error = fault
        finally:
            self._ended.set()
        await self._queue.put((None, error))

    async def _watch(self) -> None:
        until = self._clock.monotonic() + self._total
        while not self._ended.is_set():
            now = self._clock.monotonic()
            quiet = 0.0 if self._queue.full() else now - self._moved  # full: it waits for us, not for the server
            if now >= until:
                self._stalled = f"the response took more than {self._total:g} s"
            elif quiet >= self._stall:
                self._stalled = f"no event for {self._stall:g} s"
            if self._stalled:
                self._tasks[0].cancel()
                return
            with contextlib.suppress(TimeoutError):
                await self._clock.timeout(self._ended.wait(), min(self._stall - quiet, until - now))


_OWN = frozenset(
    (
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    )
)
