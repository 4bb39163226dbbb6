"""A replay in the console: a recording played into a scratch store, which the very same console follows."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import console.app
from console import preferences
from console.app import ConsoleApp
from console.appearance import Looks, looks
from console.desk import Desk
from console.feed import Feed
from console.leaving import Leaving
from console.replay.deck import Deck, DeckClock
from console.replay.keys import WHY
from console.replay.scratch import Scratch
from console.replay.screen import ReplayScreen
from console.screens.live import Doors
from console.state import State, reduce
from engine.clock import Clock, RealClock
from engine.errors import RatchetError
from engine.inbox import Inbox
from engine.store.playback import Playback
from engine.store.recording import Recording
from engine.store.timeline import Timeline

T = TypeVar("T")


class ShutDesk(Desk):
    """Nobody is there to carry anything out: whatever is asked is refused, by whichever way it comes."""

    async def _call(self, work: Callable[[Inbox], T]) -> T:
        raise RatchetError(WHY)


class ReplayApp(ConsoleApp, inherit_bindings=False):
    CSS_PATH = str(Path(console.app.__file__).with_name("console.tcss"))

    def __init__(
        self, feed: Feed, state: State, desk: Desk, deck: Deck, begin: Looks, doors: Doors, told: str
    ) -> None:
        super().__init__(feed, state, desk, DeckClock(deck), doors, begin)
        self._live: ReplayScreen = ReplayScreen(feed, state, deck, doors)
        self._note = told

    def on_ready(self) -> None:
        super().on_ready()
        if self._note:
            self._live.say(self._note)


def run(
    recording: Recording,
    speed: float,
    begin_at: Callable[[Timeline], float] = lambda timeline: timeline.start,
    clock: Clock | None = None,
    *,
    note: str = "",
    copy: Callable[[str], str] | None = None,
) -> int:
    """Show ``recording`` from ``begin_at`` until the person leaves; returns 0. The scratch store goes with it.

    Raises RatchetError for a recording that no engine wrote, or where there is no room for the scratch store.
    """
    clock = clock or RealClock()
    try:
        scratch = Scratch()
    except OSError as error:
        raise RatchetError(
            f"no scratch folder: {error}", "free space, or set TMPDIR to a folder with some"
        ) from error
    try:
        playback = Playback(recording, scratch.state)
        deck = Deck(playback, clock, speed, *_named(recording, playback.timeline))
        deck.seek(begin_at(playback.timeline), paused=False)
        return _show(deck, scratch, note, copy)
    finally:
        scratch.remove()


def _show(deck: Deck, scratch: Scratch, note: str, copy: Callable[[str], str] | None) -> int:
    deck.cycle()
    feed = Feed(scratch.state, lambda: True, DeckClock(deck))
    feed.cycle()  # what there is, before the first paint
    state = State()
    for update in feed.take():
        state = reduce(state, update)
    chosen = preferences.read(preferences.place())
    begin = looks(chosen, os.environ)
    desk = ShutDesk(scratch.state, deck.clock, console.app.actor_name())
    app = ReplayApp(feed, state, desk, deck, begin, Doors(copy=copy), note)

    def settle() -> None:
        """Also the way out when the terminal is gone: nothing may be left behind."""
        deck.close()
        scratch.remove()

    Leaving(settle, app.leave).watch()
    try:
        app.run(mouse=begin.mouse)
    finally:
        feed.stop()
        desk.close()
        settle()
        app.title_line.give_back()
    return app.return_code or 0


def _named(recording: Recording, timeline: Timeline) -> tuple[str, str]:
    """The campaign's name, and the day on which it began."""
    day = (
        recording.manifest.get("recorded")
        or f"{datetime.fromtimestamp(timeline.start, UTC).astimezone():%Y-%m-%d}"
    )
    return str(recording.rows["campaign"][0]["name"]), str(day)
