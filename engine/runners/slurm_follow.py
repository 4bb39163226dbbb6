"""An attempt under Slurm, followed: its files through the shared file system, its place through the scheduler.

The files are read through control/shown, which has all of them but those that name processes: these are
another machine's, and their absence here would be no evidence. Evidence of death is the scheduler's alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol, cast

from engine.clock import Clock
from engine.errors import HostFault
from engine.runners import Exited, FollowItem, Lost, Reached, Scheduled, Started, Unreachable
from engine.runners.slurm import Standing
from engine.runners.slurm_attempt import Facts, slurm_script
from engine.runners.transport import Transport

AGAIN_SECONDS = 1.0  # between two looks for what cannot be read


class Scheduler(Protocol):
    """What following needs of a launcher."""

    def standing(self, directory: str) -> AsyncGenerator[Standing, None]: ...
    async def facts(self, directory: str) -> Facts: ...
    async def outcome(self, directory: str, exit: Exited) -> Exited | Lost:
        """What an exit means, for the scheduler too may have ended it."""
        ...


class ScheduledAttempt:
    """One follower of one attempt. ``settle``: seconds in which the file system shows what a dead job wrote."""

    def __init__(
        self, transport: Transport, scheduler: Scheduler, clock: Clock, directory: str, settle: float
    ) -> None:
        self._transport = transport
        self._scheduler = scheduler
        self._clock = clock
        self._directory = directory
        self._settle = settle
        self._trouble = ""
        self._started = False
        self._words = ""

    async def follow(self, offset: int) -> AsyncGenerator[FollowItem, None]:
        """As ``Host.follow``."""
        async with aclosing(self._find()) as found:
            async for item in found:
                yield item
        shown = f"{self._directory}/control/shown"
        async with aclosing(self._scheduler.standing(self._directory)) as news:
            files = cast(AsyncGenerator[FollowItem, None], self._transport.follow(shown, offset))
            async with aclosing(files), aclosing(self._merge(files, news)) as merged:
                async for item in merged:
                    yield item

    async def _find(self) -> AsyncGenerator[FollowItem, None]:
        """Until the attempt's files are there to be read."""
        while True:
            try:
                # On a full disk it says so, and is made when there is room again.
                done = await self._transport.run(["sh", "-s", "shown", self._directory], input=slurm_script())
                if done.stdout.strip().endswith(b"shown"):
                    break
                words = f"the attempt's directory cannot be read: {done.complaint}"
            except HostFault as fault:
                words = fault.message
            if words != self._trouble:
                self._trouble = words
                yield Unreachable(words)
            await self._clock.sleep(AGAIN_SECONDS)
        if self._trouble:
            yield Reached()

    async def _merge(
        self, files: AsyncGenerator[FollowItem, None], news: AsyncGenerator[Standing, None]
    ) -> AsyncGenerator[FollowItem, None]:
        item = asyncio.ensure_future(anext(files))
        standing: asyncio.Future[Standing] | None = asyncio.ensure_future(anext(news))
        dead: Lost | None = None
        try:
            while True:
                try:
                    waiting = {one for one in (item, standing) if one is not None}
                    some = asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    await (self._clock.timeout(some, self._settle) if dead else some)
                except TimeoutError:
                    if await self._has_exit():
                        continue
                    assert dead is not None, "only who is dead is not waited for"
                    yield dead
                    return
                if item.done():
                    try:
                        read = item.result()
                    except StopAsyncIteration:
                        return
                    for told in await self._told(read):
                        yield told
                        if isinstance(told, Exited | Lost):
                            return
                    item = asyncio.ensure_future(anext(files))
                if standing is not None and standing.done():
                    where = standing.result()
                    dead = where.dead
                    if where.words != self._words:
                        self._words = where.words
                        yield Scheduled(where.words)
                    standing = None if dead else asyncio.ensure_future(anext(news))
        finally:
            for one in (item, standing):
                if one is not None:
                    one.cancel()
                    await asyncio.gather(one, return_exceptions=True)

    async def _told(self, item: FollowItem) -> list[FollowItem]:
        """What one item of the files means; ``Started`` comes before the first."""
        items: list[FollowItem] = []
        if not self._started and not isinstance(item, Unreachable | Reached):
            self._started = True
            if identity := await self._identity():
                items.append(Started(identity))
        if isinstance(item, Exited):
            item = await self._scheduler.outcome(self._directory, item)
        items.append(item)
        return items

    async def _identity(self) -> str:
        """``control/pid``; "" when there is none, for it was cancelled before it started."""
        while True:
            try:
                done = await self._transport.run(["cat", f"{self._directory}/control/pid"])
                return done.stdout.decode("utf-8", "replace").strip() if done.code == 0 else ""
            except HostFault:
                await self._clock.sleep(AGAIN_SECONDS)

    async def _has_exit(self) -> bool:
        """Whether it left an exit after all, which the file system has yet to show to its follower."""
        while True:
            try:
                return (await self._scheduler.facts(self._directory)).exit
            except HostFault:
                await self._clock.sleep(AGAIN_SECONDS)
