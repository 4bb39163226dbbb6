"""The real screen under a pilot, on a seeded store, with the inbox to look into."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from console.app import ConsoleApp
from console.desk import Desk
from console.feed import Feed
from console.last_seen import LastSeen
from console.screens.live import Doors
from console.state import VISIBLE_SECONDS, State, reduce
from engine.clock import RealClock
from engine.inbox import Inbox, Request


class HandClock(RealClock):
    """Real, plus what the test adds: a person's patience costs no time."""

    added = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.added


class Console:
    def __init__(self, app: ConsoleApp, pilot: Pilot[int], clock: HandClock, folder: Path) -> None:
        self.app, self.pilot, self.clock, self.folder = app, pilot, clock, folder

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
        await self.settle()

    async def settle(self) -> None:
        """Let the screen, the desk's thread and the feed come to rest."""
        await self.app.workers.wait_for_complete()
        await self.pilot.pause()

    async def look_at_it(self) -> None:
        """Time passes while the screen stays as it is."""
        await self.settle()
        self.clock.added += VISIBLE_SECONDS + 0.01

    def filed(self) -> list[Request]:
        if not (self.folder / "inbox.db").exists():
            return []
        inbox = Inbox(self.folder / "inbox.db")
        try:
            return inbox.waiting(("waiting", "asleep", "done", "withdrawn"))
        finally:
            inbox.close()


@asynccontextmanager
async def console(
    folder: Path,
    alive: bool = True,
    doors: Doors | None = None,
    *,
    size: tuple[int, int] = (120, 40),
    actor: str = "ada",
    seen: LastSeen | None = None,
) -> AsyncIterator[Console]:
    clock = HandClock()
    feed = Feed(folder, lambda: alive, clock, seen=seen)
    feed.cycle()
    state = State()
    for update in feed.take():
        state = reduce(state, update)
    desk = Desk(folder, clock, actor)
    app = ConsoleApp(feed, state, desk, clock, doors)
    try:
        async with app.run_test(size=size) as pilot:
            yield Console(app, pilot, clock, folder)
    finally:
        feed.stop()
        desk.close()
