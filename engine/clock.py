"""Time is injected: every sleep, time-out and ``now`` of the engine goes through one Clock.

The real conductor then runs unchanged on a virtual clock, and no test ever waits for the wall.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable
from typing import Protocol, TypeVar

T = TypeVar("T")

# Of the virtual clock alone: when ``run`` gives up.
_HOT_TURNS = 100_000
_STRAY_SECONDS = 0.002
_STUCK_SECONDS = 5.0


class Clock(Protocol):
    """``now`` is wall time (seconds since 1970, UTC): for people. ``monotonic`` is for durations.

    ``monotonic`` counts from the machine's boot, so it compares across processes of one boot, and it
    never jumps when somebody sets the clock (TRUST.md row 35).
    """

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...
    async def timeout(self, work: Awaitable[T], seconds: float) -> T:
        """Await ``work``; cancel it and raise TimeoutError when it takes longer than ``seconds``."""
        ...


class RealClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        # CLOCK_BOOTTIME also counts suspend: a laptop's lid must not stretch a deadline.
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def timeout(self, work: Awaitable[T], seconds: float) -> T:
        return await asyncio.wait_for(work, seconds)


class VirtualClock:
    """A clock that moves only when it is told to, or when everybody waits for it.

    ``run`` drives a coroutine: whenever the event loop has nothing left to do but sleep on this clock,
    time jumps to the next wake-up. It needs every wait of the code under test to go through this clock
    (no threads, no sockets).
    """

    def __init__(self, start: float = 1_750_000_000.0) -> None:
        self._start = start
        self._elapsed = 0.0  # apart from ``start``: beside 1.75e9 a float has no room for a microsecond
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        await future

    async def timeout(self, work: Awaitable[T], seconds: float) -> T:
        task = asyncio.ensure_future(work)
        alarm = asyncio.ensure_future(self.sleep(seconds))
        try:
            done, _ = await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                return await task
            raise TimeoutError
        finally:
            for one in (task, alarm):
                one.cancel()
            # As wait_for does: what was cancelled has cleaned up before the caller goes on.
            await asyncio.wait({task, alarm})

    def advance(self, seconds: float) -> None:
        """Move time forward and wake who is due (tests that step by hand)."""
        self._elapsed += seconds
        self._wake()

    def _wake(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    async def run(self, work: Awaitable[T]) -> T:
        """Drive ``work`` to its end, jumping over every wait.

        Raises RuntimeError when the code under test turns without ever waiting, or waits for what no clock
        will bring: a test must not hang.
        """
        task = asyncio.ensure_future(work)
        try:
            waited = 0.0
            while not task.done():
                await self._settle(task)
                while self._sleepers and self._sleepers[0][2].done():
                    heapq.heappop(self._sleepers)
                if task.done():
                    break
                if self._sleepers:
                    waited = 0.0
                    self._elapsed = max(self._elapsed, self._sleepers[0][0])
                    self._wake()
                else:
                    # Perhaps a thread or a process brings something; it gets a little real time.
                    await asyncio.sleep(_STRAY_SECONDS)
                    waited += _STRAY_SECONDS
                    if waited > _STUCK_SECONDS:
                        raise RuntimeError("stuck: nothing runs and nobody sleeps on the virtual clock")
            return await task
        finally:
            task.cancel()

    async def _settle(self, task: asyncio.Future[T]) -> None:
        """Let everything that can run, run: a wake-up may need any number of turns of the loop.

        A loop of asyncio keeps what is due in ``_ready``; when that is empty as this task is resumed, everybody
        waits. Jumping any earlier would let time pass in the middle of what takes no time.
        """
        ready = getattr(asyncio.get_running_loop(), "_ready", None)
        for turn in range(_HOT_TURNS):
            await asyncio.sleep(0)
            if task.done() or (not ready if ready is not None else turn >= 50):
                return
        raise RuntimeError(f"hot loop: {_HOT_TURNS} turns and no time has passed")
